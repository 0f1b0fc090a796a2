"""ARM's front door and Data Factory's operations behind it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from airflow_adf_mi.emulator.errors import FullQueueError, ServiceError
from airflow_adf_mi.emulator.gateway.books import RequestRecord
from airflow_adf_mi.emulator.gateway.limits import READS, WRITES
from airflow_adf_mi.emulator.gateway.replies import arm_answer, arm_error, arm_fault_body, arm_headers, respond_to_fault
from airflow_adf_mi.emulator.gateway.routes import Operation, find, scope
from airflow_adf_mi.emulator.service.parts import Parts
from airflow_adf_mi.emulator.service.state import FactoryState

API_VERSION = "2018-06-01"

log = logging.getLogger(__name__)


class Arm:
    """Handles every request to the ARM port, in ARM's order.

    The order is token, limits, (scripted faults,) subscription, role, api-version. The existence of resource group and factory
    comes last, so that a caller without permission does not learn what exists.
    """

    def __init__(self, parts: Parts, audiences: Callable[[], list[str]]) -> None:
        self._factories = parts.factories
        self._tokens = parts.tokens
        self._faults = parts.faults
        self._limits = parts.limits
        self._books = parts.books
        self._now = parts.clock.now
        self._audiences = audiences

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = unquote(request.rel_url.raw_path)
        record = RequestRecord(
            time=self._now(),
            operation="unknown",
            method=request.method,
            path=path,
            client_request_id=request.headers.get("x-ms-client-request-id"),
            user_agent=request.headers.get("User-Agent"),
        )
        found = find(request.method, request.rel_url.raw_path)
        if found is None:
            log.error("Not emulated: %s %s", request.method, path)
            error = ServiceError(501, "NotEmulated", f"The emulator does not know {request.method} {path}.")
            answer: web.StreamResponse = arm_answer(error.body(), {}, error.status)
        else:
            operation, where = found
            record.operation = operation.name
            record.run_id = where.get("run_id")
            record.pipeline = where.get("pipeline") or self._pipeline_of(record.run_id)
            answer = await self._answer(request, operation, where, record)
        record.status = 0 if record.dropped else answer.status
        self._books.requests.append(record)
        return answer

    async def _answer(
        self, request: web.Request, operation: Operation, where: Mapping[str, str], record: RequestRecord
    ) -> web.StreamResponse:
        headers = arm_headers(self._now())
        try:
            claims = self._tokens.check(request.headers.get("Authorization"), self._audiences())
            record.client_id, record.object_id = claims["appid"], claims["oid"]
            remaining = self._limits.take(claims["oid"], WRITES if operation.is_write else READS)
        except ServiceError as e:
            return arm_error(e, headers)
        kind = "writes" if operation.is_write else "reads"
        headers[f"x-ms-ratelimit-remaining-subscription-{kind}"] = str(remaining)
        fault = self._faults.take(
            operation.name,
            pipeline=record.pipeline,
            run_id=record.run_id,
            client_request_id=record.client_request_id,
        )
        if fault is not None:
            record.fault, record.dropped = fault.id, fault.drop
            if fault.effect == "before":
                instead = await respond_to_fault(request, fault, arm_fault_body, headers)
                if instead is not None:
                    return instead
        try:
            self._check_subscription(where["subscription"])
            self._look_first(operation.name, where)
            self._tokens.authorize(claims, operation.action, scope(record.path))
            body = await self._operate(request, operation.name, where, record)
            if fault is not None and fault.unlisted and record.run_id is not None:
                self._factory(where).runs[record.run_id].is_listed = False
            answer: web.StreamResponse = _read_answer(request, body, headers)
        except ServiceError as e:
            record.full_queue = isinstance(e, FullQueueError)
            answer = arm_error(e, headers)
        except Exception:  # a defect of the emulator: logged here, answered and recorded like a defect of the service
            log.exception("Failed at %s %s", request.method, record.path)
            answer = arm_error(ServiceError(500, "InternalServerError", "Internal error has occurred"), headers)
        if fault is not None and fault.effect == "after":
            instead = await respond_to_fault(request, fault, arm_fault_body, headers)
            return answer if instead is None else instead
        return answer

    async def _operate(
        self, request: web.Request, operation: str, where: Mapping[str, str], record: RequestRecord
    ) -> Any:
        _check_version(request.query.get("api-version"))
        if "group" in where:
            self._check_group(where)
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
        if operation == "putPipeline":
            return factory.put_pipeline(where["pipeline"], body or {}, if_match=request.headers.get("If-Match"))
        if operation == "queryRuns":
            return factory.query_runs(body or {})
        if operation == "queryTriggerRuns":
            return factory.query_trigger_runs(body or {})
        if operation == "queryActivityRuns":
            return factory.query_activity_runs(where["run_id"], body or {})
        record.run_id = factory.create_run(
            where["pipeline"],
            body,
            client_request_id=record.client_request_id,
            reference_run_id=request.query.get("referencePipelineRunId"),
            is_recovery=_flag(request, "isRecovery"),
            start_activity_name=request.query.get("startActivityName"),
            start_from_failure=_flag(request, "startFromFailure"),
        )
        return {"runId": record.run_id}

    def _look_first(self, operation: str, where: Mapping[str, str]) -> None:
        """With the switch `existence_first`: check the existence of what is to be changed, even before the role."""
        factory = self._find(where) if operation in ("createRun", "cancelRun") else None
        if factory is None or not factory.switches.existence_first:
            return
        if operation == "createRun":
            factory.pipeline(where["pipeline"])
        elif where["run_id"].lower() not in factory.runs:
            factory.cancel_run(where["run_id"])

    def _check_subscription(self, subscription: str) -> None:
        if all(factory.subscription_id.lower() != subscription.lower() for factory in self._factories):
            raise _not_found("SubscriptionNotFound", f"The subscription '{subscription}' could not be found.")

    def _check_group(self, where: Mapping[str, str]) -> None:
        if not any(_is_in(factory, where) for factory in self._factories):
            raise _not_found("ResourceGroupNotFound", f"Resource group '{where['group']}' could not be found.")

    def _factory(self, where: Mapping[str, str]) -> FactoryState:
        factory = self._find(where)
        if factory is not None:
            return factory
        raise _not_found(
            "ResourceNotFound",
            f"The Resource 'Microsoft.DataFactory/factories/{where['factory']}' under resource group '{where['group']}' was not "
            "found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
        )

    def _find(self, where: Mapping[str, str]) -> FactoryState | None:
        for factory in self._factories:
            if _is_in(factory, where) and factory.factory_name.lower() == where["factory"].lower():
                return factory
        return None

    def _pipeline_of(self, run_id: str | None) -> str | None:
        for factory in self._factories:
            run = factory.runs.get((run_id or "").lower())
            if run is not None:
                return run.pipeline
        return None


def _not_found(code: str, message: str) -> ServiceError:
    """The error of ARM's front door for an address that does not exist. Data Factory is not asked."""
    return ServiceError(404, code, message, headers={"x-ms-failure-cause": "gateway"})


def _check_version(version: str | None) -> None:
    if version is None:
        raise ServiceError(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    if version != API_VERSION:
        raise ServiceError(
            400,
            "InvalidApiVersionParameter",
            f"The api-version '{version}' is invalid. The supported versions are '{API_VERSION}'.",
        )


def _read_answer(request: web.Request, body: Any, headers: dict[str, str]) -> web.Response:
    """The body, or 304 if the client already has it."""
    held = request.headers.get("If-None-Match")
    if held is not None and request.method == "GET" and isinstance(body, dict):
        # A factory's tag comes with quotes, a pipeline's without (recorded).
        tag = str(body.get("eTag") or body.get("etag") or "")
        if tag and held.strip('"') in ("*", tag.strip('"')):
            return arm_answer(None, headers, 304)
    return arm_answer(body, headers)


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
        # The recorded answer to a body of the wrong shape.
        raise ServiceError(400, "BadRequest", "null")
    return body
