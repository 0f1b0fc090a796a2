"""Data Factory's operations, as ARM routes them: method, path, and the action that a role must allow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

_SUBSCRIPTION = r"/subscriptions/(?P<subscription>[^/]+)"
_PROVIDER = r"/providers/Microsoft\.DataFactory/factories"
_FACTORIES = _SUBSCRIPTION + r"/resourceGroups/(?P<group>[^/]+)" + _PROVIDER
_FACTORY = _FACTORIES + r"/(?P<factory>[^/]+)"
_PIPELINE = _FACTORY + r"/pipelines/(?P<pipeline>[^/]+)"
_RUN = _FACTORY + r"/pipelineruns/(?P<run_id>[^/]+)"


@dataclass(frozen=True)
class Operation:
    """One operation of the service."""

    name: str
    method: str
    path: re.Pattern[str]
    action: str
    """Below Microsoft.DataFactory/factories/ (documented resource provider operations)."""
    is_write: bool = False
    """Whether ARM counts the operation as a write. The query operations are reads, although they are POSTs (recorded)."""


def _operation(name: str, method: str, path: str, action: str, *, is_write: bool = False) -> Operation:
    # Paths are compared without case, as in ARM. The specification itself mixes cases.
    return Operation(name, method, re.compile(path, re.IGNORECASE), action, is_write)


OPERATIONS = (
    _operation("createRun", "POST", _PIPELINE + "/createRun", "pipelines/createrun/action", is_write=True),
    _operation("getRun", "GET", _RUN, "pipelineruns/read"),
    _operation("cancelRun", "POST", _RUN + "/cancel", "pipelineruns/cancel/action", is_write=True),
    _operation("queryActivityRuns", "POST", _RUN + "/queryActivityruns", "pipelineruns/queryactivityruns/action"),
    _operation("queryRuns", "POST", _FACTORY + "/queryPipelineRuns", "querypipelineruns/action"),
    _operation("queryTriggerRuns", "POST", _FACTORY + "/queryTriggerRuns", "querytriggerruns/action"),
    _operation("getFactory", "GET", _FACTORY, "read"),
    _operation("getPipeline", "GET", _PIPELINE, "pipelines/read"),
    _operation("putPipeline", "PUT", _PIPELINE, "pipelines/write", is_write=True),
    _operation("listPipelines", "GET", _FACTORY + "/pipelines", "pipelines/read"),
    _operation("listFactories", "GET", _FACTORIES, "read"),
    _operation("listFactories", "GET", _SUBSCRIPTION + _PROVIDER, "read"),
)
NAMES = frozenset(operation.name for operation in OPERATIONS)
ACTIONS = frozenset(operation.action for operation in OPERATIONS)


def find(method: str, raw_path: str) -> tuple[Operation, Mapping[str, str]] | None:
    """The operation of a request, and the names in its path. None if the operation is not emulated.

    Names are decoded after the path is split, so that an encoded slash does not change the path.
    """
    for operation in OPERATIONS:
        match = operation.path.fullmatch(raw_path)
        if match is not None and method == operation.method:
            return operation, {name: unquote(value) for name, value in match.groupdict().items()}
    return None


def scope(path: str) -> str:
    """The resource of a request: its path without the operation's verb."""
    return re.sub(
        r"/(createRun|cancel|queryActivityruns|queryPipelineRuns|queryTriggerRuns)$", "", path, flags=re.IGNORECASE
    )
