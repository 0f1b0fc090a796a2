"""The emulator's edge: routes, replies, limits, scripted faults, and the books of what was asked.

What lives here is the same whichever part of the emulator answers. Nothing here holds the state of a factory.
"""
