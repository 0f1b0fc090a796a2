"""Tokens: which identity is meant, which credential of azure-identity gives its tokens, and why there is none.

One credential per process and identity serves all clients. Secrets of any kind are never read, taken or stored here: an
identity is a managed identity, a workload identity or a developer who is signed in.
"""
