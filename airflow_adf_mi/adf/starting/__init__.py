"""Starting a run once: decide what an earlier try means, write the intent, send createRun, find a run whose answer was lost.

The rules are pure functions and routines; only `start_queue` needs an event loop. Nothing is sent here before its intent is
written, and a start that may have had an effect is never sent blindly again.
"""
