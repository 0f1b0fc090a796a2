"""The texts that a pipeline gets for the window of a Dag run, rendered as Airflow renders them."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import jinja2
import pendulum
import pytest
from airflow.sdk import DAG
from airflow.sdk.execution_time import macros
from airflow.timetables.base import TimeRestriction

from airflow_adf_mi import AdfConfigurationError, AdfRunPipelineOperator, partition_parameters, window_parameters
from airflow_adf_mi._airflow import features
from tests.support.minors import needs

ENDS = {"start": "from", "end": "to", "last": "until"}
DAY = {"data_interval_start": pendulum.datetime(2026, 2, 3), "data_interval_end": pendulum.datetime(2026, 2, 4)}
BERLIN = "Europe/Berlin"
# A day of 23 hours.
SHORT_DAY = {
    "data_interval_start": pendulum.datetime(2026, 3, 28, 23),
    "data_interval_end": pendulum.datetime(2026, 3, 29, 22),
}


def rendered(parameters: dict[str, str], context: dict[str, Any]) -> list[str]:
    """The values that the pipeline gets, as a task of a Dag renders them."""
    with DAG("dag") as dag:
        task = AdfRunPipelineOperator(task_id="it", pipeline_name="Load", parameters=parameters)
    given: Any = {"macros": macros, "dag_run": SimpleNamespace(partition_key=None), **context}
    return list(task.render_template(task.parameters, given, dag.get_template_env()).values())


@pytest.mark.parametrize(
    ("form", "texts"),
    [
        ("yyyy-MM-ddTHH:mm:ssZ", ["2026-02-03T00:00:00Z", "2026-02-04T00:00:00Z", "2026-02-03T23:59:59Z"]),
        ("yyyy-MM-ddTHH:mm:ss", ["2026-02-03T00:00:00", "2026-02-04T00:00:00", "2026-02-03T23:59:59"]),
        ("yyyy-MM-dd HH:mm", ["2026-02-03 00:00", "2026-02-04 00:00", "2026-02-03 23:59"]),
        ("yyyy-MM-dd", ["2026-02-03", "2026-02-04", "2026-02-03"]),
        ("yyyyMMdd", ["20260203", "20260204", "20260203"]),
        ("dd.MM.yyyy", ["03.02.2026", "04.02.2026", "03.02.2026"]),
        ("yyyy/MM/dd/HH", ["2026/02/03/00", "2026/02/04/00", "2026/02/03/23"]),
        ("'year='yyyy/'month='MM", ["year=2026/month=02"] * 3),
        (
            "yyyy-MM-ddTHH:mm:ss'.0000000'Z",
            [f"2026-02-0{t}.0000000Z" for t in ("3T00:00:00", "4T00:00:00", "3T23:59:59")],
        ),
        ("HH", ["00", "00", "23"]),
    ],
)
def test_window_has_the_form_that_the_pipeline_wants(form: str, texts: list[str]) -> None:
    parameters = window_parameters(**ENDS, form=form)
    assert list(parameters) == ["from", "to", "until"]
    assert rendered(parameters, DAY) == texts


def test_window_is_in_utc_and_iso_8601_by_default() -> None:
    assert rendered(window_parameters(start="from", end="to"), DAY) == ["2026-02-03T00:00:00Z", "2026-02-04T00:00:00Z"]
    assert rendered(window_parameters(last="until"), DAY) == ["2026-02-03T23:59:59Z"]


def test_dates_are_those_of_the_time_zone_and_z_is_utc() -> None:
    dates = window_parameters(**ENDS, form="yyyy-MM-dd HH", timezone=BERLIN)
    assert rendered(dates, SHORT_DAY) == ["2026-03-29 00", "2026-03-30 00", "2026-03-29 23"]
    times = window_parameters(**ENDS, timezone=BERLIN)
    assert rendered(times, SHORT_DAY) == ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-29T21:59:59Z"]


def test_interval_in_another_time_zone_is_the_same_window() -> None:
    local = {name: moment.in_timezone(BERLIN) for name, moment in DAY.items()}
    assert rendered(window_parameters(**ENDS), local) == rendered(window_parameters(**ENDS), DAY)


@pytest.mark.parametrize("undefined", [jinja2.StrictUndefined, jinja2.Undefined])
def test_dag_run_without_a_data_interval_is_an_error(undefined: Any) -> None:
    with DAG("dag", template_undefined=undefined) as dag:
        task = AdfRunPipelineOperator(task_id="it", pipeline_name="Load", parameters=window_parameters(start="from"))
    nothing: Any = {}
    with pytest.raises(jinja2.UndefinedError, match="'data_interval_start' is undefined"):
        task.render_template(task.parameters, nothing, dag.get_template_env())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "window_parameters needs start, end or last"),
        ({"start": " "}, "start is ' '; it must be text"),
        ({"start": "x", "end": "x"}, "start and end must be different"),
        ({"start": "x", "form": "%Y-%m-%d"}, r"form is '%Y-%m-%d'\. Write it as in"),
        ({"start": "x", "form": "yyyy-MM-d"}, "Write it as in"),
        ({"start": "x", "form": "yyyy-MM-dd hh"}, "Write it as in"),
        ({"start": "x", "form": "yyyyZMMdd"}, "Write it as in"),
        ({"start": "x", "form": "'{{ x }}'yyyy"}, "Write it as in"),
        ({"start": "x", "form": "Z"}, "Write it as in"),
        ({"start": "x", "form": None}, "form is None; it must be text"),
        ({"start": "x", "form": "yyyy-mm-dd"}, "leaves out a unit"),
        ({"start": "x", "form": "HH:MM"}, "leaves out a unit"),
        ({"start": "x", "form": "yyyy-MM-ddTHH:MM"}, "has a unit twice"),
        ({"start": "x", "form": "mm"}, "mm is the minute of HH"),
        ({"start": "x", "timezone": "Berlin"}, "timezone is 'Berlin'; it must be the name of a time zone"),
        ({"start": "x", "timezone": "Europe"}, "it must be the name of a time zone"),
        ({"start": "x", "timezone": "../UTC"}, "it must be the name of a time zone"),
        ({"start": "x", "timezone": None}, "timezone is None; it must be text"),
    ],
)
def test_wrong_argument_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(AdfConfigurationError, match=problem):
        window_parameters(**arguments)


def partition(cron: str, timezone: str, first: pendulum.DateTime, **arguments: Any) -> dict[str, Any]:
    """What the first Dag run of a timetable of partitions has, by Airflow's own class."""
    from airflow.timetables.trigger import CronPartitionTimetable

    timetable = CronPartitionTimetable(cron, timezone=timezone, **arguments)
    restriction = TimeRestriction(earliest=first, latest=None, catchup=True)
    info = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction)
    assert info is not None
    assert info.data_interval is None
    return {"partition_date": info.partition_date, "dag_run": SimpleNamespace(partition_key=info.partition_key)}


