"""Queries of runs: every operand and operator of a filter, and every order that the specification has."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.service.state import FactoryState
from tests.conftest import activity, factory_of
from tests.support.walks import FAILED, state

WINDOW = {"lastUpdatedAfter": "2000-01-01T00:00:00Z", "lastUpdatedBefore": "2100-01-01T00:00:00Z"}
STARTS = ("2023-11-14T22:13:20Z", "2023-11-14T23:13:20.25Z")
"""The starts of the first runs of P and Q, by the clock of the tests."""


@pytest.fixture
def factory() -> FactoryState:
    """Runs p (succeeded), q (failed), r (the recovery of q, in progress) and s (queued), an hour between them."""
    factory = state(
        factory_of(P=[activity("A")], Q=[activity("A")]),
        {
            "activities": {"Q/A": {"seconds": 7200}},
            "runs": [{"pipeline": "Q", "times": 1, "activities": {"A": FAILED}}],
        },
    )
    first = factory.create_run("P", None)
    factory.clock.advance(3600.25)
    second = factory.create_run("Q", None)
    factory.clock.advance(3600)
    third = factory.create_run("Q", None, reference_run_id=second, is_recovery=True)
    factory.clock.advance(3600)
    fourth = factory.create_run("P", None)
    for run_id, name in zip((first, second, third, fourth), "pqrs", strict=True):
        factory.runs[run_id].values = {"name": name}
        factory.touch(factory.runs[run_id])
    return factory


def found(factory: FactoryState, **body: Any) -> str:
    return "".join(run["parameters"]["name"] for run in factory.query_runs({**WINDOW, **body})["value"])


@pytest.mark.parametrize(
    ("operand", "operator", "values", "runs"),
    [
        ("PipelineName", "Equals", ["P"], "ps"),
        ("PipelineName", "NotEquals", ["P"], "qr"),
        ("PipelineName", "In", ["P", "Q"], "pqrs"),
        ("PipelineName", "NotIn", ["P", "Q"], ""),
        ("Status", "Equals", ["Failed"], "q"),
        ("Status", "NotEquals", ["Failed"], "prs"),
        ("Status", "In", ["Queued", "InProgress"], "rs"),
        ("Status", "NotIn", ["Queued", "InProgress"], "pq"),
        ("RunStart", "Equals", [STARTS[0]], "p"),
        ("RunStart", "Equals", ["2023-11-14T23:13:20.2500000+00:00"], "q"),
        ("RunStart", "NotEquals", [STARTS[0]], "qrs"),
        ("RunStart", "In", [*STARTS], "pq"),
        ("RunStart", "NotIn", [*STARTS], "rs"),
        ("RunEnd", "Equals", ["2023-11-14T22:13:21.5000Z"], "p"),
        ("RunEnd", "NotEquals", ["2023-11-14T22:13:21.5Z"], "qrs"),
        ("LatestOnly", "Equals", [True], "prs"),
        ("LatestOnly", "Equals", ["true"], "prs"),
        ("LatestOnly", "Equals", [False], "pqrs"),
        ("LatestOnly", "Equals", ["False"], "pqrs"),
    ],
)
def test_filter_chooses_runs(factory: FactoryState, operand: str, operator: str, values: list[Any], runs: str) -> None:
    assert found(factory, filters=[{"operand": operand, "operator": operator, "values": values}]) == runs


@pytest.mark.parametrize(
    ("operand", "operator", "values", "runs"),
    [
        ("PipelineName", "Equals", ["p"], "ps"),
        ("PipelineName", "NotIn", ["p", "X"], "qr"),
        ("Status", "In", ["queued", "INPROGRESS"], "rs"),
    ],
)
def test_filter_ignores_case_only_if_the_switch_is_set(
    factory: FactoryState, operand: str, operator: str, values: list[Any], runs: str
) -> None:
    filters = [{"operand": operand, "operator": operator, "values": values}]
    assert found(factory, filters=filters) == ("pqrs" if operator == "NotIn" else "")
    factory.switches.filter_ignores_case = True
    assert found(factory, filters=filters) == runs


def test_filter_of_activities_ignores_case_only_if_the_switch_is_set(factory: FactoryState) -> None:
    (first, *_) = factory.runs
    body = {**WINDOW, "filters": [{"operand": "ActivityName", "operator": "Equals", "values": ["a"]}]}
    assert factory.query_activity_runs(first, body)["value"] == []
    factory.switches.filter_ignores_case = True
    assert [entry["activityName"] for entry in factory.query_activity_runs(first, body)["value"]] == ["A"]


def test_filter_by_group_finds_the_whole_chain_and_its_latest_run(factory: FactoryState) -> None:
    group = next(run.run_id for run in factory.runs.values() if run.status == "Failed")
    for operator, runs in (("Equals", "qr"), ("In", "qr"), ("NotEquals", "ps"), ("NotIn", "ps")):
        assert found(factory, filters=[{"operand": "RunGroupId", "operator": operator, "values": [group]}]) == runs
    of_group = {"operand": "RunGroupId", "operator": "Equals", "values": [group]}
    latest = {"operand": "LatestOnly", "operator": "Equals", "values": [True]}
    assert found(factory, filters=[of_group, latest]) == "r"
    newest_first = [{"orderBy": "RunStart", "order": "DESC"}]
    assert found(factory, filters=[of_group], orderBy=newest_first) == "rq"


@pytest.mark.parametrize(
    ("rules", "runs"),
    [
        ([("RunStart", "ASC")], "pqrs"),
        ([("RunStart", "DESC")], "srqp"),
        ([("RunEnd", "ASC"), ("RunStart", "ASC")], "rspq"),
        ([("PipelineName", "DESC"), ("RunStart", "DESC")], "rqsp"),
        ([("Status", "ASC")], "qrsp"),
    ],
)
def test_order_has_several_rules(factory: FactoryState, rules: list[tuple[str, str]], runs: str) -> None:
    assert found(factory, orderBy=[{"orderBy": name, "order": order} for name, order in rules]) == runs


@pytest.mark.parametrize(
    "body",
    [
        {"filters": [{"operand": "RunStart", "operator": "Equals", "values": ["yesterday"]}]},
        {"filters": [{"operand": "RunEnd", "operator": "In", "values": [7]}]},
        {"filters": [{"operand": "LatestOnly", "operator": "Equals", "values": ["yes"]}]},
        {"orderBy": [{"orderBy": "RunGroupId", "order": "ASC"}]},
        {"orderBy": [{"orderBy": "LatestOnly", "order": "DESC"}]},
        {"orderBy": [{"orderBy": ["RunStart"], "order": "DESC"}]},
    ],
)
def test_value_or_order_that_the_specification_lacks_is_refused(factory: FactoryState, body: dict[str, Any]) -> None:
    with pytest.raises(ServiceError) as error:
        factory.query_runs({**WINDOW, **body})
    assert error.value.status == 400
