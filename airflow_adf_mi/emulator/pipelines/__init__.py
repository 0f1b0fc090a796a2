"""Runs of pipelines: definitions, expressions, scripts, and how a run and its activities go on as time passes.

All of it is driven by the emulator's clock. Nothing here serves a request or checks a token.
"""
