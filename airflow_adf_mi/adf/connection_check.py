"""Checks step by step all that a connection needs, without starting anything. Pure, except for its requests.

Reads and queries are real requests. Permissions to start and cancel runs are checked with a pipeline and a run that do
not exist. 403 means that the permission is missing; "not found" means that the identity has it. No document promises that the
service checks permissions first, so these results are only "probably".
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.api.refusal import MISSING_ROLE, is_front_door
from airflow_adf_mi.adf.auth.credential import credential_for
from airflow_adf_mi.adf.auth.token_errors import not_system_assigned, principal, whose
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.config.role import ACTIONS, BELOW, assignment_for
from airflow_adf_mi.adf.config.settings import AdfSettings, Identity
from airflow_adf_mi.adf.errors import (
    AdfConfigurationError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRequestError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.models import UNREADABLE, RunStatus
from airflow_adf_mi.adf.name_suggestions import with_suggestions
from airflow_adf_mi.adf.routines import Authenticate, Routine, run_routine
from airflow_adf_mi.adf.starting.declared_parameters import listed_parameters, read_declared
from airflow_adf_mi.adf.starting.pipeline_name import in_both_spellings
from airflow_adf_mi.adf.starting.run_list import RETENTION_SECONDS, having, list_runs, read_pages
from airflow_adf_mi.adf.timing import REAL_TIME, Timing

MAY = "may "
"""The beginning of each step about a permission."""
PROBABLY = "probably: the request named something that does not exist, and was not refused for lack of a permission."
"""The meaning of `CheckStatus.PROBABLY`."""
AFTER_FIXES = (
    "A new assignment takes effect after a few minutes. If the role is already assigned, its definition lacks the action: "
    "`airflow-adf-mi role` prints the whole definition."
)
"""What the table adds to the commands that assign the role."""
HALF = "To check a factory that tasks name themselves, use `airflow-adf-mi check --resource-group ... --factory ...`."
CREATE_RUN, CANCEL = "pipelines/createrun/action", "pipelineruns/cancel/action"


class CheckStatus(StrEnum):
    """The result of a step."""

    YES = "yes"
    PROBABLY = "probably"
    NO = "NO"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One step and its result."""

    step: str
    holds: CheckStatus
    detail: str
    fix: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check(settings: AdfSettings, pipeline_name: str | None = None, *, named: str = "") -> list[Finding]:
    """Check the factory that `settings` name, with their identity. If they name no factory, check only up to the subscription.

    `named` names the source of the settings. Each step gives one finding.
    """

    def claims() -> Mapping[str, Any]:
        token = credential_for(settings).last_token(settings.arm_scope)
        return principal(token.token) if token is not None else {}

    try:
        with AdfClient(settings) as client:
            found = Finding(
                step="connection", holds=CheckStatus.YES, detail=", ".join(filter(None, (named, settings.arm_endpoint)))
            )
            routine = checking(settings, pipeline_name, claims=claims, timing=REAL_TIME)
            return [found, *run_routine(routine, client, time.sleep)]
    except AdfError as e:  # such as a ca_bundle that is not there
        return [unusable(e)]


def unusable(error: AdfError) -> Finding:
    """The only finding if the connection cannot be used."""
    return _failed("connection", error)


def all_well(findings: list[Finding]) -> bool:
    return all(finding.holds in (CheckStatus.YES, CheckStatus.PROBABLY) for finding in findings)


def verdict(findings: list[Finding]) -> str:
    """The summary of all findings, in a line."""
    if not all_well(findings):
        return "Not all is well. Nothing was started."
    if findings[-1].step == "subscription":
        return (
            "The token and the subscription are well. No factory was checked, because none is named. Name one with "
            "resource_group_name and factory_name (--resource-group, --factory). Nothing was started."
        )
    return "All well. Nothing was started."


def checking(
    settings: AdfSettings,
    pipeline_name: str | None,
    *,
    claims: Callable[[], Mapping[str, Any]],
    timing: Timing,
) -> Routine[list[Finding]]:
    """Check from the token to each permission. Steps that depend on a failed step are left out.

    `claims` returns the claims of the token. It is called when there is a token.
    """
    refused = yield Authenticate()
    if isinstance(refused, AdfError):
        return [_failed("token", refused)]
    token = claims()
    findings = [_token(settings.identity, token), _identity(token)]
    try:
        factory = _factory(settings, pipeline_name)
    except AdfConfigurationError as e:
        missing = Finding(step="factory", holds=CheckStatus.NO, detail=f"{e} {HALF}")
        return [*findings, missing]
    if factory is None:
        return [*findings, (yield from _subscription(settings))]
    found = yield operations.get_factory(factory)
    findings += yield from _where(factory, found)
    if isinstance(found, AdfError) and not isinstance(found, AdfPermissionError):
        return findings
    try:
        asked = operations.get_pipeline(factory, _nowhere() if pipeline_name is None else pipeline_name)
    except AdfConfigurationError as e:
        return [*findings, _failed("pipeline", e)]
    pipeline = yield asked
    if pipeline_name is not None:
        findings.append((yield from _pipeline(factory, pipeline_name, pipeline)))
        if not isinstance(pipeline, AdfError):
            findings += yield from _active_runs(factory, pipeline_name, pipeline, timing)
    answers: dict[str, Any] = {"read": found, "pipelines/read": pipeline}
    answers |= yield from _asked(factory, timing)
    return [*findings, *(_permission(action, answers[action], factory, token) for action in ACTIONS)]


