"""Answers in the form of ARM's front door, and the answers of scripted faults."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

from aiohttp import web

from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.gateway.faults import Fault


def arm_headers(now: float) -> dict[str, str]:
    """The headers of recorded answers, except those about limits."""
    request_id = str(uuid.uuid4())
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    return {
        "Cache-Control": "no-cache",
        "Pragma": "no-cache",
        "Expires": "-1",
        "Date": formatdate(now, usegmt=True),
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
        "X-Content-Type-Options": "nosniff",
        "Server": "Kestrel",
        "x-ms-request-id": request_id,
        "x-ms-correlation-request-id": request_id,
        "x-ms-routing-request-id": f"WESTEUROPE:{stamp}:{request_id}",
    }


def arm_answer(body: Any, headers: dict[str, str], status: int = 200) -> web.Response:
    """`body` as JSON; no body at all for None."""
    if body is None:
        # As recorded for cancel: no content and no content type.
        answer = web.Response(status=status, headers=headers)
        answer.headers.popall("Content-Type", None)
        return answer
    return web.Response(
        status=status,
        text=json.dumps(body),
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )


def arm_error(error: ServiceError, headers: dict[str, str]) -> web.Response:
    return arm_answer(error.body(), {**headers, **error.headers}, error.status)


async def respond_to_fault(
    request: web.Request,
    fault: Fault,
    error_body: Callable[[str, str, int], Any],
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse | None:
    """The answer of the fault. None if the proper answer must follow.

    `error_body` puts code, message and status into the service's form. The fault's own headers override `headers`.
    """
    if fault.hang_seconds:
        await asyncio.sleep(fault.hang_seconds)
    if fault.drop:
        if request.transport is not None:
            request.transport.abort()
        # This answer is never sent, because the connection is closed.
        return web.Response(status=500)
    if fault.status is None:
        return None
    if fault.text is not None:
        # An answer of a gateway in front of the service, without the service's headers.
        return web.Response(
            status=fault.status, text=fault.text, headers={"Content-Type": "text/html; charset=utf-8", **fault.headers}
        )
    body = error_body(fault.code, fault.message, fault.status)
    return arm_answer(body, {**(headers or {}), **fault.headers}, fault.status)


def arm_fault_body(code: str, message: str, status: int) -> dict[str, Any]:
    """A scripted fault in ARM's shape."""
    return ServiceError(status, code, message).body()
