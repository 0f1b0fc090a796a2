"""Claims of mapped task instances: no two of them keep the same run, and `run_id` names no run of another instance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from airflow.sdk.execution_time.xcom import XCom

from airflow_adf_mi._worker.task_journal import TaskJournal


@dataclass
class MappedTask:
    """The XCom `run_id` of all instances of one mapped task."""

    run_ids: dict[int, str] = field(default_factory=dict)

    def journal(self, map_index: int) -> TaskJournal:
        ti = Instance(self.run_ids, map_index)
        return TaskJournal({"ti": ti, "task_state_store": {}})  # type: ignore[typeddict-item]  # all that a claim needs


@dataclass
class Instance:
    run_ids: dict[int, str]
    map_index: int
    dag_id: str = "dag"
    run_id: str = "run1"
    task_id: str = "it"

    def xcom_push(self, key: str, value: str) -> None:
        self.run_ids[self.map_index] = value

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int | None) -> Any:
        return list(self.run_ids.values()) if map_indexes is None else self.run_ids.get(map_indexes)


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> MappedTask:
    task = MappedTask()

    def delete(key: str, *, dag_id: str, run_id: str, task_id: str, map_index: int) -> None:
        assert (key, dag_id, run_id, task_id) == ("run_id", "dag", "run1", "it")
        del task.run_ids[map_index]

    monkeypatch.setattr(XCom, "delete", delete)
    return task


def test_first_claim_is_kept(mapped: MappedTask) -> None:
    assert mapped.journal(0).claim("r1") is True
    assert mapped.journal(1).claim("r2") is True
    assert mapped.run_ids == {0: "r1", 1: "r2"}


def test_second_claim_of_a_run_is_withdrawn(mapped: MappedTask) -> None:
    assert mapped.journal(0).claim("r1") is True
    assert mapped.journal(1).claim("r1") is False
    assert mapped.run_ids == {0: "r1"}, "a withdrawn claim leaves no run_id"


def test_claim_is_repeated_without_a_conflict_with_itself(mapped: MappedTask) -> None:
    journal = mapped.journal(0)
    assert (journal.claim("r1"), journal.claim("r1")) == (True, True)


def test_claimed_lists_the_runs_of_other_instances(mapped: MappedTask) -> None:
    mapped.run_ids |= {0: "r1", 1: "r2"}
    assert mapped.journal(1).claimed() == {"r1"}
    assert mapped.journal(-1).claimed() == frozenset(), "a task that is not mapped has no other instances"
