"""The check of parameters against the published pipeline: when it refuses, and that it never prevents a right start."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_adf_mi.adf.errors import (
    AdfConfigurationError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.starting.create_run import create_run_once
from airflow_adf_mi.adf.starting.intent import Intent, Phase
from airflow_adf_mi.adf.starting.pipeline_name import KEPT_SECONDS
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.timing import Timing
from tests.support.routines import FACTORY
from tests.support.service import MemoryJournal, Service, run_on

DAY = {"day": {"type": "String"}, "rows": {"type": "Int", "defaultValue": 1}}


def begin(service: Service, journal: MemoryJournal | None = None, **start: Any) -> Any:
    order = Start(**{"factory": FACTORY, "pipeline_name": "Load", "check_parameters": True, **start})
    routine = create_run_once(order, order.intent(), timing=Timing(clock=service.clock, jitter=lambda: 0.5))
    return run_on(routine, service, journal or MemoryJournal(service))


def parameters_of(service: Service, begun: Any) -> Any:
    return service.runs[begun.run_id]["parameters"]


def test_values_are_sent_as_the_pipeline_declares_them() -> None:
    service = Service(declares=DAY)
    begun = begin(service, parameters={"DAY": "2026-02-03", "rows": "12"})
    assert parameters_of(service, begun) == {"day": "2026-02-03", "rows": "12"}
    assert service.sent[-1] == {"day": "2026-02-03", "rows": 12}


def test_fingerprint_is_of_what_the_author_wrote() -> None:
    checked, unchecked = (
        begin(Service(declares=DAY), parameters={"day": "x", "rows": "12"}, check_parameters=check)
        for check in (True, False)
    )
    assert checked.intent.fingerprint == unchecked.intent.fingerprint


def test_wrong_parameters_start_nothing_and_are_explained() -> None:
    service = Service(declares=DAY)
    journal = MemoryJournal(service)
    with pytest.raises(AdfConfigurationError) as refused:
        begin(service, journal, parameters={"dya": "x"})
    assert str(refused.value) == (
        "The parameters do not fit pipeline 'Load' in factory 'adf' (resource group 'rg'), so nothing was started. 'dya' is not "
        "declared. Did you mean 'day'? 'day' has no value and no default. The published pipeline declares: day (String), rows "
        "(Int, has a default). Correct the parameters, or publish the pipeline. check_parameters=False sends the parameters as "
        "they are."
    )
    assert service.requested == 0
    assert Intent.from_json(journal.kept).phase is Phase.PREPARED


def test_check_can_be_switched_off() -> None:
    service = Service(declares=DAY)
    begin(service, parameters={"dya": "x"}, check_parameters=False)
    assert service.sent[-1] == {"dya": "x"}
    assert service.definitions_read == 0


@pytest.mark.parametrize(
    "unreadable",
    [
        AdfPermissionError("403", status=403),
        AdfNotFoundError("404", status=404, missing="pipeline"),
        AdfUnavailableError("503", status=503),
        AdfUnavailableError("no answer in 5 s"),
        {"day": "no declaration"},
    ],
)
def test_definition_that_cannot_be_read_never_prevents_a_start(
    unreadable: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(declares=unreadable)
    with caplog.at_level(logging.INFO):
        begun = begin(service, parameters={"dya": "x"})
    assert parameters_of(service, begun) == {"dya": "x"}
    assert [line for line in caplog.messages if "not checked" in line] == [
        line for line in caplog.messages if line.startswith("The parameters were not checked, because pipeline 'Load'")
    ]
    assert service.definitions_read == 1


def test_kept_definition_saves_a_request_for_a_minute() -> None:
    service = Service(declares=DAY)
    for _ in range(3):
        begin(service, parameters={"day": "x"})
    assert service.definitions_read == 1
    service.now += KEPT_SECONDS
    begin(service, parameters={"day": "x"})
    assert service.definitions_read == 2


def test_kept_definition_is_read_again_before_it_refuses() -> None:
    service = Service(declares=DAY)
    begin(service, parameters={"day": "x"})
    service.declares = {**DAY, "region": {"type": "String"}}
    begun = begin(service, parameters={"day": "x", "region": "north"})
    assert parameters_of(service, begun) == {"day": "x", "region": "north", "rows": "1"}
    assert service.definitions_read == 2


def test_kept_definition_that_can_no_longer_be_read_does_not_refuse() -> None:
    service = Service(declares=DAY)
    begin(service, parameters={"day": "x"})
    service.declares = AdfUnavailableError("503", status=503)
    assert parameters_of(service, begin(service, parameters={"dya": "x"})) == {"dya": "x"}


def test_definitions_of_two_pipelines_are_not_confused() -> None:
    service = Service(declares=DAY)
    begin(service, parameters={"day": "x"})
    service.declares = {}
    begin(service, pipeline_name="Other")
    assert service.definitions_read == 2


def test_correlation_parameter_is_sent_in_the_declared_spelling() -> None:
    service = Service(declares={"Start_Key": {"type": "String"}})
    begun = begin(service, correlation_parameter="start_key")
    assert service.sent[-1] == {"Start_Key": begun.intent.start_key}


def test_parameters_of_a_run_that_refers_to_another_are_not_checked() -> None:
    from airflow_adf_mi.adf.api.recovery import Recovery

    service = Service(declares=DAY)
    begin(service, recovery=Recovery(reference_pipeline_run_id="r0"))
    assert service.definitions_read == 0
