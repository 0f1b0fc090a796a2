"""What the XComs of a task that starts in the triggerer tell of its earlier starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_adf_mi._triggerer.start_key import TaskTryKey
from airflow_adf_mi._triggerer.stored_start import failed_try, marked, recall, says_all
from airflow_adf_mi.adf.config.settings import FactoryRef
from airflow_adf_mi.adf.starting.intent import Adopt, Intent, Phase, ResolveLostStart, StartNew, TaskTry, decide

PLACE = TaskTryKey(dag_id="dag", dag_run_id="run", task_id="it", ti_id="0192f0c3", try_number=3)


def key_of(number: int) -> str:
    """The key of another try: Airflow gives its task instance another id."""
    return replace(PLACE, ti_id=f"0192f0c{number}", try_number=number).start_key


NOW = TaskTry(try_number=3)
FACTORY = FactoryRef(
    subscription_id="11111111-1111-4111-8111-111111111111", resource_group_name="rg", factory_name="adf-test"
)
WANTED = Intent(
    start_key=PLACE.start_key,
    factory=FACTORY,
    pipeline_name="Load",
    fingerprint="same",
    task_try=NOW,
    phase=Phase.PREPARED,
)


def kept(number: int, **members: Any) -> dict[str, Any]:
    """What a try has kept of a run whose id the service has made."""
    sent = replace(WANTED, start_key=key_of(number), task_try=TaskTry(try_number=number), phase=Phase.SENDING)
    return replace(sent.started("of-the-service"), **members).to_json()


def what(run_id: object, stored: object = None, wanted: Intent = WANTED, **arguments: Any) -> Any:
    known = recall(run_id, stored, PLACE, wanted, **arguments)
    return type(decide(known, NOW, wanted.fingerprint)), known


@pytest.mark.parametrize("run_id", [None, "", 5])
def test_nothing_written_is_nothing_started(run_id: object) -> None:
    assert what(run_id, kept(2)) == (StartNew, None)


def test_start_of_this_try_is_found_out_about() -> None:
    decision, known = what(PLACE.start_key, began=50.0)
    assert decision is ResolveLostStart
    assert (known.start_key, known.sent_at) == (PLACE.start_key, 50.0)


@pytest.mark.parametrize("fingerprint", ["same", "other"])
def test_run_of_this_try_is_gone_on_with_whatever_its_parameters(fingerprint: str) -> None:
    assert what("of-the-service", kept(3, fingerprint=fingerprint))[0] is Adopt


def test_try_that_has_failed_by_itself_is_followed_by_a_retry() -> None:
    decision, known = what("of-the-service", kept(2, try_failed=True))
    assert decision is Adopt
    assert known.run_id == "of-the-service"
    # Its answer may have been lost.
    lost = replace(WANTED, start_key=key_of(2), task_try=TaskTry(try_number=2), phase=Phase.SENDING, try_failed=True)
    assert what(key_of(2), lost.to_json())[0] is ResolveLostStart
    # And other parameters start another run.
    decision, known = what("of-the-service", kept(2, try_failed=True, fingerprint="other"))
    assert decision is StartNew
    assert known is not None


@pytest.mark.parametrize(
    ("run_id", "stored"),
    [
        (key_of(2), None),
        ("not a guid", None),
        ("of-the-service", None),
        ("of-the-service", kept(2)),
        ("of-the-service", kept(1, try_failed=True)),
        ("another", kept(2, try_failed=True)),
        (replace(PLACE, ti_id="0192f0c9").start_key, None),
    ],
    ids=str,
)
def test_try_that_follows_on_none_that_has_failed_was_cleared(run_id: str, stored: object) -> None:
    decision, known = what(run_id, stored)
    assert decision is StartNew
    assert run_id in (known.start_key, known.run_id)


def at(number: int) -> TaskTryKey:
    return replace(PLACE, ti_id=f"0192f0c{number}", try_number=number)


@pytest.mark.parametrize(
    ("run_id", "stored"),
    [
        # A start of the try that fails, whose answer may have been lost; the same once a retry has failed in the same way.
        (key_of(2), None),
        (key_of(1), {"failed_try": 1, "of_run": key_of(1)}),
        # What the try has adopted, or has kept of a service with run ids of its own.
        ("of-the-service", kept(2)),
        ("of-the-service", kept(1, try_failed=True)),
    ],
    ids=str,
)
def test_try_that_fails_without_a_connection_says_so(run_id: str, stored: object) -> None:
    told = marked(run_id, stored, at(2), failed=True)
    assert failed_try(run_id, told) == 2
    decision, known = what(run_id, told)
    assert decision is (ResolveLostStart if run_id != "of-the-service" else Adopt)
    assert run_id in (known.start_key, known.run_id)
    # Of that run only.
    assert what("another", told)[0] is StartNew
    assert what(run_id, told, durable=False) == (StartNew, None)


@pytest.mark.parametrize("failed", [True, False])
@pytest.mark.parametrize(
    ("run_id", "stored", "is_own"),
    [
        (PLACE.start_key, None, True),
        (PLACE.start_key, {"failed_try": 3, "of_run": PLACE.start_key}, True),
        ("of-the-service", kept(3), True),
        ("of-the-service", kept(3, try_failed=True), True),
        (key_of(2), {"failed_try": 2, "of_run": key_of(2)}, False),
        (key_of(2), {"failed_try": 3, "of_run": key_of(2)}, False),
        ("of-the-service", kept(2, try_failed=True), False),
        ("of-the-service", {**kept(2, try_failed=True), "failed_try": 3, "of_run": "of-the-service"}, False),
    ],
    ids=str,
)
def test_try_that_goes_on_after_it_has_said_that_it_failed(
    run_id: str, stored: object, is_own: bool, failed: bool
) -> None:
    """What it has from the try before stays that one's: the run may have failed, and then another is started."""
    told = marked(run_id, stored, PLACE, failed=failed)
    assert (failed_try(run_id, told) == 3) is failed
    known = recall(run_id, told, PLACE, WANTED)
    assert known is not None
    assert (known.task_try.try_number, known.run_id or known.start_key) == (3 if is_own else 2, run_id)
    assert isinstance(decide(known, NOW, "same"), ResolveLostStart | Adopt)
    # For the next try, it was a failure or a clear, as it said last.
    after = replace(WANTED, task_try=TaskTry(try_number=4))
    decision = decide(recall(run_id, told, at(4), after), after.task_try, "same")
    assert isinstance(decision, ResolveLostStart | Adopt if failed else StartNew)


