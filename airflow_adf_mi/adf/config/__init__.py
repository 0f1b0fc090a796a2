"""What a user configures: the fields of a connection, the checked settings made of them, arguments, and the least role.

Everything here is pure: it reads no environment, opens no connection, and needs no Azure package. Bad input ends here, with
an `AdfConfigurationError` that says what to change.
"""
