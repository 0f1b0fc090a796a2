"""Arguments of wrong types in all public methods: an AdfConfigurationError before anything is sent."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_adf_mi import AdfConfigurationError, AdfError
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.async_hooks import AdfAsyncHook
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.exceptions import airflow_errors
from airflow_adf_mi.hooks import AdfHook
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.sensors import AdfPipelineRunSensor
from tests.support.minors import TaskDeferred, needs_connections_outside_of_tasks

NOW = datetime.now(UTC)
NUMBER, NAN, NAIVE = 7, float("nan"), datetime(2026, 1, 1)  # noqa: DTZ001
WRONG: list[Any] = [
    None,
    NUMBER,
    NAN,
    "",
    "a/../b",
    b"x",
    NAIVE,
    date(2026, 1, 1),
    timedelta(-1),
    object(),
    ["x"],
    {},
    {7: 7},
]
GOOD: dict[str, dict[str, Any]] = {
    "run_pipeline": {"pipeline_name": "Load"},
    "get_pipeline_run": {"run_id": "nope"},
    "cancel_pipeline_run": {"run_id": "nope"},
    "query_pipeline_runs": {"updated_after": NOW, "updated_before": NOW},
    "query_activity_runs": {"run_id": "nope"},
}
FORM = {"get_connection_form_widgets", "get_ui_field_behaviour"}
WITHOUT_ARGUMENTS = {"settings", "client", "get_conn", "provider_hook", "test_connection"} | FORM
"""Members of the hooks that have no arguments of their own."""
ACCEPTED: dict[str, list[Any]] = {
    # The text of a template that renders to nothing counts as not given. Numbers count as names.
    "resource_group_name": [None, "", NUMBER],
    "factory_name": [None, ""],
    "run_id": [NUMBER],
    "parameters": [None, {}],
    "updated_after of query_activity_runs": [None],
    "updated_before of query_activity_runs": [None],
}


def is_accepted(value: Any, method: str, argument: str) -> bool:
    return among(value, ACCEPTED.get(f"{argument} of {method}", ACCEPTED.get(argument, [])))


def among(value: Any, known: list[Any]) -> bool:
    return any(value is item or (type(value) is type(item) and value == item) for item in known)


def cases(kind: type, method: str) -> list[tuple[str, Any]]:
    names = [name for name in inspect.signature(getattr(kind, method)).parameters if name != "self"]
    return [(name, value) for name in names for value in WRONG]


@pytest.fixture
def connection(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    stored = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(stored))
    return "adf_here"


def sent(emulator: Emulator) -> int:
    return len(emulator.books.requests) + len(emulator.books.tokens)


def expect_refusal_unless_accepted(call: Callable[[], Any], what: str, *, accepted: bool, emulator: Emulator) -> None:
    before, error = sent(emulator), None
    try:
        call()
    except AdfError as e:
        # An accepted name may also be unknown to the service.
        error = e
    refused = isinstance(error, AdfConfigurationError)
    assert refused is not accepted, f"{what}: {error!r}"
    assert not refused or sent(emulator) == before, what


@pytest.mark.parametrize("kind", [AdfHook, AdfAsyncHook])
def test_every_method_of_the_hooks_is_tested(kind: type) -> None:
    public = {name for name, member in vars(kind).items() if not name.startswith("_") and not isinstance(member, str)}
    assert public - WITHOUT_ARGUMENTS == set(GOOD)


@pytest.mark.parametrize("method", GOOD)
def test_hook_refuses_wrong_arguments_before_anything_is_sent(method: str, connection: str, emulator: Emulator) -> None:
    hook = AdfHook(connection)
    for argument, value in cases(AdfHook, method):
        expect_refusal_unless_accepted(
            lambda given={**GOOD[method], argument: value}: getattr(hook, method)(**given),  # type: ignore[misc]  # bound now
            f"{method}({argument}={value!r})",
            accepted=is_accepted(value, method, argument),
            emulator=emulator,
        )


@needs_connections_outside_of_tasks
@pytest.mark.parametrize("method", GOOD)
def test_async_hook_refuses_wrong_arguments_before_anything_is_sent(
    method: str, connection: str, emulator: Emulator
) -> None:
    with asyncio.Runner() as runner:
        hook = runner.run(AdfAsyncHook(connection).__aenter__())
        for argument, value in cases(AdfAsyncHook, method):
            expect_refusal_unless_accepted(
                lambda given={**GOOD[method], argument: value}: runner.run(getattr(hook, method)(**given)),  # type: ignore[misc]  # bound now
                f"{method}({argument}={value!r})",
                accepted=is_accepted(value, method, argument),
                emulator=emulator,
            )
        runner.run(hook.__aexit__())


@pytest.mark.parametrize("conn_id", WRONG, ids=lambda value: "object" if type(value) is object else repr(value))
def test_hook_refuses_invalid_connection_ids(conn_id: Any) -> None:
    with pytest.raises(AdfConfigurationError):
        AdfHook(conn_id).get_pipeline_run("r1")


@needs_connections_outside_of_tasks
@pytest.mark.parametrize("conn_id", WRONG, ids=lambda value: "object" if type(value) is object else repr(value))
def test_asynchronous_hook_refuses_invalid_connection_ids(conn_id: Any) -> None:
    async def enter() -> None:
        async with AdfAsyncHook(conn_id):
            pass

    with pytest.raises(AdfConfigurationError):
        asyncio.run(enter())


@pytest.mark.parametrize("moment", [NAIVE, date(2026, 1, 1), "2026-01-01T00:00:00Z", 0, None])
def test_window_without_a_time_zone_is_refused(moment: Any, connection: str) -> None:
    hook = AdfHook(connection)
    with pytest.raises(AdfConfigurationError, match=r"updated_after is .* with a time zone"):
        hook.query_pipeline_runs(moment, NOW)
    with pytest.raises(AdfConfigurationError, match=r"updated_before is .* with a time zone"):
        hook.query_pipeline_runs(NOW, moment)
    if moment is not None:
        with pytest.raises(AdfConfigurationError, match="updated_after is"):
            hook.query_activity_runs("r1", updated_after=moment)


@pytest.mark.parametrize(
    "arguments",
    [
        {"reference_pipeline_run_id": 7},
        {"reference_pipeline_run_id": ""},
        {"reference_pipeline_run_id": "r1", "is_recovery": "yes"},
        {"reference_pipeline_run_id": "r1", "is_recovery": True, "start_from_failure": 1},
        {"reference_pipeline_run_id": "r1", "is_recovery": True, "start_activity_name": b"x"},
    ],
    ids=str,
)
def test_recovery_with_members_of_wrong_types_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="it must be"):
        Recovery(**arguments)


SECONDS = ("timeout", "check_interval", "start_settle", "supersede_timeout")
ACCEPTED_BY_TASKS: dict[str, list[Any]] = {
    **ACCEPTED,
    **{name: [NUMBER] for name in SECONDS},
    "outputs": [None, {}],
    # These are templates, which are rendered to text.
    "reference_pipeline_run_id": [None, "", NUMBER],
    "is_recovery": [None, ""],
    "start_activity_name": [None, ""],
    "start_from_failure": [None, ""],
    "correlation_parameter": [None, "a/../b"],
    "retry_from_failure": [None, ""],
    "succeeded_within": [None],
    "warn_after": [None, NUMBER],
}


def own_arguments(kind: type) -> list[str]:
    return [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "kwargs")]  # type: ignore[misc]  # of a class


@pytest.mark.parametrize("argument", own_arguments(AdfRunPipelineOperator))
def test_operator_refuses_wrong_arguments_before_anything_is_sent(
    argument: str, connection: str, settings: AdfSettings, emulator: Emulator
) -> None:
    def as_far_as_the_start(value: Any) -> None:
        given = {"pipeline_name": "Load", "azure_data_factory_conn_id": connection, argument: value}
        with DAG("d"):
            it = AdfRunPipelineOperator(task_id="t", **given)
        assert it.hook.settings == settings
        with airflow_errors():
            it.start_of(settings)

    for value in WRONG:
        expect_refusal_unless_accepted(
            lambda value=value: as_far_as_the_start(value),  # type: ignore[misc]  # bound now
            f"{argument}={value!r}",
            accepted=among(value, ACCEPTED_BY_TASKS.get(argument, [])),
            emulator=emulator,
        )


@pytest.mark.parametrize("argument", own_arguments(AdfPipelineRunSensor))
def test_sensor_refuses_wrong_arguments_before_anything_is_sent(
    argument: str, connection: str, emulator: Emulator
) -> None:
    class TaskInstance:
        def xcom_push(self, key: str, value: Any) -> None:
            """Keep nothing."""

    def until_deferred(value: Any) -> None:
        given = {"run_id": "r1", "azure_data_factory_conn_id": connection, "deferrable": True, argument: value}
        with DAG("d"):
            it = AdfPipelineRunSensor(task_id="t", **given)
        with contextlib.suppress(TaskDeferred):
            AdfPipelineRunSensor.execute.__wrapped__(it, {"ti": TaskInstance()})  # type: ignore[attr-defined]  # without Airflow's guard
            raise AssertionError("not deferred")

    for value in WRONG:
        expect_refusal_unless_accepted(
            lambda value=value: until_deferred(value),  # type: ignore[misc]  # bound now
            f"{argument}={value!r}",
            accepted=is_accepted(value, "sensor", argument),
            emulator=emulator,
        )