@pytest.mark.parametrize(
    ("run_id", "stored"),
    [
        (None, None),
        (key_of(1), None),
        ("of-the-service", None),
        ("of-the-service", kept(1)),
        ("another", kept(2)),
        (key_of(1), {"failed_try": 0, "of_run": key_of(1)}),
        (key_of(1), {"failed_try": 1, "of_run": key_of(9)}),
    ],
    ids=str,
)
def test_try_without_a_run_of_its_own_has_nothing_to_say(run_id: object, stored: object) -> None:
    assert marked(run_id, stored, at(2), failed=True) is None
    assert marked(run_id, stored, at(2), failed=False) is None


@pytest.mark.parametrize(
    "stored", [5, {}, {"key": 5}, {"version": 9}, {"failed_try": "2", "of_run": "of-the-service"}], ids=str
)
def test_what_cannot_be_read_does_not_count(stored: object) -> None:
    assert what("of-the-service", stored)[0] is StartNew
    assert what(PLACE.start_key, stored)[0] is ResolveLostStart


def test_without_durable_only_this_try_counts() -> None:
    assert what("of-the-service", kept(2, try_failed=True), durable=False) == (StartNew, None)
    assert what(key_of(2), durable=False) == (StartNew, None)
    assert what(PLACE.start_key, durable=False)[0] is ResolveLostStart
    assert what("of-the-service", kept(3), durable=False)[0] is Adopt


def test_what_the_run_id_says_needs_nothing_beside_it() -> None:
    sending = replace(WANTED, phase=Phase.SENDING)
    assert says_all(sending, PLACE)
    assert says_all(sending.started(sending.start_key), PLACE)
    assert not says_all(replace(sending, start_key=key_of(1)), PLACE)
    assert not says_all(sending.started("of-the-service"), PLACE)
    assert not says_all(replace(sending, start_key=replace(PLACE, task_id="other").start_key), PLACE)
