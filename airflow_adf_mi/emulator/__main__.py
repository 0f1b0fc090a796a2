"""`python -m airflow_adf_mi.emulator`: Azure Data Factory and managed identity on the loopback interface."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from airflow_adf_mi.emulator.identity_endpoints import SOURCES
from airflow_adf_mi.emulator.script import Script
from airflow_adf_mi.emulator.server import DEFAULT_RESOURCE_GROUP, DEFAULT_SUBSCRIPTION, Emulator, FactorySpec


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; exit status 2 for arguments that make no sense."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        script = Script.from_json(json.loads(options.script.read_text())) if options.script else None
        specs = [
            FactorySpec(source=path, resource_group_name=options.resource_group, subscription_id=options.subscription)
            for path in options.factory
        ]
        emulator = Emulator(
            *specs,
            script=script,
            port=options.port,
            identity_port=options.identity_port,
            directory=options.directory,
        )
    except (OSError, ValueError) as e:
        parser.error(str(e))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    if options.ready_file:
        # One of an earlier emulator would be believed.
        options.ready_file.unlink(missing_ok=True)
    try:
        emulator.start()
    except OSError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    try:
        _announce(emulator)
        if options.ready_file:
            _write_ready_file(emulator, options.ready_file)
        while not stop.wait(1):
            pass
    finally:
        emulator.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m airflow_adf_mi.emulator", description=__doc__)
    parser.add_argument(
        "--factory",
        type=Path,
        action="append",
        required=True,
        metavar="PATH",
        help="an ADF Git folder, a pipeline's JSON file or an ARM template; may be given several times",
    )
    parser.add_argument("--script", type=Path, metavar="FILE", help="JSON: what activities do (see emulator/script.py)")
    parser.add_argument("--subscription", default=DEFAULT_SUBSCRIPTION, help="subscription id (default: %(default)s)")
    parser.add_argument(
        "--resource-group", default=DEFAULT_RESOURCE_GROUP, help="resource group (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=0, help="of ARM, HTTPS (default: any free one)")
    parser.add_argument("--identity-port", type=int, default=0, help="of the identity endpoints, HTTP")
    parser.add_argument(
        "--directory", type=Path, help="where the certificate authority is written (default: temporary)"
    )
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="written, as JSON, once it serves")
    return parser


def _announce(emulator: Emulator) -> None:
    factory = emulator.state()
    connection = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    environment = emulator.identity_environment("imds")
    environment["AIRFLOW_CONN_AZURE_DATA_FACTORY_DEFAULT"] = json.dumps(connection)
    print(f"Emulating {factory.resource_id}")
    print(f"  pipelines: {', '.join(factory.definition.pipelines)}")
    print("Point Airflow at it by these variables, and stop it with Ctrl-C:")
    for name, value in environment.items():
        print(f"export {name}={shlex.quote(value)}")
    sys.stdout.flush()


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
    # Written beside and moved, so that nobody reads half of it.
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(ready, indent=2))
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