def _factory(settings: AdfSettings, pipeline_name: str | None) -> FactoryRef | None:
    """The factory to check; None if no part of one is named. Raises `AdfConfigurationError` if only a part is named."""
    if settings.resource_group_name or settings.factory_name or pipeline_name is not None:
        return settings.factory()
    return None


def _token(identity: Identity, token: Mapping[str, Any]) -> Finding:
    given = not_system_assigned(identity, token) or f"the {whose(identity, token)}"
    return Finding(step="token", holds=CheckStatus.YES, detail=f"given to {given.removesuffix('.')}")


def _identity(token: Mapping[str, Any]) -> Finding:
    named = {"client id": token.get("appid"), "object id": token.get("oid"), "tenant": token.get("tid")}
    known = ", ".join(f"{name} {value}" for name, value in named.items() if value)
    return Finding(
        step="identity",
        holds=CheckStatus.YES if known else CheckStatus.PROBABLY,
        detail=known or "the token does not name its identity",
    )


def _subscription(settings: AdfSettings) -> Routine[Finding]:
    """The finding about the subscription, if no factory is named."""
    ids = yield operations.list_factories(settings.subscription_id)
    if isinstance(ids, AdfError):
        return _unseen("subscription", ids)
    seen = "1 data factory" if len(ids) == 1 else f"{len(ids)} data factories"
    detail = f"{settings.subscription_id}, where the identity sees {seen}"
    return Finding(step="subscription", holds=CheckStatus.YES, detail=detail)


def _where(factory: FactoryRef, found: Any) -> Routine[list[Finding]]:
    """The findings about subscription and factory, by the answer to the request for the factory."""
    here = Finding(step="subscription", holds=CheckStatus.YES, detail=factory.subscription_id)
    if not isinstance(found, AdfError):
        location = f", in {found.get('location')}" if found.get("location") else ""
        return [here, Finding(step="factory", holds=CheckStatus.YES, detail=f"{factory}{location}")]
    if isinstance(found, AdfPermissionError):
        return [
            Finding(step=step, holds=CheckStatus.UNKNOWN, detail=f"{what}: {_why_unseen(found)}", fix=None)
            for step, what in (("subscription", factory.subscription_id), ("factory", str(factory)))
        ]
    if isinstance(found, AdfRequestError) and "subscription" in (found.code or "").lower():
        return [_failed("subscription", found)]
    error = yield from with_suggestions(found, factory, None)
    return [*([here] if isinstance(found, AdfNotFoundError) else []), _unseen("factory", error)]


def _pipeline(factory: FactoryRef, name: str, answer: Any) -> Routine[Finding]:
    if isinstance(answer, AdfPermissionError):
        return Finding(step="pipeline", holds=CheckStatus.UNKNOWN, detail=f"{name!r}: {_why_unseen(answer)}")
    if isinstance(answer, AdfError):
        return _unseen("pipeline", (yield from with_suggestions(answer, factory, name)))
    published = (answer.get("properties") or {}).get("lastPublishTime")
    when = f", published {published}" if published else ""
    try:
        needed = f", declares {listed_parameters(read_declared(answer))}"
    except UNREADABLE:
        needed = ", with parameters that could not be read"
    return Finding(step="pipeline", holds=CheckStatus.YES, detail=f"{name!r}{when}{needed}")


def _active_runs(
    factory: FactoryRef, pipeline_name: str, definition: Mapping[str, Any], timing: Timing
) -> Routine[list[Finding]]:
    """The runs that `on_live_run` of a task would be about now. No finding if they cannot be listed: a later step says why."""
    now = timing.clock()
    of_pipeline = in_both_spellings(pipeline_name, str(definition.get("name", pipeline_name)))
    filters = of_pipeline, having("Status", *sorted(RunStatus.UNFINISHED))
    runs, error = yield from read_pages(list_runs(factory, now - RETENTION_SECONDS, now, *filters))
    if error is not None:
        return []
    limit = (definition.get("properties") or {}).get("concurrency")
    detail = f"{len(runs)}, with {f'concurrency {limit}' if limit else 'no limit of concurrency'}"
    if runs:
        queued = sum(run.status == RunStatus.QUEUED for run in runs)
        detail += f"; {queued} of them queued. A task starts one more, unless its on_live_run says otherwise"
    return [Finding(step="active runs", holds=CheckStatus.YES, detail=detail)]


