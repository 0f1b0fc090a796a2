"""The trigger that waits for a place in the full queue of a pipeline. It starts nothing: a worker does, when it is its turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_adf_mi._airflow.stats import use_in_triggerer
from airflow_adf_mi._triggerer.cleared import fired_once
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.starting.pipeline_queue import queue_of
from airflow_adf_mi.triggers.wait import stored_arguments

IS_TURN = "is_turn"
"""Member of the event: whether the start may be sent. If not, the deadline has passed."""
REFUSED_AT = "refused_at"
"""Member of the event: the argument `refused_at`."""


@dataclass(kw_only=True, eq=False, repr=False)
class AdfPipelineQueueTrigger(BaseTrigger):
    """
    Waits until a start that a full queue refused may be sent again, and fires one event. Then a worker sends the start.

    Airflow stores the class path and these arguments with every deferred task. So arguments may be added, but never renamed
    or removed.

    :param settings: the connection, as :meth:`airflow_adf_mi.adf.config.settings.AdfSettings.to_json` stores it; no secret.
    :param resource_group_name: the factory's resource group.
    :param factory_name: the factory.
    :param pipeline_name: the pipeline.
    :param refused_at: epoch seconds at which this try's start was refused first. Starts go in this order.
    :param deadline: epoch seconds at which the wait ends.
    """

    settings: Mapping[str, Any]
    resource_group_name: str
    factory_name: str
    pipeline_name: str
    refused_at: float
    deadline: float

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # BaseTrigger is not annotated

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "airflow_adf_mi.triggers.AdfPipelineQueueTrigger", stored_arguments(self)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        use_in_triggerer()
        yield await fired_once(self, self._event)

    async def _event(self) -> TriggerEvent:
        adf = AdfSettings.from_json(self.settings)
        queue = queue_of(adf, adf.factory(self.resource_group_name, self.factory_name))
        is_turn = await queue.wait(self.pipeline_name, self._token, self.refused_at, until=self.deadline)
        return TriggerEvent({IS_TURN: is_turn, REFUSED_AT: self.refused_at})  # type: ignore[no-untyped-call]  # TriggerEvent is not annotated

    @property
    def _token(self) -> object:
        """Identifies the start, also in the trigger of the same task that follows another refusal."""
        ti: Any = self.task_instance
        return id(self) if ti is None else (ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.try_number)
