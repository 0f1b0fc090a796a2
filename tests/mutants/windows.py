"""Mutants of windows of time: the texts that a pipeline gets, and the warning of an empty window."""

from __future__ import annotations

from tests.mutants import Mutant

TEXTS = "tests/unit/test_window_parameters.py"
EMPTY = "tests/unit/_airflow/test_empty_window.py"
BOTH_PLACES = "tests/integration/test_windows.py"

MUTANTS = [
    Mutant("window in the time zone of the interval", "windows.py", "return _templates(names, moments, f\".in_timezone('{zone}').strftime", "return _templates(names, moments, f\".strftime", TEXTS),
    Mutant("text with Z not in UTC", "windows.py", 'return "UTC" if form.endswith("Z") else name', "return name", TEXTS),
    Mutant("last second of a window is its end", "windows.py", '"last": f"{end_of}.subtract(seconds=1)"', '"last": end_of', TEXTS),
    Mutant("month written as minute accepted", "windows.py", "if units != list(range(units[0], units[0] + len(units))) or", "if False or", TEXTS),
    Mutant("minute without its hour accepted", "windows.py", ' or units[0] > list(_UNITS).index("HH"):', ":", TEXTS),
    Mutant("unknown letters of a form dropped", "windows.py", 'if "".join(parts) != form or not units:', "if not units:", TEXTS),
    Mutant("form without a unit accepted", "windows.py", 'if "".join(parts) != form or not units:', 'units = units or [0]\n    if "".join(parts) != form:', TEXTS),
    Mutant("unknown time zone refused by each Dag run only", "windows.py", "        ZoneInfo(name)\n", "        str(name)\n", TEXTS),
    Mutant("one parameter for both ends accepted", "windows.py", "if len(set(names.values())) < len(names):", "if False:", TEXTS),
    Mutant("window without a parameter accepted", "windows.py", "    if not names:\n", "    if False:\n", TEXTS),
    Mutant("partitions on an Airflow without them", "windows.py", "if not features.PARTITIONED_DAG_RUNS:", "if False:", TEXTS),
    Mutant("partition date on an Airflow without it", "windows.py", "if not features.PARTITION_DATES:", "if False:", TEXTS),
    Mutant("each day has 24 hours", "windows.py", ".add(days={days}, seconds={rest})", ".add(days=0, seconds={seconds})", TEXTS),
    Mutant("day of a partition counted in UTC", "windows.py", "_partition_date).in_timezone('{timezone}')\"", "_partition_date)\"", TEXTS),
    Mutant("unclear error without a partition date", "windows.py", "(partition_date or macros.this_dag_run_has_no_partition_date)", "partition_date", TEXTS),
    Mutant("unclear error without a partition key", "windows.py", "dag_run.partition_key or 'no partition key'", "dag_run.partition_key", TEXTS),
    Mutant("any text accepted as key_format", "windows.py", " or not _KEY_FORMAT.fullmatch(key_format)", "", TEXTS),
    Mutant("key_format without a year accepted", "windows.py", ' or "%Y" not in key_format', "", TEXTS),
    Mutant("key read in another time zone", "windows.py", 'if timezone != "UTC":', "if False:", TEXTS),
    Mutant("last second of a partition is its end", "windows.py", 'return {"start": start, "end": end, "last": f"{end}.subtract(seconds=1)"}', 'return {"start": start, "end": end, "last": end}', TEXTS),
    Mutant("last second of a key's partition is its end", "windows.py", "seconds={seconds - 1}", "seconds={seconds}", TEXTS),
    Mutant("partition without a length accepted", "windows.py", "length <= timedelta(0) or ", "", TEXTS),
    Mutant("length cut to seconds", "windows.py", " or length.microseconds:", ":", TEXTS),
    Mutant("window that is not empty warned of", "_airflow/empty_window.py", "if start is None or start != end:", "if start is None:", EMPTY),
    Mutant("one end of an empty interval warned of", "_airflow/empty_window.py", "for used in _ends_used(text)} != ENDS:", "for used in _ends_used(text)} == set():", EMPTY),
    Mutant("moved end warned of", "_airflow/empty_window.py", " and id(node) not in moved", "", EMPTY),
    Mutant("last second not warned of", "_airflow/empty_window.py", " and not _is_a_second(call)", "", EMPTY),
    Mutant("ends in one text not warned of", "_airflow/empty_window.py", "if any(name in _LENGTHS for _, name in _names(sum_)):", "if True:", EMPTY),
    Mutant("warning looks for templates in rendered texts", "_airflow/empty_window.py", '    task = getattr(task, "in_dag", task)\n', "", EMPTY),
    Mutant("mapped task not warned", "_airflow/empty_window.py", 'if not hasattr(task, "partial_kwargs"):', "if True:", EMPTY),
    Mutant("template that cannot be read fails the task", "_airflow/empty_window.py", "except Exception as e:", "except ZeroDivisionError as e:", EMPTY),
    Mutant("worker does not warn of an empty window", "operators.py", "        warn_of_empty_window(self.log, self, context)\n", "", f"{BOTH_PLACES} -k worker_warns"),
    Mutant("triggerer does not warn of an empty window", "triggers/start_and_wait.py", "        warn_of_empty_window(log, self, context)\n", "", f"{BOTH_PLACES} -k triggerer_warns"),
    Mutant("triggerer warns by rendered texts", "triggers/start_and_wait.py", "        warn_of_empty_window(log, self, context)\n        try:\n            super().render_template_fields(context, jinja_env)\n", "        try:\n            super().render_template_fields(context, jinja_env)\n            warn_of_empty_window(log, self, context)\n", f"{BOTH_PLACES} -k triggerer_warns"),
    Mutant("partition needs a worker", "_triggerer/eligibility.py", '"data_interval_end", "partition_key", "partition_date"),', '"data_interval_end"),', f"{BOTH_PLACES} -k templates_of_windows"),
    Mutant("partition date of Airflow not seen", "_airflow/features.py", 'return "partition_date" in Context.__annotations__', "return False", "tests/unit/_airflow/test_features.py -k of_the_minor"),
    Mutant("partitions of Airflow not seen", "_airflow/features.py", 'return "CronPartitionTimetable" in airflow.sdk.__all__', "return False", "tests/unit/_airflow/test_features.py -k of_the_minor"),
]  # fmt: skip
