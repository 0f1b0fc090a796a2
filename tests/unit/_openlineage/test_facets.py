"""The check that the tests of lineage rely on accepts valid events only."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from tests.support.openlineage import check_event, facets

RUN_FACET = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"
EVENT: dict[str, Any] = {
    "eventType": "COMPLETE",
    "eventTime": "2026-01-01T10:00:00.5+00:00",
    "producer": "https://example.com/producer",
    "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
    "run": {
        "runId": "01a21050-0b2c-7305-b640-f3ce8eb012dc",
        "facets": {
            "ours": {"_producer": "https://example.com", "_schemaURL": RUN_FACET, "runId": "of another system"},
            "externalQuery": {
                "_producer": "https://example.com",
                "_schemaURL": next(url for url in facets() if url.endswith("/ExternalQueryRunFacet")),
                "externalQueryId": "1",
                "source": "there",
            },
        },
    },
    "job": {"namespace": "default", "name": "dag.task"},
    "outputs": [
        {
            "namespace": "azuredatafactory://f",
            "name": "Lake",
            "outputFacets": {
                "outputStatistics": {
                    "_producer": "https://example.com",
                    "_schemaURL": next(url for url in facets() if url.endswith("/OutputStatisticsOutputDatasetFacet")),
                    "rowCount": 1,
                }
            },
        }
    ],
}


def test_valid_event_is_accepted() -> None:
    check_event(EVENT)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda e: e.pop("eventTime"),
        lambda e: e.pop("producer"),
        lambda e: e.pop("job"),
        lambda e: e["job"].pop("namespace"),
        lambda e: e["run"].update(runId="1"),
        lambda e: e.update(eventTime="yesterday"),
        lambda e: e.update(eventType="DONE"),
        lambda e: e.update(producer="me"),
        lambda e: e.update(schemaURL=RUN_FACET),
        lambda e: e["run"]["facets"]["ours"].pop("_schemaURL"),
        lambda e: e["run"]["facets"]["externalQuery"].pop("source"),
        lambda e: e["run"]["facets"]["externalQuery"].update(source=None),
        lambda e: e["outputs"][0].pop("name"),
        lambda e: e["outputs"][0]["outputFacets"]["outputStatistics"].update(rowCount="1"),
    ],
)
def test_invalid_event_is_refused(spoil: Callable[[dict[str, Any]], Any]) -> None:
    event = copy.deepcopy(EVENT)
    spoil(event)
    with pytest.raises((jsonschema.ValidationError, KeyError)):
        check_event(event)
