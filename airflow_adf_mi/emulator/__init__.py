"""A stand-in for Azure on the loopback interface: ARM with Data Factory over HTTPS, and the managed identity endpoints.

It serves to develop and test Dags without Azure: the real azure-identity and the real official client connect to it. It follows
the recordings of the services (docs/starting-once.md lists them). Behaviour that no source establishes is
a switch (`switches.Switches`).

This package holds the services' wire behaviour, a factory's runs driven by a clock, scripted outcomes and scripted faults.
Never here: an import of Airflow or of the rest of this package, which in turn never imports this.
"""

from __future__ import annotations

from airflow_adf_mi.emulator.client import EmulatorClient
from airflow_adf_mi.emulator.clock import FlowingClock, ManualClock
from airflow_adf_mi.emulator.gateway.faults import Fault
from airflow_adf_mi.emulator.identity.tokens import ManagedIdentity
from airflow_adf_mi.emulator.server import Emulator, FactorySpec
from airflow_adf_mi.emulator.switches import Switches

__all__ = [
    "Emulator",
    "EmulatorClient",
    "FactorySpec",
    "Fault",
    "FlowingClock",
    "ManagedIdentity",
    "ManualClock",
    "Switches",
]
