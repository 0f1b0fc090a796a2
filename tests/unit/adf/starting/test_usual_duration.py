"""The list query that shows how long the runs of a pipeline usually take, with scripted answers."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_adf_mi.adf.api.operations import Call, Page
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.starting.pipeline_name import remember_name
from airflow_adf_mi.adf.starting.usual_duration import durations_of, limit_of
from tests.support.routines import FACTORY, FAULTS, REFUSALS, Clock, answer_of, play


def ended(number: int, seconds: object = 1000, **members: Any) -> PipelineRun:
    milliseconds = seconds * 1000 if isinstance(seconds, int | float) else seconds
    wire = {"runId": f"r{number}", "pipelineName": "Load", "status": "Succeeded", "durationInMs": milliseconds}
    return PipelineRun.from_wire({**wire, **members})


def page(runs: list[PipelineRun], more: str | None = None) -> Page[PipelineRun]:
    return Page(items=runs, continuation_token=more)


@pytest.mark.parametrize(("given", "seconds"), [(None, None), (600.0, 600)])
def test_limit_of_the_author_needs_no_request(given: float | None, seconds: float | None) -> None:
    limit, asked = play(limit_of(given, FACTORY, "Load"), Clock(), iter([]))
    assert (None if limit is None else limit.seconds) == seconds
    assert asked == []


def test_one_page_is_read() -> None:
    runs = [ended(number) for number in range(100)]
    limit, asked = play(limit_of("usual", FACTORY, "Load"), Clock(), iter([page(runs, "more")]))
    assert limit.seconds == 1500
    assert asked == ["query_by_factory"]


def test_query_is_short_and_asks_for_the_newest_runs_of_both_spellings() -> None:
    clock = Clock()
    remember_name(FACTORY, "load", {"name": "Load"}, now=clock.now)
    routine, answer = limit_of("usual", FACTORY, "load"), None
    while not isinstance(step := routine.send(answer), Call):
        answer = answer_of(step, clock)
    window = step.args[-1]
    assert window["filters"] == [
        {"operand": "PipelineName", "operator": "In", "values": ["load", "Load"]},
        {"operand": "Status", "operator": "Equals", "values": ["Succeeded"]},
    ]
    assert window["orderBy"] == [{"orderBy": "RunStart", "order": "DESC"}]
    assert step.timeout == 5


@pytest.mark.parametrize("error", [*FAULTS, *REFUSALS], ids=str)
def test_list_that_cannot_be_read_is_one_line_and_no_warning(error: Any, caplog: pytest.LogCaptureFixture) -> None:
    limit, asked = play(limit_of("usual", FACTORY, "Load"), Clock(), iter([error]))
    assert limit is None
    assert len(asked) == 1
    (line,) = caplog.messages
    assert line.startswith("The earlier runs of pipeline 'Load' could not be listed")


def test_too_few_runs_are_one_line_and_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        limit, _ = play(limit_of("usual", FACTORY, "Load"), Clock(), iter([page([ended(1), ended(2)])]))
    assert limit is None
    (line,) = caplog.messages
    assert line.startswith("Pipeline 'Load' has 2 earlier successful run(s)")


def test_only_whole_successful_runs_of_the_pipeline_count() -> None:
    runs = [
        ended(1, 10),
        ended(1, 10),  # a list may show a run twice
        ended(2, 20, runGroupId="r2"),
        ended(3, 30, runGroupId="r1"),  # a rerun
        ended(4, 40, status="Failed"),
        ended(5, 50, pipelineName="Other"),
        ended(6, 60, pipelineName="LOAD"),
        ended(7, None),
        ended(8, "odd"),
    ]
    assert durations_of(runs, "Load") == [10, 20, 60]
