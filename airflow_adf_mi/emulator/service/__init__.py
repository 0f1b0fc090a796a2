"""Data Factory behind ARM: the state of a factory, its operations and queries, and the emulator's own control interface.

Here the gateway, the identities and the pipelines meet. Nothing here knows the servers or their ports.
"""
