"""When a request is sent again, and after how long. Pure."""

from __future__ import annotations

from airflow_adf_mi.adf.errors import (
    AdfAuthenticationError,
    AdfCertificateError,
    AdfConfigurationError,
    AdfError,
    AdfPermissionError,
    AdfThrottledError,
    AdfUnavailableError,
)

FIRST_BACKOFF_SECONDS = 2.0
"""Seconds until the look after the first failed one; doubled with each further failure."""
LONGEST_BACKOFF_SECONDS = 60.0


def is_refusal(error: AdfError) -> bool:
    """Whether the service, the identity endpoint or something in between answered and said no, rather than failing to answer."""
    if isinstance(error, AdfAuthenticationError):
        return not error.transient
    if isinstance(error, AdfUnavailableError):
        # A redirect, or the page of a web filter: it will not pass by itself, as little as a refusal of the service.
        return error.status is not None and 300 <= error.status < 500 and error.status != 408
    return not isinstance(error, AdfThrottledError)


def is_for_good(error: AdfError) -> bool:
    """Whether no look will ever work here. A certificate may be replaced, like a role that is missing."""
    return isinstance(error, AdfConfigurationError) and not isinstance(error, AdfCertificateError)


def may_pass(error: AdfError) -> bool:
    """Whether the same cancel may be accepted shortly: a run that goes on costs more than a few requests.

    A refused token may be replaced by then, and a role that was granted takes minutes to act everywhere; but a run that is
    not known stays so. What a proxy or web filter refuses, it may let through at the next try.
    """
    refused_token = isinstance(error, AdfAuthenticationError) and error.refused_token
    return not is_refusal(error) or refused_token or isinstance(error, AdfPermissionError | AdfUnavailableError)


def backoff(failures: int, retry_after: float | None, jitter: float) -> float:
    """Seconds to wait after `failures` failures in a row. `jitter` in [0, 1) spreads many waiters out.

    Never sooner than the service asked for.
    """
    delay = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 10))
    return (retry_after or 0.0) + delay * (0.5 + jitter / 2)
