"""Data Factory behind ARM: the state of a factory, its operations and queries, and the emulator's own control interface.

This package connects the gateway, the identities and the pipelines. It does not know the servers or their ports.
"""
