"""Every error of this package that a task, a hook or a Dag file can meet: for `except`, callbacks and retry policies.

Each class here is the twin of a class in `airflow_adf_mi.adf.errors`, with the same name, text and attributes. A twin is also
an AirflowException, so an existing `except AirflowException` catches it. The package `adf` does not import Airflow, and
raises its own errors; `airflow_errors` replaces them with their twins where they leave this package. No error is an
AirflowFailException: Airflow retries a task as usual, unless the task's retry policy decides otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow.sdk.exceptions import AirflowException

from airflow_adf_mi.adf import errors
from airflow_adf_mi.adf.error_json import NOTES, members_from_json, members_to_json


class AdfError(errors.AdfError, AirflowException):
    """Base of all errors of this package.

    :param message: what happened, to which run, pipeline, factory or identity, and what to do next.
    :param members: the error's attributes, by their names in the class of `adf.errors`. Or only `stored`, which is the form
        that `serialize` makes of them.
    """

    def __init__(self, message: str = "", **members: Any) -> None:
        stored = members.pop("stored", None)
        if stored is not None:
            members = members_from_json(type(self), stored)
        super().__init__(message, **members)
        for note in (stored or {}).get(NOTES) or ():
            self.add_note(note)

    def serialize(self) -> tuple[str, tuple[str], dict[str, Any]]:
        """What Airflow stores: the class path, and the arguments for making the error again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", (str(self),), {"stored": members_to_json(self)}


class AdfConfigurationError(AdfError, errors.AdfConfigurationError):
    """A connection field or an argument is wrong. Nothing was sent. Also a ValueError."""


class AdfCertificateError(AdfConfigurationError, errors.AdfCertificateError):
    """The certificate of the endpoint is not trusted. Nothing was sent."""


class AdfAuthenticationError(AdfError, errors.AdfAuthenticationError):
    """The identity got no token, or the service refused the token (401). Has `transient` and `refused_token`."""


class AdfRequestError(AdfError, errors.AdfRequestError):
    """The service refused the request. Has `status`, `code`, `request_id` and `retry_after`."""


class AdfPermissionError(AdfRequestError, errors.AdfPermissionError):
    """403: the identity lacks a role, or a policy or network rule forbids the request."""


class AdfNotFoundError(AdfRequestError, errors.AdfNotFoundError):
    """404: there is no such subscription, factory, pipeline or run; `missing` says which."""


class AdfThrottledError(AdfRequestError, errors.AdfThrottledError):
    """429: too many requests; `retry_after` is the seconds that the service asked to wait."""


class AdfQueueFullError(AdfThrottledError, errors.AdfQueueFullError):
    """The queue of the pipeline was full until the deadline of the task. Nothing was started."""


class AdfUnavailableError(AdfError, errors.AdfUnavailableError):
    """The service gave no usable answer. Has `status`, `never_sent` and `retry_after`."""


class AdfAmbiguousStartError(AdfError, errors.AdfAmbiguousStartError):
    """The answer to a start was lost, and its run can be neither found nor ruled out. Has `request_id` and `candidates`."""


class AdfTaskKilled(AdfError, errors.AdfTaskKilled):
    """Airflow stopped the task; the text reports what happened to its run."""


class AdfRunError(AdfError, errors.AdfRunError):
    """A run did not succeed. Has `run_id`, `studio_url`, `run` and `activities`."""


class AdfRunFailed(AdfRunError, errors.AdfRunFailed):
    """The run failed. Also has `failed_activity`, `error_code`, `failure_type` and `failed_pipeline_run_id`."""


class AdfRunCancelled(AdfRunError, errors.AdfRunCancelled):
    """Somebody cancelled the run outside the task."""


class AdfRunTimedOut(AdfRunError, errors.AdfRunTimedOut):
    """The run did not end before the deadline of the task."""


def _twins() -> Iterator[tuple[type[errors.AdfError], type[AdfError]]]:
    for twin in list(globals().values()):
        if isinstance(twin, type) and issubclass(twin, AdfError):
            yield vars(errors)[twin.__name__], twin


TWINS: Mapping[type[errors.AdfError], type[AdfError]] = dict(_twins())
"""From each class of `adf.errors` to its twin."""


def to_airflow(error: errors.AdfError) -> AdfError:
    """The twin of an error, with its text, attributes, notes, cause and traceback. A twin is returned unchanged."""
    if isinstance(error, AdfError):
        return error
    kind = next(TWINS[base] for base in type(error).__mro__ if base in TWINS)
    twin = errors.rebuilt(kind, error.args, vars(error))
    twin.__cause__ = error.__cause__
    # Errors of other libraries quote answers, which may hold secrets. A context that was suppressed stays out of the twin.
    twin.__context__ = None if error.__suppress_context__ else error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Replace errors of `adf.errors` with their twins. Other errors pass unchanged.

    Use it as a context manager in code that awaits, and as a decorator on functions that do not await.
    """
    try:
        yield
    except AdfError:
        raise
    except errors.AdfError as e:
        twin = to_airflow(e)
        context = twin.__context__
        try:
            raise twin
        finally:
            # `raise` has just made `e` the context. The log would then show every error twice.
            twin.__context__ = context
