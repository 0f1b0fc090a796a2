"""The runs that the service has shown to this process by their ids."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow_adf_mi.adf.api.operations import get_run
from airflow_adf_mi.adf.api.shown_runs import MOST_KEPT, shown_since
from tests.support.routines import FACTORY


def show(run_id: str, began: float | None) -> None:
    """Read the answer to a request for a run."""
    moment = None if began is None else datetime.fromtimestamp(began, UTC).isoformat()
    body: dict[str, Any] = {"runId": run_id, "pipelineName": "Load", "status": "InProgress", "runStart": moment}
    assert get_run(FACTORY, run_id).read(body).run_id == run_id


def test_answer_to_a_request_for_a_run_is_remembered() -> None:
    show("earlier", 999.0)
    show("later", 1001.0)
    show("has not begun", None)
    assert shown_since(FACTORY, 1000.0) == {"later"}


def test_runs_that_began_first_are_forgotten_first() -> None:
    show("latest", 9999.0)
    for number in range(MOST_KEPT + 2):
        show(f"run {number}", 1001.0 + number)
    kept = shown_since(FACTORY, 1000.0)
    assert len(kept) == MOST_KEPT
    assert "latest" in kept
    assert not kept & {"run 0", "run 1", "run 2"}
