"""Pipelines that other people published, loaded and run to their end: what ran, in which order, and what was skipped.

Skipped where the reference material is not beside the checkout.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_adf_mi.emulator.clock import ManualClock
from airflow_adf_mi.emulator.pipelines.definitions import load_factory
from airflow_adf_mi.emulator.pipelines.runs import Run
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.service.state import FactoryState
from tests.conftest import reference

WEEK = 7 * 86_400.0
NEW = "Copy new files only by LastModifiedDate.json"
NOTEBOOK = "Databricks - Run Serverless Notebook.json"
DATAVERSE = "DataverseToSQL_Orchestrator.json"
DELTA = "Delta copy from Database.json"
NEWEST = "Identify file with latest epoch as prefix.json"
STAGE = "adf_Second_Pipeline.json"


def loaded(file: str, script: dict[str, Any]) -> FactoryState:
    return FactoryState(
        load_factory(reference("pipelines") / file),
        subscription_id="s",
        resource_group_name="rg",
        factory_name="adf",
        clock=ManualClock(),
        script=Script.from_json(script),
    )


def run(factory: FactoryState, pipeline: str) -> Run:
    """A run and a week after it; parameters without a default get some value."""
    declared = factory.definition.pipelines[pipeline].parameters
    needed = {name: "x" for name, declaration in declared.items() if "defaultValue" not in declaration}
    run_id = factory.create_run(pipeline, needed)
    factory.clock.advance(WEEK)
    factory.settle()
    return factory.runs[run_id]


def ran(run: Run) -> list[str]:
    """What ran, in the order of its start: `name`, with `[iteration]`, and its status unless it succeeded."""
    iterations: list[str] = []
    shown = []
    for entry in run.activities:
        where = ""
        if entry.iteration_hash:
            if entry.iteration_hash not in iterations:
                iterations.append(entry.iteration_hash)
            where = f"[{iterations.index(entry.iteration_hash)}]"
        shown.append(f"{entry.name}{where}" + ("" if entry.status == "Succeeded" else f": {entry.status}"))
    return shown


BOOM: dict[str, Any] = {"error": {"message": "boom"}}
FAILS = {**BOOM, "outcome": "Failed"}
NONE_BEFORE = {"output": {"firstRow": {"cnt": 0}}}
ENTITIES = [{"partitions": [1]}, {"partitions": []}, {"partitions": [1, 2]}]
FILES = [
    *({"name": name, "type": "File"} for name in ("5-a", "9-b", "7-c", "99-d.json")),
    {"name": "100-e", "type": "Folder"},
]


def polls(*states: str) -> dict[str, Any]:
    """The answers to successive polls of a notebook's state: running, or ended with a result."""
    outputs = [
        {"life_cycle_state": state}
        if state in ("PENDING", "RUNNING")
        else {"life_cycle_state": "TERMINATED", "result_state": state}
        for state in states
    ]
    return {"outputs_by_iteration": [{"state": output, "run_page_url": "https://jobs/1"} for output in outputs]}


def inside(name: str, error: str) -> str:
    """The message of a container."""
    return f"Activity failed because an inner activity failed; Inner activity name: {name}, Error: {error}"


@dataclass(frozen=True)
class Case:
    """A pipeline, the scripted results of its activities, and its expected run."""

    file: str
    pipeline: str
    activities: dict[str, Any]
    ran: list[str]
    message: str = ""
    """The message of a failed run; empty if the run succeeds."""
    children: dict[str, list[str]] = field(default_factory=dict)
    """What ran in the runs that it started, by pipeline."""


