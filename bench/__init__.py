"""Measures what waiting costs with this package and with the Azure provider. Not part of the tests: `make bench`."""
