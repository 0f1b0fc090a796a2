"""Data Factory behind ARM: a factory's state, its operations and queries, and the emulator's own control interface.

Here the gateway, the identities and the pipelines meet. The servers and their ports are never known here.
"""
