"""The emulator's edge: routes, replies, limits, scripted faults, and the books of what was asked.

What lives here is the same whichever service answers. Nothing here knows a pipeline or a run.
"""