def _asked(factory: FactoryRef, timing: Timing) -> Routine[dict[str, Any]]:
    """From each action to the answer of a request that needs its permission."""
    now = datetime.fromtimestamp(timing.clock(), UTC)
    window = now - timedelta(days=1), now + timedelta(hours=1)
    runs = yield operations.query_runs(factory, *window)
    run_id = runs.items[0].run_id if isinstance(runs, operations.Page) and runs.items else _nowhere()
    return {
        "querypipelineruns/action": runs,
        "pipelineruns/read": (yield operations.get_run(factory, run_id)),
        "pipelineruns/queryactivityruns/action": (yield operations.query_activity_runs(factory, run_id, *window)),
        CREATE_RUN: (yield operations.create_run(factory, _nowhere(), None, request_id=str(uuid.uuid4()))),
        CANCEL: (yield operations.cancel_run(factory, _nowhere())),
    }


def _permission(action: str, answer: Any, factory: FactoryRef, token: Mapping[str, Any]) -> Finding:
    """The finding about a permission, by the answer to a request that needs it."""
    step = f"{MAY}{ACTIONS[action]}"
    if isinstance(answer, AdfPermissionError) and answer.code in MISSING_ROLE:
        return Finding(
            step=step,
            holds=CheckStatus.NO,
            detail=f"{BELOW}{action} is missing",
            fix=assignment_for(factory, token),
        )
    if not isinstance(answer, AdfError):
        return Finding(step=step, holds=CheckStatus.YES, detail=f"{BELOW}{action}")
    if isinstance(answer, AdfRequestError):
        if answer.status == 403 or (answer.status == 409 and is_front_door(answer.code, answer.failure_cause)):
            # A policy, a network rule or a lock refused it. A role does not help.
            return _failed(step, answer)
        if answer.status in (400, 404):
            # The pipeline or run does not exist, so the permission was not refused.
            return Finding(step=step, holds=CheckStatus.PROBABLY, detail=f"{BELOW}{action}")
    return Finding(step=step, holds=CheckStatus.UNKNOWN, detail=str(answer))


def _why_unseen(error: AdfPermissionError) -> str:
    # A missing role is reported once, with the permission itself.
    return "not shown to this identity" if error.code in MISSING_ROLE else str(error)


def _unseen(step: str, error: AdfError) -> Finding:
    """The finding of a failed step. Its status is unknown if a proxy answered in place of Azure."""
    is_foreign = isinstance(error, AdfUnavailableError) and error.is_foreign
    return Finding(step=step, holds=CheckStatus.UNKNOWN, detail=str(error)) if is_foreign else _failed(step, error)


def _failed(step: str, error: AdfError) -> Finding:
    return Finding(step=step, holds=CheckStatus.NO, detail=str(error))


def _nowhere() -> str:
    """A name that no pipeline and no run has."""
    return str(uuid.uuid4())


def table(findings: list[Finding]) -> str:
    """The findings as a table, followed by what to do."""
    width = max(len(finding.step) for finding in findings)
    lines = [f"{f.step:{width}}  {f.holds:8}  {f.detail}".rstrip() for f in findings]
    fixes = list(dict.fromkeys(f.fix for f in findings if f.fix))
    if fixes:
        lines += ["", "To do:", *(f"  {fix}" for fix in fixes), AFTER_FIXES]
    if any(f.holds is CheckStatus.PROBABLY for f in findings):
        lines += ["", PROBABLY]
    return "\n".join([*lines, "", verdict(findings)])


def in_a_paragraph(findings: list[Finding]) -> str:
    """The findings as one text, for places that show only a text. The words are those of the table."""
    wrong = [f for f in findings if f.holds not in (CheckStatus.YES, CheckStatus.PROBABLY)]
    if wrong:
        fixes = dict.fromkeys(f.fix for f in wrong if f.fix)
        problems = [f"{f.step}: {f.holds}. {f.detail.removesuffix('.')}." for f in wrong]
        return " ".join([*problems, *(f"To do: {fix}" for fix in fixes), verdict(findings)])
    plain = [f"{f.step}: {f.detail.removesuffix('.')}." for f in findings if not f.step.startswith(MAY)]
    may = [
        f"{MAY}{', '.join(steps)}: {holds}."
        for holds in (CheckStatus.YES, CheckStatus.PROBABLY)
        if (steps := [f.step.removeprefix(MAY) for f in findings if f.step.startswith(MAY) and f.holds is holds])
    ]
    is_probable = any(f.holds is CheckStatus.PROBABLY for f in findings)
    return " ".join([*plain, *may, *([f"({PROBABLY})"] if is_probable else []), verdict(findings)])
