"""`airflow-adf-mi`: checks a connection without starting anything, and prints the role that it needs."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_adf_mi.adf.checkup import Finding, Holds, all_well, check, table
from airflow_adf_mi.adf.connection import CONN_TYPE, DEFAULT_CONN_ID, FIELDS, settings_from_connection
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.role import FORMATS, render
from airflow_adf_mi.adf.settings import AdfSettings, FactoryRef

_FLAGS: Mapping[str, str] = {
    "subscriptionId": "subscription",
    "resource_group_name": "resource-group",
    "factory_name": "factory",
    "managed_identity_client_id": "client-id",
    "managed_identity_object_id": "object-id",
    "managed_identity_resource_id": "resource-id",
    "workload_identity_tenant_id": "tenant-id",
    "cloud_environment": "cloud",
}
"""Short names of connection fields; the others are named as they are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status: 0 all well, 1 not so, 2 not understood."""
    given = _parser().parse_args(arguments)
    try:
        return _role(given) if given.command == "role" else _check(given)
    except AdfError as e:
        print(e, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="airflow-adf-mi", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checks = commands.add_parser(
        "check",
        help="see whether a connection works, and name what it lacks; starts nothing",
        description="Walks from the token to each permission without starting anything. Without flags, by a connection "
        "of Airflow; with --subscription, by the flags alone, without Airflow's database.",
    )
    checks.add_argument("conn_id", nargs="?", help=f"an Airflow connection; by default {DEFAULT_CONN_ID}")
    checks.add_argument("--pipeline", help="also see whether this pipeline is there")
    checks.add_argument("--json", action="store_true", help="print JSON")
    for field in FIELDS:
        checks.add_argument(f"--{_flag(field)}", dest=field, help=f"the connection's {field}, or instead of it")
    role = commands.add_parser("role", help="print the role that an identity needs, and its assignment")
    role.add_argument("--format", choices=FORMATS, default="az")
    role.add_argument("--subscription", required=True)
    role.add_argument("--resource-group", required=True)
    role.add_argument("--factory", required=True)
    role.add_argument("--principal-id", help="object id of the identity's service principal")
    return parser


def _flag(field: str) -> str:
    return _FLAGS.get(field, field.replace("_", "-"))


def _role(given: argparse.Namespace) -> int:
    factory = FactoryRef(
        subscription_id=given.subscription,
        resource_group_name=given.resource_group,
        factory_name=given.factory,
    )
    print(render(given.format, factory, given.principal_id), end="")
    return 0


def _check(given: argparse.Namespace) -> int:
    findings = _findings(given)
    well = all_well(findings)
    if given.json:
        print(json.dumps({"well": well, "steps": [finding.to_json() for finding in findings]}, indent=2))
    else:
        print(table(findings))
        print(f"\n{'All well. Nothing was started.' if well else 'Not all is well. Nothing was started.'}")
    return 0 if well else 1


def _findings(given: argparse.Namespace) -> list[Finding]:
    flags = {field: value for field in FIELDS if (value := getattr(given, field))}
    try:
        settings, named = _settings(given.conn_id, flags)
        factory = None
        if settings.resource_group_name and settings.factory_name:
            factory = settings.factory()
    except AdfError as e:
        return [Finding(step="connection", holds=Holds.NO, detail=str(e))]
    connection = Finding(step="connection", holds=Holds.YES, detail=f"{named}, {settings.arm_endpoint}")
    return [connection, *check(settings, factory, given.pipeline)]


def _settings(conn_id: str | None, flags: Mapping[str, str]) -> tuple[AdfSettings, str]:
    """The settings, and where they are from."""
    if "subscriptionId" in flags and conn_id is None:
        extra = json.dumps(flags)
        return settings_from_connection(conn_id="of flags", conn_type=CONN_TYPE, extra=extra), "of flags"
    name = conn_id or DEFAULT_CONN_ID
    connection = _connection(name)
    extra = json.dumps({**connection.extra_dejson, **flags}) if flags else connection.extra
    settings = settings_from_connection(
        conn_id=name,
        conn_type=connection.conn_type or "",
        extra=extra,
        login=connection.login,
        password=connection.password,
        host=connection.host,
    )
    return settings, name


def _connection(conn_id: str) -> Any:
    """A connection as Airflow's own commands see it: of a secrets backend, a variable of the environment, or the database."""
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    # Airflow logs to stdout, where our table is; importing it takes seconds, which flags do without.
    with contextlib.redirect_stdout(sys.stderr):
        from airflow.models.connection import Connection
        from airflow.sdk.exceptions import AirflowNotFoundException

        from airflow_adf_mi.hooks import no_such_connection

        try:
            return Connection.get_connection_from_secrets(conn_id)
        except AirflowNotFoundException as e:
            raise no_such_connection(conn_id) from e
