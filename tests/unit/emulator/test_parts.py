"""The emulator's small parts: definitions, expressions, scripts, faults, tokens, clocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_adf_mi.emulator.clock import FlowingClock, ManualClock
from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.gateway.faults import Fault, Faults
from airflow_adf_mi.emulator.identity.tokens import USER_ASSIGNED, Tokens
from airflow_adf_mi.emulator.pipelines.definitions import load_factory
from airflow_adf_mi.emulator.pipelines.expressions import UNKNOWN, Scope, evaluate
from airflow_adf_mi.emulator.pipelines.script import Script
from tests.conftest import ROOT, activity, factory_of

SCOPE = Scope(
    parameters={"day": "x", "list": [1, 2], "o": {"a": {"b": 7}}},
    variables={"v": "y"},
    activities={"Look Up": {"output": {"firstRow": {"n": 3}, "value": [{"name": "t"}]}, "Status": "Succeeded"}},
    item={"name": "i"},
)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("plain", "plain"),
        (7, 7),
        ("@@escaped", "@escaped"),
        ("@pipeline().parameters.day", "x"),
        ("@pipeline().parameters.o.a.b", 7),
        ("@pipeline().parameters['day']", "x"),
        ("@activity('Look Up').output.firstRow.n", 3),
        ("@activity('Look Up').output.value[0].name", "t"),
        ("@activity('Look Up').output?.value", [{"name": "t"}]),
        ("@variables('v')", "y"),
        ("@item().name", "i"),
        ("@{pipeline().parameters.day}/@{item().name}", "x/i"),
        ({"type": "Expression", "value": "@length(pipeline().parameters.list)"}, 2),
        ("@and(greater(2, 1), not(equals('a', 'b')))", True),
        ("@or(less(2, 1), lessOrEquals(1, 1))", True),
        ("@if(empty(''), 'e', 'f')", "e"),
        ("@concat('it''s ', 1.5)", "it's 1.5"),
        ("@first(split('a-b', '-'))", "a"),
        ("@last(createArray(1, null, true))", True),
        ("@range(2, 3)", [2, 3, 4]),
        ("@endswith('a.JSON', '.json')", True),
        ("@bool('True')", True),
        ("@activity('Look Up').status", "Succeeded"),
        ("@activity('Look Up').output.firstRow?.absent", None),
        ("@activity('Look Up').output.value?[7]", None),
        ("@if(true, 'e', pipeline().parameters.absent)", "e"),
        ("@{pipeline().parameters.list}@{bool(1)}@{null}", "[1, 2]True"),
        ("@string(createArray('a'))", '["a"]'),
    ],
)
def test_known_expressions_are_evaluated(expression: Any, value: Any) -> None:
    assert evaluate(expression, SCOPE) == value


@pytest.mark.parametrize(
    "expression",
    [
        "@utcNow()",
        "@equals(utcNow(), 'x')",
        "@pipeline().parameters.absent",
        "@activity('Nobody').output",
        "@activity('Nobody').output.a",
        "@item(",
        "@1 +",
        "@a b",
        "@{utcNow()}/x",
        "@first('')",
        "@if(utcNow(), 1, 2)",
        "@if(false, 1, utcNow())",
        "@{concat('}', 'x')}",
        "@range(0, 1000000000)",
        "@greater(1, 'a')",
        "@variables('absent')",
        "@item()[utcNow()]",
        "@",
    ],
)
def test_other_expressions_are_unknown(expression: str) -> None:
    assert evaluate(expression, SCOPE) is UNKNOWN


def test_git_folder_is_loaded_with_its_factory() -> None:
    factory = load_factory(ROOT / "dags" / "factory")
    assert factory.name == "adf-sales"
    assert set(factory.pipelines) == {
        "CopySalesDelta",
        "BulkCopyTables",
        "NightlyLoad",
        "ImportPartnerFile",
        "RefreshReports",
    }
    nightly = factory.pipeline("nightlyload")
    assert nightly is not None
    assert nightly.concurrency == 1


def test_arm_template_is_loaded_with_its_parameters(tmp_path: Path) -> None:
    template = {
        "parameters": {"factoryName": {"type": "string"}, "n": {"type": "int", "defaultValue": 3}},
        "resources": [
            {
                "type": "Microsoft.DataFactory/factories/pipelines",
                "name": "[concat(parameters('factoryName'), '/Load')]",
                "properties": {"activities": [], "parameters": "[parameters('p')]", "concurrency": "[parameters('n')]"},
            },
            {"type": "Microsoft.DataFactory/factories/datasets", "name": "x", "properties": {}},
        ],
    }
    path = tmp_path / "arm.json"
    path.write_text("\ufeff" + json.dumps(template), encoding="utf-8")
    (pipeline,) = load_factory(path).pipelines.values()
    assert (pipeline.name, pipeline.parameters, pipeline.concurrency) == ("Load", {}, 3)
    given = load_factory(path, arm_parameters={"p": {"day": {"type": "string"}}}).pipelines["Load"]
    assert given.parameters == {"day": {"type": "string"}}


@pytest.mark.parametrize(
    ("activities", "reason"),
    [
        ([{"type": "Copy"}], "no name"),
        ([{"name": "A"}], "no type"),
        ([activity("A"), activity("A")], "two activities"),
        ([activity("A", "Copy", "B")], "unknown activities: B"),
        ([activity("A", "Copy", "B"), activity("B", "Copy", "A"), activity("C")], "circle: A, B"),
        ([activity("If", "IfCondition", ifFalseActivities=[activity("A", "Copy", "If")])], "unknown activities: If"),
        ([activity("S", "Switch", cases=[{"value": "x", "activities": [{"name": "A"}]}])], "no type"),
        (["A"], "not an object"),
        ([{"name": "A", "type": "Copy", "policy": "default"}], "policy of activity 'A' must be an object"),
        ([activity("S", "Switch", cases=[[]])], "cases of activity 'S' must be a list of objects"),
        ([{"name": "A", "type": "Copy", "dependsOn": [{}]}], "dependsOn of activity 'A' must be a list"),
    ],
)
def test_activities_that_could_never_end_are_refused(activities: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(ValueError, match=f"pipeline 'P': .*{reason}"):
        factory_of(P=activities)


def test_activities_that_are_a_template_parameter_are_an_empty_list() -> None:
    definition = factory_of(P={"activities": "[parameters('activities')]"}).pipelines["P"]
    assert (definition.activities, definition.variables, definition.concurrency) == ([], {}, None)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"name": "x", "properties": {}}', '{"resources": []}'])
def test_files_without_a_factory_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"x\.json|template"):
        load_factory(path)


def test_folder_without_pipelines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pipeline"):
        load_factory(tmp_path)


@pytest.mark.parametrize(
    "document",
    [
        {"activites": {}},
        {"defaults": {"second": 1}},
        {"pipelines": {"P": {"queued": 1}}},
        {"activities": {"P/A": {"outcomes": "Failed"}}},
        {"activities": {"P/A": {"outcome": "Broken"}}},
        {"runs": [{"pipeline": "P", "where": {}}]},
        {"activities": {"P/A": {"seconds": -1}}},
        {"activities": {"P/A": {"seconds": "3"}}},
        {"activities": {"P/A": {"iterations": True}}},
        {"activities": {"P/A": "Failed"}},
        {"pipelines": {"P": {"cancel_seconds": [1]}}},
    ],
)
def test_script_with_an_unknown_member_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown member|must be"):
        Script.from_json(document)


def test_script_for_some_runs_is_used_up() -> None:
    script = Script.from_json(
        {"runs": [{"pipeline": "P", "when": {"day": "x"}, "times": 1, "activities": {"A": {"seconds": 9}}}]}
    )
    assert script.activity("P", "A", script.for_run("P", {"day": "y"})).seconds is None
    assert script.activity("P", "A", script.for_run("P", {"day": "x"})).seconds == 9
    assert script.activity("P", "A", script.for_run("P", {"day": "x"})).seconds is None


def test_fault_applies_as_often_and_as_long_as_given() -> None:
    clock = ManualClock()
    faults = Faults(clock.now)
    faults.add(Fault(operation="getRun", pipeline="Load", times=2, status=503))
    faults.add(Fault(operation="createRun", times=None, seconds=60, drop=True))
    assert faults.take("getRun", pipeline="Other") is None
    assert faults.take("getRun", pipeline="load") is not None
    assert [f.operation for f in faults.unconsumed()] == ["getRun", "createRun"]
    assert faults.take("getRun", pipeline="Load") is not None
    assert faults.take("getRun", pipeline="Load") is None
    assert faults.take("createRun") is not None
    assert faults.unconsumed() == []
    clock.advance(61)
    assert faults.take("createRun") is None


def test_fault_for_any_operation_does_not_apply_to_tokens() -> None:
    faults = Faults(lambda: 0.0)
    faults.add(Fault(operation="*", status=500))
    assert faults.take("token") is None
    assert faults.take("cancelRun") is not None


def test_fault_that_does_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="does nothing"):
        Faults(lambda: 0.0).add(Fault(operation="getRun"))


def refusal(tokens: Tokens, header: str | None, audience: str = "https://arm") -> str:
    with pytest.raises(ServiceError) as refused:
        tokens.check(header, [audience])
    assert refused.value.status == 401
    assert refused.value.headers["WWW-Authenticate"].startswith("Bearer ")
    return refused.value.code


def test_tokens_are_checked() -> None:
    clock = ManualClock()
    tokens = Tokens(clock.now, lifetime=100)
    token, expires = tokens.issue(USER_ASSIGNED, "https://arm/")
    header = f"Bearer {token}"
    assert expires == int(clock.now()) + 100
    assert tokens.check(header, ["https://arm"])["appid"] == USER_ASSIGNED.client_id
    assert refusal(tokens, None) == "AuthenticationFailed"
    assert refusal(tokens, "Bearer x") == "InvalidAuthenticationToken"
    assert refusal(tokens, header[:-2] + "xx") == "InvalidAuthenticationToken"
    assert refusal(tokens, header, "https://vault") == "InvalidAuthenticationTokenAudience"
    assert refusal(Tokens(clock.now), header) == "InvalidAuthenticationToken"
    tokens.revoke()
    assert refusal(tokens, header) == "InvalidAuthenticationToken"
    later = f"Bearer {tokens.issue(USER_ASSIGNED, 'https://arm')[0]}"
    assert tokens.check(later, ["https://arm"])["oid"] == USER_ASSIGNED.object_id
    clock.advance(101)
    assert refusal(tokens, later) == "ExpiredAuthenticationToken"


def test_clocks_only_go_forward() -> None:
    for clock in (ManualClock(), FlowingClock()):
        before = clock.now()
        clock.advance(60)
        assert clock.now() >= before + 60
        with pytest.raises(ValueError, match="backwards"):
            clock.advance(-1)
    with pytest.raises(ValueError, match="positive"):
        FlowingClock(0)
