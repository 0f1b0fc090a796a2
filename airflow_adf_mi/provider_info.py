"""What Airflow reads of this package through the entry point `apache_airflow_provider`: connection type, link, classes.

The connection form is data in this module, so that neither the UI nor the API server imports the hook to show the form.
"""

from __future__ import annotations

from typing import Any


def _text(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"]}}


def _choice(label: str, description: str, values: list[str]) -> dict[str, Any]:
    return {
        "label": label,
        "description": description,
        "schema": {"type": "string", "enum": values, "default": values[0]},
    }


def get_provider_info() -> dict[str, Any]:
    """The provider's description, in Airflow's schema for it."""
    return {
        "package-name": "airflow-adf-mi",
        "name": "Azure Data Factory with managed identity",
        "description": "Run Azure Data Factory pipelines as steps of Dags, with managed identity and no secret.",
        "hooks": [
            {
                "integration-name": "Azure Data Factory (managed identity)",
                "python-modules": ["airflow_adf_mi.hooks", "airflow_adf_mi.async_hooks"],
            }
        ],
        "operators": [
            {
                "integration-name": "Azure Data Factory (managed identity)",
                "python-modules": ["airflow_adf_mi.operators"],
            }
        ],
        "sensors": [
            {
                "integration-name": "Azure Data Factory (managed identity)",
                "python-modules": ["airflow_adf_mi.sensors"],
            }
        ],
        "triggers": [
            {
                "integration-name": "Azure Data Factory (managed identity)",
                "python-modules": ["airflow_adf_mi.triggers"],
            }
        ],
        "integrations": [
            {
                "integration-name": "Azure Data Factory (managed identity)",
                "external-doc-url": "https://learn.microsoft.com/azure/data-factory/",
                "tags": ["azure"],
            }
        ],
        "extra-links": ["airflow_adf_mi.links.AdfPipelineRunLink"],
        "connection-types": [
            {
                "connection-type": "azure_data_factory_mi",
                "hook-class-name": "airflow_adf_mi.hooks.AdfHook",
                "hook-name": "Azure Data Factory (managed identity)",
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "schema", "login", "password", "port", "extra"],
                    "relabeling": {},
                    "placeholders": {},
                },
                "conn-fields": {
                    "subscriptionId": {
                        "label": "Subscription ID",
                        "description": "Id of the subscription that holds the data factory.",
                        "schema": {"type": "string", "minLength": 36, "maxLength": 36},
                    },
                    "resource_group_name": _text("Resource group", "A task may name another one."),
                    "factory_name": _text("Data factory", "A task may name another one."),
                    "identity": _choice(
                        "Identity",
                        "managed_identity: the identity of the machine, App Service or Arc server that Airflow runs on. "
                        "workload_identity: the identity of the Kubernetes service account (AKS). "
                        "developer: the account that is signed in to the Azure CLI, PowerShell or azd; for laptops.",
                        ["managed_identity", "workload_identity", "developer"],
                    ),
                    "managed_identity_client_id": _text(
                        "Identity: client ID",
                        "For a user-assigned identity. For the system-assigned one, leave this field and the next two empty.",
                    ),
                    "managed_identity_object_id": _text("Identity: object ID", "Instead of the client ID."),
                    "managed_identity_resource_id": _text("Identity: resource ID", "Instead of the client ID."),
                    "workload_identity_tenant_id": _text(
                        "Workload identity: tenant ID",
                        "Only if it differs from AZURE_TENANT_ID of the pod.",
                    ),
                    "cloud_environment": _choice(
                        "Cloud",
                        "Azure's cloud.",
                        ["AzurePublicCloud", "AzureUSGovernment", "AzureChinaCloud"],
                    ),
                    "arm_endpoint": _text(
                        "ARM endpoint", "https:// address of a private endpoint, instead of the cloud's."
                    ),
                    "arm_scope": _text("ARM scope", "Token scope for that endpoint, instead of the cloud's."),
                    "ca_bundle": _text(
                        "CA bundle",
                        "Path of a PEM file of certificate authorities to trust, on workers and triggerers.",
                    ),
                },
            }
        ],
    }


def connection_type() -> dict[str, Any]:
    """The description of our connection type."""
    found: dict[str, Any] = get_provider_info()["connection-types"][0]
    return found