CASES = {
    "copy": Case(
        NEW,
        "CopyNewFilesByLastModifiedDate",
        {},
        ["CopyNewFiles"],
    ),
    "copy fails": Case(
        NEW,
        "CopyNewFilesByLastModifiedDate",
        {"CopyNewFiles": FAILS},
        ["CopyNewFiles: Failed"],
        message="Operation on target CopyNewFiles failed: boom",
    ),
    "notebook, nothing known": Case(
        NOTEBOOK,
        "Databricks - Run Serverless Notebook",
        {},
        [
            "Execute Jobs API",
            "Wait Until Job Completes",
            "Check Job Run API",
            "Get Job Run URL",
            "Set Job Status",
            "Set Run Page URL",
            "Wait to Recheck API",
            "Check Job Status",
            "Get Job Output",
            "Set Notebook Output Result",
        ],
    ),
    "notebook, polled until it has succeeded": Case(
        NOTEBOOK,
        "Databricks - Run Serverless Notebook",
        {"Check Job Run API": polls("PENDING", "RUNNING", "SUCCESS")},
        [
            "Execute Jobs API",
            "Wait Until Job Completes",
            "Check Job Run API",
            "Get Job Run URL",
            "Set Job Status",
            "Set Run Page URL",
            "Wait to Recheck API",
            "Check Job Run API",
            "Set Job Status",
            "Wait to Recheck API",
            "Check Job Run API",
            "Set Job Status",
            "Wait to Recheck API",
            "Check Job Status",
            "Get Job Output",
            "Set Notebook Output Result",
        ],
    ),
    "notebook fails": Case(
        NOTEBOOK,
        "Databricks - Run Serverless Notebook",
        {"Check Job Run API": polls("RUNNING", "FAILED")},
        [
            "Execute Jobs API",
            "Wait Until Job Completes",
            "Check Job Run API",
            "Get Job Run URL",
            "Set Job Status",
            "Set Run Page URL",
            "Wait to Recheck API",
            "Check Job Run API",
            "Set Job Status",
            "Wait to Recheck API",
            "Check Job Status: Failed",
            "Databricks Job Fail: Failed",
            "Get Job Output: Skipped",
            "Set Notebook Output Result: Skipped",
        ],
        message="Operation on target Check Job Status failed: "
        + inside("Databricks Job Fail", "Job Run URL: https://jobs/1"),
    ),
    "notebook is not started": Case(
        NOTEBOOK,
        "Databricks - Run Serverless Notebook",
        {"Execute Jobs API": FAILS},
        [
            "Execute Jobs API: Failed",
            "Execute Jobs API: Failed",
            "Execute Jobs API: Failed",
            "Execute Jobs API: Failed",
            "Wait Until Job Completes: Skipped",
            "Check Job Status: Skipped",
            "Get Job Run URL: Skipped",
            "Set Run Page URL: Skipped",
            "Get Job Output: Skipped",
            "Set Notebook Output Result: Skipped",
        ],
        message="Operation on target Execute Jobs API failed: boom",
    ),
    "notebook, one poll fails": Case(
        NOTEBOOK,
        "Databricks - Run Serverless Notebook",
        {"Check Job Run API": polls("PENDING", "RUNNING", "SUCCESS") | {"fail_iterations": [1]}},
        [
            "Execute Jobs API",
            "Wait Until Job Completes",
            "Check Job Run API",
            "Get Job Run URL",
            "Set Job Status",
            "Set Run Page URL",
            "Wait to Recheck API",
            "Check Job Run API: Failed",
            "Check Job Run API: Failed",
            "Check Job Run API: Failed",
            "Check Job Run API: Failed",
            "Set Job Status: Skipped",
            "Wait to Recheck API: Skipped",
            "Check Job Run API",
            "Set Job Status",
            "Wait to Recheck API",
            "Check Job Status",
            "Get Job Output",
            "Set Notebook Output Result",
        ],
    ),
    "orchestrator, earlier run failed": Case(
        DATAVERSE,
        "DataverseToSQL_Orchestrator",
        {"CheckPreviousRuns": {"output": {"firstRow": {"cnt": 2}}}},
        [
            "SetupProcessingLog",
            "Execute CopyOptionsetMetadata",
            "CheckPreviousRuns",
            "If Previous Runs Unsuccessful",
            "Set execution skipped variable",
            "UpdateProcessingLogAsFailed: Skipped",
            "If Execution is Skipped",
            "UpdateProcessingLogAsSkipped",
        ],
        children={
            "CopyOptionsetMetadata": [
                "CreateOptionSetMetadataTable",
                "Copy OptionsetMetadata",
                "Copy GlobalOptionsetMetadata",
                "Copy StateMetadata",
                "Copy StatusMetadata",
                "Copy TargetMetadata",
            ]
        },
    ),
    "orchestrator, no earlier run": Case(
        DATAVERSE,
        "DataverseToSQL_Orchestrator",
        {"CheckPreviousRuns": NONE_BEFORE},
        [
            "SetupProcessingLog",
            "Execute CopyOptionsetMetadata",
            "CheckPreviousRuns",
            "If Previous Runs Unsuccessful",
            "Execute DataverseToSQLPipeline",
            "UpdateProcessingLogAsFailed: Skipped",
            "If Execution is Skipped",
            "UpdateProcessingLogAsSuccessful",
        ],
        children={
            "CopyOptionsetMetadata": [
                "CreateOptionSetMetadataTable",
                "Copy OptionsetMetadata",
                "Copy GlobalOptionsetMetadata",
                "Copy StateMetadata",
                "Copy StatusMetadata",
                "Copy TargetMetadata",
            ],
            "DataverseToSQL": [
                "LookupModelJson",
                "ForEachEntity",
                "CreateTable[0]",
                "CreateTable[1]",
                "IfPartitionsExists[0]",
                "DataverseToSQL[0]",
                "IfPartitionsExists[1]",
                "DataverseToSQL[1]",
            ],
        },
    ),
    "orchestrator, child fails in one iteration": Case(
        DATAVERSE,
        "DataverseToSQL_Orchestrator",
        {"CheckPreviousRuns": NONE_BEFORE, "DataverseToSQL/CreateTable": BOOM | {"fail_iterations": [1]}},
        [
            "SetupProcessingLog",
            "Execute CopyOptionsetMetadata",
            "CheckPreviousRuns",
            "If Previous Runs Unsuccessful: Failed",
            "Execute DataverseToSQLPipeline: Failed",
            "UpdateProcessingLogAsFailed",
            "If Execution is Skipped: Skipped",
        ],
        message="Operation on target If Previous Runs Unsuccessful failed: "
        + inside(
            "Execute DataverseToSQLPipeline",
            "Operation on target ForEachEntity failed: " + inside("CreateTable", "boom"),
        ),
        children={
            "CopyOptionsetMetadata": [
                "CreateOptionSetMetadataTable",
                "Copy OptionsetMetadata",
                "Copy GlobalOptionsetMetadata",
                "Copy StateMetadata",
                "Copy StatusMetadata",
                "Copy TargetMetadata",
            ],
            "DataverseToSQL": [
                "LookupModelJson",
                "ForEachEntity: Failed",
                "CreateTable[0]",
                "CreateTable[1]: Failed",
                "IfPartitionsExists[0]",
                "DataverseToSQL[0]",
                "CreateTable[1]: Failed",
                "CreateTable[1]: Failed",
                "IfPartitionsExists[1]: Skipped",
            ],
        },
    ),
    "tables, with and without partitions": Case(
        DATAVERSE,
        "DataverseToSQL",
        {"LookupModelJson": {"output": {"firstRow": {"entities": ENTITIES}}}},
        [
            "LookupModelJson",
            "ForEachEntity",
            "CreateTable[0]",
            "CreateTable[1]",
            "CreateTable[2]",
            "IfPartitionsExists[0]",
            "DataverseToSQL[0]",
            "IfPartitionsExists[1]",
            "IfPartitionsExists[2]",
            "DataverseToSQL[2]",
        ],
    ),
    "tables, lookup fails": Case(
        DATAVERSE,
        "DataverseToSQL",
        {"LookupModelJson": FAILS},
        ["LookupModelJson: Failed", "ForEachEntity: Skipped"],
        message="Operation on target LookupModelJson failed: boom",
    ),
    "metadata": Case(
        DATAVERSE,
        "CopyOptionsetMetadata",
        {},
        [
            "CreateOptionSetMetadataTable",
            "Copy OptionsetMetadata",
            "Copy GlobalOptionsetMetadata",
            "Copy StateMetadata",
            "Copy StatusMetadata",
            "Copy TargetMetadata",
        ],
    ),
    "metadata, first step fails": Case(
        DATAVERSE,
        "CopyOptionsetMetadata",
        {"CreateOptionSetMetadataTable": FAILS},
        [
            "CreateOptionSetMetadataTable: Failed",
            "Copy OptionsetMetadata: Skipped",
            "Copy GlobalOptionsetMetadata: Skipped",
            "Copy StateMetadata: Skipped",
            "Copy StatusMetadata: Skipped",
            "Copy TargetMetadata: Skipped",
        ],
        message="Operation on target CreateOptionSetMetadataTable failed: boom",
    ),
    "delta copy": Case(
        DELTA,
        "DeltaCopyfromDB_using_ControlTable",
        {},
        ["LookupLastWaterMark", "LookupCurrentWaterMark", "DeltaCopyfromDB", "UpdateWaterMark"],
    ),
    "delta copy, a lookup fails": Case(
        DELTA,
        "DeltaCopyfromDB_using_ControlTable",
        {"LookupCurrentWaterMark": FAILS},
        [
            "LookupLastWaterMark",
            "LookupCurrentWaterMark: Failed",
            "DeltaCopyfromDB: Skipped",
            "UpdateWaterMark: Skipped",
        ],
        message="Operation on target LookupCurrentWaterMark failed: boom",
    ),
    "newest file": Case(
        NEWEST,
        "FindLatestFileInAFolder",
        {"GetAllFiles": {"output": {"childItems": FILES}}},
        [
            "GetAllFiles",
            "FilteroutJSON",
            "IterateFolder",
            "CheckGreaterEpoch[0]",
            "SetGreaterEpoch[0]",
            "SetFileName[0]",
            "CheckGreaterEpoch[1]",
            "SetGreaterEpoch[1]",
            "SetFileName[1]",
            "CheckGreaterEpoch[2]",
            "WriteLatestValueToJSON",
        ],
    ),
    "newest file, listing fails": Case(
        NEWEST,
        "FindLatestFileInAFolder",
        {"GetAllFiles": FAILS},
        [
            "GetAllFiles: Failed",
            "FilteroutJSON",
            "IterateFolder",
            "CheckGreaterEpoch[0]",
            "SetGreaterEpoch[0]",
            "SetFileName[0]",
            "CheckGreaterEpoch[1]",
            "SetGreaterEpoch[1]",
            "SetFileName[1]",
            "WriteLatestValueToJSON",
        ],
    ),
    "staging": Case(
        STAGE,
        "adf_Second_Pipeline",
        {},
        ["SprocStage", "Validate_adf_file_Dataset_activity", "CopyDataToStage", "Sproc2"],
    ),
    "staging, a retry helps": Case(
        STAGE,
        "adf_Second_Pipeline",
        {"SprocStage": {"fail_attempts": 1}},
        ["SprocStage: Failed", "Validate_adf_file_Dataset_activity", "SprocStage", "CopyDataToStage", "Sproc2"],
    ),
    "staging, retries do not help": Case(
        STAGE,
        "adf_Second_Pipeline",
        {"SprocStage": FAILS},
        [
            "SprocStage: Failed",
            "Validate_adf_file_Dataset_activity",
            "SprocStage: Failed",
            "SprocStage: Failed",
            "SprocStage: Failed",
            "CopyDataToStage: Skipped",
            "Sproc2: Skipped",
        ],
        message="Operation on target SprocStage failed: boom",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_published_pipeline_runs_as_expected(case: Case) -> None:
    script = {name if "/" in name else f"{case.pipeline}/{name}": entry for name, entry in case.activities.items()}
    factory = loaded(case.file, {"activities": script})
    main = run(factory, case.pipeline)
    assert ran(main) == case.ran
    assert (main.status, main.message) == ("Failed" if case.message else "Succeeded", case.message)
    assert {other.pipeline: ran(other) for other in factory.runs.values() if other is not main} == case.children
    assert all(other.is_over for other in factory.runs.values())
    for entry in (entry for other in factory.runs.values() for entry in other.activities):
        json.dumps(entry.wire(*factory.address))


def test_every_published_pipeline_has_cases_with_and_without_a_failure() -> None:
    published = {
        (path.name, pipeline)
        for path in reference("pipelines").glob("*.json")
        for pipeline in load_factory(path).pipelines
    }
    assert {(case.file, case.pipeline) for case in CASES.values() if case.message} | {
        (NEWEST, "FindLatestFileInAFolder")  # a failure there is always handled by an activity upon completion
    } == published
    assert {(case.file, case.pipeline) for case in CASES.values() if not case.message} == published


def test_variables_and_return_values_are_those_of_the_expressions() -> None:
    newest = run(
        loaded(NEWEST, {"activities": {"FindLatestFileInAFolder/GetAllFiles": {"output": {"childItems": FILES}}}}),
        "FindLatestFileInAFolder",
    )
    assert newest.variables == {"latestFileName": "9-b", "greatestEpochVal": "9"}
    name = NOTEBOOK.removesuffix(".json")
    script = {
        f"{name}/Check Job Run API": polls("RUNNING", "SUCCESS"),
        f"{name}/Get Job Run URL": {"output": {"run_page_url": "https://jobs/1"}},
        f"{name}/Get Job Output": {"output": {"notebook_output": {"result": "42"}}},
    }
    notebook = run(loaded(NOTEBOOK, {"activities": script}), name)
    assert notebook.return_value == {"jobRunURL": "https://jobs/1", "notebookOutputResult": "42"}


def test_template_parameters_are_filled_in() -> None:
    path = reference("pipelines") / DELTA
    assert load_factory(path).pipelines["DeltaCopyfromDB_using_ControlTable"].parameters == {}
    declared = {"Data_Source_Table_Name": {"type": "String", "defaultValue": "t"}}
    filled = load_factory(path, arm_parameters={"pipeline_parameter": declared})
    assert filled.pipelines["DeltaCopyfromDB_using_ControlTable"].parameters == declared
