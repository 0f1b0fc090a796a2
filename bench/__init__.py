"""Measures what waiting costs, side by side with the Azure provider's own classes. Not part of the tests: `make bench`."""
