"""The command `adf-emulator`: Azure Data Factory and managed identity on the loopback interface."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import click

from airflow_adf_mi.emulator.identity.endpoints import SOURCES
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.server import DEFAULT_RESOURCE_GROUP, DEFAULT_SUBSCRIPTION, Emulator, FactorySpec

_THERE = click.Path(exists=True, path_type=Path)
_FILE_THERE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
_PORT = click.IntRange(0, 65535)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 after it was stopped, 2 if the command line is wrong or a file or port cannot be used.",
)
@click.version_option(package_name="airflow-adf-mi", prog_name="adf-emulator")
@click.option(
    "--factory",
    "factories",
    type=_THERE,
    multiple=True,
    required=True,
    help="An ADF Git folder, a pipeline's JSON file or an ARM template. May be given several times.",
)
@click.option(
    "--script", type=_FILE_THERE, help="JSON file: how activities behave and end (see emulator/pipelines/script.py)."
)
@click.option("--subscription", default=DEFAULT_SUBSCRIPTION, show_default=True, help="Id of the subscription.")
@click.option("--resource-group", "-g", default=DEFAULT_RESOURCE_GROUP, show_default=True, help="The resource group.")
@click.option("--port", type=_PORT, default=0, help="Port of ARM, HTTPS. [default: any free one]")
@click.option(
    "--identity-port", type=_PORT, default=0, help="Port of the identity endpoints, HTTP. [default: any free one]"
)
@click.option("--directory", type=_FOLDER, help="Folder for the certificate authority. [default: a temporary folder]")
@click.option("--ready-file", type=_FILE, help="A JSON file to write when the emulator is ready.")
def main(
    factories: tuple[Path, ...],
    script: Path | None,
    subscription: str,
    resource_group: str,
    port: int,
    identity_port: int,
    directory: Path | None,
    ready_file: Path | None,
) -> None:
    """Serve Azure Data Factory and the managed identity endpoints on the loopback interface, until SIGTERM or Ctrl-C."""
    specs = [
        FactorySpec(source=path, resource_group_name=resource_group, subscription_id=subscription) for path in factories
    ]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    with _refused():
        emulator = Emulator(*specs, script=_script(script), port=port, identity_port=identity_port, directory=directory)
        if ready_file:
            if not ready_file.parent.is_dir():
                raise ValueError(f"--ready-file {ready_file}: there is no such folder.")
            # Otherwise, a waiting program might read the file of an earlier emulator.
            ready_file.unlink(missing_ok=True)
        emulator.start()
    try:
        _announce(emulator)
        if ready_file:
            with _refused():
                _write_ready_file(emulator, ready_file)
        while not stop.wait(1):
            pass
    finally:
        emulator.stop()


class _Unusable(click.ClickException):
    """A file, folder or port of the command line cannot be used."""

    exit_code = 2


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Turn errors about files, folders and ports into a sentence for the user."""
    try:
        yield
    except OSError as e:
        reason = e.strerror or str(e)
        raise _Unusable(f"{e.filename}: {reason}" if e.filename else reason) from e
    except ValueError as e:
        raise _Unusable(str(e)) from e


def _script(path: Path | None) -> Script | None:
    if path is None:
        return None
    try:
        document = json.loads(path.read_text())
    except ValueError as e:
        raise ValueError(f"--script {path}: the file is not JSON ({e}).") from None
    try:
        return Script.from_json(document)
    except ValueError as e:
        raise ValueError(f"--script {path}: {e}") from e


def _announce(emulator: Emulator) -> None:
    factory = emulator.state()
    connection = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    environment = emulator.identity_environment("imds")
    environment["AIRFLOW_CONN_AZURE_DATA_FACTORY_DEFAULT"] = json.dumps(connection)
    click.echo(f"Emulating {factory.resource_id}")
    click.echo(f"  pipelines: {', '.join(factory.definition.pipelines)}")
    click.echo("Point Airflow at it with these variables, and stop it with Ctrl-C:")
    for name, value in environment.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _write_ready_file(emulator: Emulator, path: Path) -> None:
    ready = {
        "pid": os.getpid(),
        "arm_endpoint": emulator.arm_endpoint,
        "identity_endpoint": emulator.identity_endpoint,
        "ca_bundle": str(emulator.ca_bundle),
        "environment": {source: emulator.identity_environment(source) for source in SOURCES},
        "connection_extra": emulator.connection_extra(),
        "factories": [factory.factory_name for factory in emulator.factories],
    }
    # Write to another file and rename it, so that nobody reads a half-written file.
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(ready, indent=2))
    temporary.replace(path)


if __name__ == "__main__":
    main()
