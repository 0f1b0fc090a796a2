"""What a triggerer does for a task: start the run, remember the start in XComs, cancel the run after a kill, end the task.

Code here runs on the event loop that all triggers of the process share, so it never blocks. `eligibility` is the exception:
it decides, when a Dag is serialized and on a worker, whether a task may start or end in the triggerer. A worker also reads
here what a trigger has stored. Nothing here knows the operators, the triggers or the modules of a worker.
"""
