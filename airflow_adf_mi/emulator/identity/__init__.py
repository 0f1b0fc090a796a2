"""The emulated machine: its managed identities, their tokens and endpoints, and its certificate authority.

The shapes of answers are those of recordings. Nothing here holds the state of a factory.
"""
