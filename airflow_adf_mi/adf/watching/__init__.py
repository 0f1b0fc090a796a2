"""Watches a factory for runs that have ended, whoever started them."""
