"""What a run came to: its report, why it failed, what its activities did, its outputs and its datasets.

A run whose deadline has passed is cancelled here; nothing else is changed, and nothing is started. What cannot be learnt
never hides the outcome of the run itself.
"""
