"""Starting a run once: decide what an earlier try means, save the intent, send createRun, find the run of a lost start.

The rules are pure functions and routines. Only `start_queue` needs an event loop. Two rules hold everywhere. createRun is never
sent before the journal has stored the intent. A start that may have started a run is sent again in two cases only: it is proven
that nothing was started, or the author of the Dag allowed it.
"""
