"""Logs of real tasks, without the parts that differ from run to run."""

from __future__ import annotations

from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED
from tests.airflow.conftest import WITHOUT, World
from tests.support.explained import GOLDEN, assert_no_secret, general


def log_of(world: World, name: str, timeout: float = 300) -> str:
    """The log of a case's task, once it has failed, without the parts that differ from run to run."""
    assert world.airflow.wait_for_task(*world.explained[name], "it", timeout=timeout) == "failed"
    text = general(world.airflow.log(*world.explained[name], "it"), [world.emulator])
    assert_no_secret(text)
    for identity in WITHOUT.values():
        text = text.replace(f"managed identity with client id {identity.client_id}", "system-assigned managed identity")
        text = text.replace(identity.client_id, SYSTEM_ASSIGNED.client_id)
        text = text.replace(identity.object_id, SYSTEM_ASSIGNED.object_id)
    return text


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.txt").read_text().strip()
