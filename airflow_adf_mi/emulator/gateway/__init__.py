"""The emulator's edge: routes, replies, limits, scripted faults, and the books, which record all requests.

This code is the same for all parts of the emulator. It holds no state of a factory.
"""
