"""The text that a template renders for a missing value is refused at once for each required argument."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk import DAG
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi._airflow.connection_cache import settings_of
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.config.validation import check_pipeline_name, check_run_id, optional_text, required_text
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.async_hooks import AdfAsyncHook
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.hooks import AdfHook
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.sensors import AdfPipelineRunSensor
from airflow_adf_mi.triggers import AdfPipelineRunTrigger
from tests.support.minors import needs_connections_outside_of_tasks

NOTHING: list[Any] = [None, "", "  ", "None", "null", "nan", " NaN ", "NaT", "<NA>", float("nan")]
WRONG = [value for value in NOTHING if str(value).strip() not in ("", "None")]
"""Values that are refused for optional arguments too, because nobody uses them to omit an argument."""
ADF = {"resource_group_name": "rg-test", "factory_name": "adf-test"}

every_value = pytest.mark.parametrize("value", NOTHING, ids=repr)


@pytest.fixture(autouse=True)
def _nothing_is_sent(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    stored = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(stored))
    yield
    assert emulator.books.requests == []
    assert emulator.books.tokens == []


def operator(value: Any, *, native: bool, **arguments: Any) -> AdfRunPipelineOperator:
    """A rendered operator. The template `{{ value }}` renders to `value`."""
    with DAG("d", render_template_as_native_obj=native):
        made = AdfRunPipelineOperator(
            **{"task_id": "it", "azure_data_factory_conn_id": "adf_here", "pipeline_name": "Load", **arguments}
        )
    made.render_template_fields({"value": value})  # type: ignore[typeddict-unknown-key]  # as much as the template uses
    return made


@every_value
@pytest.mark.parametrize("native", [True, False])
def test_operator_refuses_missing_values(value: Any, native: bool, settings: AdfSettings) -> None:
    required = operator(value, native=native, pipeline_name="{{ value }}")
    with pytest.raises(AdfConfigurationError, match=r"pipeline_name is .* renders for a missing value"):
        required.start_of(settings)
    recovery = operator(value, native=native, reference_pipeline_run_id="{{ value }}", is_recovery=True)
    with pytest.raises(AdfConfigurationError, match="reference_pipeline_run_id"):
        recovery.start_of(settings)
    for field in ADF:
        optional = operator(value, native=native, **{field: "{{ value }}"})
        if value in WRONG:
            with pytest.raises(AdfConfigurationError, match=f"{field} is .* renders for a missing value"):
                optional.start_of(settings)
        else:
            assert optional.start_of(settings).factory == settings.factory()


@every_value
def test_sensor_refuses_missing_values(value: Any) -> None:
    with DAG("d"):
        sensor = AdfPipelineRunSensor(task_id="it", run_id="{{ value }}", azure_data_factory_conn_id="adf_here")
    sensor.render_template_fields({"value": value})  # type: ignore[typeddict-unknown-key]  # as above
    with pytest.raises(AdfConfigurationError, match=r"run_id is .*check that this task pushed the XCom"):
        sensor.poke({})
    with DAG("d"), pytest.raises(AdfConfigurationError, match="run_id is "):
        AdfPipelineRunSensor(task_id="it", run_id=value)


HOOK: list[Callable[[Any, Any], Any]] = [
    lambda hook, value: hook.run_pipeline(value),
    lambda hook, value: hook.get_pipeline_run(value),
    lambda hook, value: hook.cancel_pipeline_run(value),
    lambda hook, value: hook.query_activity_runs(value),
]


@every_value
def test_hook_refuses_missing_values(value: Any) -> None:
    for call in HOOK:
        with pytest.raises(AdfConfigurationError, match="renders for a missing value"):
            call(AdfHook("adf_here"), value)


@needs_connections_outside_of_tasks
@every_value
async def test_asynchronous_hook_refuses_missing_values(value: Any) -> None:
    async with AdfAsyncHook("adf_here") as asynchronous:
        for call in HOOK:
            with pytest.raises(AdfConfigurationError, match="renders for a missing value"):
                await call(asynchronous, value)


@every_value
async def test_missing_connection_id_is_refused(value: Any) -> None:
    message = "azure_data_factory_conn_id is .* renders for a missing value"
    with pytest.raises(AdfConfigurationError, match=message):
        _ = AdfHook(value).settings
    assert AdfHook(value).test_connection()[0] is False
    with pytest.raises(AdfConfigurationError, match=message):
        await settings_of(value)
    with pytest.raises(AdfConfigurationError, match=message):
        await AdfAsyncHook(value).__aenter__()


@every_value
async def test_trigger_refuses_a_missing_run_id(value: Any, settings: AdfSettings) -> None:
    trigger = AdfPipelineRunTrigger(
        settings=settings.to_json(),
        resource_group_name="rg",
        factory_name="adf",
        run_id=value,
        check_interval=1,
        owns_run=True,
    )
    with pytest.raises(AdfConfigurationError, match="run_id is "):
        await trigger.report()


@pytest.mark.parametrize("value", [True, ["r1"], {"run_id": "r1"}, b"r1"], ids=repr)
def test_error_for_a_value_that_is_not_text_says_so(value: Any) -> None:
    for check in (check_run_id, check_pipeline_name, lambda v: optional_text("factory_name", v)):
        with pytest.raises(AdfConfigurationError, match="; it must be text"):
            check(value)


@given(st.text().filter(lambda text: text.strip() not in {str(value).strip() for value in NOTHING}))
def test_all_other_texts_are_kept(text: str) -> None:
    assert required_text("name", text) == optional_text("name", text) == text.strip()
