"""Which features this Airflow has. The only module that asks; the others ask this module.

A minor release of Airflow may lack a feature that this package uses. Each constant below names one such feature, and is found
by looking for the feature itself, not by comparing versions. `docs/versions.md` shows what each minor does without it.
"""

from __future__ import annotations

from importlib.util import find_spec

from airflow.sdk import Context
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseTrigger

TASK_STATE_STORE = "task_state_store" in Context.__annotations__
"""A store that outlives retries and clears. Without it, starts are found by start keys that every try can compute
(`adf/starting/start_key`)."""
TRIGGER_ON_KILL = hasattr(BaseTrigger, "on_kill")
"""Airflow calls `on_kill` of a trigger. The message of a cancel shows whether a user acted on the task. Without this feature, the
state of the task decides what a cancelled trigger does with its run."""
TEMPLATED_TRIGGERS = hasattr(BaseTrigger, "render_template_fields")
"""Airflow renders templates in a triggerer, which triggerer mode needs. Without it, a worker runs the task."""
ASYNC_XCOMS = hasattr(XCom, "aset") and hasattr(XCom, "aget_one")
"""A trigger can read and push XComs. Without it, a worker ends each task, because the task's result is an XCom."""
RETRY_POLICIES = find_spec("airflow.sdk.definitions.retry_policy") is not None
"""A task can have a retry policy."""
