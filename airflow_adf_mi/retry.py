"""A retry policy for Airflow 3.3: what a retry can mend is retried, and what it cannot fails at once."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow.sdk import RetryDecision, RetryPolicy

from airflow_adf_mi.adf.activity_failures import ActivityFailure
from airflow_adf_mi.adf.errors import (
    AdfCertificateError,
    AdfConfigurationError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRequestError,
    AdfRunCancelled,
    AdfRunFailed,
    AdfThrottledError,
)
from airflow_adf_mi.exceptions import airflow_errors

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

USER_ERROR, SYSTEM_ERROR = "UserError", "SystemError"
FORBIDDEN_FOR = timedelta(minutes=15)
"""For how long a 403 is retried: a new role assignment takes minutes to act everywhere."""
FORBIDDEN_PAUSE = timedelta(minutes=1)
"""Least time between two of these retries."""
FORBIDDEN_KEY = "airflow_adf_mi.forbidden"
"""In the task state store, since when the service answers 403: the form of `Forbidden`."""
_MALFORMED = frozenset({400, 413, 414, 415, 422})
# Which status a full queue has is not known; these are the words (azure-docs#85538).
_FULL_QUEUE = re.compile(r"execution throttled|runs will be queued", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Forbidden:
    """Consecutive tries that failed by 403."""

    since: float
    """Epoch seconds of the first."""
    try_number: int
    """The last of these tries."""
    max_tries: int
    """As Airflow counts. A clear raises it, and so begins anew."""

    def at(self, stored: object) -> Self:
        """This first refusal, or what the stored ones become by it."""
        if not isinstance(stored, Mapping):
            return self
        since, before, of = (stored.get(name) for name in ("since", "try_number", "max_tries"))
        goes_on = before in (self.try_number, self.try_number - 1) and of == self.max_tries
        if not goes_on or not isinstance(since, int | float) or not 0 <= since <= self.since:
            return self
        return type(self)(since=since, try_number=self.try_number, max_tries=self.max_tries)


def on_forbidden(error: AdfPermissionError, seconds: float, retry_delay: timedelta | None) -> RetryDecision:
    """
    Decide on a 403 which the service has answered for so many seconds. Pure.

    :param error: the last of them.
    :param seconds: since the first of them.
    :param retry_delay: the task's own.
    """
    what = f"the service has refused (403{f' {error.code}' if error.code else ''}) for {seconds:.0f} s"
    minutes = FORBIDDEN_FOR.total_seconds() / 60
    if seconds >= FORBIDDEN_FOR.total_seconds():
        return RetryDecision.fail(
            f"{what}; a new role acts within {minutes:.0f} minutes, so no retry is made after them"
        )
    is_slow = retry_delay is not None and retry_delay >= FORBIDDEN_PAUSE
    return RetryDecision.retry(
        None if is_slow else FORBIDDEN_PAUSE,
        f"{what}; a new role takes minutes to act, so it is retried until {minutes:.0f} minutes after the first refusal, at "
        f"least {FORBIDDEN_PAUSE.total_seconds():.0f} s apart",
    )


class AdfRetryPolicy(RetryPolicy):
    """
    Retries system errors and stops on user errors, as Data Factory itself judges the failed activities.

    Airflow asks it on the worker when a try has failed; it can end the retries of a task early, and never gives more than
    ``retries``. Where it decides nothing, Airflow goes on as without a policy. So it does for a run whose failed activities
    are not known, or not whose error it was, and for every error that is not of this package.

    Not retried: a subscription, factory or pipeline that is not there (404), a malformed request (400), and a connection or
    argument that is wrong. A 403 is retried, with pauses of at least a minute, until 15 minutes after the first one, because
    a new role assignment takes minutes to act; without Airflow's task state store, ``retries`` alone limits that.

    :param retry_on: user errors that are retried all the same: texts to be found in an activity's error code or message,
        such as ``"SqlFailedToConnect"``. Data Factory calls many a passing failure of a source a user error.
    :param retry_cancelled: whether a run that somebody cancelled outside Airflow is started again.
    :param system_error_delay: instead of the task's ``retry_delay``, after a system error.
    """

    @airflow_errors()
    def __init__(
        self,
        *,
        retry_on: Collection[str] = (),
        retry_cancelled: bool = False,
        system_error_delay: timedelta | None = None,
    ) -> None:
        if isinstance(retry_on, str):
            raise AdfConfigurationError(f"retry_on is {retry_on!r}; it must be a list of texts.")
        self.retry_on = tuple(retry_on)
        self.retry_cancelled = retry_cancelled
        self.system_error_delay = system_error_delay

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """
        Decide by what the task failed with.

        :param exception: the task's error.
        :param try_number: which try it was.
        :param max_tries: as Airflow counts; a clear raises it.
        :param context: the task's context, for its state store and its ``retry_delay``.
        """
        match exception:
            case AdfRunFailed():
                return self._of_activities(exception)
            case AdfRunCancelled() if not self.retry_cancelled:
                return RetryDecision.fail(f"run {exception.run_id} was cancelled outside this task")
            case AdfCertificateError():
                # It may be of one machine, or be replaced.
                return RetryDecision.default()
            case AdfConfigurationError():
                return RetryDecision.fail("the connection or an argument is wrong, and will be so again")
            case AdfPermissionError():
                now = Forbidden(since=time.time(), try_number=try_number, max_tries=max_tries)
                seconds = now.since - _remembered(now, context).since
                return on_forbidden(exception, seconds, getattr((context or {}).get("task"), "retry_delay", None))
            case AdfNotFoundError(missing="subscription" | "factory" | "pipeline"):
                return RetryDecision.fail(f"there is no such {exception.missing} (404), and a retry does not make one")
            case AdfNotFoundError():
                # A run that is not shown yet.
                return RetryDecision.default()
            case AdfThrottledError() if exception.retry_after:
                delay = timedelta(seconds=exception.retry_after)
                return RetryDecision.retry(delay, f"the service asked to wait {exception.retry_after:g} s")
            case AdfRequestError() if exception.status in _MALFORMED and not _FULL_QUEUE.search(str(exception)):
                return RetryDecision.fail(
                    f"the service cannot use the request ({exception.status}), nor the same one again"
                )
        return RetryDecision.default()

    def _of_activities(self, error: AdfRunFailed) -> RetryDecision:
        failures = [failure for failure in error.activities if failure.failure_type]
        # A Fail activity only says what others made the pipeline say.
        if any(failure.is_named and failure.activity_type != "Fail" for failure in failures):
            failures = [failure for failure in failures if failure.is_named]
        for failure in failures:
            # One that no retry mends is enough.
            if failure.failure_type == USER_ERROR and not self._is_retried(failure):
                return RetryDecision.fail(f"user error {_named(failure)}")
        if not failures or any(failure.failure_type not in (USER_ERROR, SYSTEM_ERROR) for failure in failures):
            return RetryDecision.default()
        is_system = all(failure.failure_type == SYSTEM_ERROR for failure in failures)
        kind, delay = ("system error", self.system_error_delay) if is_system else ("error to be retried", None)
        return RetryDecision.retry(delay, f"{kind} {_named(failures[0])}")

    def _is_retried(self, failure: ActivityFailure) -> bool:
        said = f"{failure.error_code} {failure.message}".lower()
        return any(text.lower() in said for text in self.retry_on)

    def serialize(self) -> dict[str, Any]:
        """The policy as JSON."""
        delay = self.system_error_delay
        return {
            "retry_on": list(self.retry_on),
            "retry_cancelled": self.retry_cancelled,
            "system_error_delay": None if delay is None else delay.total_seconds(),
        }

    @classmethod
    def deserialize(cls, data: Mapping[str, Any]) -> Self:
        """
        Make the policy from its JSON.

        :param data: as of :meth:`serialize`.
        """
        delay = data["system_error_delay"]
        return cls(
            retry_on=data["retry_on"],
            retry_cancelled=data["retry_cancelled"],
            system_error_delay=None if delay is None else timedelta(seconds=delay),
        )


def _remembered(now: Forbidden, context: Context | None) -> Forbidden:
    """What has been refused until now, kept for the next try. Asked twice in one try, it says the same."""
    try:
        store: Any = context["task_state_store"] if context is not None else None
        if store is None:
            return now
        known = now.at(store.get(FORBIDDEN_KEY, None))
        store.set(FORBIDDEN_KEY, asdict(known))
    except Exception as e:  # noqa: BLE001  whatever Airflow fails with, the number of retries is a limit, too
        log.warning("Since when the service refuses is not known, so the number of retries alone limits them. %s", e)
        return now
    return known


def _named(failure: ActivityFailure) -> str:
    code = f"{failure.error_code} " if failure.error_code else ""
    return f"{code}of activity {failure.activity_name!r} in pipeline {failure.pipeline_name!r}"
