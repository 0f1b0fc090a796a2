"""What the benchmarks share: the emulator's factory, and an environment in which both packages find the emulator."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.pipelines.definitions import FactoryDefinition, PipelineDefinition

HERE = Path(__file__).parent
COPY = {"name": "Copy", "type": "Copy", "dependsOn": [], "typeProperties": {}}
DEFINITION = FactoryDefinition(pipelines={"Load": PipelineDefinition("Load", {"activities": [COPY]})})
SPEC = FactorySpec(source=DEFINITION, factory_name="adf-bench")


def environment_for(emulator: Emulator) -> dict[str, str]:
    """Variables with a connection for each package, and with an address for the provider's clients."""
    extra: dict[str, Any] = emulator.connection_extra()
    theirs = {"subscriptionId": extra["subscriptionId"]}
    environment = {
        **os.environ,
        **emulator.identity_environment("imds"),
        "AIRFLOW_CONN_ADF_OURS": json.dumps({"conn_type": "azure_data_factory_mi", "extra": extra}),
        "AIRFLOW_CONN_ADF_BENCH": json.dumps({"conn_type": "azure_data_factory", "extra": theirs}),
        "ADF_BENCH_CLIENT": json.dumps(
            {
                "base_url": extra["arm_endpoint"],
                "credential_scopes": [extra["arm_scope"]],
                "connection_verify": extra["ca_bundle"],
            }
        ),
        "PYTHONPATH": os.pathsep.join([str(HERE / "provider_here"), str(HERE.parent)]),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment
