"""A log line that a process writes once, for what is true of every request or look-up of a connection."""

from __future__ import annotations

import functools
import logging


@functools.lru_cache(maxsize=256)
def log_once(logger: str, level: int, text: str) -> None:
    """Log `text`, unless this process has logged it already. A task is a process of its own, so its log has the line."""
    logging.getLogger(logger).log(level, "%s", text)
