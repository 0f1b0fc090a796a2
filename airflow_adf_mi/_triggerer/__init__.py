"""What a triggerer does for a task: start the run, keep its intent in an XCom, cancel the run after a kill, end the task.

Code here runs on the event loop that all triggers of the process share, so it never blocks. `eligibility` is the exception:
it decides, when a Dag is serialized and on a worker, whether a task may start or end in the triggerer. A worker also uses
`stored_start`, to read what a trigger has stored. Nothing here knows the operators, the triggers or the modules of a worker.
"""
