"""Log lines that a process writes only once, for facts that are the same for every request of a connection."""

from __future__ import annotations

import functools
import logging


@functools.lru_cache(maxsize=256)
def log_once(logger: str, level: int, text: str) -> None:
    """Log `text`, unless this process has already logged it. Each task is a process of its own, so each task's log has it."""
    logging.getLogger(logger).log(level, "%s", text)