ONE_DAY = timedelta(days=1)


@needs("PARTITION_DATES")
def test_partition_is_taken_from_its_date() -> None:
    found = partition("0 0 * * *", "UTC", pendulum.datetime(2026, 2, 4), run_offset=-1)
    assert rendered(partition_parameters(**ENDS, length=ONE_DAY), found) == [
        "2026-02-03T00:00:00Z",
        "2026-02-04T00:00:00Z",
        "2026-02-03T23:59:59Z",
    ]
    hour = partition("0 * * * *", "UTC", pendulum.datetime(2026, 2, 3, 23))
    form = "yyyy/MM/dd/HH"
    assert rendered(partition_parameters(**ENDS, length=timedelta(hours=1), form=form), hour) == [
        "2026/02/03/23",
        "2026/02/04/00",
        "2026/02/03/23",
    ]


@needs("PARTITION_DATES")
def test_day_of_a_partition_is_a_day_of_the_time_zone() -> None:
    found = partition("0 0 * * *", BERLIN, SHORT_DAY["data_interval_start"])
    days = partition_parameters(**ENDS, length=ONE_DAY, form="yyyy-MM-dd", timezone=BERLIN)
    assert rendered(days, found) == ["2026-03-29", "2026-03-30", "2026-03-29"]
    times = partition_parameters(**ENDS, length=ONE_DAY, timezone=BERLIN)
    assert rendered(times, found) == ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-29T21:59:59Z"]
    long = {"partition_date": pendulum.datetime(2026, 3, 29, 0)}
    hours = partition_parameters(start="from", end="to", length=timedelta(hours=2), form="HH", timezone=BERLIN)
    assert rendered(hours, long) == ["01", "04"]


