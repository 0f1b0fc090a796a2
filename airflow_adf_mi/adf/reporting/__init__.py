"""What a run came to: its report, why it failed, what its activities did, its outputs and its datasets.

Everything here asks and tells; the one thing that it changes is to cancel a run whose deadline has passed. Nothing here
starts a run, and what cannot be learnt never hides the outcome of the run itself.
"""
