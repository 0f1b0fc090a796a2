"""The exact error texts that users see, after a wait on a worker and in the triggerer."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator

import pytest

from airflow_adf_mi._airflow import features
from airflow_adf_mi.adf.starting import earlier_tries
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.exceptions import AdfRunCancelled, AdfRunFailed
from tests.support import explained
from tests.support.explained import assert_no_secret, check_golden
from tests.support.explained_tasks import both, emulator_of, error_of, operator, run
from tests.support.minors import needs
from tests.support.tasks import Task

LIST_ACTIVITIES = "pipelineruns/queryactivityruns/action"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with emulator_of(explained.FACTORY, Script.from_json(explained.SCRIPT), monkeypatch) as running:
        yield running


def general(text: str, emulator: Emulator) -> str:
    return explained.general(text, [emulator])


@both
def test_failed_copy(deferrable: bool, emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    task = Task()
    with pytest.raises(AdfRunFailed) as e:
        run(operator("ExplainCopy", deferrable=deferrable, activity_log="summary"), task)
    error = e.value
    check_golden("failed_copy", general(str(error), emulator))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("airflow_adf_mi.adf")]
    assert any("'CopySales' (Copy) failed" in line for line in ours)
    assert_no_secret("\n".join(ours) + repr(task.xcoms) + repr(task.kept) + repr(error.activities))
    assert (error.failure_type, error.error_code, error.failed_pipeline_run_id) == ("UserError", "2200", error.run_id)
    # One query for the summary of the activities, one for the explanation.
    assert emulator.books.count("queryActivityRuns") == 2


@both
def test_secure_parameter_is_sent_to_the_service_and_appears_nowhere_else(
    deferrable: bool, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    task = Task()
    secure = {"key": "planted", "day": "2026-11-25"}
    with pytest.raises(AdfRunFailed) as e:
        run(operator("ExplainSecure", deferrable=deferrable, parameters=secure, activity_log="live"), task)
    assert emulator.call(lambda: [run.values for run in emulator.state().runs.values()]) == [secure]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("airflow_adf_mi", "azure"))]
    text = "\n".join(ours) + repr(task.xcoms) + repr(task.kept) + repr(e.value) + repr(vars(e.value))
    assert_no_secret(text)


@both
def test_failed_child_of_a_child(deferrable: bool, emulator: Emulator) -> None:
    error = error_of(operator("ExplainParent", deferrable=deferrable))
    check_golden("failed_child_of_a_child", general(str(error), emulator))
    assert isinstance(error, AdfRunFailed)
    assert error.failure_type == "SystemError"
    assert emulator.books.count("queryActivityRuns") == 3


@both
def test_one_failed_iteration_of_twenty(deferrable: bool, emulator: Emulator) -> None:
    check_golden("failed_iteration", general(str(error_of(operator("ExplainLoop", deferrable=deferrable))), emulator))


@both
def test_timeout(deferrable: bool, emulator: Emulator) -> None:
    error = error_of(operator("ExplainSlow", deferrable=deferrable, timeout=1))
    check_golden("timeout", general(str(error), emulator))


@both
def test_cancelled_outside(deferrable: bool, emulator: Emulator) -> None:
    def cancel() -> None:
        def now() -> None:
            (ran,) = emulator.state().runs.values()
            emulator.state().cancel_run(ran.run_id, recursive=True)

        while not emulator.books.count("getRun", status=200):
            pass
        emulator.clock.advance(1)
        emulator.call(now)

    threading.Thread(target=cancel).start()
    error = error_of(operator("ExplainCancelled", deferrable=deferrable))
    assert isinstance(error, AdfRunCancelled)
    check_golden("cancelled_outside", general(str(error), emulator))


@pytest.mark.usefixtures("minutes_pass")
def test_throttled_start(emulator: Emulator) -> None:
    emulator.add_fault("createRun", times=None, status=429, code="TooManyRequests", headers={"Retry-After": "7"})
    check_golden("throttled_start", general(str(error_of(operator("ExplainThrottled"))), emulator))


def deny(emulator: Emulator, action: str) -> None:
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {action}}


def test_missing_role_to_start(emulator: Emulator) -> None:
    deny(emulator, "pipelines/createrun/action")
    check_golden("missing_role_to_start", general(str(error_of(operator("ExplainCopy"))), emulator))


GATEWAY = {"x-ms-failure-cause": "gateway"}


def test_locked_start(emulator: Emulator) -> None:
    message = (
        "The scope 'rg-emulator' cannot perform write operation because following scope(s) are locked: 'rg-emulator'. Please "
        "remove the lock and try again."
    )
    emulator.add_fault("createRun", status=409, code="ScopeLocked", message=message, headers=GATEWAY)
    check_golden("locked_start", general(str(error_of(operator("ExplainCopy"))), emulator))


def test_start_that_a_policy_forbids(emulator: Emulator) -> None:
    message = (
        "Resource 'adf-test' was disallowed by policy. Policy identifiers: "
        '\'[{"policyAssignment":{"name":"No runs at night","id":"/a"},"policyDefinition":{"name":"d-1","id":"/d"}}]\'.'
    )
    emulator.add_fault("createRun", status=403, code="RequestDisallowedByPolicy", message=message)
    check_golden("forbidden_by_policy", general(str(error_of(operator("ExplainCopy"))), emulator))


@needs("TASK_STATE_STORE")
def test_start_that_a_web_filter_answers(emulator: Emulator) -> None:
    page = "<html><title>Access Denied</title><body>Web filter: cloud storage, token=planted</body></html>"
    emulator.add_fault("*", times=None, status=403, text=page)
    text = general(str(error_of(operator("ExplainCopy", start_settle=0.01))), emulator)
    assert_no_secret(text)
    check_golden("filtered_start", text)


@needs("TASK_STATE_STORE")
@both
@pytest.mark.usefixtures("minutes_pass")
def test_missing_role_to_watch(deferrable: bool, emulator: Emulator) -> None:
    deny(emulator, "pipelineruns/read")
    error = error_of(operator("ExplainSlow", deferrable=deferrable))
    check_golden("missing_role_to_watch", general(str(error), emulator))


@both
@pytest.mark.usefixtures("minutes_pass")
def test_missing_role_to_cancel(deferrable: bool, emulator: Emulator) -> None:
    deny(emulator, "pipelineruns/cancel/action")
    # Time passes faster for requests to the service, but not for a deadline on the event loop.
    error = error_of(operator("ExplainSlow", deferrable=deferrable, timeout=5 if deferrable else 60))
    check_golden("missing_role_to_cancel", general(str(error), emulator))


@both
def test_missing_role_to_explain(deferrable: bool, emulator: Emulator) -> None:
    deny(emulator, LIST_ACTIVITIES)
    error = error_of(operator("ExplainGrandchild", deferrable=deferrable))
    check_golden("missing_role_to_explain", general(str(error), emulator))


@pytest.mark.usefixtures("minutes_pass")
def test_missing_role_to_find(emulator: Emulator) -> None:
    """If the service does not use our keys as run ids, a lost start is searched for in the list."""
    emulator.state().switches.run_id_from_request_id = False
    emulator.add_fault("createRun", effect="after", drop=True)
    deny(emulator, "querypipelineruns/action")
    text = general(str(error_of(operator("ExplainCopy"))), emulator)
    check_golden("missing_role_to_find", re.sub(r"[0-9a-f-]{36}(?= and|\.)", "<key>", text))


def test_wrong_factory(emulator: Emulator) -> None:
    check_golden("wrong_factory", str(error_of(operator("ExplainCopy", factory_name="adf-tset"))))


def test_wrong_resource_group(emulator: Emulator) -> None:
    error = error_of(operator("ExplainCopy", resource_group_name="rg-other"))
    check_golden("wrong_resource_group", str(error))


def test_misspelt_pipeline(emulator: Emulator) -> None:
    check_golden("misspelt_pipeline", str(error_of(operator("ExplianCopy"))))


def test_no_name_is_suggested_if_names_must_not_be_listed(emulator: Emulator) -> None:
    deny(emulator, "pipelines/read")
    assert "Did you mean" not in str(error_of(operator("ExplianCopy")))
    deny(emulator, "read")
    assert "Did you mean" not in str(error_of(operator("ExplainCopy", factory_name="adf-tset")))


@pytest.fixture
def reconnect(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def connect(**fields: str) -> None:
        connection = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra(**fields)}
        monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(connection))

    return connect


def test_unassigned_identity(emulator: Emulator, reconnect: Callable[..., None]) -> None:
    reconnect(managed_identity_client_id="00000000-0000-4000-8000-00000000c0ff")
    check_golden("unassigned_identity", general(str(error_of(operator("ExplainCopy"))), emulator))


@pytest.mark.usefixtures("minutes_pass")
def test_identity_endpoint_down(emulator: Emulator) -> None:
    emulator.add_fault("token", times=None, status=503)
    check_golden("identity_endpoint_down", general(str(error_of(operator("ExplainCopy"))), emulator))


@both
def test_failure_is_reported_although_its_activities_must_not_be_listed(deferrable: bool, emulator: Emulator) -> None:
    emulator.add_fault("queryActivityRuns", times=None, status=503)
    error = error_of(operator("ExplainGrandchild", deferrable=deferrable))
    assert "failed after 0 s: Operation on target CopySales failed: The integration runtime is busy." in str(error)
    assert "\nIts activities could not be read: Could not list the activities of run" in str(error)
    assert isinstance(error, AdfRunFailed)


@both
@pytest.mark.parametrize("mode", ["live", "summary", "off"])
def test_activity_log(mode: str, deferrable: bool, emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    error_of(operator("ExplainLoop", deferrable=deferrable, activity_log=mode))
    logged = [general(r.getMessage(), emulator) for r in caplog.records if r.name.endswith("activity_log")]
    if mode == "off":
        assert logged == []
        return
    total = "Run <run of ExplainLoop> failed: 21 activities in \\d s, 2 failed, 19 succeeded"
    assert re.fullmatch(total, logged[-1])
    if mode == "summary":
        loop = (
            "'EachTable' (ForEach) failed after <n> s: UserError BadRequest: Activity failed because an inner activity"
        )
        cause = f"{loop} failed; Inner activity name: CopyTable, Error: Invalid object name 'table7'."
        assert " ".join(logged[0].split()) == cause
        assert logged[1] == "'CopyTable' (Copy) ran 20 times: 19 succeeded, 1 failed"
    else:
        assert sum("'CopyTable' (Copy, iteration" in line and "failed after" in line for line in logged) == 1


@both
def test_refused_activity_log_does_not_fail_the_task(deferrable: bool, emulator: Emulator) -> None:
    deny(emulator, LIST_ACTIVITIES)
    emulator.call(lambda: setattr(emulator.state(), "script", Script()))
    assert run(operator("ExplainCopy", deferrable=deferrable, activity_log="live"))["status"] == "Succeeded"
    assert emulator.books.count("cancelRun") == 0


@pytest.mark.usefixtures("minutes_pass")
def test_retry_without_a_record_that_may_not_read_runs(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Airflow 3.1 and 3.2."""
    monkeypatch.setattr(features, "TASK_STATE_STORE", False)
    deny(emulator, "pipelineruns/read")
    error = error_of(operator("ExplainSlow"), Task(try_number=2))
    text = re.sub(r"start key [0-9a-f-]{36}", "start key <key>", general(str(error), emulator))
    check_golden("retry_without_record", text)


def test_retry_without_a_record_that_finds_a_similar_run(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Airflow 3.1 and 3.2."""
    monkeypatch.setattr(features, "TASK_STATE_STORE", False)
    monkeypatch.setattr(earlier_tries, "LATE_SEARCH_SECONDS", 0.01)  # instead of seconds
    emulator.state().switches.run_id_from_request_id = False
    task = Task()
    run(operator("ExplainSlow", wait_for_termination=False), task)
    task.retry()
    error = error_of(operator("ExplainSlow"), task)
    text = re.sub(r"<time>[.\d+:]*", "<time>", general(str(error), emulator))
    check_golden("retry_finds_similar_run", text)
