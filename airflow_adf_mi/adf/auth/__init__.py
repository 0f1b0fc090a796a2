"""Tokens: which identity a connection means, which credential of azure-identity gets its tokens, and why there is none.

One credential for each process and identity serves all clients. An identity is a managed identity, a workload identity or a
developer who is signed in. This package never uses a password, client secret or certificate.
"""
