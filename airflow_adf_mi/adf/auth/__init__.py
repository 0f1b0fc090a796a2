"""Tokens: which identity is meant, which credential of azure-identity gives its tokens, and why there is none.

One credential per process and identity serves all clients. An identity is a managed identity, a workload identity or a
developer who is signed in. No password, client secret or certificate is ever taken here.
"""
