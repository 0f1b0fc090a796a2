"""The settings that a connection describes, the checks of arguments, and the least-privilege role.

Everything here is pure. This code reads no environment, opens no connection, and needs no Azure package. Bad input ends here,
with an `AdfConfigurationError` that names what to change.
"""
