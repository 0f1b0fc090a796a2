"""Every error a user can meet.

    AdfError
    ├── AdfConfigurationError       a connection field or an argument is wrong; nothing was sent
    │   └── AdfCertificateError     the endpoint's certificate is not trusted
    ├── AdfAuthenticationError      no token for the identity, or the service refused the token (401)
    ├── AdfRequestError             the service refused the request (4xx)
    │   ├── AdfPermissionError      403: the identity lacks a role
    │   ├── AdfNotFoundError        404: there is no such subscription, factory, pipeline or run
    │   └── AdfThrottledError       429: too many requests
    │       └── AdfQueueFullError   the pipeline's own queue has no place for another run
    ├── AdfUnavailableError         no usable answer: 408, 5xx, dropped connection, timeout, a proxy's page
    ├── AdfAmbiguousStartError      a start whose answer was lost, and the run can be neither found nor ruled out
    ├── AdfTaskKilled               the task was killed while it started or waited for its run
    └── AdfRunError                 the run itself did not succeed
        ├── AdfRunFailed
        ├── AdfRunCancelled
        └── AdfRunTimedOut          our deadline passed first

A message names what happened, to which run, pipeline, factory or identity, and what to do next. Errors of other libraries are
translated in one place only: `airflow_adf_mi.adf.api.error_mapping`. Airflow gets twins of these errors, which are also
AirflowExceptions: `airflow_adf_mi.exceptions`.

An error's members are the keyword arguments of its constructor. Each member is stored as an attribute of the same name. Pickle,
copy and the JSON form (`airflow_adf_mi.adf.error_json`) rely on this rule, so a new class needs no code of its own for them.
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
        """A new error of the same class with another text, and with the members, notes and causes of this error.

        Many tasks may get the same error, for example from the poller. So an error is never changed after it was made.
        """
        another = rebuilt(type(self), (text,), vars(self))
        another.__cause__, another.__context__ = self.__cause__, self.__context__
        another.__suppress_context__ = self.__suppress_context__
        return another

    def __reduce__(self) -> tuple[Any, ...]:
        """The form for pickle and copy. Python's own form would call the class without its keyword arguments."""
        return rebuilt, (type(self), self.args, vars(self))


E = TypeVar("E", bound=AdfError)


def rebuilt(kind: type[E], args: tuple[Any, ...], state: Mapping[str, Any]) -> E:
    """An error with these `args` and attributes, notes included. Its constructor is not called."""
    error = kind.__new__(kind, *args)
    for name, value in state.items():
        # The copy needs a list of its own, because a note on the copy must not appear on the original.
        setattr(error, name, list(value) if name == "__notes__" else value)
    return error


def members_of(kind: type[AdfError]) -> tuple[str, ...]:
    """The names of the members that errors of this class have in addition to their text."""
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
    """The certificate of the endpoint is not trusted. So neither a request nor a token was sent to the endpoint."""


class AdfAuthenticationError(AdfError):
    """The identity got no token, or the service refused the token.

    `transient` is true if the identity endpoint could not be reached, or asked to try again later: the same request may succeed
    shortly. It is false if the endpoint refused. `refused_token` is true if there was a token, and the service refused it
    (401).
    """

    def __init__(self, message: str, *, transient: bool = False, refused_token: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        self.refused_token = refused_token


class AdfRequestError(AdfError):
    """The service refused the request. The request had no effect, unless the status is 409 and the request was a start
    (`create_run.judge`).

    `status` is the HTTP status, `code` the service's error code, and `request_id` its `x-ms-request-id`, which Microsoft's
    support asks for. `retry_after` is the number of seconds that the service asked to wait, if any. `failure_cause` is its
    `x-ms-failure-cause`: `gateway` if Azure Resource Manager itself refused, without asking Data Factory.
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
    """403: the identity is known, but has no role with the needed action; or a policy or network rule refuses (`code`)."""


class AdfNotFoundError(AdfRequestError):
    """404: the subscription, factory, pipeline or run does not exist, or not where the connection points.

    `missing` names which of them: `subscription`, `factory`, `pipeline` or `run`; None if that is not known.
    """

    def __init__(self, message: str, *, missing: str | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.missing = missing


class AdfThrottledError(AdfRequestError):
    """429: the request limit of the subscription or factory is used up for now."""


class AdfQueueFullError(AdfThrottledError):
    """The pipeline has a `concurrency`, and its queue is full: nothing was started. `status` is 400 or 429."""


class AdfUnavailableError(AdfError):
    """The service gave no usable answer.

    `never_sent` is true only if it is proven that the request did not leave this machine (connection refused, connect timeout,
    name resolution). Otherwise, a request that changes something may have taken effect. `unreadable` is true for an answer with
    the status of a success that does not match the specification. `is_foreign` is true if the answer is not from
    Azure Resource Manager, but from a proxy, gateway or web filter.
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
    """The answer to createRun was lost, and the service shows no run that is proven to be ours.

    `request_id` is the start key, which the request carried as `x-ms-client-request-id`. `candidates` are the runs that may be
    ours.
    """

    def __init__(self, message: str, *, request_id: str, candidates: Sequence[PipelineRun] = ()) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.candidates = tuple(candidates)


class AdfTaskKilled(AdfError):
    """Airflow stopped the task; the text reports what happened to its run."""


class AdfRunError(AdfError):
    """A run that did not succeed.

    `run_id` and `studio_url` are always known. `run` is the last answer of the service about the run, if there was any.
    `activities` are the failed activities, the first cause first, or those that were active when the run was cancelled.
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
    """The run ended as Failed. The properties are None if the failed activity could not be found out."""

    @property
    def failed_activity(self) -> str | None:
        """Name of the activity that failed first."""
        return self.activities[0].activity_name if self.activities else None

    @property
    def error_code(self) -> str | None:
        """The error code of that activity."""
        return self.activities[0].error_code if self.activities else None

    @property
    def failure_type(self) -> str | None:
        """`UserError` or `SystemError`, as the service judges that activity's failure."""
        return self.activities[0].failure_type if self.activities else None

    @property
    def failed_pipeline_run_id(self) -> str | None:
        """The run that has that activity: this run, or one that it started."""
        return self.activities[0].pipeline_run_id if self.activities else None


class AdfRunCancelled(AdfRunError):
    """The run ended as Cancelled."""


class AdfRunTimedOut(AdfRunError):
    """The deadline of the wait passed before the run ended."""
