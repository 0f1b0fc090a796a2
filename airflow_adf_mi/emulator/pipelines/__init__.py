"""Runs of pipelines: definitions, expressions, scripts, and the progress of a run and its activities over time.

The emulator's clock drives all of it. This code serves no request and checks no token.
"""
