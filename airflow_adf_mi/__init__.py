"""Run Azure Data Factory pipelines as steps of Airflow Dags, with managed identity and no secret anywhere.

Users may import the names in `__all__` from this package, and nothing else. `emulator` is a stand-in for Azure, with
public names of its own. Packages that begin with an underscore hold the parts that work inside Airflow, and `adf` holds the parts
that need no Airflow.

Importing this package, or its operators, loads no Azure package. Each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_adf_mi.adf.api.recovery import Recovery
    from airflow_adf_mi.adf.auth.credential import forget_credentials
    from airflow_adf_mi.alerts import AdfNotifier, FailureText, failure_text
    from airflow_adf_mi.async_hooks import AdfAsyncHook
    from airflow_adf_mi.exceptions import (
        AdfAmbiguousStartError,
        AdfAuthenticationError,
        AdfCertificateError,
        AdfConfigurationError,
        AdfError,
        AdfNotFoundError,
        AdfPermissionError,
        AdfQueueFullError,
        AdfRequestError,
        AdfRunCancelled,
        AdfRunError,
        AdfRunFailed,
        AdfRunTimedOut,
        AdfTaskKilled,
        AdfThrottledError,
        AdfUnavailableError,
    )
    from airflow_adf_mi.hooks import AdfHook
    from airflow_adf_mi.links import AdfPipelineRunLink
    from airflow_adf_mi.operators import AdfRunPipelineOperator
    from airflow_adf_mi.retry import AdfRetryPolicy
    from airflow_adf_mi.sensors import AdfPipelineRunSensor
    from airflow_adf_mi.triggers import AdfPipelineRunTrigger
    from airflow_adf_mi.windows import partition_parameters, window_parameters

__version__ = "0.1.0"


def _check_airflow() -> None:
    """Raise an ImportError if Airflow is too old, before a name that it lacks raises a less useful one."""
    try:
        found = version("apache-airflow")
    except PackageNotFoundError:
        return  # The emulator works without Airflow, and an image may have only Airflow's parts.
    if tuple(map(int, found.split(".")[:2])) < (3, 1):
        raise ImportError(f"airflow-adf-mi needs Airflow 3.1 or later, and this is Airflow {found}.")


_check_airflow()

__all__ = [
    "AdfAmbiguousStartError",
    "AdfAsyncHook",
    "AdfAuthenticationError",
    "AdfCertificateError",
    "AdfConfigurationError",
    "AdfError",
    "AdfHook",
    "AdfNotFoundError",
    "AdfNotifier",
    "AdfPermissionError",
    "AdfPipelineRunLink",
    "AdfPipelineRunSensor",
    "AdfPipelineRunTrigger",
    "AdfQueueFullError",
    "AdfRequestError",
    "AdfRetryPolicy",
    "AdfRunCancelled",
    "AdfRunError",
    "AdfRunFailed",
    "AdfRunPipelineOperator",
    "AdfRunTimedOut",
    "AdfTaskKilled",
    "AdfThrottledError",
    "AdfUnavailableError",
    "FailureText",
    "Recovery",
    "__version__",
    "failure_text",
    "forget_credentials",
    "partition_parameters",
    "window_parameters",
]

_MODULES = {
    "AdfAmbiguousStartError": "exceptions",
    "AdfAsyncHook": "async_hooks",
    "AdfAuthenticationError": "exceptions",
    "AdfCertificateError": "exceptions",
    "AdfConfigurationError": "exceptions",
    "AdfError": "exceptions",
    "AdfHook": "hooks",
    "AdfNotFoundError": "exceptions",
    "AdfNotifier": "alerts",
    "AdfPermissionError": "exceptions",
    "AdfPipelineRunLink": "links",
    "AdfPipelineRunSensor": "sensors",
    "AdfPipelineRunTrigger": "triggers",
    "AdfQueueFullError": "exceptions",
    "AdfRequestError": "exceptions",
    "AdfRetryPolicy": "retry",
    "AdfRunCancelled": "exceptions",
    "AdfRunError": "exceptions",
    "AdfRunFailed": "exceptions",
    "AdfRunPipelineOperator": "operators",
    "AdfRunTimedOut": "exceptions",
    "AdfTaskKilled": "exceptions",
    "AdfThrottledError": "exceptions",
    "AdfUnavailableError": "exceptions",
    "FailureText": "alerts",
    "Recovery": "adf.api.recovery",
    "failure_text": "alerts",
    "forget_credentials": "adf.auth.credential",
    "partition_parameters": "windows",
    "window_parameters": "windows",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
