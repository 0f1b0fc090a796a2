"""Waiting for runs: for a single run, or on an event loop for all runs of a factory together.

The rules are pure and take the time as an argument: what to ask next, what an answer means, when to give up. Only `poller`
sends anything. A status check that fails never fails or cancels a run.
"""
