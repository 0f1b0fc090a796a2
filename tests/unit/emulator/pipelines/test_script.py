"""Scripts may have members of known names and types, about existing pipelines, activities and parameters."""

from __future__ import annotations

import json
import re
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.pipelines.script_shape import ACTIVITY, PIPELINE, RUN
from tests.conftest import activity, factory_of

FACTORY = factory_of(
    Load={
        "activities": [
            activity("Copy"),
            activity("Each", "ForEach", items=[1], activities=[activity("Inner")]),
            activity("Return", "SetVariable", variableName="pipelineReturnValue", value=[]),
        ],
        "parameters": {"day": {"type": "string"}},
    },
    Child=[activity("Deep", "IfCondition", expression="@true", ifTrueActivities=[activity("Copy")])],
)
OTHER = factory_of(Import=[activity("File")])


def emulator(script: dict[str, Any]) -> Emulator:
    specs = [FactorySpec(source=FACTORY, factory_name="adf-one"), FactorySpec(source=OTHER, factory_name="adf-two")]
    return Emulator(*specs, script=Script.from_json(script))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"pipelines": {"Laod": {}}}, "no pipeline 'Laod'. Did you mean 'Load'?"),
        ({"activities": {"Load/Cpy": {"outcome": "Failed"}}}, "'Load' has no activity 'Cpy'. Did you mean 'Copy'?"),
        ({"activities": {"load/Copy": {}}}, "no pipeline 'load'. Did you mean 'Load'?"),
        ({"activities": {"Load/copy": {}}}, "no activity 'copy'. Did you mean 'Copy'?"),
        ({"activities": {"Laod/Copy": {}}}, "no pipeline 'Laod'. Did you mean 'Load'?"),
        ({"activities": {"Copy": {}}}, "'Copy' must be written as '<pipeline>/<activity>'"),
        ({"activities": {"Import/Xyz": {}}}, "'Import' has no activity 'Xyz'. Known: 'File'."),
        ({"runs": [{"pipeline": "Chld"}]}, "runs[0] of the script: there is no pipeline 'Chld'. Did you mean 'Child'?"),
        ({"runs": [{"pipeline": "Load", "when": {"dya": "x"}}]}, "no parameter 'dya'. Did you mean 'day'?"),
        ({"runs": [{"pipeline": "Load", "activities": {"Cpy": {}}}]}, "no activity 'Cpy'. Did you mean 'Copy'?"),
        (
            {"runs": [{"pipeline": "Load", "activities": {"Child/Copy": {}}}]},
            "activities of 'Load' only, not to 'Child/Copy'",
        ),
        ({"runs": [{"pipeline": "Load", "pipelines": {"Child": {}}}]}, "runs of 'Load' only, not of 'Child'"),
        ({"activities": {"Load/Copy": {"condition": True}}}, "'condition', which only has an effect on IfCondition"),
        (
            {"activities": {"Load/Copy": {"iterations": 0}}},
            "'iterations', which only has an effect on ForEach and Until",
        ),
        ({"activities": {"Load/Each": {"items": [1], "iterations": 1}}}, "has 'items' and 'iterations', which both"),
        ({"activities": {"Load/Copy": {"fail_iterations": [0]}}}, "only has an effect inside a ForEach or Until"),
        (
            {"activities": {"Child/Deep": {"value": None}}},
            "'value', which only has an effect on AppendVariable and SetVariable",
        ),
        ({"activities": {"Load/Return": {"value": 1}}}, "its 'value' must be an object"),
        ({"activities": {"Load/Copy": {"error": {"message": "x"}}}}, "has an 'error', but never fails."),
    ],
    ids=str,
)
def test_unknown_name_is_refused_with_suggestions(script: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        emulator(script)
    running = emulator({})
    before = running.state().script
    with pytest.raises(ValueError, match=re.escape(expected)):
        running.set_script(Script.from_json(script))
    assert {id(factory.script) for factory in running.factories} == {id(before)} | {
        id(factory.script) for factory in running.factories[1:]
    }


def test_names_of_all_factories_are_accepted() -> None:
    script = {
        "pipelines": {"Load": {"queued_seconds": 0}, "Import": {"cancel": "loses"}},
        "activities": {
            "Load/Inner": {"fail_iterations": [1], "outputs_by_iteration": [{}]},
            "Load/Each": {"items": [1, 2]},
            "Child/Copy": {"outcome": "Failed"},
            "Import/File": {"seconds": 3},
        },
        "runs": [{"pipeline": "load", "when": {"day": "x"}, "times": 1, "activities": {"Load/Copy": {"seconds": 9}}}],
    }
    running = emulator(script)
    assert all(factory.script.activities["Import/File"].seconds == 3 for factory in running.factories)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([], "the script must be an object, but is []"),
        ({"runs": [{}]}, "runs[0] needs a pipeline"),
        ({"runs": {}}, "the script: runs must be an array of objects, and is {}"),
        ({"runs": [None]}, "runs must be an array of objects"),
        ({"runs": [{"pipeline": 1}]}, "runs[0]: pipeline must be a text, and is 1"),
        ({"runs": [{"pipeline": "P", "times": 1.5}]}, "times must be a whole number from 0 to 1,000,000,000, or null"),
        ({"runs": [{"pipeline": "P", "activities": {"A": []}}]}, "runs[0].activities: 'P/A' must be an object"),
        ({"defaults": {"seconds": None}}, "defaults: seconds must be a number from 0 to 1,000,000,000, and is None"),
        ({"activities": {"P/A": {"seconds": 10**400}}}, "seconds must be a number from 0 to 1,000,000,000"),
        ({"pipelines": []}, "the script: pipelines must be an object"),
        ({"pipelines": {"P": {"cancel": "win"}}}, "pipelines: 'P': cancel must be 'wins' or 'loses', and is 'win'"),
        ({"activities": {"P/A": {"condition": "false"}}}, "condition must be true or false, or null, and is 'false'"),
        ({"activities": {"P/A": {"fail_iterations": 1}}}, "fail_iterations must be an array of whole numbers"),
        ({"activities": {"P/A": {"outcome": ["Failed"]}}}, "outcome must be 'Succeeded' or 'Failed'"),
        ({"activities": {"P/A": {"secnods": 1}}}, "unknown member 'secnods'. Did you mean 'seconds'?"),
        ({"activites": {}}, "unknown member 'activites'. Did you mean 'activities'?"),
        ({"activities": {"P/A": {"seconds": float("nan")}}}, "seconds must be a number"),
    ],
    ids=str,
)
def test_member_of_the_wrong_kind_is_refused(script: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        Script.from_json(script)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
ENTRY = st.dictionaries(st.sampled_from([*ACTIVITY, *PIPELINE, *RUN, "x"]), ODD, max_size=4)
PART = st.dictionaries(st.sampled_from(["Load", "Load/Copy", "Child/Deep", "P", ""]), ENTRY | ODD, max_size=2) | ODD
DOCUMENT = st.fixed_dictionaries(
    {}, optional={"defaults": PART, "pipelines": PART, "activities": PART, "runs": st.lists(ENTRY, max_size=2) | ODD}
)


@given(DOCUMENT | ODD)
def test_script_is_accepted_or_refused_in_a_sentence(document: Any) -> None:
    """No other error is raised, and an accepted script can be used."""
    try:
        running = emulator(document)
    except ValueError:
        return
    for factory in running.factories:
        for name in factory.definition.pipelines:
            factory.create_run(name, {"day": "x"})
        running.clock.advance(100)
        factory.settle()


def test_script_of_the_demo_is_accepted() -> None:
    from tests.support.examples import FACTORY as DEMO
    from tests.support.examples import SCRIPT

    Emulator(FactorySpec(source=DEMO), script=Script.from_json(json.loads(SCRIPT.read_text())))


def test_emulator_that_is_interrupted_during_its_start_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As with Ctrl-C. The interrupt comes while the serving thread starts."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    interrupt = Future.result

    def interrupted(self: Future[Any], timeout: float | None = None) -> Any:
        monkeypatch.setattr(Future, "result", interrupt)
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupted)
    starting = emulator({})
    with pytest.raises(KeyboardInterrupt):
        starting.start()
    assert [thread.name for thread in threading.enumerate() if thread.name == "adf-emulator"] == []
    assert list(tmp_path.iterdir()) == []
    with starting:
        assert starting.ca_bundle.exists(), "it can be started again"
