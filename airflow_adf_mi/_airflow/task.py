"""Protocols of the operator and the trigger, so that the rest of the package need not import them.

Airflow renders templates in the attributes of the operator or trigger itself. So the arguments cannot be one dataclass that
both hold.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.triggers.base import BaseTrigger

    from airflow_adf_mi.adf.config.policies import OnAmbiguousStart, OnLiveRun, OnSucceededRun, WarnAfter
    from airflow_adf_mi.adf.config.settings import AdfSettings
    from airflow_adf_mi.adf.reporting.activity_log import ActivityLogMode
    from airflow_adf_mi.adf.starting.start import Start


class AirflowTask(Protocol):
    """Members of every Airflow operator that decide whether a task may end in the triggerer."""

    outlets: list[Any]
    on_success_callback: Any
    multiple_outputs: bool
    returns_dag_result: bool
    _pre_execute_hook: Any
    _post_execute_hook: Any

    def iter_mapped_dependants(self) -> Iterator[Any]: ...


class StartArguments(Protocol):
    """The arguments of a start, which the operator and the trigger of triggerer mode both have. Templates are rendered."""

    pipeline_name: Any
    resource_group_name: Any
    factory_name: Any
    reference_pipeline_run_id: Any
    is_recovery: Any
    start_activity_name: Any
    start_from_failure: Any
    correlation_parameter: str | None
    start_settle: float
    on_ambiguous_start: OnAmbiguousStart
    check_parameters: bool
    retry_from_failure: Any
    on_live_run: OnLiveRun
    on_succeeded_run: OnSucceededRun
    succeeded_within: float | None


class PipelineTask(AirflowTask, StartArguments, Protocol):
    """The members of the operator that its tries and its lineage use."""

    task_id: str
    retries: int | None
    retry_delay: Any
    execution_timeout: timedelta | None
    do_xcom_push: bool
    pool: str
    retry_policy: Any

    azure_data_factory_conn_id: str
    outputs: Any
    wait_for_termination: bool
    timeout: float
    check_interval: float
    deferrable: bool
    cancel_on_kill: bool
    cancel_on_timeout: bool
    durable: bool
    supersede_timeout: float
    activity_log: ActivityLogMode
    warn_after: WarnAfter
    run_id: str | None
    """The run's id, as soon as a try knows it."""
    is_killed: bool

    @property
    def in_dag(self) -> Any: ...

    @property
    def log(self) -> Any: ...

    @property
    def start_from_trigger(self) -> Any: ...

    def start_of(self, settings: AdfSettings) -> Start: ...

    def defer(
        self,
        *,
        trigger: BaseTrigger,
        method_name: str,
        kwargs: dict[str, Any] | None = None,
        timeout: timedelta,
    ) -> NoReturn: ...
