"""A retry policy for Airflow 3.3: what a retry can mend is retried, and what it cannot fails at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow.sdk import RetryDecision, RetryPolicy

from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfRunCancelled, AdfRunFailed, AdfThrottledError
from airflow_adf_mi.adf.failure import ActivityFailure
from airflow_adf_mi.exceptions import airflow_errors

if TYPE_CHECKING:
    from airflow.sdk import Context

USER_ERROR, SYSTEM_ERROR = "UserError", "SystemError"


class AdfRetryPolicy(RetryPolicy):
    """
    Retries system errors and stops on user errors, as Data Factory itself judges the failed activities.

    Airflow asks it on the worker when a try has failed; it can end the retries of a task early, and never gives more than
    ``retries``. Of a run of which the service does not tell the activities, or not whose error it was, it decides nothing:
    Airflow then goes on as without a policy. So it does for every error that is not of this package.

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
        :param try_number: of no matter.
        :param max_tries: of no matter.
        :param context: of no matter.
        """
        if isinstance(exception, AdfRunFailed):
            return self._of_activities(exception)
        if isinstance(exception, AdfRunCancelled) and not self.retry_cancelled:
            return RetryDecision.fail(f"run {exception.run_id} was cancelled outside this task")
        if isinstance(exception, AdfConfigurationError):
            return RetryDecision.fail("the connection or an argument is wrong, and will be so again")
        if isinstance(exception, AdfThrottledError) and exception.retry_after:
            delay = timedelta(seconds=exception.retry_after)
            return RetryDecision.retry(delay, f"the service asked to wait {exception.retry_after:g} s")
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


def _named(failure: ActivityFailure) -> str:
    code = f"{failure.error_code} " if failure.error_code else ""
    return f"{code}of activity {failure.activity_name!r} in pipeline {failure.pipeline_name!r}"
