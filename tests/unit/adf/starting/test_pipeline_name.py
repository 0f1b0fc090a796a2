"""Which spellings of a pipeline's name a query for runs asks for."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_adf_mi.adf.errors import AdfPermissionError, AdfUnavailableError
from airflow_adf_mi.adf.starting.pipeline_name import KEPT_SECONDS, runs_of_pipeline
from airflow_adf_mi.adf.timing import Timing
from tests.support.routines import FACTORY
from tests.support.service import MemoryJournal, Service, run_on


def spellings(service: Service, name: str = "load") -> list[str] | None:
    """None: the runs of all pipelines are asked for."""
    routine = runs_of_pipeline(FACTORY, name, timing=Timing(clock=service.clock, jitter=lambda: 0.5))
    filters = run_on(routine, service, MemoryJournal(service))
    return [value for given in filters for value in given["values"]] or None


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ({"declares": {}, "published_name": "Load"}, ["load", "Load"]),
        ({"declares": {}}, ["load"]),
        # Not a pipeline of this name, whatever has answered.
        ({"declares": {}, "published_name": "Other"}, None),
        ({"declares": None}, None),
        ({"declares": AdfPermissionError("no role to read", status=403)}, None),
    ],
)
def test_query_asks_for_the_published_spelling_too(service: dict[str, Any], expected: list[str] | None) -> None:
    assert spellings(Service(**service)) == expected


def test_short_outage_is_not_remembered(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(declares=AdfUnavailableError("503", status=503), published_name="Load")
    with caplog.at_level(logging.INFO):
        assert spellings(service) is None
    assert "The published name of pipeline 'load' is not known, so all runs are listed. 503" in caplog.text
    service.declares = {}
    assert spellings(service) == ["load", "Load"]
    service.now += KEPT_SECONDS
    service.declares = AdfUnavailableError("503", status=503)
    # What was read before is still the best that is known.
    assert spellings(service) == ["load", "Load"]


@pytest.mark.parametrize("declares", [{}, None])
def test_name_is_read_once_a_minute(declares: dict[str, Any] | None) -> None:
    service = Service(declares=declares)
    for seconds, reads in ((0.0, 1), (KEPT_SECONDS - 1, 1), (1.0, 2)):
        service.now += seconds
        spellings(service)
        assert service.definitions_read == reads
    spellings(service, "another")
    assert service.definitions_read == 3
