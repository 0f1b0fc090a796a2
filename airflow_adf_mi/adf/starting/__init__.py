"""Starting a run once: decide what an earlier try means, save the intent, send createRun, find a run whose answer was lost.

The rules are pure functions and routines. Only `start_queue` needs an event loop. Two rules hold everywhere. createRun is never
sent before its intent is handed to the journal. A start that may have had an effect is never sent again blindly.
"""
