"""What failed answers of a factory come to: how long nothing is asked, who is told, and when waits end. Pure.

The list and the looks at single runs fail each for reasons of their own, or both for one. What keeps looks from being made or
from working concerns all who wait; a list that fails alone costs delay only.
"""

from __future__ import annotations

from airflow_adf_mi.adf.errors import (
    AdfAuthenticationError,
    AdfConfigurationError,
    AdfError,
    AdfPermissionError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.retrying import backoff, is_for_good, is_refusal
from airflow_adf_mi.adf.waiting.single_run import REFUSAL_GRACE_SECONDS, has_grace

LIST_FAILURES_UNTIL_UNAVAILABLE = 3
"""List queries that fail while looks work, after which the list counts as one that shows nothing."""
LIST_REFUSED_PAUSE_SECONDS = 300.0
"""Seconds until the list is tried again after the service refused it, for example for a missing role."""
LONG_LIST_PAUSE_SECONDS = 60.0
"""Seconds without a look that a throttled list causes, from which on all waiters are told."""
FEWEST_REFUSALS_TO_GIVE_UP = 5
"""Refusals without which none counts as lasting, each of what was asked after the one before."""


class FailureTracker:
    """Of one factory. Times are seconds of our clock."""

    def __init__(self, jitter: float) -> None:
        self.pause_until = float("-inf")
        """Nothing is asked before."""
        self.list_pause_until = float("-inf")
        """A list that was refused, or fails alone, is left alone until then, whoever comes meanwhile."""
        self.is_list_unavailable = False
        """Whether the last list query failed, and the list counts as one that shows nothing."""
        self.final_error: AdfError | None = None
        """What ends all waits: the last refusal, if it has lasted."""
        self._jitter = jitter
        self._poll_error: AdfError | None = None
        """Why the last look failed, if that concerns all."""
        self._list_error: AdfError | None = None
        """Why the last list query failed, if that concerns looks as well."""
        self._failures = 0
        """In a row, each of what was asked after the one before: many that were under way in one outage tell of one."""
        self._failed_at = float("-inf")
        """When an answer last told a failure of the service, rather than of one run."""
        self._refusals = 0
        self._refused_since: float | None = None
        self._list_failures = 0
        """In a row, with looks between them that worked."""
        self._poll_worked = False
        """Since the list failed last."""

    @property
    def error(self) -> AdfError | None:
        """What keeps looks from being made or from working, as far as is known."""
        return self._poll_error or self._list_error

    def poll_answered(self, asked_at: float, *, shows_run: bool) -> None:
        """A look that was made then was answered: with the run, or an error that concerns that run alone."""
        if shows_run:
            self._forget_refusals()
        if asked_at >= self._failed_at:
            # One that was made before the failure tells nothing of now.
            self._poll_error = self._list_error = None
            self._failures = 0
        self._poll_worked = True

    def poll_failed(self, error: AdfError, asked_at: float, now: float) -> None:
        """A look that was made then failed, as it would have for any run."""
        self._poll_error = error
        self._record_failure(error, asked_at, now)

    def list_answered(self) -> None:
        """The list was had."""
        self.is_list_unavailable = False
        self._list_error = None
        self._list_failures = 0
        if self._poll_error is None:
            # Otherwise only a look can tell that looks work.
            self._failures = 0
            self._forget_refusals()

    def list_failed(self, error: AdfError, asked_at: float, now: float) -> None:
        """The list, asked for then, could not be had."""
        self.final_error = None
        concerns_polls = isinstance(error, AdfAuthenticationError | AdfConfigurationError)
        if is_refusal(error) and not concerns_polls:
            # Perhaps the role lacks this one action. Looking at single runs goes on.
            self.is_list_unavailable = True
            self.list_pause_until = now + LIST_REFUSED_PAUSE_SECONDS
            return
        if self._poll_worked:
            # It is the list that fails, and is left alone for longer each time; looks go on in its place.
            self._list_failures += 1
            self._poll_worked = False
        self.is_list_unavailable = self._list_failures >= LIST_FAILURES_UNTIL_UNAVAILABLE
        if concerns_polls or (getattr(error, "retry_after", None) or 0) >= LONG_LIST_PAUSE_SECONDS:
            # No look would work either, or none is made for long.
            self._list_error = error
        self._record_failure(error, asked_at, now)
        self.list_pause_until = self.pause_until + min(LIST_REFUSED_PAUSE_SECONDS, 4.0**self._list_failures)

    def _record_failure(self, error: AdfError, asked_at: float, now: float) -> None:
        self.final_error = None
        is_new = asked_at >= self._failed_at
        self._failures += is_new
        self._failed_at = now
        pause = backoff(self._failures, getattr(error, "retry_after", None), self._jitter)
        self.pause_until = max(self.pause_until, now + pause)
        if not is_refusal(error):
            return
        self._refusals += is_new
        self._refused_since = now if self._refused_since is None else self._refused_since
        has_lasted = now - self._refused_since >= REFUSAL_GRACE_SECONDS and self._refusals >= FEWEST_REFUSALS_TO_GIVE_UP
        self.final_error = error if has_lasted or is_for_good(error) else None

    def _forget_refusals(self) -> None:
        self._refused_since = self.final_error = None
        self._refusals = 0


def concerns_all(error: AdfError) -> bool:
    """Whether a failed look says nothing about the one run: it would have failed for any.

    An unreadable answer may concern the one run alone. So each wait measures by itself how long its answers stay unreadable.
    """
    ours = AdfAuthenticationError | AdfPermissionError | AdfConfigurationError
    is_in_between = isinstance(error, AdfUnavailableError) and not error.unreadable
    return not has_grace(error) or isinstance(error, ours) or is_in_between
