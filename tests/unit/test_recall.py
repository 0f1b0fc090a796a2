"""What the XCom of a task that starts in the triggerer tells of its earlier starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_adf_mi.adf.intent import Find, Follow, Fresh, Intent, Occasion, Phase, decide
from airflow_adf_mi.adf.recall import recall, says_all
from airflow_adf_mi.adf.settings import FactoryRef
from airflow_adf_mi.adf.start_key import Place

PLACE = Place(dag_id="dag", dag_run_id="run", task_id="it", clear_number=2, began="then")
NOW = Occasion(try_number=3, clear_number=2)
FACTORY = FactoryRef(
    subscription_id="11111111-1111-4111-8111-111111111111", resource_group_name="rg", factory_name="adf-test"
)
WANTED = Intent(
    key=PLACE.key(3, "same"),
    factory=FACTORY,
    pipeline_name="Load",
    fingerprint="same",
    occasion=NOW,
    phase=Phase.PREPARED,
)


def what(run_id: object, stored: object = None, wanted: Intent = WANTED, **arguments: Any) -> Any:
    known = recall(run_id, stored, PLACE, wanted, **arguments)
    return type(decide(known, NOW, wanted.fingerprint)), known


@pytest.mark.parametrize("run_id", [None, "", 5])
def test_nothing_written_is_nothing_started(run_id: object) -> None:
    assert what(run_id) == (Fresh, None)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_start_of_this_or_an_earlier_try_is_found_out_about(number: int) -> None:
    decision, known = what(PLACE.key(number, "same"), began=50.0)
    assert decision is Find
    assert known.occasion.try_number == number
    assert known.at == (50.0 if number == 3 else None)


def test_other_parameters_in_a_retry_start_anew_and_in_the_same_try_do_not() -> None:
    decision, known = what(PLACE.key(2, "other"))
    assert decision is Fresh
    assert known is not None
    assert what(PLACE.key(3, "other"))[0] is Find


@pytest.mark.parametrize("run_id", [replace(PLACE, clear_number=1).key(2, "same"), "of-the-service", "not a guid"])
def test_start_of_before_a_clear_is_replaced(run_id: str) -> None:
    decision, known = what(run_id)
    assert decision is Fresh
    assert known.key == run_id


def test_what_was_kept_beside_counts_while_it_is_of_the_same_run() -> None:
    started = replace(WANTED, occasion=replace(NOW, try_number=2), phase=Phase.SENDING).started("of-the-service")
    assert what("of-the-service", started.to_json())[0] is Follow
    assert what("another", started.to_json())[0] is Fresh
    assert what(PLACE.key(1, "same"), started.to_json())[0] is Find
    cleared = replace(started, occasion=Occasion(try_number=2, clear_number=1))
    assert what("of-the-service", cleared.to_json())[0] is Fresh


@pytest.mark.parametrize("stored", [5, {}, {"key": 5}, {"version": 9}], ids=str)
def test_what_cannot_be_read_does_not_count(stored: object) -> None:
    assert what("of-the-service", stored)[0] is Fresh


def test_without_durable_only_this_try_counts() -> None:
    assert what(PLACE.key(2, "same"), durable=False) == (Fresh, None)
    assert what("of-before", durable=False) == (Fresh, None)
    assert what(PLACE.key(3, "same"), durable=False)[0] is Find


def test_what_the_run_id_says_needs_nothing_beside_it() -> None:
    sending = replace(WANTED, phase=Phase.SENDING)
    assert says_all(sending, PLACE)
    assert says_all(sending.started(sending.key), PLACE)
    assert says_all(replace(sending, key=PLACE.key(1, "same")), PLACE)
    assert not says_all(sending.started("of-the-service"), PLACE)
    assert not says_all(replace(sending, key=replace(PLACE, task_id="other").key(3, "same")), PLACE)
