"""The values for Kubernetes on the page "Distributed Airflow" can be read. Nobody has run them."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from airflow_adf_mi.adf.connection_fields import settings_from_connection
from tests.conftest import ROOT

IDENTITY = "azure.workload.identity"


def values() -> dict[str, Any]:
    (block,) = re.findall(
        r"^```yaml\n(.*?)^```", (ROOT / "docs" / "distributed.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return dict(yaml.safe_load(block))


def test_both_components_that_need_the_identity_get_it() -> None:
    for component in ("workers", "triggerer"):
        found = values()[component]
        # Kubernetes takes texts only as labels.
        assert found["labels"] == {f"{IDENTITY}/use": "true"}
        assert list(found["serviceAccount"]["annotations"]) == [f"{IDENTITY}/client-id"]


def test_connection_of_the_values_is_accepted() -> None:
    (variable,) = values()["env"]
    connection = json.loads(variable["value"].replace("...", "11111111-1111-4111-8111-111111111111"))
    settings = settings_from_connection(
        conn_id=variable["name"].removeprefix("AIRFLOW_CONN_").lower(),
        conn_type=connection["conn_type"],
        extra=json.dumps(connection["extra"]),
    )
    assert settings.factory().factory_name == "FACTORY"
    assert settings.identity.kind == "workload_identity"
