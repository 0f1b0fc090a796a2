"""The role that the identity needs, as the README tells to make it. Pure."""

from __future__ import annotations

import json

from airflow_adf_mi.adf.settings import FactoryRef, SubscriptionRef

ROLE = "ADF Pipeline Runner"
"""The README's role: what this package needs, and no more. No role that Azure brings along is as narrow."""
ACTIONS = (
    "read",
    "pipelines/read",
    "pipelines/createrun/action",
    "pipelineruns/read",
    "pipelineruns/cancel/action",
    "querypipelineruns/action",
    "pipelineruns/queryactivityruns/action",
)


def how_to_grant(target: FactoryRef | SubscriptionRef) -> str:
    """What to do for an identity that lacks a permission on `target`, with the README's commands."""
    if isinstance(target, SubscriptionRef):
        return (
            "It is asked of the whole subscription because the connection names no factory: set resource_group_name and "
            "factory_name in the connection, and the role on that factory is enough."
        )
    group = f"/subscriptions/{target.subscription_id}/resourceGroups/{target.resource_group_name}"
    role = {
        "Name": ROLE,
        "IsCustom": True,
        "Actions": [f"Microsoft.DataFactory/factories/{action}" for action in ACTIONS],
        "AssignableScopes": [group],
    }
    return (
        f"Grant it the role {ROLE!r} on the factory: az role assignment create --role {ROLE!r} --assignee-object-id "
        f"PRINCIPAL_ID --assignee-principal-type ServicePrincipal --scope {target.resource_id} . Where there is no such role "
        f"yet, make it first: az role definition create --role-definition '{json.dumps(role)}' ."
    )
