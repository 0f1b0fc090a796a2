"""ARM's front door and Data Factory's operations behind it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from airflow_adf_mi.emulator.books import Books, RequestRecord
from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.faults import Fault, Faults
from airflow_adf_mi.emulator.replies import arm_answer, arm_error, arm_headers, respond_to_fault
from airflow_adf_mi.emulator.state import FactoryState
from airflow_adf_mi.emulator.tokens import Tokens

API_VERSION = "2018-06-01"

_FACTORIES = (
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)/providers/Microsoft\.DataFactory/factories"
)
_FACTORY = _FACTORIES + r"/(?P<factory>[^/]+)"
_RUN = _FACTORY + r"/pipelineruns/(?P<run_id>[^/]+)"
# Operation, method, path. Paths are compared without case, as ARM does; the specification itself mixes cases.
_ROUTES = [
    (operation, method, re.compile(path, re.IGNORECASE))
    for operation, method, path in (
        ("createRun", "POST", _FACTORY + r"/pipelines/(?P<pipeline>[^/]+)/createRun"),
        ("getRun", "GET", _RUN),
        ("cancelRun", "POST", _RUN + r"/cancel"),
        ("queryActivityRuns", "POST", _RUN + r"/queryActivityruns"),
        ("queryRuns", "POST", _FACTORY + r"/queryPipelineRuns"),
        ("getFactory", "GET", _FACTORY),
        ("getPipeline", "GET", _FACTORY + r"/pipelines/(?P<pipeline>[^/]+)"),
        ("listPipelines", "GET", _FACTORY + r"/pipelines"),
        ("listFactories", "GET", _FACTORIES),
        (
            "listFactories",
            "GET",
            r"/subscriptions/(?P<subscription>[^/]+)/providers/Microsoft\.DataFactory/factories",
        ),
    )
]


class Arm:
    """Handles every request to the ARM port."""

    def __init__(
        self,
        factories: list[FactoryState],
        tokens: Tokens,
        faults: Faults,
        books: Books,
        now: Callable[[], float],
        audiences: Callable[[], list[str]],
    ) -> None:
        self._factories = factories
        self._tokens = tokens
        self._faults = faults
        self._books = books
        self._now = now
        self._audiences = audiences

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = unquote(request.rel_url.raw_path)
        operation, where = _route(request.method, path)
        if operation is None:
            return self._unknown(request, path)
        request_id = request.headers.get("x-ms-client-request-id")
        headers = arm_headers(self._now(), write=operation in ("createRun", "cancelRun"), remaining=11999)
        pipeline = where.get("pipeline") or self._pipeline_of(where.get("run_id"))
        fault = self._faults.take(
            operation, pipeline=pipeline, run_id=where.get("run_id"), client_request_id=request_id
        )
        claims: dict[str, Any] = {}
        answer: web.StreamResponse | None = None
        if fault is not None and fault.effect == "before":
            answer = await respond_to_fault(request, fault)
        if answer is None:
            try:
                claims = self._tokens.check(request.headers.get("Authorization"), self._audiences())
                body = await self._operate(request, operation, where, claims, request_id)
                answer = arm_answer(body, headers)
            except ServiceError as e:
                answer = arm_error(e, headers)
            if fault is not None and fault.effect == "after":
                answer = await respond_to_fault(request, fault) or answer
        self._books.requests.append(
            RequestRecord(
                time=self._now(),
                operation=operation,
                method=request.method,
                path=path,
                status=0 if fault is not None and fault.drop else answer.status,
                client_id=claims.get("appid"),
                client_request_id=request_id,
                pipeline=pipeline,
                run_id=where.get("run_id"),
                fault=fault.id if isinstance(fault, Fault) else None,
                user_agent=request.headers.get("User-Agent"),
            )
        )
        return answer

    async def _operate(
        self,
        request: web.Request,
        operation: str,
        where: Mapping[str, str],
        claims: dict[str, Any],
        request_id: str | None,
    ) -> Any:
        scope = re.sub(r"/(createRun|cancel|queryActivityruns|queryPipelineRuns)$", "", request.path)
        self._tokens.authorize(claims, operation, scope)
        version = request.query.get("api-version")
        if version != API_VERSION:
            raise ServiceError(
                400,
                "InvalidApiVersionParameter" if version else "MissingApiVersionParameter",
                f"The api-version {version!r} is invalid. The supported version is {API_VERSION}.",
            )
        if operation == "listFactories":
            return {"value": [factory.factory() for factory in self._factories if _is_in(factory, where)]}
        factory = self._factory(where)
        if operation == "getFactory":
            return factory.factory()
        if operation == "listPipelines":
            return {"value": factory.pipelines()}
        if operation == "getPipeline":
            return factory.pipeline(where["pipeline"])
        if operation == "getRun":
            return factory.get_run(where["run_id"])
        if operation == "cancelRun":
            return factory.cancel_run(where["run_id"], recursive=_flag(request, "isRecursive"))
        body = await _body(request)
        if operation == "queryRuns":
            return factory.query_runs(body or {})
        if operation == "queryActivityRuns":
            return factory.query_activity_runs(where["run_id"], body or {})
        run_id = factory.create_run(
            where["pipeline"],
            body,
            client_request_id=request_id,
            reference_run_id=request.query.get("referencePipelineRunId"),
            is_recovery=_flag(request, "isRecovery"),
            start_activity_name=request.query.get("startActivityName"),
            start_from_failure=_flag(request, "startFromFailure"),
        )
        return {"runId": run_id}

    def _factory(self, where: Mapping[str, str]) -> FactoryState:
        for factory in self._factories:
            if _is_in(factory, where) and factory.factory_name.lower() == where["factory"].lower():
                return factory
        raise ServiceError(
            404,
            "ResourceNotFound",
            f"The Resource 'Microsoft.DataFactory/factories/{where['factory']}' under resource group '{where['group']}' was not "
            "found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
            headers={"x-ms-failure-cause": "gateway"},
        )

    def _pipeline_of(self, run_id: str | None) -> str | None:
        for factory in self._factories:
            run = factory.runs.get((run_id or "").lower())
            if run is not None:
                return run.pipeline
        return None

    def _unknown(self, request: web.Request, path: str) -> web.Response:
        self._books.requests.append(
            RequestRecord(time=self._now(), operation="unknown", method=request.method, path=path, status=501)
        )
        error = ServiceError(501, "NotEmulated", f"The emulator does not know {request.method} {path}.")
        return arm_answer(error.body(), {}, 501)


def _route(method: str, path: str) -> tuple[str | None, Mapping[str, str]]:
    for operation, wanted, pattern in _ROUTES:
        match = pattern.fullmatch(path)
        if match is not None and method == wanted:
            return operation, match.groupdict()
    return None, {}


def _is_in(factory: FactoryState, where: Mapping[str, str]) -> bool:
    return factory.subscription_id.lower() == where["subscription"].lower() and (
        "group" not in where or factory.resource_group_name.lower() == where["group"].lower()
    )


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() == "true"


async def _body(request: web.Request) -> dict[str, Any] | None:
    """The body as an object, or None for an empty one."""
    content = await request.read()
    if not content:
        return None
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        # What was seen for a body of the wrong shape.
        raise ServiceError(400, "BadRequest", "null")
    return body
