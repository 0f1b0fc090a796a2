"""The emulated machine: its managed identities, their tokens and endpoints, and its certificate authority.

Answers have the form of recordings. This code holds no state of a factory.
"""
