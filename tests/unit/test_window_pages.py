"""What the pages about windows and triggers show is what Airflow does."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pendulum
import pytest
from airflow.sdk.execution_time import macros
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable, DeltaDataIntervalTimetable
from airflow.timetables.trigger import CronTriggerTimetable, DeltaTriggerTimetable

from airflow_adf_mi import AdfRunPipelineOperator, window_parameters
from airflow_adf_mi._airflow.empty_window import empty_window_warning
from tests.conftest import ROOT
from tests.support.minors import needs
from tests.support.pages import dag_of, dag_on, scheduled

WINDOWS = ROOT / "docs" / "windows.md"
TRIGGERS = ROOT / "docs" / "from-adf-triggers.md"
ENDS = {"start": "start", "end": "end", "last": "last"}
DAY = DataInterval(pendulum.datetime(2026, 2, 3), pendulum.datetime(2026, 2, 4))
T = pendulum.datetime(2026, 3, 1)
HOUR, DAYS = timedelta(hours=1), timedelta(days=1)


def rendered(task: AdfRunPipelineOperator, parameters: Any, **context: Any) -> dict[str, str]:
    given: Any = {"macros": macros, **context}
    return dict(task.render_template(parameters, given, task.get_template_env()))


def in_window(task: AdfRunPipelineOperator, parameters: Any, window: DataInterval) -> dict[str, str]:
    return rendered(task, parameters, data_interval_start=window.start, data_interval_end=window.end)


def test_table_of_forms_shows_what_pipelines_get() -> None:
    _head, *rows = re.findall(
        r"^\| `([^`]+)`(?: \(the default\))? \| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \|$",
        WINDOWS.read_text(),
        re.MULTILINE,
    )
    assert len(rows) == 6
    task = AdfRunPipelineOperator(task_id="it", pipeline_name="Load")
    for form, *texts in rows:
        assert list(in_window(task, window_parameters(**ENDS, form=form), DAY).values()) == texts


def test_page_quotes_the_warning() -> None:
    moment = pendulum.datetime(2026, 2, 3)
    context = {"data_interval_start": moment, "data_interval_end": moment}
    assert (
        f"```text\n{empty_window_warning(window_parameters(start='a', end='b'), context)}\n```" in WINDOWS.read_text()
    )


@needs("PARTITION_DATES")
def test_dag_with_partitions_copies_the_day_that_has_ended(tmp_path: Path) -> None:
    dag = dag_of(dag_on(WINDOWS), tmp_path)
    (task,) = dag.tasks
    assert isinstance(task, AdfRunPipelineOperator)
    restriction = TimeRestriction(earliest=DAY.end, latest=None, catchup=True)
    info = scheduled(dag).timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction)
    assert info.run_after == DAY.end
    assert rendered(task, task.parameters, partition_date=info.partition_date) == {
        "windowStart": "2026-02-03T00:00:00Z",
        "windowEnd": "2026-02-04T00:00:00Z",
    }


def intervals(timetable: Any, count: int, restriction: TimeRestriction) -> list[DataInterval]:
    """The data intervals of the first Dag runs that the scheduler makes."""
    found: list[DataInterval] = []
    for _ in range(count):
        info = timetable.next_dagrun_info(
            last_automated_data_interval=found[-1] if found else None, restriction=restriction
        )
        if info is None:
            break
        assert info.run_after == info.data_interval.end
        found.append(info.data_interval)
    return found


def from_(
    earliest: pendulum.DateTime, latest: pendulum.DateTime | None = None, *, catchup: bool = True
) -> TimeRestriction:
    return TimeRestriction(earliest=earliest, latest=latest, catchup=catchup)


def test_dag_does_what_its_tumbling_window_trigger_did(tmp_path: Path) -> None:
    dag = dag_of(dag_on(TRIGGERS), tmp_path)
    assert (dag.catchup, dag.max_active_runs, dag.start_date) == (True, 4, T)
    first, second = intervals(scheduled(dag).timetable, 2, from_(T))
    assert (first.start, first.end, second.start) == (T, T + HOUR, T + HOUR)
    delay, raw, copy = (dag.get_task(name) for name in ("delay", "raw", "copy"))
    assert delay.delta == timedelta(minutes=15)  # type: ignore[union-attr]  # of its own class
    assert delay._derive_base_time({"data_interval_end": first.end}) == first.end  # type: ignore[union-attr]  # as above
    assert (raw.external_dag_id, raw.external_task_id) == ("load_raw", "load")  # type: ignore[union-attr]  # as above
    assert (delay.downstream_task_ids, raw.downstream_task_ids) == ({"raw"}, {"copy"})
    assert isinstance(copy, AdfRunPipelineOperator)
    assert (copy.retries, copy.retry_delay) == (2, timedelta(seconds=300))
    assert in_window(copy, copy.parameters, first) == {
        "windowStart": "2026-03-01T00:00:00Z",
        "windowEnd": "2026-03-01T01:00:00Z",
        "folder": "2026/03/01/00",
    }


def test_start_date_inside_a_window_leaves_this_window_out() -> None:
    (first,) = intervals(CronDataIntervalTimetable("0 * * * *", timezone="UTC"), 1, from_(T.add(minutes=1)))
    assert first.start == T + HOUR


def test_windows_of_a_length_count_from_the_start_date() -> None:
    first, second = intervals(DeltaDataIntervalTimetable(5 * HOUR), 2, from_(T.add(minutes=10)))
    assert (first.start, second.start) == (T.add(minutes=10), T.add(hours=5, minutes=10))


def test_end_date_is_the_beginning_of_the_last_window() -> None:
    found = intervals(CronDataIntervalTimetable("0 * * * *", timezone="UTC"), 9, from_(T, T + HOUR))
    assert [window.start for window in found] == [T, T + HOUR]


def test_without_catchup_only_the_last_complete_window_is_copied() -> None:
    before = pendulum.now("UTC")
    timetable = CronDataIntervalTimetable("@daily", timezone="UTC")
    (first,) = intervals(timetable, 1, from_(T.subtract(years=5), catchup=False))
    assert first.end in {before.start_of("day"), pendulum.now("UTC").start_of("day")}


@pytest.mark.parametrize(
    ("timetable", "window"),
    [
        (CronDataIntervalTimetable("@daily", timezone="UTC"), (T.subtract(days=1), T)),
        (DeltaDataIntervalTimetable(DAYS), (T.subtract(hours=14), T.add(hours=10))),
        (CronTriggerTimetable("@daily", timezone="UTC"), (T.add(hours=10), T.add(hours=10))),
        (CronTriggerTimetable("@daily", timezone="UTC", interval=DAYS), (T.subtract(hours=14), T.add(hours=10))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_dag_run_of_a_user_has_this_window(timetable: Any, window: tuple[datetime, datetime]) -> None:
    assert timetable.infer_manual_data_interval(run_after=T.add(hours=10)) == window


@pytest.mark.parametrize(
    ("cron", "moment"),
    [
        ("15 5,17 * * MON,WED", T.add(days=1, hours=5, minutes=15)),
        ("0 6 L * *", T.add(days=30, hours=6)),
        ("0 5 * * 5#1", T.add(days=5, hours=5)),
        ("0 5 * * L5", T.add(days=26, hours=5)),
    ],
)
def test_cron_text_of_a_schedule_trigger_means_this_moment(cron: str, moment: datetime) -> None:
    assert f'"{cron}"' in TRIGGERS.read_text()
    ((start, end),) = intervals(CronTriggerTimetable(cron, timezone="UTC"), 1, from_(T))
    assert (start, end) == (moment, moment)
    task = AdfRunPipelineOperator(task_id="it", pipeline_name="Load")
    found = in_window(task, window_parameters(end="scheduledTime"), DataInterval(start, end))
    assert found == {"scheduledTime": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}


def test_trigger_timetable_with_an_interval_has_the_time_before_the_moment() -> None:
    timetable = CronTriggerTimetable("0 5 * * *", timezone="UTC", interval=DAYS)
    ((start, end),) = intervals(timetable, 1, from_(T))
    assert (start, end) == (T.add(hours=5) - DAYS, T.add(hours=5))


def test_weeks_count_from_a_start_date_in_the_future() -> None:
    future = pendulum.now("UTC").add(days=3)
    ((_, end),) = intervals(DeltaTriggerTimetable(timedelta(weeks=2)), 1, from_(future, catchup=False))
    assert end == future


def test_hour_of_a_time_zone_stays_the_same_in_summer() -> None:
    timetable = CronTriggerTimetable("0 5 * * *", timezone="Europe/Berlin")
    found = intervals(timetable, 2, from_(pendulum.datetime(2026, 3, 28)))
    assert [end.in_timezone("Europe/Berlin").hour for _, end in found] == [5, 5]
    assert [end.in_timezone("UTC").hour for _, end in found] == [4, 3]
