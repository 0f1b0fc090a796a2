"""The parts of an emulator, for all code that answers requests."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_adf_mi.emulator.identity.machine import Machine
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.pipelines.script_names import check_names
from airflow_adf_mi.emulator.service.state import FactoryState


@dataclass(frozen=True, kw_only=True)
class Parts(Machine):
    """All parts of an emulator except its servers. A part's state changes, but no part is ever replaced."""

    factories: list[FactoryState]

    def set_script(self, script: Script) -> None:
        """Replace the script of all factories. Raises `ValueError`, and changes nothing, for a name that no factory has."""
        check_names(script, [factory.definition for factory in self.factories])
        for factory in self.factories:
            factory.script = script
