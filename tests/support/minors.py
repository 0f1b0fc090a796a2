"""What differs between the minors of Airflow for tests: names with two homes, and marks for tests of a feature."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

from airflow_adf_mi._airflow import features
from airflow_adf_mi.adf.api.official_client import has_streams
from airflow_adf_mi.adf.auth.azure_credentials import pins_certificates

try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralTimeout,
        TaskDeferred,
    )
except ImportError:  # Airflow 3.1
    from airflow.exceptions import (  # type: ignore[attr-defined,no-redef]  # Airflow 3.3 does not list them there
        AirflowException,
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralTimeout,
        TaskDeferred,
    )

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "TaskDeferralTimeout",
    "TaskDeferred",
    "needs",
    "needs_connections_outside_of_tasks",
    "needs_new_identity",
    "needs_version_10",
    "wire_form",
]


needs_version_10 = pytest.mark.skipif(
    not has_streams(),
    reason="azure-mgmt-datafactory 9 reads these answers itself, by stricter rules",
)


needs_new_identity = pytest.mark.skipif(
    not pins_certificates(),
    reason="an older azure-identity neither pins certificates, nor names identities of Arc, nor renews a token after a challenge",
)


needs_connections_outside_of_tasks = pytest.mark.skipif(
    version("apache-airflow") == "3.1.0",
    reason="Airflow 3.1.0 reads connections asynchronously in its own processes only",
)


def wire_form(model: Any) -> Any:
    """A model of the official client, of version 9 or 10, as the service's JSON."""
    return model.serialize(keep_readonly=True) if hasattr(model, "serialize") else model


def needs(feature: str) -> pytest.MarkDecorator:
    """A mark for tests of a feature, by its name in `features`. They are skipped on an Airflow that lacks it."""
    return pytest.mark.skipif(not getattr(features, feature), reason=f"this Airflow lacks {feature}")
