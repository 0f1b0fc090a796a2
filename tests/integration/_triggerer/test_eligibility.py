"""Where a task starts and ends, as Airflow's serialization sees it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jinja2
import pytest
from airflow.sdk import DAG, Asset, BaseOperator, Param, task, task_group
from airflow.serialization.serialized_objects import DagSerialization

from airflow_adf_mi import AdfPipelineRunSensor
from airflow_adf_mi._triggerer.eligibility import why_end_on_worker
from airflow_adf_mi.operators import AdfRunPipelineOperator
from tests.support.triggerer import BEGAN

DEFAULTS: dict[str, Any] = {"task_id": "it", "pipeline_name": "Load", "start_from_trigger": True}


def serialized(dag: DAG, task_id: str = "it") -> Any:
    return DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag)))).get_task(task_id)


SCHEMA: dict[str, Any] = {"type": "integer"}


def why(dag_arguments: dict[str, Any] | None = None, **arguments: Any) -> str | None:
    """Why a task with these arguments starts on a worker; None if it starts in the triggerer."""
    with DAG("dag", schedule=None, start_date=BEGAN, **(dag_arguments or {})) as dag:
        made = AdfRunPipelineOperator(**{**DEFAULTS, **arguments})
    reason = made.why_on_worker()
    it = serialized(dag)
    assert it.start_from_trigger is (reason is None)
    assert (it.start_trigger_args is None) is (reason is not None)
    return reason


def called(context: Any) -> None:
    raise AssertionError("never called")


def test_task_with_dates_starts_on_a_worker_and_its_dag_can_be_stored() -> None:
    answer = why(parameters={"day": datetime(2026, 1, 31, tzinfo=UTC), "step": timedelta(days=1)})
    assert answer == "the triggerer would render parameters differently from a worker, because it uses a datetime"


@pytest.mark.parametrize(
    "template",
    [
        "plain",
        "{{ ds }}",
        "{{ logical_date | ds_nodash }}",
        "{{ data_interval_start.isoformat() }}",
        "{{ partition_key }} {{ partition_date.isoformat() }}",
        "{{ macros.ds_add(ds, 5) }}",
        "{{ params.region }}",
        "{{ dag_run.conf.get('x', 'y') }}",
        "{{ var.value.x }}",
        "{{ task.task_id }}/{{ ti.try_number }}",
        "{{ ti.xcom_pull(task_ids='x', map_indexes=-1)['rows'].get('a') }}",
        "{% for region in params.regions %}{{ region }}{% endfor %}",
        '{"a": 1}',
    ],
)
def test_template_that_renders_alike_in_the_triggerer_starts_there(template: str) -> None:
    assert why(parameters={"n": [1, {"deep": template}]}) is None


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ ti.xcom_pull(task_ids='x') }}", "xcom_pull without map_indexes"),
        ("{{ ti.xcom_pull(task_ids='x', map_indexes=None) }}", "xcom_pull without map_indexes"),
        ("{{ task_instance.xcom_pull('x')['rows'] }}", "xcom_pull without map_indexes"),
        ("{% set pull = ti.xcom_pull %}{{ pull('x') }}", "xcom_pull without map_indexes"),
        ("{{ ti['xcom_pull']('x') }}", "a member of 'ti' other than dag_id, map_index, run_id, task_id, try_number"),
        ("{{ ti.get_dagrun_state() }}", "a member of 'ti' other than dag_id, map_index, run_id, task_id, try_number"),
        ("{{ task.pool }}", "a member of 'task' other than task_id"),
        ("{{ dag_run.run_type }}", "a member of 'dag_run' other than conf, dag_id,"),
        ("{{ mine(ds) }}", "the name 'mine'"),
        ("{{ task_state_store.get('x') }}", "the name 'task_state_store'"),
        ("{{ prev_start_date_success }}", "the name 'prev_start_date_success'"),
        ("{{ ds | mine }}", "cannot be read"),
        ("{% include 'x.sql' %}", "includes, imports or extends another template"),
        ("{{ ds ", "cannot be read"),
    ],
)
def test_template_that_only_a_worker_can_render_starts_on_a_worker(template: str, reason: str) -> None:
    answer = why(parameters={"day": template})
    assert answer is not None
    assert answer.startswith("the triggerer would render parameters differently")
    assert reason in answer


@pytest.mark.parametrize(
    "settings",
    [
        {"render_template_as_native_obj": True},
        {"user_defined_macros": {"mine": str}},
        {"user_defined_filters": {"mine": str}},
        {"template_undefined": jinja2.Undefined},
        {"jinja_environment_kwargs": {"keep_trailing_newline": True}},
    ],
    ids=lambda settings: str(*settings),
)
def test_jinja_settings_of_the_dag_count_only_for_templates(settings: dict[str, Any]) -> None:
    assert why(settings) is None
    assert "Jinja settings" in str(why(settings, parameters={"day": "{{ ds }}"}))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"pool": "small"}, "pool 'small'"),
        ({"queue": "of its own"}, "queue"),
        ({"executor": "of its own"}, "executor"),
        ({"executor_config": {"pod_override": "x"}}, "executor_config"),
        ({"run_as_user": "somebody"}, "run_as_user"),
        ({"params": {"n": Param(3, **SCHEMA)}}, "param 'n' of the task would not be checked"),
        ({"max_active_tis_per_dag": 1}, "max_active_tis"),
        ({"max_active_tis_per_dagrun": 1}, "max_active_tis"),
        ({"outlets": [Asset("a")]}, "outlets"),
        ({"on_success_callback": called}, "on_success_callback"),
        ({"on_execute_callback": called}, "on_execute_callback"),
        ({"pre_execute": called}, "pre_execute"),
        ({"post_execute": called}, "post_execute"),
        ({"multiple_outputs": True}, "multiple_outputs would not be stored"),
    ],
    ids=lambda value: str(*value) if isinstance(value, dict) else "",
)
def test_argument_that_airflow_ignores_in_the_triggerer_needs_a_worker(arguments: dict[str, Any], reason: str) -> None:
    assert reason in str(why(**arguments))


def test_task_starts_on_a_worker_if_triggerer_queues_are_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why() is None
    monkeypatch.setenv("AIRFLOW__TRIGGERER__QUEUES_ENABLED", "True")
    assert "no queue" in str(why())


@pytest.mark.parametrize("of", ["dag", "task"])
def test_param_without_a_default_needs_a_worker(of: str) -> None:
    needed = {"params": {"n": Param(**SCHEMA)}}
    answer = why(needed) if of == "dag" else why(**needed)
    assert answer == "param 'n' has no default"
    assert why({"params": {"n": Param(3, **SCHEMA)}}, params={"m": 4}) is None


def test_native_objects_of_the_task_count_only_for_templates() -> None:
    assert why(render_template_as_native_obj=True) is None
    assert "Jinja settings" in str(why(render_template_as_native_obj=True, parameters={"day": "{{ ds }}"}))


def test_arguments_that_work_in_the_triggerer_need_no_worker() -> None:
    answer = why(
        retries=3,
        on_failure_callback=called,
        on_retry_callback=called,
        execution_timeout=timedelta(hours=1),
        inlets=[Asset("a")],
        outputs={"rows": "Copy.rowsCopied"},
    )
    assert answer is None


def test_result_of_another_task_as_an_argument_needs_a_worker() -> None:
    with DAG("dag", schedule=None, start_date=BEGAN) as dag:

        @task
        def before() -> str:
            return "x"

        it = AdfRunPipelineOperator(**DEFAULTS, parameters={"day": before()})
    assert "the result of another task" in str(it.why_on_worker())
    assert not serialized(dag).start_from_trigger


def test_mapped_tasks_start_on_workers() -> None:
    with DAG("dag", schedule=None, start_date=BEGAN) as dag:
        AdfRunPipelineOperator.partial(**DEFAULTS).expand(parameters=[{"a": 1}, {"a": 2}])

        @task_group
        def group(n: int) -> None:
            AdfRunPipelineOperator(**{**DEFAULTS, "task_id": "inside"})

        group.expand(n=[1, 2])
    # With start_from_trigger, Airflow would make a context in the triggerer for each of their triggers.
    assert not serialized(dag).start_from_trigger
    inside = serialized(dag, "group.inside")
    assert (inside.start_from_trigger, inside.start_trigger_args) == (False, None)
    assert dag.get_task("group.inside").why_on_worker() == "it is mapped"  # type: ignore[union-attr]  # one of ours


def test_mapped_tasks_start_on_workers_despite_default_args() -> None:
    with DAG("dag", schedule=None, start_date=BEGAN, default_args={"start_from_trigger": True}) as dag:
        AdfRunPipelineOperator.partial(task_id="it", pipeline_name="Load").expand(parameters=[{"a": 1}])
        AdfRunPipelineOperator(task_id="single", pipeline_name="Load")
    assert [serialized(dag, name).start_from_trigger for name in ("it", "single")] == [False, True]


def test_task_that_others_are_mapped_over_ends_on_a_worker() -> None:
    with DAG("dag", schedule=None, start_date=BEGAN):
        it = AdfRunPipelineOperator(**DEFAULTS)
        AdfRunPipelineOperator.partial(task_id="after", pipeline_name="Load").expand(parameters=it.output)
    assert it.why_on_worker() == "a task is mapped over its result"
    assert why_end_on_worker(it) == "a task is mapped over its result"


class Mine(AdfRunPipelineOperator):
    def execute(self, context: Any) -> dict[str, Any]:
        return super().execute(context)


class Named(AdfRunPipelineOperator):
    """Overrides no method."""

    ui_color = "#123456"


def test_subclass_with_its_own_execute_starts_on_a_worker() -> None:
    with DAG("dag", schedule=None, start_date=BEGAN):
        assert Mine(**DEFAULTS).why_on_worker() == "Mine overrides execute, which only workers call"
        assert Named(**{**DEFAULTS, "task_id": "other"}).why_on_worker() is None


def test_tasks_start_on_workers_by_default() -> None:
    assert AdfRunPipelineOperator.start_from_trigger is False
    assert AdfRunPipelineOperator.start_trigger_args is None
    with DAG("dag", schedule=None, start_date=BEGAN) as dag:
        AdfRunPipelineOperator(task_id="it", pipeline_name="Load")
    assert not serialized(dag).start_from_trigger


def test_value_that_is_not_json_is_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(ValueError, match="'day'"), DAG("dag"):
        AdfRunPipelineOperator(**DEFAULTS, parameters={"day": datetime.now})


def test_sensor_ends_in_the_triggerer_unless_something_needs_a_worker() -> None:
    with DAG("dag", schedule=None, start_date=BEGAN):
        plain: BaseOperator = AdfPipelineRunSensor(task_id="it", run_id="r")
        with_outlets: BaseOperator = AdfPipelineRunSensor(task_id="other", run_id="r", outlets=[Asset("a")])
    assert why_end_on_worker(plain) is None
    assert why_end_on_worker(with_outlets) == "outlets would get no event"
