"""Names that users' databases, Dags and dashboards keep, each as a literal copy. A name may be added here, and none may change.

`test_provider` pins the stored forms of triggers, intents and connections. `tests/unit/adf/starting/test_create_run.py` pins
fingerprints.
"""

from __future__ import annotations

import inspect

from airflow_adf_mi import exceptions
from airflow_adf_mi._airflow.task_instance import LATE_RUN_KEY, RUN_ID_KEY
from airflow_adf_mi._triggerer.finish import LINK_KEY, RETURN_VALUE
from airflow_adf_mi._triggerer.start_key import TaskTryKey
from airflow_adf_mi._triggerer.xcom_journal import INTENT_KEY
from airflow_adf_mi._worker.task_journal import STATE_KEY
from airflow_adf_mi._worker.trigger_failures import TRIGGER_FAILURES_KEY
from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.config.addresses import FactoryRef, RunAddress
from airflow_adf_mi.adf.errors import AdfThrottledError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.report import Report, summary
from airflow_adf_mi.adf.starting.intent import TaskTry
from airflow_adf_mi.adf.starting.start_key import digest_key, is_start_key
from airflow_adf_mi.adf.starting.try_keys import TryKeys
from airflow_adf_mi.adf.waiting.late_run import LateRun, given_limit
from airflow_adf_mi.adf.waiting.single_run import Ended, GaveUp, TimedOut
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.retry import FORBIDDEN_KEY
from airflow_adf_mi.sensors import REFUSED_SINCE_KEY, AdfPipelineRunSensor
from airflow_adf_mi.triggers.queue import IS_TURN, REFUSED_AT
from airflow_adf_mi.triggers.start_and_wait import FOR_A_WORKER, NOT_STARTED, SKIPPED, STARTED

ADDRESS = RunAddress(
    run_id="r1",
    factory=FactoryRef(subscription_id="s", resource_group_name="rg", factory_name="adf-1"),
    studio_url="https://studio/r1",
    pipeline_name="Load",
)
STORED_ADDRESS = {
    "run_id": "r1",
    "factory": {"subscription_id": "s", "resource_group_name": "rg", "factory_name": "adf-1"},
    "studio_url": "https://studio/r1",
    "pipeline_name": "Load",
}
RUN = PipelineRun.from_wire({"runId": "r1", "pipelineName": "Load", "status": "Succeeded"})
STORED_RUN = {
    "runId": "r1",
    "pipelineName": "Load",
    "status": "Succeeded",
    "runGroupId": None,
    "runStart": None,
    "runEnd": None,
    "durationInMs": None,
    "lastUpdated": None,
    "message": None,
}


def test_xcoms() -> None:
    assert (RUN_ID_KEY, INTENT_KEY, RETURN_VALUE) == ("run_id", "adf_intent", "return_value")
    assert LINK_KEY == "_link_AdfPipelineRunLink"
    assert LATE_RUN_KEY == "adf_late_run"


def test_warning_of_a_late_run() -> None:
    late = LateRun(address=ADDRESS, limit=given_limit(600), seconds=601.5, at=50.0)
    assert late.to_json(2) == {
        "run_id": "r1",
        "pipeline_name": "Load",
        "try_number": 2,
        "warned_at": 50.0,
        "active_seconds": 601.5,
        "limit_seconds": 600,
        "limit_reason": "warn_after is 600 s",
        "studio_url": ADDRESS.studio_url,
    }


def test_keys_in_the_task_state_store() -> None:
    assert STATE_KEY == "airflow_adf_mi.intent"
    assert TRIGGER_FAILURES_KEY == "airflow_adf_mi.trigger_failures"
    assert REFUSED_SINCE_KEY == "airflow_adf_mi.refused_since"
    assert FORBIDDEN_KEY == "airflow_adf_mi.forbidden"


def test_start_keys() -> None:
    """The ids of runs that exist. Any version must recognize them, and compute the digests of any other version."""
    made_by_chance = "e178e04b-4e51-812b-bb5f-7c0b34d0879b"
    assert is_start_key(made_by_chance)
    assert not is_start_key("e178e04b-4e51-812b-bb5f-7c0b34d0879a")
    assert digest_key() == "2e38e77b-22c3-814a-9127-a47e39125a85"
    assert digest_key("dag", "run", "task", -1, 1, 0) == "69b27983-6985-8225-a1c1-731edd1c834a"


