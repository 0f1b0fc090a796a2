"""What failed polls and list queries of one factory lead to: a pause, an error that all waits report, or the end of all waits.

Two kinds of requests can fail. A *poll* asks for one run. A *list query* asks for all runs that have ended. They can fail
separately (the role lacks one action) or together (an outage). The difference matters: a wait needs polls, but no wait
needs the list. So a list that fails alone only delays the detection of ends.

    what failed                            what pauses                     waits report it      all waits end
    -------------------------------------  ------------------------------  -------------------  ------------------------
    a poll, for a reason of its run alone  that run only                   that wait only       no (see `single_run`)
    a poll: outage, throttling             all requests                    yes                  no
    a poll: refusal                        all requests                    yes                  after 5 minutes, see below
    a list query: no role for the list     the list, for 5 minutes         no                   no
    a list query: outage, throttling       all requests, the list longer   if Retry-After is a  no
                                                                           minute or longer
    a list query: the identity is refused  all requests, the list longer   yes                  after 5 minutes, see below

All waits end once the service has refused for 5 minutes and at least 5 times. If the connection can never work on this
machine, they end at once.

What can go wrong: up to 8 polls are in flight at a time. In an outage they all fail within a second, and answers that were sent
before the outage may arrive after its first failure. If each failure counted, one short outage would look like many outages. If
each answer counted, the outage would seem to be over. So each failed request, and each answer to a poll, comes with the moment at
which the request was sent. If a request was sent before the latest failure, its own failure is not counted again, and its answer
does not end the outage.

Pure: nothing here sends a request or reads a clock. Times are seconds of our clock.
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
"""After this many failed list queries, while polls work, the list is treated as unavailable."""
LIST_REFUSED_PAUSE_SECONDS = 300.0
"""Seconds until the next list query after the service refused a list query, for example because of a missing role."""
LONG_LIST_PAUSE_SECONDS = 60.0
"""If a throttled list query causes a pause of at least this many seconds, all waits report it: the pause also stops all polls."""
FEWEST_REFUSALS_TO_GIVE_UP = 5
"""Consecutive refusals that are needed before all waits end. A refusal counts only if its request was sent after the previous
refusal."""


class FailureTracker:
    """The failures of one factory. Times are seconds of our clock."""

    def __init__(self, jitter: float) -> None:
        self.pause_until = float("-inf")
        """No request is sent before this moment."""
        self.list_pause_until = float("-inf")
        """No list query is sent before this moment, because the list was refused, or its last query failed. New waits do not
        change it."""
        self.is_list_unavailable = False
        """Whether the list was refused, or failed several times. Then it is treated as a list that shows nothing."""
        self.final_error: AdfError | None = None
        """The error that ends all waits: the latest refusal, if the service has refused for long enough."""
        self._jitter = jitter
        self._poll_error: AdfError | None = None
        """The error of the last poll, if a poll of every other run would have failed, too. Otherwise None."""
        self._list_error: AdfError | None = None
        """The error of the last list query, if it also stops polls, because they would fail or must pause. Otherwise None."""
        self._failures = 0
        """Consecutive failures. If a request was already in flight when a failure was seen, its failure is not counted again."""
        self._failed_at = float("-inf")
        """When a request last failed because of the service, not because of one run."""
        self._refusals = 0
        self._refused_since: float | None = None
        self._list_failures = 0
        """Consecutive failures of the list. A failure is counted only if a poll has worked since the previous failure."""
        self._poll_worked = False
        """Whether a poll has worked after the last failure of the list."""

    @property
    def error(self) -> AdfError | None:
        """Why polls fail or are not sent; None if polls work, as far as is known."""
        return self._poll_error or self._list_error

    def poll_answered(self, asked_at: float, *, shows_run: bool) -> None:
        """Record that a poll was answered.

        :param asked_at: when the poll was sent.
        :param shows_run: whether the answer shows the run. False for an error that concerns that run alone.
        """
        if shows_run:
            self._forget_refusals()
        if asked_at >= self._failed_at:
            # The answer to an older poll may have left the service before the failure, so it does not end the failure.
            self._poll_error = self._list_error = None
            self._failures = 0
        self._poll_worked = True

    def poll_failed(self, error: AdfError, asked_at: float, now: float) -> None:
        """Record that the poll sent at `asked_at` failed. A poll of every other run would have failed, too."""
        self._poll_error = error
        self._record_failure(error, asked_at, now)

    def list_answered(self) -> None:
        """Record that a list query was answered."""
        self.is_list_unavailable = False
        self._list_error = None
        self._list_failures = 0
        if self._poll_error is None:
            # If the last poll failed, only a poll can show that polls work again.
            self._failures = 0
            self._forget_refusals()

    def list_failed(self, error: AdfError, asked_at: float, now: float) -> None:
        """Record that the list query sent at `asked_at` failed."""
        self.final_error = None
        concerns_polls = isinstance(error, AdfAuthenticationError | AdfConfigurationError)
        if is_refusal(error) and not concerns_polls:
            # Perhaps the role lacks only the action for the list. Polls of single runs continue.
            self.is_list_unavailable = True
            self.list_pause_until = now + LIST_REFUSED_PAUSE_SECONDS
            return
        if self._poll_worked:
            # Only the list fails. Each further failure makes the pause before the next list query longer. Polls continue after
            # the common pause.
            self._list_failures += 1
            self._poll_worked = False
        self.is_list_unavailable = self._list_failures >= LIST_FAILURES_UNTIL_UNAVAILABLE
        if concerns_polls or (getattr(error, "retry_after", None) or 0) >= LONG_LIST_PAUSE_SECONDS:
            # A poll would fail too, or no poll is sent for a long time.
            self._list_error = error
        self._record_failure(error, asked_at, now)
        self.list_pause_until = self.pause_until + min(LIST_REFUSED_PAUSE_SECONDS, 4.0 ** min(self._list_failures, 10))

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
    """Whether a poll that failed with `error` would have failed for every run of the factory.

    An unreadable answer may concern one run alone. So each wait measures for itself how long its answers stay unreadable.
    """
    ours = AdfAuthenticationError | AdfPermissionError | AdfConfigurationError
    # The service itself did not answer: an outage, or a refusal by a proxy or web filter. Both concern every run.
    is_unanswered = isinstance(error, AdfUnavailableError) and not error.unreadable
    return not has_grace(error) or isinstance(error, ours) or is_unanswered
