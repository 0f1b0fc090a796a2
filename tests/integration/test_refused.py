"""Starts, waits, cancels and checks that ARM's front door or a proxy refuses, on workers and in the triggerer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_adf_mi._airflow import connection_cache
from airflow_adf_mi._triggerer import start as triggerer_start
from airflow_adf_mi._triggerer import xcom_journal
from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.auth.credential import FRESH_TOKEN_INTERVAL_SECONDS, ProcessCredential
from airflow_adf_mi.adf.cancelling import cancelling
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.connection_check import CheckStatus, Finding, check
from airflow_adf_mi.adf.error_json import error_from_json
from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRequestError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.reporting.report import Report, error_of
from airflow_adf_mi.adf.routines import run_routine
from airflow_adf_mi.adf.starting.create_run import create_run_once, resolve_lost_start
from airflow_adf_mi.adf.starting.intent import Phase
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.poller import wait_shared
from airflow_adf_mi.adf.waiting.single_run import GaveUp, Plan
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.triggers.start_and_wait import NOT_STARTED
from tests.support.fired import fire
from tests.support.minors import needs
from tests.support.tasks import Make, Task, execute, operator, runs
from tests.support.triggerer import BEGAN, Airflow, use_airflow

__all__ = ["operator", "use_airflow"]
pytestmark = pytest.mark.usefixtures("nothing_left")

PAGE = "<html><head><title>Access Denied</title></head><body>Web filter: cloud storage</body></html>"
GATEWAY = {"x-ms-failure-cause": "gateway"}
FRONT_DOOR: list[dict[str, Any]] = [
    {"status": 409, "code": "ScopeLocked", "headers": GATEWAY},
    {"status": 409, "code": "MissingSubscriptionRegistration"},
    {"status": 409, "code": "OfNextYear", "headers": GATEWAY},
    {"status": 307, "text": "", "headers": {"Location": "https://other.example.com/x"}},
]
by_front_door = pytest.mark.parametrize("fault", FRONT_DOOR, ids=lambda fault: fault.get("code", fault["status"]))


class Starts:
    """A task on workers or in triggerer mode that starts the pipeline `Load`, try after try."""

    def __init__(self, mode: str, make: Make, airflow: Callable[[], Airflow]) -> None:
        self._mode = mode
        self._it = make("Load", start_settle=0.01)
        self.task = Task()
        self.airflow = airflow()

    async def begin(self) -> AdfError | None:
        """The error of a try; None if it succeeded."""
        if self._mode == "worker":
            try:
                await asyncio.to_thread(execute, self._it, self.task)
            except AdfError as e:
                return e
            return None
        payload = (await fire(self.airflow)).payload
        stored = json.loads(json.dumps(payload)) if isinstance(payload, dict) else {}
        return error_from_json(stored[NOT_STARTED]) if NOT_STARTED in stored else None

    def retry(self) -> None:
        self.task.retry()
        self.airflow.try_number += 1


@pytest.fixture(params=["worker", pytest.param("triggerer", marks=needs("TEMPLATED_TRIGGERS"))])
def starts(
    request: pytest.FixtureRequest,
    operator: Make,
    use_airflow: Callable[[Airflow], Airflow],
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> Starts:
    for module in (triggerer_start, xcom_journal):
        monkeypatch.setattr(module, "CLEAR_OVERLAP_SECONDS", 0.05)
    monkeypatch.setattr(triggerer_start, "_factories_using_keys", set())
    connection_cache._known.clear()

    def in_triggerer() -> Airflow:
        with DAG("dag", schedule=None, start_date=BEGAN) as dag:
            AdfRunPipelineOperator(
                task_id="it",
                azure_data_factory_conn_id="adf_here",
                pipeline_name="Load",
                check_interval=0.2,
                start_settle=0.01,
                start_from_trigger=True,
            )
        return use_airflow(Airflow(dag))

    return Starts(request.param, operator, in_triggerer)


@by_front_door
async def test_refusal_of_the_front_door_starts_nothing_and_a_later_retry_starts_one_run(
    fault: dict[str, Any], starts: Starts, emulator: Emulator
) -> None:
    emulator.add_fault("createRun", **fault)
    refused = await starts.begin()
    assert isinstance(refused, AdfRequestError | AdfUnavailableError)
    assert refused.status == fault["status"]
    assert runs(emulator) == []
    assert len(emulator.books.of("createRun")) == 1
    assert emulator.books.count("queryRuns") == 0, "no start was lost, so none is searched for"
    starts.retry()
    assert await starts.begin() is None
    assert len(runs(emulator)) == 1
    assert len(emulator.books.of("createRun", status=200)) == 1


def test_refused_start_is_stored_as_prepared(
    operator: Make,
    emulator: Emulator,
) -> None:
    emulator.add_fault(
        "createRun", status=409, code="ScopeLocked", message="The lock 'freeze' is there.", headers=GATEWAY
    )
    task = Task()
    with pytest.raises(AdfRequestError, match=r"Remove the lock.*The lock 'freeze' is there") as refused:
        execute(operator("Load"), task)
    assert (refused.value.code, refused.value.failure_cause) == ("ScopeLocked", "gateway")
    assert task.intent.phase is Phase.PREPARED


@needs("TASK_STATE_STORE")
async def test_conflict_of_data_factory_is_an_ambiguous_start(starts: Starts, emulator: Emulator) -> None:
    emulator.add_fault("createRun", status=409, code="Conflict")
    assert isinstance(await starts.begin(), AdfAmbiguousStartError)
    starts.retry()
    assert isinstance(await starts.begin(), AdfAmbiguousStartError)
    assert len(emulator.books.of("createRun")) == 1


async def test_run_is_found_if_a_page_replaces_the_answer_to_createrun(starts: Starts, emulator: Emulator) -> None:
    """A web filter inspects answers. If its page were treated as a refusal, a retry would start a second run."""
    emulator.add_fault("createRun", effect="after", status=403, text=PAGE)
    assert await starts.begin() is None
    assert len(runs(emulator)) == len(emulator.books.of("createRun")) == 1


@needs("TASK_STATE_STORE")
async def test_error_after_a_page_of_a_filter_names_the_filter_and_no_role(starts: Starts, emulator: Emulator) -> None:
    emulator.add_fault("*", times=None, status=403, text=PAGE)
    refused = await starts.begin()
    emulator.call(emulator.faults.clear)
    assert isinstance(refused, AdfAmbiguousStartError)
    assert "A proxy, gateway or web filter between this machine and" in str(refused)
    assert "403: Access Denied Web filter: cloud storage." in str(refused)
    assert "az role" not in str(refused)
    assert runs(emulator) == []


async def test_gateway_that_requires_a_sign_in_has_not_forwarded_the_start(starts: Starts, emulator: Emulator) -> None:
    emulator.add_fault("createRun", status=407, text=PAGE)
    assert isinstance(await starts.begin(), AdfUnavailableError)
    starts.retry()
    assert await starts.begin() is None
    assert len(runs(emulator)) == 1


async def test_start_is_sent_again_if_a_fresh_token_is_refused_too(starts: Starts, emulator: Emulator) -> None:
    emulator.add_fault("createRun", times=2, status=401, code="InvalidAuthenticationToken")
    assert await starts.begin() is None
    assert [r.status for r in emulator.books.of("createRun")] == [401, 401, 200]
    assert len(runs(emulator)) == 1


def test_start_that_is_refused_for_long_is_sent_again_with_fresh_tokens(
    settings: AdfSettings, emulator: Emulator
) -> None:
    now = [1000.0]

    def pause(seconds: float) -> None:
        now[0] += seconds
        # All tokens so far are refused.
        emulator.call(emulator.tokens.revoke)

    identity = ProcessCredential(settings.identity, settings.cloud.authority_host, clock=lambda: now[0])
    emulator.add_fault("createRun", times=6, status=401, code="InvalidAuthenticationToken")
    order = Start(factory=settings.factory(), pipeline_name="Load")
    with AdfClient(settings, credential=identity) as client:
        routine = create_run_once(order, order.intent(), timing=Timing(clock=lambda: now[0], jitter=lambda: 0.5))
        assert run_routine(routine, client, pause).run_id in runs(emulator)
    assert FRESH_TOKEN_INTERVAL_SECONDS < now[0] - 1000 < 300
    assert len(emulator.books.tokens) >= 3


async def both_give_up(settings: AdfSettings, run_ids: list[str]) -> list[GaveUp]:
    plan = Plan(check_interval=0.5)
    outcomes = await asyncio.gather(*(wait_shared(settings, settings.factory(), run_id, plan) for run_id in run_ids))
    assert all(isinstance(outcome, GaveUp) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, GaveUp)]


@pytest.mark.usefixtures("minutes_pass")
@pytest.mark.parametrize(
    "fault", [{"status": 403, "code": "AuthorizationFailed"}, {"status": 403, "text": PAGE}], ids=["role", "filter"]
)
async def test_each_wait_reports_the_shared_error_with_its_own_run(
    fault: dict[str, Any], settings: AdfSettings, emulator: Emulator
) -> None:
    """The poller passes the same error to all waits."""
    with AdfClient(settings) as client:
        order = Start(factory=settings.factory(), pipeline_name="Slow")
        run_ids = [client.send(order.call(order.intent())) for _ in range(2)]
    emulator.add_fault("getRun", times=None, **fault)
    outcomes = await both_give_up(settings, run_ids)
    assert outcomes[0].error is outcomes[1].error
    plain = str(outcomes[0].error)
    for mine, other in ((0, 1), (1, 0)):
        address = RunAddress(
            run_id=run_ids[mine], factory=settings.factory(), studio_url=f"https://studio/{run_ids[mine]}"
        )
        report = Report(address=address, outcome=outcomes[mine])
        # Twice, because the same report may be used again.
        for error in (error_of(report), error_of(report)):
            assert str(error).count("the wait gave up") == 1
            assert run_ids[mine] in str(error).replace(plain, "")
            assert run_ids[other] not in str(error).replace(plain, "")
            assert type(error) is type(outcomes[mine].error)
            assert vars(error) == vars(outcomes[mine].error)
        assert str(outcomes[mine].error) == plain
    # A refused status check cancels no run.
    assert emulator.books.count("cancelRun") == 0


def test_lock_that_prevents_a_cancel_is_named(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.add_fault("cancelRun", status=409, code="ScopeLocked", headers=GATEWAY)
    with AdfClient(settings) as client:
        run_id = client.send(operations.create_run(settings.factory(), "Slow", None, request_id="k"))
        routine = cancelling(settings.factory(), run_id, timing=Timing(clock=lambda: 0.0, jitter=lambda: 0.5))
        with pytest.raises(AdfRequestError, match=rf"Could not cancel run {run_id}.*Remove the lock"):
            run_routine(routine, client, lambda _: None)
    assert emulator.books.count("cancelRun") == 1


def test_cancel_is_sent_again_after_a_page_of_a_filter(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.add_fault("cancelRun", times=2, status=403, text=PAGE)
    with AdfClient(settings) as client:
        run_id = client.send(operations.create_run(settings.factory(), "Slow", None, request_id="k"))
        run_routine(
            cancelling(settings.factory(), run_id, timing=Timing(clock=lambda: 0.0, jitter=lambda: 0.5)),
            client,
            lambda _: None,
        )
    assert [r.status for r in emulator.books.of("cancelRun")] == [403, 403, 200]


@pytest.mark.parametrize(
    "answer",
    [
        {"code": "SubscriptionNotFound", "headers": GATEWAY},
        {"code": "ResourceGroupNotFound", "headers": GATEWAY},
        {"code": "ResourceNotFound", "headers": GATEWAY},
        {"code": "InvalidResourceType", "headers": GATEWAY},
        {"text": "", "headers": {"x-ms-request-id": "r"}},
    ],
    ids=lambda answer: answer.get("code", "empty"),
)
def test_only_an_answer_about_the_run_proves_that_a_lost_start_started_nothing(
    answer: dict[str, Any], settings: AdfSettings, emulator: Emulator
) -> None:
    """The factory uses keys as run ids, so only an unknown run would prove that nothing was started."""
    order = Start(factory=settings.factory(), pipeline_name="Load", settle=0.0)
    lost = replace(order.intent(), phase=Phase.SENDING, sent_at=1000.0, service_uses_key=True)
    dropped = AdfUnavailableError("dropped")
    emulator.add_fault("getRun", status=404, **answer)
    with AdfClient(settings) as client:
        with pytest.raises(AdfAmbiguousStartError):
            run_routine(
                resolve_lost_start(order, lost, lost=dropped, timing=Timing(clock=lambda: 1000.0, jitter=lambda: 0.5)),
                client,
                lambda _: None,
            )
        proven = resolve_lost_start(order, lost, lost=dropped, timing=Timing(clock=lambda: 1000.0, jitter=lambda: 0.5))
        assert run_routine(proven, client, lambda _: None) is Phase.PREPARED


def by_step(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.step: finding for finding in findings}


def test_check_reports_unknown_if_a_filter_blocks_all_requests(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.add_fault("*", times=None, status=403, text=PAGE)
    found = by_step(check(settings, "Load"))
    assert found["factory"].holds is CheckStatus.UNKNOWN
    assert "403: Access Denied Web filter: cloud storage." in found["factory"].detail
    assert (
        by_step(check(replace(settings, resource_group_name=None, factory_name=None)))["subscription"].holds
        is CheckStatus.UNKNOWN
    )
    assert all(finding.fix is None for finding in found.values())


def test_check_reports_unknown_for_requests_that_only_a_filter_refuses(
    settings: AdfSettings, emulator: Emulator
) -> None:
    for operation in ("createRun", "cancelRun", "getPipeline"):
        emulator.add_fault(operation, status=403, text=PAGE)
    found = by_step(check(settings, "Load"))
    for step in ("may start runs", "may cancel runs", "may read pipelines", "pipeline"):
        assert found[step].holds is CheckStatus.UNKNOWN
        assert "web filter" in found[step].detail
    assert found["may watch runs"].holds is CheckStatus.PROBABLY


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"status": 403, "code": "RequestDisallowedByPolicy"}, "Azure Policy forbids it"),
        ({"status": 403, "code": "PublicNetworkAccessDisabled"}, "public network"),
        ({"status": 409, "code": "ScopeLocked", "headers": GATEWAY}, "Remove the lock"),
    ],
)
def test_check_suggests_no_role_if_none_would_help(
    fault: dict[str, Any], text: str, settings: AdfSettings, emulator: Emulator
) -> None:
    emulator.add_fault("createRun", **fault)
    found = by_step(check(settings))["may start runs"]
    assert (found.holds, found.fix) == (CheckStatus.NO, None)
    assert text in found.detail


def test_policy_that_forbids_all_requests_is_not_a_missing_role(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.add_fault("*", times=None, status=403, code="RequestDisallowedByPolicy")
    found = check(settings, "Load")
    assert all(finding.fix is None for finding in found)
    assert "not shown to this identity" not in str(found)
    with AdfClient(settings) as client, pytest.raises(AdfPermissionError, match="Azure Policy forbids it"):
        client.send(operations.get_factory(settings.factory()))


def test_check_fails_for_an_unknown_subscription(make_settings: Callable[..., AdfSettings]) -> None:
    elsewhere = make_settings(subscriptionId="22222222-2222-4222-8222-222222222222")
    for named in (elsewhere, replace(elsewhere, resource_group_name=None, factory_name=None)):
        found = by_step(check(named))
        assert found["subscription"].holds is CheckStatus.NO
        assert "there is no subscription 22222222-2222-4222-8222-222222222222" in found["subscription"].detail
        assert "factory" not in found


def test_check_fails_for_an_unknown_resource_group(settings: AdfSettings) -> None:
    found = by_step(check(replace(settings, resource_group_name="rg-x")))
    assert (found["subscription"].holds, found["factory"].holds) == (CheckStatus.YES, CheckStatus.NO)
    assert "has no resource group 'rg-x'" in found["factory"].detail
    assert "There is a factory 'adf-test' in resource group 'rg-test'." in found["factory"].detail


def test_start_in_an_unknown_subscription_is_refused(make_settings: Callable[..., AdfSettings]) -> None:
    elsewhere = make_settings(subscriptionId="22222222-2222-4222-8222-222222222222")
    with AdfClient(elsewhere) as client, pytest.raises(AdfNotFoundError) as refused:
        client.send(operations.create_run(elsewhere.factory(), "Load", None, request_id="k"))
    assert (refused.value.code, refused.value.failure_cause) == ("SubscriptionNotFound", "gateway")
    assert refused.value.missing == "subscription"
