"""Every error a user can meet.

    AdfError
    ├── AdfConfigurationError       a connection field or an argument is wrong; nothing was sent
    │   └── AdfCertificateError     the endpoint's certificate is not trusted
    ├── AdfAuthenticationError      no token for the identity, or the service refused the token (401)
    ├── AdfRequestError             the service refused the request (4xx)
    │   ├── AdfPermissionError      403: the identity lacks a role
    │   ├── AdfNotFoundError        404: factory, pipeline or run
    │   └── AdfThrottledError       429: too many requests
    ├── AdfUnavailableError         no usable answer: 408, 5xx, dropped connection, timeout, a proxy's page
    ├── AdfAmbiguousStartError      a start whose answer was lost, and the run can be neither found nor ruled out
    ├── AdfTaskKilled               the task was told to die while it started or waited for its run
    └── AdfRunError                 the run itself did not succeed
        ├── AdfRunFailed
        ├── AdfRunCancelled
        └── AdfRunTimedOut          our deadline passed first

Messages say what happened, to which run, pipeline, factory or identity, and what to do next. Foreign errors become
these in one place only: `airflow_adf_mi.adf.api.error_mapping`. What leaves the package in Airflow's hands is a twin of these,
which is an AirflowException too: `airflow_adf_mi.exceptions`.

An error's members are the keyword arguments of its constructor. Each is kept as an attribute of the same name. Pickle,
copy and the JSON form (`airflow_adf_mi.adf.error_json`) all work by this rule, so a new class needs nothing of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from airflow_adf_mi.adf.activity_failures import ActivityFailure
    from airflow_adf_mi.adf.models import PipelineRun


class AdfError(Exception):
    """Base of all errors of this package."""

    def with_text(self, text: str) -> Self:
        """A new error of the same class with another text, and with the members, notes and causes of this one.

        One error may be handed to many tasks, as by the poller. So nobody changes an error that somebody else has made.
        """
        another = rebuilt(type(self), (text,), vars(self))
        another.__cause__, another.__context__ = self.__cause__, self.__context__
        another.__suppress_context__ = self.__suppress_context__
        return another

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickle and copy use. Python's own would call the class without its keyword arguments."""
        return rebuilt, (type(self), self.args, vars(self))


E = TypeVar("E", bound=AdfError)


def rebuilt(kind: type[E], args: tuple[Any, ...], state: Mapping[str, Any]) -> E:
    """An error with these `args` and attributes, notes included. Its constructor is not called."""
    error = kind.__new__(kind, *args)
    for name, value in state.items():
        # A list of its own: a note on a copy is no note on the original.
        setattr(error, name, list(value) if name == "__notes__" else value)
    return error


def members_of(kind: type[AdfError]) -> tuple[str, ...]:
    """The names of what errors of this class know beside their text."""
    constructors = [
        vars(base)["__init__"]
        for base in reversed(kind.__mro__)
        if issubclass(base, AdfError) and "__init__" in vars(base)
    ]
    arguments = [argument for init in constructors for argument in inspect.signature(init).parameters.values()]
    return tuple(dict.fromkeys(a.name for a in arguments if a.kind is inspect.Parameter.KEYWORD_ONLY))


class AdfConfigurationError(AdfError, ValueError):
    """A connection field or an argument is missing, unknown or contradictory. Raised before anything is sent."""


class AdfCertificateError(AdfConfigurationError):
    """The certificate of the endpoint is not trusted, so no request was sent to it, and no token."""


class AdfAuthenticationError(AdfError):
    """The identity got no token, or the service refused the token.

    `transient` is true when the identity endpoint could not be reached or asked to come back later, so that the
    same request may succeed shortly; false when it answered with a refusal. `refused_token` is true when there was a
    token and the service refused it (401).
    """

    def __init__(self, message: str, *, transient: bool = False, refused_token: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        self.refused_token = refused_token


class AdfRequestError(AdfError):
    """The service answered with a refusal. The request had no effect, unless it is a 409 to a start (`create_run.judge`).

    `status` is the HTTP status, `code` the service's error code, `request_id` its `x-ms-request-id` (what Microsoft's
    support asks for), `retry_after` the seconds it asked to wait, if any. `failure_cause` is its `x-ms-failure-cause`:
    `gateway` where Azure Resource Manager refused by itself, and did not ask Data Factory.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        failure_cause: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.failure_cause = failure_cause


class AdfPermissionError(AdfRequestError):
    """403: the identity is known but holds no role with the needed action; or a policy or network rule refuses (`code`)."""


class AdfNotFoundError(AdfRequestError):
    """404: the factory, pipeline or run does not exist, or not where the connection points.

    `missing` is which of them: `subscription`, `factory`, `pipeline` or `run`; None where that is not known.
    """

    def __init__(self, message: str, *, missing: str | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.missing = missing


class AdfThrottledError(AdfRequestError):
    """429: the subscription's or the factory's request limit is used up for now."""


class AdfUnavailableError(AdfError):
    """The service gave no usable answer.

    `never_sent` is true only where it is proven that the request did not leave this machine (connection refused,
    connect timeout, name resolution); otherwise a request that changes something may or may not have taken effect.
    `unreadable` is true where an answer came, with the status of a success, and was not what the service promises.
    `is_foreign` is true where the answer is not from Azure Resource Manager, but from a proxy, gateway or web filter.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        never_sent: bool = False,
        retry_after: float | None = None,
        unreadable: bool = False,
        is_foreign: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.never_sent = never_sent
        self.unreadable = unreadable
        self.retry_after = retry_after
        self.is_foreign = is_foreign


class AdfAmbiguousStartError(AdfError):
    """The answer to createRun was lost, and the service shows no run that can be proven to be ours.

    `request_id` is the id the request carried as `x-ms-client-request-id`; `candidates` are the runs that may be ours.
    """

    def __init__(self, message: str, *, request_id: str, candidates: Sequence[PipelineRun] = ()) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.candidates = tuple(candidates)


class AdfTaskKilled(AdfError):
    """The task was told to die; the text says what became of its run."""


class AdfRunError(AdfError):
    """A run that did not succeed.

    `run_id` and `studio_url` are always known; `run` is what the service last said of it, if it answered at all;
    `activities` are those that failed, the first cause first, or that were on the way when it was cancelled.
    """

    def __init__(
        self,
        message: str,
        *,
        run_id: str,
        studio_url: str,
        run: PipelineRun | None = None,
        activities: Sequence[ActivityFailure] = (),
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.studio_url = studio_url
        self.run = run
        self.activities = tuple(activities)


class AdfRunFailed(AdfRunError):
    """The run ended as Failed. What is said of the failed activity is None where it could not be learnt."""

    @property
    def failed_activity(self) -> str | None:
        """Name of the activity that failed first."""
        return self.activities[0].activity_name if self.activities else None

    @property
    def error_code(self) -> str | None:
        """Of that activity."""
        return self.activities[0].error_code if self.activities else None

    @property
    def failure_type(self) -> str | None:
        """`UserError` or `SystemError`, as the service judges that activity's failure."""
        return self.activities[0].failure_type if self.activities else None

    @property
    def failed_pipeline_run_id(self) -> str | None:
        """The run that has that activity: this one, or one that it started."""
        return self.activities[0].pipeline_run_id if self.activities else None


class AdfRunCancelled(AdfRunError):
    """The run ended as Cancelled."""


class AdfRunTimedOut(AdfRunError):
    """The deadline of the wait passed before the run ended."""
