"""The emulated machine, with the members that its identity endpoints use."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_adf_mi.emulator.clock import Clock
from airflow_adf_mi.emulator.gateway.books import Books
from airflow_adf_mi.emulator.gateway.faults import Faults
from airflow_adf_mi.emulator.gateway.limits import Limits
from airflow_adf_mi.emulator.identity.tokens import ManagedIdentity, Tokens


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The parts that the identity endpoints share with the rest of the emulator."""

    clock: Clock
    books: Books
    faults: Faults
    limits: Limits
    tokens: Tokens
    identities: list[ManagedIdentity]
