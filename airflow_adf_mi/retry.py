"""A retry policy: retries errors that may pass, and fails at once on errors that a retry repeats. Needs Airflow 3.3."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow_adf_mi._airflow import features
from airflow_adf_mi.adf.activity_failures import ActivityFailure
from airflow_adf_mi.adf.errors import (
    AdfCertificateError,
    AdfConfigurationError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfQueueFullError,
    AdfRequestError,
    AdfRunCancelled,
    AdfRunFailed,
    AdfThrottledError,
)
from airflow_adf_mi.exceptions import airflow_errors

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryDecision, RetryPolicy
elif features.RETRY_POLICIES:
    from airflow.sdk import RetryDecision, RetryPolicy
else:
    # So that this module can be imported, as with `from airflow_adf_mi import *`. The policy itself refuses to be made.
    RetryPolicy = object

log = logging.getLogger(__name__)

USER_ERROR, SYSTEM_ERROR = "UserError", "SystemError"
FORBIDDEN_FOR = timedelta(minutes=15)
"""How long a 403 is retried: a new role assignment takes minutes to act everywhere."""
FORBIDDEN_PAUSE = timedelta(minutes=1)
"""Shortest delay before a retry after a 403."""
FORBIDDEN_KEY = "airflow_adf_mi.forbidden"
"""Key in the task state store: since when the service answers 403, in the form of `Forbidden`."""
_MALFORMED = frozenset({400, 413, 414, 415, 422})


@dataclass(frozen=True, kw_only=True)
class Forbidden:
    """A series of consecutive tries that failed with 403."""

    since: float
    """Epoch seconds of the first 403."""
    try_number: int
    """The last try of the series."""
    max_tries: int
    """As Airflow counts. A clear raises `max_tries`, and so begins a new series."""

    def at(self, stored: object) -> Self:
        """Continue the stored series with this 403. Without a stored series that fits, this 403 begins a new series."""
        if not isinstance(stored, Mapping):
            return self
        since, before, of = (stored.get(name) for name in ("since", "try_number", "max_tries"))
        goes_on = before in (self.try_number, self.try_number - 1) and of == self.max_tries
        if not goes_on or not isinstance(since, int | float) or not 0 <= since <= self.since:
            return self
        return type(self)(since=since, try_number=self.try_number, max_tries=self.max_tries)


def on_forbidden(error: AdfPermissionError, seconds: float, retry_delay: timedelta | None) -> RetryDecision:
    """
    Decide on a retry after a 403. Pure.

    :param error: the last 403.
    :param seconds: seconds from the first 403 of the series until now.
    :param retry_delay: the task's own delay.
    """
    what = f"the service has refused (403{f' {error.code}' if error.code else ''}) for {seconds:.0f} s"
    minutes = FORBIDDEN_FOR.total_seconds() / 60
    if seconds >= FORBIDDEN_FOR.total_seconds():
        return RetryDecision.fail(
            f"{what}; a new role acts within {minutes:.0f} minutes, so no retry is made after that time"
        )
    is_slow = retry_delay is not None and retry_delay >= FORBIDDEN_PAUSE
    return RetryDecision.retry(
        None if is_slow else FORBIDDEN_PAUSE,
        f"{what}; a new role takes minutes to act, so it is retried until {minutes:.0f} minutes after the first refusal, at "
        f"least {FORBIDDEN_PAUSE.total_seconds():.0f} s apart",
    )


class AdfRetryPolicy(RetryPolicy):
    """
    Retries system errors and fails at once on user errors, as Data Factory itself classifies the failed activities. Needs Airflow
    3.3. On an older Airflow, its constructor raises :class:`~airflow_adf_mi.exceptions.AdfConfigurationError`.

    Airflow asks the policy on the worker after a failed try. The policy can end the retries of a task early, and never
    allows more than ``retries``. If the policy makes no decision, Airflow retries as without a policy. The policy makes no
    decision for errors of other packages, for a run whose failed activities are not known, and for failed activities whose
    kind of error is not known.

    Not retried: a subscription, factory or pipeline that does not exist (404), a malformed request (400), and a wrong
    connection or argument. A 403 is retried until 15 minutes after the first 403, with delays of at least a minute, because
    a new role assignment takes minutes to act. Without Airflow's task state store, only ``retries`` limits these retries.

    :param retry_on: user errors to retry: texts that an activity's error code or message contains, such as
        ``"SqlFailedToConnect"``. Data Factory classifies many temporary failures of a source as user errors.
    :param retry_cancelled: whether to start a run again that somebody cancelled outside Airflow.
    :param system_error_delay: delay after a system error; overrides the task's ``retry_delay``.
    """

    @airflow_errors()
    def __init__(
        self,
        *,
        retry_on: Collection[str] = (),
        retry_cancelled: bool = False,
        system_error_delay: timedelta | None = None,
    ) -> None:
        if not features.RETRY_POLICIES:
            raise AdfConfigurationError(
                "AdfRetryPolicy needs Airflow 3.3 or later, because the tasks of this Airflow have no retry_policy. Remove the "
                "policy, or update Airflow. Without a policy, Airflow makes up to `retries` retries after every error."
            )
        if isinstance(retry_on, str):
            raise AdfConfigurationError(f"retry_on is {retry_on!r}; it must be a list of texts.")
        self.retry_on = tuple(retry_on)
        self.retry_cancelled = retry_cancelled
        self.system_error_delay = system_error_delay

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """
        Decide by the error of the task.

        :param exception: the task's error.
        :param try_number: the number of the failed try.
        :param max_tries: as Airflow counts; a clear raises it.
        :param context: the task's context, for its state store and its ``retry_delay``.
        """
        match exception:
            case AdfRunFailed():
                return self._of_activities(exception)
            case AdfRunCancelled() if not self.retry_cancelled:
                return RetryDecision.fail(f"run {exception.run_id} was cancelled outside this task")
            case AdfCertificateError():
                # The certificate may be wrong on one machine only, or be replaced soon.
                return RetryDecision.default()
            case AdfConfigurationError():
                return RetryDecision.fail("the connection or an argument is wrong, and would be wrong in a retry")
            case AdfPermissionError():
                now = Forbidden(since=time.time(), try_number=try_number, max_tries=max_tries)
                seconds = now.since - _remembered(now, context).since
                return on_forbidden(exception, seconds, getattr((context or {}).get("task"), "retry_delay", None))
            case AdfNotFoundError(missing="subscription" | "factory" | "pipeline"):
                return RetryDecision.fail(f"there is no such {exception.missing} (404), and a retry does not make one")
            case AdfNotFoundError():
                # A run that the service does not show yet.
                return RetryDecision.default()
            case AdfQueueFullError():
                return RetryDecision.default()
            case AdfThrottledError() if exception.retry_after:
                delay = timedelta(seconds=exception.retry_after)
                return RetryDecision.retry(delay, f"the service asked to wait {exception.retry_after:g} s")
            case AdfRequestError() if exception.status in _MALFORMED:
                return RetryDecision.fail(
                    f"the service cannot use the request ({exception.status}), and a retry sends the same request"
                )
        return RetryDecision.default()

    def _of_activities(self, error: AdfRunFailed) -> RetryDecision:
        failures = [failure for failure in error.activities if failure.failure_type]
        # A Fail activity repeats what the pipeline reports of other activities. Prefer the errors of the other activities.
        if any(failure.is_named and failure.activity_type != "Fail" for failure in failures):
            failures = [failure for failure in failures if failure.is_named]
        for failure in failures:
            # One error that a retry cannot repair is enough.
            if failure.failure_type == USER_ERROR and not self._is_retried(failure):
                return RetryDecision.fail(f"user error {_named(failure)}")
        if not failures or any(failure.failure_type not in (USER_ERROR, SYSTEM_ERROR) for failure in failures):
            return RetryDecision.default()
        is_system = all(failure.failure_type == SYSTEM_ERROR for failure in failures)
        kind, delay = ("system error", self.system_error_delay) if is_system else ("error to be retried", None)
        return RetryDecision.retry(delay, f"{kind} {_named(failures[0])}")

    def _is_retried(self, failure: ActivityFailure) -> bool:
        text = f"{failure.error_code} {failure.message}".lower()
        return any(wanted.lower() in text for wanted in self.retry_on)

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

        :param data: the result of :meth:`serialize`.
        """
        delay = data["system_error_delay"]
        return cls(
            retry_on=data["retry_on"],
            retry_cancelled=data["retry_cancelled"],
            system_error_delay=None if delay is None else timedelta(seconds=delay),
        )


def _remembered(now: Forbidden, context: Context | None) -> Forbidden:
    """The current series of 403s, which is also stored for the next try. A second call in the same try changes nothing."""
    try:
        store: Any = context["task_state_store"] if context is not None else None
        if store is None:
            return now
        known = now.at(store.get(FORBIDDEN_KEY, None))
        store.set(FORBIDDEN_KEY, asdict(known))
    except Exception as e:  # noqa: BLE001  whatever Airflow fails with, the number of retries is a limit, too
        log.warning("The time of the first 403 is not known, so only the number of retries limits the retries. %s", e)
        return now
    return known


def _named(failure: ActivityFailure) -> str:
    code = f"{failure.error_code} " if failure.error_code else ""
    return f"{code}of activity {failure.activity_name!r} in pipeline {failure.pipeline_name!r}"
