"""The least-privilege role, its assignment, and the commands and templates that create both. Pure.

This is the only list of permissions. Errors and `airflow-adf-mi role` print it, `airflow-adf-mi check` checks it, and
docs/get-started.md shows it.
"""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Mapping
from typing import Any, Literal

from airflow_adf_mi.adf.config.addresses import FactoryRef, SubscriptionRef

ROLE_NAME = "ADF Pipeline Runner"
BELOW = "Microsoft.DataFactory/factories/"
ACTIONS: Mapping[str, str] = {
    "read": "read the factory",
    "pipelines/read": "read pipelines",
    "pipelines/createrun/action": "start runs",
    "pipelineruns/read": "watch runs",
    "pipelineruns/cancel/action": "cancel runs",
    "querypipelineruns/action": "find lost starts",
    "pipelineruns/queryactivityruns/action": "explain failures",
}
"""From each action (below `BELOW`) to its purpose."""

Format = Literal["az", "bicep", "terraform"]
FORMATS: tuple[Format, ...] = ("az", "bicep", "terraform")
PRINCIPAL = "PRINCIPAL_ID"


def full_actions() -> list[str]:
    return [f"{BELOW}{action}" for action in ACTIONS]


def definition(factory: FactoryRef) -> dict[str, Any]:
    """The role's definition for the Azure CLI."""
    return {
        "Name": ROLE_NAME,
        "IsCustom": True,
        "Actions": full_actions(),
        "AssignableScopes": [f"/subscriptions/{factory.subscription_id}/resourceGroups/{factory.resource_group_name}"],
    }


def definition_command(factory: FactoryRef) -> str:
    return f"az role definition create --role-definition '{json.dumps(definition(factory))}'"


def assignment_command(scope: str, principal_id: str | None, principal_type: str = "ServicePrincipal") -> str:
    """The command that assigns the role, on `scope`, to a principal."""
    return (
        f'az role assignment create --role "{ROLE_NAME}" --assignee-object-id {principal_id or PRINCIPAL} '
        f"--assignee-principal-type {principal_type} --scope {shlex.quote(scope)}"
    )


def assignment_for(factory: FactoryRef, claims: Mapping[str, Any]) -> str:
    """The command that assigns the role, on `factory`, to the identity whose token has `claims`."""
    oid = claims.get("oid")
    # Only tokens of people, such as a developer's, have scopes.
    kind = "User" if "scp" in claims else "ServicePrincipal"
    return assignment_command(factory.resource_id, oid if isinstance(oid, str) else None, kind)


def how_to_grant(target: FactoryRef | SubscriptionRef, claims: Mapping[str, Any]) -> str:
    """What to do if an identity lacks a permission on `target`. Its token has `claims`."""
    if isinstance(target, SubscriptionRef):
        return (
            "The permission is needed for the whole subscription, because the connection names no factory. Set "
            "resource_group_name and factory_name in the connection; then the role on that factory is enough."
        )
    command = assignment_for(target, claims)
    return (
        f"Assign the role {ROLE_NAME!r} to it (`airflow-adf-mi role` prints the role's definition):\n  {command}\n"
        "A new assignment takes effect after a few minutes."
    )


def render(form: Format, factory: FactoryRef, principal_id: str | None = None) -> str:
    """The role and its assignment, as commands to run or as a template to deploy."""
    if form == "az":
        return f"{definition_command(factory)}\n{assignment_command(factory.resource_id, principal_id)}\n"
    return (_bicep if form == "bicep" else _terraform)(factory, principal_id or PRINCIPAL)


def _bicep(factory: FactoryRef, principal_id: str) -> str:
    actions = "\n".join(f"          '{action}'" for action in full_actions())
    head = textwrap.dedent(
        f"""\
        // az deployment group create --subscription {factory.subscription_id} \\
        //   --resource-group {factory.resource_group_name} --template-file role.bicep
        param principalId string = '{principal_id}'

        resource factory 'Microsoft.DataFactory/factories@2018-06-01' existing = {{
          name: '{factory.factory_name}'
        }}

        resource runner 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {{
          name: guid(resourceGroup().id, '{ROLE_NAME}')
          properties: {{
            roleName: '{ROLE_NAME}'
            type: 'CustomRole'
            assignableScopes: [
              resourceGroup().id
            ]
            permissions: [
              {{
                actions: [
        """
    )
    tail = textwrap.dedent(
        """\
                ]
              }
            ]
          }
        }

        resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
          name: guid(factory.id, principalId, runner.id)
          scope: factory
          properties: {
            roleDefinitionId: runner.id
            principalId: principalId
            principalType: 'ServicePrincipal'
          }
        }
        """
    )
    return f"{head}{actions}\n{tail}"


def _terraform(factory: FactoryRef, principal_id: str) -> str:
    actions = "\n".join(f'      "{action}",' for action in full_actions())
    group = f"/subscriptions/{factory.subscription_id}/resourceGroups/{factory.resource_group_name}"
    return textwrap.dedent(
        f"""\
        resource "azurerm_role_definition" "adf_pipeline_runner" {{
          name              = "{ROLE_NAME}"
          scope             = "{group}"
          assignable_scopes = ["{group}"]

          permissions {{
            actions = [
        @ACTIONS@
            ]
          }}
        }}

        resource "azurerm_role_assignment" "adf_pipeline_runner" {{
          scope              = "{factory.resource_id}"
          role_definition_id = azurerm_role_definition.adf_pipeline_runner.role_definition_resource_id
          principal_id       = "{principal_id}"
          principal_type     = "ServicePrincipal"
        }}
        """
    ).replace("@ACTIONS@", actions)
