"""The command `airflow-adf-mi`: checks a connection without starting anything, and prints the role that it needs."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.config.role import FORMATS, render
from airflow_adf_mi.adf.config.settings import CHOICES, CLOUDS, AdfSettings
from airflow_adf_mi.adf.connection_fields import CONN_TYPE, DEFAULT_CONN_ID, FIELDS, settings_from_connection
from airflow_adf_mi.adf.errors import AdfError

if TYPE_CHECKING:
    from airflow_adf_mi.adf.connection_check import Finding

# Short flags of connection fields, and the help of each field. A field that is missing in `_FLAGS` gets a flag of its own name.
_FLAGS: Mapping[str, tuple[str, ...]] = {
    "subscriptionId": ("--subscription",),
    "resource_group_name": ("--resource-group", "-g"),
    "factory_name": ("--factory",),
    "managed_identity_client_id": ("--client-id",),
    "managed_identity_object_id": ("--object-id",),
    "managed_identity_resource_id": ("--resource-id",),
    "workload_identity_tenant_id": ("--tenant-id",),
    "cloud_environment": ("--cloud",),
}
_HELP: Mapping[str, str] = {
    "subscriptionId": "Id of the subscription that holds the factory.",
    "resource_group_name": "The factory's resource group.",
    "factory_name": "The data factory.",
    "identity": "How to get a token.",
    "managed_identity_client_id": "A user-assigned identity, by its client id.",
    "managed_identity_object_id": "The same, by its object id.",
    "managed_identity_resource_id": "The same, by its resource id.",
    "workload_identity_tenant_id": "Tenant of a workload identity, if it differs from AZURE_TENANT_ID.",
    "cloud_environment": f"Azure's cloud: {', '.join(CLOUDS)}.",
    "arm_endpoint": "https:// address of a private ARM endpoint, instead of the cloud's.",
    "arm_scope": "Token scope for that endpoint, instead of the cloud's.",
    "ca_bundle": "Path of a PEM file of certificate authorities to trust.",
}
_TYPES = {"identity": click.Choice([kind.value for kind in CHOICES])}
_SCOPE = FIELDS[:3]
_STATUSES = "Exit status: 0 if all is well, 1 if not, 2 if the command line is wrong."

_Command = Callable[..., int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0 all is well, 1 something is wrong, 2 the command line is wrong."""
    try:
        return int(_cli.main(arguments, prog_name="airflow-adf-mi", standalone_mode=False) or 0)
    except click.ClickException as e:
        e.show()
        return e.exit_code
    except click.Abort:
        return 130  # shells use this status for Ctrl-C
    except AdfError as e:
        click.echo(f"Error: {e}", err=True)
        return 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_STATUSES)
@click.version_option(package_name="airflow-adf-mi")
def _cli() -> None:
    """Azure Data Factory with managed identity: check a connection, or print the role that an identity needs."""


def _not_empty(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty value: a shell makes one from a variable that is not set, and the option would have no effect."""
    if value is not None and not value.strip():
        raise click.BadParameter("the value is empty.")
    return value


def _fields(names: Sequence[str]) -> Callable[[_Command], _Command]:
    """Add an option for each of these connection fields."""

    def add(command: _Command) -> _Command:
        for name in reversed(names):
            flags = _FLAGS.get(name, (f"--{name.replace('_', '-')}",))
            command = click.option(name, *flags, type=_TYPES.get(name), callback=_not_empty, help=_HELP[name])(command)
        return command

    return add


@_cli.command("check", epilog=_STATUSES, short_help="Check a connection and list what is missing; start nothing.")
@click.argument("conn_id", required=False)
@click.option("--pipeline", help="Also check that this pipeline exists.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Output format."
)
@click.option("--json", "as_json", is_flag=True, help="The same as --output json.")
@_fields(FIELDS)
def _check(conn_id: str | None, pipeline: str | None, output: str, *, as_json: bool, **flags: str | None) -> int:
    """Check each step from the token to each permission, without starting anything.

    CONN_ID is an Airflow connection; the default is azure_data_factory_default. Options replace its fields. With
    --subscription and without CONN_ID, only the options are used: neither Airflow nor its database is read.
    """
    from airflow_adf_mi.adf.connection_check import all_well, table, verdict

    findings = _findings(conn_id, _given(flags), pipeline)
    well = all_well(findings)
    if as_json or output == "json":
        steps = [finding.to_json() for finding in findings]
        click.echo(json.dumps({"well": well, "verdict": verdict(findings), "steps": steps}, indent=2))
    else:
        click.echo(table(findings))
    return 0 if well else 1


@_cli.command("role", epilog=_STATUSES, short_help="Print the role that an identity needs, and its assignment.")
@click.argument("conn_id", required=False)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="az", show_default=True, help="Tool to print the role for."
)
@_fields(_SCOPE)
@click.option("--principal-id", help="Object id of the identity's service principal. [default: a placeholder]")
def _role(conn_id: str | None, form: Any, principal_id: str | None, **flags: str | None) -> int:
    """Print the definition of the least role, and its assignment on a factory. Nothing is sent to Azure.

    CONN_ID is an Airflow connection that names the factory; the default is azure_data_factory_default. Options replace its
    fields. With --subscription, --resource-group and --factory, no connection is needed.
    """
    given = _given(flags)
    if conn_id is None and set(given) == set(_SCOPE):
        subscription_id, resource_group_name, factory_name = (given[name] for name in _SCOPE)
        factory = FactoryRef(
            subscription_id=subscription_id, resource_group_name=resource_group_name, factory_name=factory_name
        )
    else:
        factory = _settings(conn_id, given)[0].factory()
    click.echo(render(form, factory, principal_id), nl=False)
    return 0


def _given(flags: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in flags.items() if value}


def _findings(conn_id: str | None, flags: Mapping[str, str], pipeline: str | None) -> list[Finding]:
    from airflow_adf_mi.adf.connection_check import check, unusable

    try:
        with _notes_on_stderr():
            settings, named = _settings(conn_id, flags)
    except AdfError as e:
        return [unusable(e)]
    return check(settings, pipeline, named=named)


def _settings(conn_id: str | None, flags: Mapping[str, str]) -> tuple[AdfSettings, str]:
    """The settings, and the name of the connection for texts."""
    if "subscriptionId" in flags and conn_id is None:
        named = "(command line)"
        return settings_from_connection(conn_id=named, conn_type=CONN_TYPE, extra=None, instead=flags), named
    name = DEFAULT_CONN_ID if conn_id is None else conn_id
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    # Airflow logs to stdout, where the table goes. Importing Airflow takes seconds; a call that has only options saves this time.
    with contextlib.redirect_stdout(sys.stderr):
        return _stored(name, flags), name


def _stored(conn_id: str, instead: Mapping[str, str]) -> AdfSettings:
    """Read a connection like Airflow's own commands: from a secrets backend, an environment variable, or the database."""
    from airflow.models.connection import Connection

    from airflow_adf_mi._airflow.connections import check_conn_id, read_connection, reported_if_missing

    with reported_if_missing(conn_id):
        connection: Any = Connection.get_connection_from_secrets(check_conn_id(conn_id))
    return read_connection(connection, instead)


@contextlib.contextmanager
def _notes_on_stderr() -> Iterator[None]:
    """Print to stderr what a task would log about its connection."""
    logger = logging.getLogger(settings_from_connection.__module__)
    handler = logging.StreamHandler(sys.stderr)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
