"""From what the official client returns or raises to the result of a call: its answer, or a failure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.api.error_mapping import from_answer, translate, unreadable
from airflow_adf_mi.adf.api.operations import Call
from airflow_adf_mi.adf.api.refusal import Refusal
from airflow_adf_mi.adf.errors import AdfAuthenticationError, AdfError, AdfRequestError, AdfThrottledError
from airflow_adf_mi.adf.models import UNREADABLE
from airflow_adf_mi.adf.network.transport import token_of

if TYPE_CHECKING:
    from airflow_adf_mi.adf.config.settings import AdfSettings
    from airflow_adf_mi.adf.network.route import Route

T = TypeVar("T")


@dataclass(frozen=True)
class FailedCall:
    """The result of a call that failed."""

    error: AdfError
    refused_token: str | None = field(default=None, repr=False)
    """The token of the request, if the service refused the token."""


def body_of(response: Any, _model: object, _headers: object) -> Any:
    """The answer as JSON. The official client's model would lose members that the service sends."""
    content = response.http_response
    return content.json() if content.content else None


def response_of(response: Any, _model: object, _headers: object) -> Any:
    """The answer itself. Its content is not read yet."""
    return response.http_response


def read_content(call: Call[T], content: bytes) -> T | FailedCall:
    """Read the answer in the content of a response. Safe in a thread. Raises one of `UNREADABLE` for `parse_error`.

    Python's JSON parser blocks all other threads until it has parsed the whole text. With an `object_hook` it calls Python for
    each object, so the event loop gets a turn in between.
    """
    return parse(call, json.loads(content, object_hook=_same) if content else None)


def _same(value: dict[str, Any]) -> dict[str, Any]:
    return value


def parse(call: Call[T], body: Any) -> T | FailedCall:
    """Read the answer in a parsed body."""
    try:
        answer = call.read(body)
    except UNREADABLE as e:
        return _failed(call, unreadable(e, call))
    _count(call, "answered")
    return answer


def parse_error(
    error: Exception, call: Call[T], settings: AdfSettings, route: Route, status: int | None = None
) -> T | FailedCall:
    """Map an error that the official client raised for `call`, sent by `route`: to an answer or to a failure.

    `status` is the HTTP status of the answer, if the status is known and the error does not carry it. Raises `error` itself if
    its kind is not known.
    """
    from azure.core.exceptions import AzureError

    if isinstance(error, AdfError):
        # The credential raised it, when the official client asked for a token.
        return _failed(call, error)
    if isinstance(error, AzureError):
        ours = translate(error, call, settings, route)
        code = ours.code if isinstance(ours, AdfRequestError) else None
        if code is not None and code in call.answers_by_code:
            _count(call, "answered")
            return call.answers_by_code[code]
        refused = isinstance(ours, AdfAuthenticationError) and ours.refused_token
        return _failed(call, ours, refused_token=token_of(error) if refused else None)
    if isinstance(error, UNREADABLE):
        # The official client unpacks and parses answers before we do, and does not catch the errors of these steps.
        if status is not None and status >= 300:
            return _failed(call, from_answer(call, settings, Refusal.read(status, f"{error}", {}, "")))
        return _failed(call, unreadable(error, call))
    raise error


def _failed(call: Call[Any], error: AdfError, *, refused_token: str | None = None) -> FailedCall:
    _count(call, type(error).__name__)
    if isinstance(error, AdfThrottledError):
        metrics.count(metrics.THROTTLED, operation=f"{call.group}.{call.method}")
    return FailedCall(error, refused_token=refused_token)


def _count(call: Call[Any], outcome: str) -> None:
    metrics.count(metrics.REQUESTS, operation=f"{call.group}.{call.method}", outcome=outcome)


def unwrap(answer: T | FailedCall) -> T:
    """Return the answer, or raise the error of a failed call. The error of Azure's package is not chained to it.

    A traceback shows the whole chain, and errors of other packages quote answers, which may hold secrets.
    """
    if isinstance(answer, FailedCall):
        raise answer.error from None
    return answer


def forget_token(credential: Any, failure: FailedCall) -> bool:
    """Forget a token that the service refused. Returns whether another token may help."""
    forget = getattr(credential, "forget_token", None)
    return failure.refused_token is not None and forget is not None and bool(forget(failure.refused_token))
