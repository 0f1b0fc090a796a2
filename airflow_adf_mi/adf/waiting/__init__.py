"""Waiting for runs: for a single run, or for all runs of a factory together on an event loop.

The rules are pure and take the time as an argument: what to ask next, what an answer means, when to give up. Only `poller`
sends requests. A failed poll never fails or cancels a run.
"""
