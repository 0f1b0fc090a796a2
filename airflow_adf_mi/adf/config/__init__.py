"""The settings that a connection comes to, the checks of arguments, and the least role.

Everything here is pure: it reads no environment, opens no connection, and needs no Azure package. Bad input ends here, with
an `AdfConfigurationError` that says what to change.
"""
