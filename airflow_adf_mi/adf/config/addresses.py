"""Addresses of a subscription, a factory and a run, as frozen values. A name that Azure cannot have raises an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self
from urllib.parse import quote

from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.stored_forms import known_members

# Rules for names: of factories from the published specification (Factories_Get), of resource groups from ARM.
_FACTORY_NAME = re.compile(r"(?=.{3,63}$)[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*")
_RESOURCE_GROUP_NAME = re.compile(r"[-\w().]{0,89}[-\w()]")


@dataclass(frozen=True, kw_only=True)
class FactoryRef:
    """The full address of a data factory."""

    subscription_id: str
    resource_group_name: str
    factory_name: str

    def __post_init__(self) -> None:
        if not _RESOURCE_GROUP_NAME.fullmatch(self.resource_group_name):
            raise AdfConfigurationError(
                f"resource_group_name is {self.resource_group_name!r}, which is not a name that Azure allows: "
                "1 to 90 letters, digits, '-', '_', '(', ')' and '.', not ending with '.'."
            )
        if not _FACTORY_NAME.fullmatch(self.factory_name):
            raise AdfConfigurationError(
                f"factory_name is {self.factory_name!r}, which is not a name that Data Factory allows: 3 to 63 letters "
                "and digits, in groups joined by single '-'."
            )

    @property
    def resource_id(self) -> str:
        """The factory's ARM id, which is also the scope of a role assignment."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group_name}"
            f"/providers/Microsoft.DataFactory/factories/{self.factory_name}"
        )

    def __str__(self) -> str:
        return f"factory {self.factory_name!r} (resource group {self.resource_group_name!r})"


@dataclass(frozen=True)
class SubscriptionRef:
    """A subscription. It is the target of the one request that concerns no factory: the list of factories."""

    subscription_id: str

    @property
    def resource_id(self) -> str:
        return f"/subscriptions/{self.subscription_id}"

    def __str__(self) -> str:
        return f"subscription {self.subscription_id}"


@dataclass(frozen=True, kw_only=True)
class RunAddress:
    """A run, its factory and its page. Texts about a run begin with the run, and end with its page."""

    run_id: str
    factory: FactoryRef
    studio_url: str
    pipeline_name: str | None = None

    def __str__(self) -> str:
        pipeline = f" of pipeline {self.pipeline_name!r}" if self.pipeline_name else ""
        return f"Run {self.run_id}{pipeline} in {self.factory}"

    def page_of(self, run_id: str) -> str:
        """The page of another run of the same factory."""
        return self.studio_url.replace(quote(self.run_id, safe=""), quote(run_id, safe=""), 1)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The address that an earlier or later version stored. Unknown members are ignored."""
        factory = FactoryRef(**known_members(FactoryRef, stored["factory"]))
        return cls(**{**known_members(cls, stored), "factory": factory})