@needs("PARTITIONED_DAG_RUNS")
@pytest.mark.parametrize(
    ("key_format", "key"),
    [("%Y-%m-%dT%H:%M:%S", "2026-02-03T00:00:00"), ("%Y-%m-%d", "2026-02-03"), ("day %Y%m%d", "day 20260203")],
)
def test_partition_is_taken_from_its_key(key_format: str, key: str) -> None:
    found = partition("0 0 * * *", "UTC", pendulum.datetime(2026, 2, 3), key_format=key_format)
    assert found["dag_run"].partition_key == key
    parameters = partition_parameters(**ENDS, length=ONE_DAY, key_format=key_format)
    texts = ["2026-02-03T00:00:00Z", "2026-02-04T00:00:00Z", "2026-02-03T23:59:59Z"]
    assert rendered(parameters, {**found, "partition_date": None}) == texts


@needs("PARTITION_DATES")
def test_month_without_a_length_is_taken_from_its_key_or_its_date() -> None:
    found = partition("0 0 1 * *", "UTC", pendulum.datetime(2026, 2, 1), key_format="%Y-%m")
    assert rendered(partition_parameters(start="month", form="yyyyMM"), found) == ["202602"]
    assert rendered(partition_parameters(start="month", form="yyyyMM", key_format="%Y-%m"), found) == ["202602"]


@needs("PARTITION_DATES")
def test_dag_run_without_a_partition_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="this_dag_run_has_no_partition_date"):
        rendered(partition_parameters(start="from"), {"partition_date": None})
    with pytest.raises(ValueError, match="'no partition key' does not match format '%Y'"):
        rendered(partition_parameters(start="from", key_format="%Y"), {})
    other: Any = {"dag_run": SimpleNamespace(partition_key="emea")}
    with pytest.raises(ValueError, match="'emea' does not match format '%Y'"):
        rendered(partition_parameters(start="from", key_format="%Y"), other)


@needs("PARTITION_DATES")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "partition_parameters needs start, end or last"),
        ({"end": "x"}, "length is None; for end and last it must be a timedelta"),
        ({"last": "x", "length": 3600}, "length is 3600; for end and last"),
        ({"end": "x", "length": timedelta(0)}, "for end and last it must be a timedelta of whole seconds"),
        ({"end": "x", "length": -ONE_DAY}, "for end and last it must be a timedelta of whole seconds"),
        ({"end": "x", "length": timedelta(microseconds=1)}, "for end and last it must be a timedelta of whole seconds"),
        ({"start": "x", "form": "yyyy-mm-dd"}, "leaves out a unit"),
        ({"start": "x", "timezone": "Berlin"}, "the name of a time zone"),
        ({"start": "x", "key_format": "yyyy-MM-dd"}, "key_format is 'yyyy-MM-dd'; it must have %Y"),
        ({"start": "x", "key_format": "%Y-%m-%dT%H%z"}, "it must have %Y, and may have %m"),
        ({"start": "x", "key_format": "%Y'"}, "it must have %Y, and may have %m"),
        ({"start": "x", "key_format": 7}, "key_format is 7"),
        ({"start": "x", "key_format": "%Y", "timezone": BERLIN}, "with key_format it must be 'UTC'"),
    ],
)
def test_wrong_argument_of_a_partition_is_refused(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(AdfConfigurationError, match=problem):
        partition_parameters(**arguments)


def test_partitions_are_refused_on_an_airflow_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "PARTITIONED_DAG_RUNS", False)
    with pytest.raises(AdfConfigurationError) as e:
        partition_parameters(start="from", key_format="%Y")
    assert str(e.value).startswith("partition_parameters needs Airflow 3.2 or later, because")


def test_key_format_is_needed_on_an_airflow_without_partition_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "PARTITIONED_DAG_RUNS", True)
    monkeypatch.setattr(features, "PARTITION_DATES", False)
    with pytest.raises(AdfConfigurationError, match="partition_parameters needs key_format on this Airflow"):
        partition_parameters(start="from")
    found = {"dag_run": SimpleNamespace(partition_key="2026")}
    assert rendered(partition_parameters(start="from", key_format="%Y", form="yyyy-MM"), found) == ["2026-01"]


def test_import_loads_no_azure_package() -> None:
    code = "import sys; from airflow_adf_mi import window_parameters; print([m for m in sys.modules if m.startswith('azure.')])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")
    assert shown[-2] == "[]"
