"""Waiting for runs: for a single run, or for all runs of a factory together on an event loop.

The rules (what to ask next, what an answer means, when to give up) are pure and take the time as an argument. `poller` is the
only module with side effects. A failed status check never fails or cancels a run.
"""
