"""The emulator and the distributed Airflow that all rows share."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from airflow_adf_mi.emulator import Emulator, FactorySpec, Switches
from airflow_adf_mi.emulator.pipelines.script import Script
from tests.conftest import activity, factory_of
from tests.scale.gauge import Gauge
from tests.scale.row import OTHER, PARAMETERS, Row, other_dag_spec
from tests.scale.stack import DistributedAirflow

DAG_FILE = Path(__file__).with_name("dag_file.py")


class World:
    """Use `running` to start it.

    :param home: a new folder to write to.
    """

    def __init__(self, home: Path, rows: Sequence[Row]) -> None:
        self.rows = rows
        self._home = home
        other = {"activities": [activity("Load")], "parameters": PARAMETERS}
        factories = [
            FactorySpec(source=factory_of(**{row.name: row.properties(), OTHER: other}), factory_name=row.name)
            for row in rows
        ]
        self.emulator = Emulator(*factories, script=_script(rows))
        for row in rows:
            self.emulator.state(row.name).switches = Switches(**row.switches)
        self.is_over = False

    @contextmanager
    def running(self) -> Iterator[None]:
        dags = self._home / "dags"
        dags.mkdir(parents=True)
        specs = [spec for row in self.rows for spec in row.dag_specs()]
        specs += [other_dag_spec(row) for row in self.rows if row.measures_other]
        (dags / "backfills.json").write_text(json.dumps(specs))
        shutil.copyfile(DAG_FILE, dags / "backfills.py")
        with self.emulator:
            connection = {"conn_type": "azure_data_factory_mi", "extra": self.emulator.connection_extra()}
            environment = {
                **self.emulator.identity_environment("imds"),
                "AIRFLOW_CONN_AZURE_DATA_FACTORY_DEFAULT": json.dumps(connection),
            }
            self.airflow = DistributedAirflow(self._home / "airflow", dags, environment)
            self.gauge = Gauge(self.airflow.database_url, self._live_runs)
            try:
                with self.airflow, self.gauge:
                    yield
            finally:
                # Threads of rows that still wait must end.
                self.is_over = True

    def until(self, is_true: Callable[[], bool], what: str, seconds: float) -> None:
        """Poll. Raises `TimeoutError`, and what `check` raises."""
        end = time.monotonic() + seconds
        while not is_true():
            self.check()
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds:.0f} s for {what}")
            time.sleep(0.5)

    def check(self) -> None:
        """Raises `RuntimeError` if the proof has been stopped, or a part has ended by itself."""
        if self.is_over:
            raise RuntimeError("the proof was stopped")
        self.airflow.check()
        self.gauge.check()

    def _live_runs(self) -> Mapping[str, int]:
        def count() -> Mapping[str, int]:
            for state in self.emulator.factories:
                state.settle()
            return Counter(
                run.pipeline for state in self.emulator.factories for run in state.runs.values() if not run.is_over
            )

        return self.emulator.call(count)


def _script(rows: Sequence[Row]) -> Script:
    return Script.from_json(
        {
            "pipelines": {row.name: {"queued_seconds": 0.1, "cancel_seconds": 1} for row in rows},
            "activities": {f"{row.name}/{name}": {"seconds": row.seconds} for row in rows for name in row.activities},
            "runs": [{"pipeline": row.name, **entry} for row in rows for entry in row.script],
        }
    )
