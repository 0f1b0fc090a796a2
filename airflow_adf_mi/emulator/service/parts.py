"""The parts of an emulator, which everything that answers a request is handed."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_adf_mi.emulator.identity.machine import Machine
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.pipelines.script_names import check_names
from airflow_adf_mi.emulator.service.state import FactoryState


@dataclass(frozen=True, kw_only=True)
class Parts(Machine):
    """All of an emulator but its servers. The parts themselves change, but none is replaced by another."""

    factories: list[FactoryState]

    def set_script(self, script: Script) -> None:
        """Replace the script of all factories. Raises `ValueError`, with nothing changed, where it names what none has."""
        check_names(script, [factory.definition for factory in self.factories])
        for factory in self.factories:
            factory.script = script
