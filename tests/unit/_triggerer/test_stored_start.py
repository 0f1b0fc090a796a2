"""What a try in triggerer mode concludes from the start that the XCom `adf_intent` holds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_adf_mi._triggerer.start_key import TaskTryKey
from airflow_adf_mi._triggerer.stored_start import KEPT_BY_WORKER, StoredStart
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.starting.intent import Adopt, Intent, Phase, ResolveLostStart, StartNew, TaskTry, decide

KEY = TaskTryKey(dag_id="dag", dag_run_id="run", task_id="it", ti_id="0192f0c3", try_number=3)


def key_of(number: int) -> str:
    """The key of a try: Airflow gives each its own task instance id."""
    return replace(KEY, ti_id=f"0192f0c{number}", try_number=number).start_key


def at(number: int) -> TaskTry:
    return TaskTry(try_number=number)


NOW = at(3)
FACTORY = FactoryRef(
    subscription_id="11111111-1111-4111-8111-111111111111", resource_group_name="rg", factory_name="adf-test"
)
WANTED = Intent(
    start_key=key_of(3),
    factory=FACTORY,
    pipeline_name="Load",
    fingerprint="same",
    task_try=NOW,
    phase=Phase.PREPARED,
)


def sending(number: int, **members: Any) -> Intent:
    """The intent that a try has stored before it sends createRun."""
    sent = replace(WANTED, start_key=key_of(number), task_try=at(number), phase=Phase.SENDING, sent_at=50.0)
    return replace(sent, **members)


def started(number: int, **members: Any) -> Intent:
    """The same start, after the service has answered with a run id that it chose."""
    return replace(sending(number).started("of-the-service"), **members)


def stored(intent: Intent, failed_retry: int | None = None) -> StoredStart:
    return StoredStart(intent=intent, failed_retry=failed_retry)


def decided(start: StoredStart | None, now: TaskTry = NOW, fingerprint: str = "same", **arguments: Any) -> Any:
    """The decision of the try `now`."""
    return type(decide(None if start is None else start.recall(now, **arguments), now, fingerprint))


@pytest.mark.parametrize(
    ("start", "decision", "is_before_clear"),
    [
        # The start of this try, before and after its answer.
        (stored(sending(3)), ResolveLostStart, False),
        (stored(started(3)), Adopt, False),
        (stored(started(3, try_failed=True)), Adopt, False),
        (stored(replace(sending(3), phase=Phase.PREPARED, sent_at=None)), StartNew, False),
        # The previous try has failed: a retry.
        (stored(sending(2, try_failed=True)), ResolveLostStart, False),
        (stored(started(2, try_failed=True)), Adopt, False),
        (stored(started(1, try_failed=True), failed_retry=2), Adopt, False),
        (stored(sending(1, try_failed=True), failed_retry=2), ResolveLostStart, False),
        # This retry has recorded that it failed, and continues.
        (stored(started(2, try_failed=True), failed_retry=3), Adopt, False),
        # The previous try has not failed: a clear.
        (stored(sending(2)), StartNew, True),
        (stored(started(2)), StartNew, True),
        (stored(started(1, try_failed=True)), StartNew, True),
        (stored(started(1, try_failed=True), failed_retry=1), StartNew, True),
        (stored(replace(sending(2), phase=Phase.PREPARED, sent_at=None)), StartNew, True),
    ],
    ids=str,
)
def test_decision_of_a_try_about_a_stored_start(start: StoredStart, decision: type, is_before_clear: bool) -> None:
    assert decided(start) is decision
    assert start.is_before_clear(NOW) is is_before_clear
    assert start.is_of(NOW) is (start.intent.task_try == NOW)
    # In every case, the start, its run and its factory are not lost.
    known = start.recall(NOW)
    assert known is not None
    assert (known.start_key, known.run_id, known.factory) == (start.intent.start_key, start.intent.run_id, FACTORY)


@pytest.mark.parametrize("fingerprint", ["same", "other"])
def test_run_of_this_try_is_adopted_with_any_parameters(fingerprint: str) -> None:
    assert decided(stored(started(3, fingerprint=fingerprint))) is Adopt


@pytest.mark.parametrize("start", [stored(started(2, try_failed=True)), stored(sending(1, try_failed=True), 2)])
def test_retry_with_other_parameters_replaces_the_run(start: StoredStart) -> None:
    assert decided(start, fingerprint="other") is StartNew
    assert start.recall(NOW) is not None


@pytest.mark.parametrize(
    ("start", "decision"),
    [
        (stored(sending(3)), ResolveLostStart),
        (stored(started(3)), Adopt),
        (stored(started(2, try_failed=True)), StartNew),
        (stored(started(2, try_failed=True), failed_retry=3), StartNew),
        (stored(sending(2)), StartNew),
    ],
    ids=str,
)
def test_durable_false_adopts_only_starts_of_this_try(start: StoredStart, decision: type) -> None:
    assert decided(start, durable=False) is decision
    assert (start.recall(NOW, durable=False) is None) is (decision is StartNew)


@pytest.mark.parametrize("failed", [True, False])
@pytest.mark.parametrize(
    "start",
    [
        stored(sending(3)),
        stored(sending(3, try_failed=True)),
        stored(started(3)),
        stored(started(3, not_adopted_yet=True)),
        stored(sending(2, try_failed=True)),
        stored(started(2, try_failed=True)),
        stored(started(2, try_failed=True), failed_retry=3),
        stored(started(1, try_failed=True), failed_retry=2),
    ],
    ids=str,
)
def test_record_of_a_failure_decides_between_retry_and_clear(start: StoredStart, failed: bool) -> None:
    recorded = start.recording(NOW, failed=failed)
    assert recorded is not None
    assert (recorded.last_failed_try == 3) is failed
    assert isinstance(decide(recorded.recall(at(4)), at(4), "same"), ResolveLostStart | Adopt) is failed
    assert recorded.is_before_clear(at(4)) is not failed
    # The same try may continue. A run of an earlier try is still that try's run, because it may have failed.
    assert decided(recorded) is decided(start)
    assert recorded.is_of(NOW) is start.is_of(NOW)
    assert StoredStart.from_json(json.loads(json.dumps(recorded.to_json()))) == recorded


@pytest.mark.parametrize("failed", [True, False])
@pytest.mark.parametrize(
    "start",
    [
        # Superseded by this try.
        stored(sending(2)),
        stored(started(1)),
        stored(started(1, try_failed=True)),
        # Nothing was started.
        stored(replace(sending(3), phase=Phase.PREPARED)),
        stored(replace(sending(2), phase=Phase.PREPARED, try_failed=True)),
    ],
    ids=str,
)
def test_try_without_its_own_run_records_nothing(start: StoredStart, failed: bool) -> None:
    assert start.recording(NOW, failed=failed) is None


@pytest.mark.parametrize("start", [stored(sending(3)), stored(started(2, try_failed=True), failed_retry=3)], ids=str)
def test_stored_form_keeps_its_version_and_ignores_unknown_members(start: StoredStart) -> None:
    value = json.loads(json.dumps(start.to_json()))
    assert value["version"] == 1
    assert StoredStart.from_json({**value, "of_a_later_version": [1], "version": 2}) == start
    # A worker's try reads the same form.
    assert Intent.from_json(value) == start.intent


@pytest.mark.parametrize("number", ["2", None, 2.5, [2]])
def test_unreadable_record_of_a_failure_is_ignored(number: object) -> None:
    read = StoredStart.from_json({**started(1, try_failed=True).to_json(), "failed_retry": number})
    assert read == stored(started(1, try_failed=True))
    assert decided(read) is StartNew


UNREADABLE = [5, "text", {"key": 5}, {"version": 9}, {**sending(2).to_json(), "phase": "unknown"}]


@pytest.mark.parametrize("value", [None, *UNREADABLE], ids=str)
def test_value_that_is_not_an_intent_is_read_as_none(value: object) -> None:
    assert StoredStart.from_json(value) is None


@pytest.mark.parametrize("value", [None, KEPT_BY_WORKER], ids=str)
@pytest.mark.parametrize("run_id", [None, "", 5])
def test_no_intent_and_no_run_id_mean_that_nothing_was_started(value: object, run_id: object) -> None:
    assert StoredStart.without_intent(value, run_id, WANTED) is None


@pytest.mark.parametrize("value", [None, KEPT_BY_WORKER, *UNREADABLE], ids=str)
@pytest.mark.parametrize(
    ("run_id", "decision"), [("of-a-worker", StartNew), (key_of(2), StartNew), (key_of(3).upper(), ResolveLostStart)]
)
def test_run_id_is_used_if_there_is_no_readable_intent(value: object, run_id: str, decision: type) -> None:
    """A worker started that run before the Dag was edited. The run is superseded."""
    found = StoredStart.without_intent(value, run_id, WANTED)
    assert found is not None
    assert (found.intent.start_key, found.intent.sent_at) == (run_id, None)
    assert decided(found) is decision
    assert found.is_before_clear(NOW) is (decision is StartNew)
    assert decided(found, durable=False) is decision


@pytest.mark.parametrize(
    ("value", "key", "decision"),
    [
        # Nothing else is known, so the start of this try is searched for.
        (5, key_of(3), ResolveLostStart),
        ({"version": 9}, key_of(3), ResolveLostStart),
        ({"start_key": key_of(3)}, key_of(3), ResolveLostStart),
        ({"start_key": key_of(3), "run_id": key_of(7)}, key_of(3), Adopt),
        # It belongs to another try, and no record of a failure can be read.
        ({"start_key": key_of(2)}, key_of(2), StartNew),
        ({"start_key": key_of(2), "run_id": key_of(7), "failed_retry": 2}, key_of(2), StartNew),
    ],
    ids=str,
)
def test_unreadable_intent_is_reduced_to_its_keys(value: object, key: str, decision: type) -> None:
    found = StoredStart.without_intent(value, None, WANTED)
    assert found is not None
    assert found.intent.start_key == key
    assert decided(found) is decision


@pytest.mark.parametrize(
    ("start", "known", "leads"),
    [
        # The service took the key for the run's id.
        (stored(sending(3)), sending(3), True),
        (stored(sending(3)), sending(3).started(key_of(3)), True),
        (stored(started(3)), started(3), True),
        # The service did not, or another member has changed.
        (stored(sending(3)), started(3), False),
        (stored(sending(3)), sending(3, sent_at=60.0), False),
        (stored(sending(3, try_failed=True)), sending(3).started(key_of(3)), False),
        (stored(sending(3, not_adopted_yet=True)), sending(3).started(key_of(3)), False),
        (stored(started(2, try_failed=True)), started(3), False),
        (stored(started(3), failed_retry=2), started(3), False),
    ],
    ids=str,
)
def test_intent_is_stored_again_only_if_it_does_not_lead_to_the_run(
    start: StoredStart, known: Intent, leads: bool
) -> None:
    assert start.leads_to(known) is leads


@pytest.mark.parametrize("failed", [True, False])
def test_failure_of_a_rerun_that_was_not_sent_is_recorded(failed: bool) -> None:
    """Only a retry continues a failed run."""
    unsent = replace(WANTED, rerun_of="r0")
    recorded = StoredStart(intent=unsent).recording(NOW, failed=failed)
    assert recorded is not None
    assert recorded.intent.try_failed is failed