def test_start_keys_in_triggerer_mode() -> None:
    key = TaskTryKey(dag_id="dag", dag_run_id="run", task_id="it", ti_id="0192f0c1", try_number=1)
    assert key.start_key == "e922ccfb-ef78-814b-8019-f03cd64cf889"


def test_start_keys_where_airflow_has_no_task_state_store() -> None:
    keys = TryKeys(
        deployment="https://airflow.example.org",
        dag_id="dag",
        dag_run_id="run",
        task_id="task",
        map_index=2,
        now=TaskTry(try_number=3, max_tries=3),
        retries=2,
        dag_run_began=None,
    )
    assert keys.key(3, 1) == "c23fb1bd-91e8-8499-bda5-0941d62a9fcf"


def test_next_methods_of_deferred_tasks() -> None:
    for task, methods in (
        (AdfRunPipelineOperator, ("execute_complete", "execute_after", "execute_in_turn")),
        (AdfPipelineRunSensor, ("execute_complete",)),
    ):
        for name in methods:
            assert callable(vars(task)[name])
    for name in ("execute_after", "execute_in_turn"):
        assert "waiting_since" in inspect.signature(getattr(AdfRunPipelineOperator, name)).parameters


def test_events() -> None:
    assert (FOR_A_WORKER, NOT_STARTED, STARTED) == ("for_a_worker", "not_started", "started")
    assert SKIPPED == "skipped"
    assert (IS_TURN, REFUSED_AT) == ("is_turn", "refused_at")
    assert Report(address=ADDRESS, outcome=Ended(run=RUN)).to_json() == {
        "address": STORED_ADDRESS,
        "outcome": "ended",
        "run": STORED_RUN,
        "error": None,
        "deadline_reason": None,
        "cancel": None,
        "adopted": False,
        "explanation": None,
    }
    timed_out = Report(
        address=ADDRESS, outcome=TimedOut(run=RUN, deadline_reason="timeout of 600 s"), cancel="requested", adopted=True
    ).to_json()
    assert {"outcome": "timed_out", "deadline_reason": "timeout of 600 s", "cancel": "requested"}.items() <= (
        timed_out.items()
    )
    error = AdfThrottledError("too many", status=429)
    gave_up = Report(address=ADDRESS, outcome=GaveUp(error=error, run=None)).to_json()
    assert (gave_up["outcome"], gave_up["run"]) == ("gave_up", None)
    assert {"type": "AdfThrottledError", "message": "too many", "status": 429}.items() <= gave_up["error"].items()


def test_event_of_a_later_version_is_read() -> None:
    """Members that this version does not know are ignored, at any depth."""
    event = Report(address=ADDRESS, outcome=Ended(run=RUN)).to_json()
    later = {
        **event,
        "later": 1,
        "address": {**event["address"], "later": 1, "factory": {**event["address"]["factory"], "later": 1}},
        "run": {**event["run"], "later": 1},
    }
    report = Report.from_json(later)
    assert report.address == ADDRESS
    assert report.to_json() == event


def test_summary() -> None:
    assert summary(ADDRESS, RUN) == {
        "run_id": "r1",
        "run_group_id": None,
        "pipeline_name": "Load",
        "factory_name": "adf-1",
        "resource_group_name": "rg",
        "status": "Succeeded",
        "started_at": None,
        "ended_at": None,
        "duration_seconds": None,
        "studio_url": "https://studio/r1",
        "adopted": False,
    }


def test_class_paths_of_serialized_errors() -> None:
    path, texts, members = exceptions.AdfThrottledError("too many", status=429).serialize()
    assert path == "airflow_adf_mi.exceptions.AdfThrottledError"
    assert texts == ("too many",)
    assert members["stored"]["status"] == 429


def test_metrics() -> None:
    assert metrics.NAMES == (
        "adf.starts",
        "adf.adoptions",
        "adf.ambiguous_starts",
        "adf.overlaps",
        "adf.late_runs",
        "adf.requests",
        "adf.throttled",
        "adf.ended",
        "adf.run_duration",
        "adf.detection_lag",
    )
