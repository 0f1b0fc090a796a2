"""When a request is sent again, and after how many seconds. Pure."""

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
"""Seconds until the next request after the first failure. Each further failure doubles this time."""
LONGEST_BACKOFF_SECONDS = 60.0


def is_refusal(error: AdfError) -> bool:
    """Whether the service, the identity endpoint or something in between refused, instead of failing to answer."""
    if isinstance(error, AdfAuthenticationError):
        return not error.transient
    if isinstance(error, AdfUnavailableError):
        # A redirect or the page of a web filter does not pass by itself, just like a refusal of the service.
        return error.status is not None and 300 <= error.status < 500 and error.status != 408
    return not isinstance(error, AdfThrottledError)


def is_for_good(error: AdfError) -> bool:
    """Whether no poll will ever work on this machine. A certificate may be replaced, and a role may be granted, so errors of
    certificates and roles are excluded.
    """
    return isinstance(error, AdfConfigurationError) and not isinstance(error, AdfCertificateError)


def may_pass(error: AdfError) -> bool:
    """Whether the service may soon accept the same cancel. A run that continues costs more than a few requests.

    A refused token may be replaced, and a new role assignment takes minutes to become effective. A proxy or web filter may allow
    the next attempt. But a run that the service does not know stays unknown.
    """
    refused_token = isinstance(error, AdfAuthenticationError) and error.refused_token
    return not is_refusal(error) or refused_token or isinstance(error, AdfPermissionError | AdfUnavailableError)


def backoff(failures: int, retry_after: float | None, jitter: float) -> float:
    """Seconds to wait after `failures` consecutive failures, and never less than the service asked for.

    :param jitter: a number in [0, 1), which spreads many waits.
    """
    delay = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 10))
    return (retry_after or 0.0) + delay * (0.5 + jitter / 2)


def within(left: float, pause: float, at_least: float | None = None) -> float | None:
    """The pause before the next question of a search that lasts for a promised time; None if the search is over.

    The last pause is shortened, so that the last question is asked when the time has passed.

    :param left: seconds that are left.
    :param at_least: seconds that the service asked to wait. No question is asked earlier.
    """
    shortest = at_least or 0.0
    return None if left <= 0 or shortest > left else max(shortest, min(pause, left))
