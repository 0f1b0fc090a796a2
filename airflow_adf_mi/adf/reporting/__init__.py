"""What happened to a run: its report, why it failed, what its activities did, its outputs and its datasets.

A run whose deadline has passed is cancelled here. Nothing else is changed, and nothing is started. A fact that cannot be read
never hides the outcome of the run itself.
"""
