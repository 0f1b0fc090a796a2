"""Operator, sensor, trigger, hook and link in real Airflow processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec

import pytest

from airflow_adf_mi.emulator.identity.tokens import USER_ASSIGNED
from tests.airflow.conftest import World

pytestmark = pytest.mark.airflow


def until(is_true: Callable[[], bool], what: str, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def started_cases(world: World) -> dict[str, tuple[str, str]]:
    """Start all cases first, so that they run in parallel."""
    world.emulator.add_fault("getRun", pipeline="blocking_faults", times=4, status=503)
    world.start("blocking_faults", "blocking", "blocking_faults")
    world.emulator.add_fault("getRun", pipeline="one_404", times=1, status=404, code="NotFound")
    world.start("one_404", "deferrable", "one_404")
    world.emulator.add_fault(
        "createRun", pipeline="lost_answer", effect="after", status=503, headers={"Retry-After": "1"}
    )
    world.start("lost_answer", "deferrable", "lost_answer")
    for name in ("marked_failed", "marked_success"):
        world.start(name, "deferrable", f"long_{name}")
    world.start("marked_keep", "deferrable_kill_keep", "long_marked_keep")
    world.start("marked_blocking", "blocking", "long_marked_blocking")
    for mode in ("deferrable", "blocking"):
        world.start(f"timeout_{mode}", f"{mode}_timeout", f"long_timeout_{mode}")
        world.start(f"timeout_{mode}_keep", f"{mode}_timeout_keep", f"long_timeout_{mode}_keep")
    world.start("failing", "deferrable", "failing")
    world.start("failing_blocking", "blocking", "failing_blocking")
    world.start("no_wait", "no_wait", "long_no_wait")
    world.start("link", "deferrable", "long_link")
    for name in ("required", "required_mapped"):
        world.start(name, name, name)
    world.start("nowhere", "nowhere", "failing")
    for case in STARTS_WITH_IDENTITY:
        world.start(case, case, "identity")
    for case in READS_WITH_IDENTITY:
        start_with_outside_run(world, case, case, "identity")
    for mode in SENSOR_MODES:
        run_id = start_with_outside_run(world, f"sensor_{mode}", f"sensor_{mode}", "sensed")
        world.emulator.add_fault("getRun", run_id=run_id, times=1, status=404, code="NotFound")
    for mode in ("blocking", "deferrable"):
        start_with_outside_run(world, f"sensor_failing_{mode}", f"sensor_{mode}", "sensed_failing")
    start_with_outside_run(world, "sensor_marked", "sensor_deferrable", "long_marked_sensor")
    start_with_outside_run(world, "sensor_timed_out", "sensor_timeout", "long_sensor_timeout")
    world.start("mapped", "mapped", "mapped")
    world.start("start_of_try", "start_of_try")
    return world.started


STARTS_WITH_IDENTITY = ("blocking_identity", "deferrable_identity")
READS_WITH_IDENTITY = ("sensor_identity", "hook_identity")
SENSOR_MODES = ("blocking", "deferrable", "reschedule")


def start_with_outside_run(world: World, name: str, case: str, pipeline: str) -> str:
    """Start a case with a run that was started outside of Airflow. Returns the id of that run."""
    run_id = world.start_outside(pipeline)
    world.start(name, case, run_id=run_id)
    world.outside[name] = run_id
    return run_id


def task_state(world: World, name: str, *states: str, timeout: float = 300) -> str:
    return world.airflow.wait_for_task(*world.started[name], "it", *states, timeout=timeout)


def log(world: World, name: str) -> str:
    return world.airflow.log(*world.started[name], "it")


@pytest.mark.usefixtures("started_cases")
class TestRuns:
    """Cases that are started together."""

    def test_missing_connection_fails_before_anything_is_started(self, world: World) -> None:
        assert task_state(world, "nowhere") == "failed"
        assert "There is no connection 'adf_nowhere'. Create one of type 'azure_data_factory_mi'" in log(
            world, "nowhere"
        )

    @pytest.mark.parametrize(("name", "map_index"), [("required", -1), ("required_mapped", 0)])
    def test_param_without_a_default_does_not_end_the_triggerer(self, name: str, map_index: int, world: World) -> None:
        """Airflow would make the context of these tasks in the triggerer, and the triggerer would end."""
        dag_id, run_id = world.started[name]
        assert world.airflow.wait_for_run(dag_id, run_id) == "success"
        assert world.airflow.xcom(dag_id, run_id, "it", "run_id", map_index) == world.run(name).run_id

    @pytest.mark.parametrize("name", ["failing", "failing_blocking"])
    def test_failed_run_fails_the_task_with_its_message_and_link(self, name: str, world: World) -> None:
        assert task_state(world, name) == "failed"
        run = world.run(name)
        text = log(world, name)
        assert f"AdfRunFailed: Run {run.run_id} of pipeline '{name}' in factory 'adf-test'" in text
        assert "- 'Copy' (Copy): UserError 2200: no such table: sales." in text
        assert f"https://adf.azure.com/en/monitoring/pipelineruns/{run.run_id}" in text

    def test_run_that_is_not_waited_for_continues(self, world: World) -> None:
        assert task_state(world, "no_wait") == "success"
        run = world.run("long_no_wait")
        # The task may have ended while the run was still queued.
        assert run.status in ("Queued", "InProgress")
        assert run.cancelled_at is None
        assert world.airflow.xcom(*world.started["no_wait"], "it")["run_id"] == run.run_id

    def test_lost_answer_to_createrun_leads_to_one_run_and_success(self, world: World) -> None:
        assert task_state(world, "lost_answer") == "success"
        assert len(world.runs("lost_answer")) == 1

    def test_link_and_run_id_exist_while_the_task_is_deferred(self, world: World) -> None:
        task_state(world, "link", "deferred")
        run_id = world.airflow.xcom(*world.started["link"], "it", "run_id")
        assert run_id == world.run("long_link").run_id
        (link,) = world.airflow.links(*world.started["link"], "it").values()
        assert link is not None
        assert link.startswith(f"https://adf.azure.com/en/monitoring/pipelineruns/{run_id}?factory=")
        world.airflow.mark(*world.started["link"], "it", "failed")

    @pytest.mark.parametrize(("name", "state"), [("marked_failed", "failed"), ("marked_success", "success")])
    def test_marking_a_deferred_task_cancels_its_run(self, name: str, state: str, world: World) -> None:
        task_state(world, name, "deferred")
        until(
            lambda: world.emulator.books.count("getRun", pipeline=f"long_{name}") > 0,
            "the first status check of the trigger",
        )
        world.airflow.mark(*world.started[name], "it", state)
        until(lambda: world.run(f"long_{name}").cancelled_at is not None, "the cancel")
        until(lambda: world.run(f"long_{name}").status == "Cancelled", "the run to be cancelled")

    def test_marking_with_cancel_on_kill_false_leaves_the_run(self, world: World) -> None:
        task_state(world, "marked_keep", "deferred")
        until(
            lambda: world.emulator.books.count("getRun", pipeline="long_marked_keep") > 0,
            "the first status check of the trigger",
        )
        world.airflow.mark(*world.started["marked_keep"], "it", "failed")
        until(lambda: "was left running, because of cancel_on_kill=False" in log(world, "marked_keep"), "the log line")
        assert world.run("long_marked_keep").status == "InProgress"

    def test_marking_a_task_that_waits_on_a_worker_cancels_its_run(self, world: World) -> None:
        task_state(world, "marked_blocking", "running")
        until(
            lambda: world.emulator.books.count("getRun", pipeline="long_marked_blocking") > 0, "the first status check"
        )
        (link,) = world.airflow.links(*world.started["marked_blocking"], "it").values()
        assert link, "there is no link while the task runs on a worker"
        world.airflow.mark(*world.started["marked_blocking"], "it", "failed")
        until(lambda: world.run("long_marked_blocking").cancelled_at is not None, "the cancel")

    @pytest.mark.parametrize("mode", ["deferrable", "blocking"])
    def test_timeout_cancels_the_run(self, mode: str, world: World) -> None:
        assert task_state(world, f"timeout_{mode}") == "failed"
        until(lambda: world.run(f"long_timeout_{mode}").status == "Cancelled", "the run to be cancelled")
        assert "AdfRunTimedOut" in log(world, f"timeout_{mode}")
        assert "Its cancellation was requested." in log(world, f"timeout_{mode}")

    @pytest.mark.parametrize("mode", ["deferrable", "blocking"])
    def test_timeout_with_cancel_on_timeout_false_leaves_the_run(self, mode: str, world: World) -> None:
        assert task_state(world, f"timeout_{mode}_keep") == "failed"
        assert world.run(f"long_timeout_{mode}_keep").status == "InProgress"
        assert "It was left running." in log(world, f"timeout_{mode}_keep")

    def test_failed_status_checks_of_a_blocking_wait_do_not_fail_the_task(self, world: World) -> None:
        assert task_state(world, "blocking_faults") == "success"
        assert world.run("blocking_faults").cancelled_at is None

    def test_one_404_does_not_fail_the_task(self, world: World) -> None:
        assert task_state(world, "one_404") == "success"
        assert world.run("one_404").cancelled_at is None


@pytest.mark.usefixtures("started_cases")
class TestIdentities:
    @pytest.mark.parametrize("case", STARTS_WITH_IDENTITY)
    def test_named_identity_sends_all_requests_of_operator_and_trigger(self, case: str, world: World) -> None:
        assert task_state(world, case) == "success"
        run_id = world.airflow.xcom(*world.started[case], "it", "run_id")
        requests = [r for r in world.emulator.books.requests if run_id in (r.run_id, r.client_request_id)]
        assert {"createRun", "getRun"} <= {r.operation for r in requests}
        assert {r.client_id for r in requests} == {USER_ASSIGNED.client_id}

    @pytest.mark.parametrize("case", READS_WITH_IDENTITY)
    def test_named_identity_sends_all_requests_of_sensor_and_hook(self, case: str, world: World) -> None:
        assert task_state(world, case) == "success"
        requests = world.emulator.books.of(run_id=world.outside[case])
        assert requests
        assert {r.client_id for r in requests} == {USER_ASSIGNED.client_id}


@pytest.mark.usefixtures("started_cases")
class TestSensors:
    @pytest.mark.parametrize("mode", SENSOR_MODES)
    def test_sensor_waits_for_a_run_that_was_started_outside(self, mode: str, world: World) -> None:
        name = f"sensor_{mode}"
        assert task_state(world, name) == "success"
        assert world.airflow.xcom(*world.started[name], "it")["status"] == "Succeeded"
        (link,) = world.airflow.links(*world.started[name], "it").values()
        assert link is not None
        assert world.outside[name] in link

    @pytest.mark.parametrize("mode", ["blocking", "deferrable"])
    def test_sensor_fails_with_the_run(self, mode: str, world: World) -> None:
        name = f"sensor_failing_{mode}"
        assert task_state(world, name) == "failed"
        assert f"AdfRunFailed: Run {world.outside[name]}" in log(world, name)

    def test_marked_or_timed_out_sensor_does_not_cancel_the_run(self, world: World) -> None:
        marked, timed_out = world.outside["sensor_marked"], world.outside["sensor_timed_out"]
        task_state(world, "sensor_marked", "deferred")
        until(lambda: world.emulator.books.count("getRun", run_id=marked) > 0, "the first status check of the trigger")
        world.airflow.mark(*world.started["sensor_marked"], "it", "failed")
        assert task_state(world, "sensor_timed_out") == "failed"
        assert "AirflowSensorTimeout" in log(world, "sensor_timed_out")
        time.sleep(3)
        runs = [world.run(p) for p in ("long_marked_sensor", "long_sensor_timeout")]
        assert [run.run_id for run in runs] == [marked, timed_out]
        assert [run.cancelled_at for run in runs] == [None, None]


@pytest.mark.usefixtures("started_cases")
def test_each_mapped_task_has_its_own_run_and_link(world: World) -> None:
    dag_id, run_id = world.started["mapped"]
    assert world.airflow.wait_for_run(dag_id, run_id) == "success"
    ids = [world.airflow.xcom(dag_id, run_id, "it", "run_id", index) for index in (0, 1)]
    assert sorted(ids) == sorted(run.run_id for run in world.runs("mapped"))
    for index in (0, 1):
        (link,) = world.airflow.links(dag_id, run_id, "it", index).values()
        assert link is not None
        assert ids[index] in link


@pytest.mark.usefixtures("started_cases")
def test_limits_of_a_try_count_from_its_beginning_also_after_a_deferral(world: World) -> None:
    """Except on Airflow 3.1, where they count again when the task resumes."""
    assert task_state(world, "start_of_try") == "success"
    before, after = (world.airflow.xcom(*world.started["start_of_try"], "it", key) for key in ("before", "after"))
    counts_again = after - before > 10
    assert counts_again == version("apache-airflow-core").startswith("3.1."), (before, after)


def test_connection_form_has_our_fields(world: World) -> None:
    form = next(f for f in world.airflow.connection_form() if f["connection_type"] == "azure_data_factory_mi")
    fields = form["extra_fields"]
    if version("apache-airflow-core") == "3.1.0" and find_spec("wtforms") is None:
        # Without fields, the connection is written in the field "Extra", as all other tests here do.
        assert (form["hook_name"], fields) == ("Azure Data Factory (managed identity)", None)
        return
    assert fields["identity"]["schema"]["enum"] == ["managed_identity", "workload_identity", "developer"]
    assert fields["cloud_environment"]["schema"]["enum"][0] == "AzurePublicCloud"


def test_test_button_of_a_connection_works(world: World) -> None:
    extra = world.emulator.connection_extra()
    body = {"connection_id": "x", "conn_type": "azure_data_factory_mi", "extra": json.dumps(extra)}
    answer = world.airflow.test_connection(body)
    assert answer["status"], answer
    assert "token: given to the system-assigned managed identity. " in answer["message"]
    assert "factory: factory 'adf-sales'" in answer["message"]
    body["extra"] = json.dumps(extra | {"managed_identity_client_id": "00000000-0000-4000-8000-00000000c0ff"})
    assert "is not assigned to the machine" in world.airflow.test_connection(body)["message"]


def test_connection_page_sends_port_0_which_airflow_refuses(world: World) -> None:
    """This is a defect of Airflow 3.3.2, which later versions fix. The README suggests `airflow-adf-mi check` instead."""
    extra = json.dumps(world.emulator.connection_extra())
    stored = {"connection_id": "adf_page", "conn_type": "azure_data_factory_mi", "extra": extra}
    assert world.airflow.ask("POST", "/api/v2/connections", json=stored).status_code in (201, 409)
    # What the page's button sends for a stored connection: Number(null) is 0.
    page = {**stored, "description": "", "host": "", "login": "", "password": "", "schema": "", "port": 0}
    answer = world.airflow.ask("POST", "/api/v2/connections/test", json=page)
    if version("apache-airflow-core") == "3.3.2":
        assert answer.status_code == 400
        assert "The host or port to test differs from the stored connection" in answer.text
    else:
        assert answer.json()["status"], answer.text
    # A connection that is not stored is passed on with the same port, and works.
    answer = world.airflow.ask("POST", "/api/v2/connections/test", json={**page, "connection_id": "adf_new"})
    assert answer.json()["status"], answer.text
    assert "All well. Nothing was started." in answer.json()["message"]
