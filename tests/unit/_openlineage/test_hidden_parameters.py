"""Hidden parameters: others see only their names, and the task sees their values."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from airflow_adf_mi._openlineage import hidden_parameters
from airflow_adf_mi._openlineage.hidden_parameters import hide_parameters, parameters_of


class Task:
    """A task that is equal to all others, like the operators of a mapped task."""

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task)

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("given", "shown"),
    [({"a": 1, "b": {"c": "x"}}, {"a": "***", "b": "***"}), ('{"a": 1}', "***"), (None, None), ({}, {})],
)
def test_values_are_hidden_from_others_and_not_from_the_task(given: Any, shown: Any) -> None:
    task = Task(given)
    for _ in range(2):
        hide_parameters(task)
        assert task.parameters == shown
        assert parameters_of(task) is given


def test_values_of_a_new_rendering_are_used() -> None:
    task = Task({"a": 1})
    hide_parameters(task)
    task.parameters = {"a": 2}
    assert parameters_of(task) == {"a": 2}
    hide_parameters(task)
    assert (task.parameters, parameters_of(task)) == ({"a": "***"}, {"a": 2})


def test_each_of_several_equal_tasks_has_its_own_parameters() -> None:
    tasks = [Task({"n": n}) for n in range(3)]
    for task in tasks[1:]:
        hide_parameters(task)
    assert [parameters_of(task)["n"] for task in tasks] == [0, 1, 2]


def test_task_at_the_address_of_a_deleted_task_does_not_get_its_parameters() -> None:
    gone = Task({"n": 0})
    hide_parameters(gone)
    known = hidden_parameters._hidden[id(gone)]
    task = Task(known.shown)
    hidden_parameters._hidden[id(task)] = known
    assert parameters_of(task) == {"n": "***"}
    del gone
    gc.collect()
    assert known.task() is None
