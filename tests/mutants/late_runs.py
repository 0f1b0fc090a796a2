"""Mutants of the warning of late runs."""

from __future__ import annotations

from tests.mutants import Mutant

LATE_RUN = "tests/unit/adf/waiting/test_late_run.py"
USUAL = "tests/unit/adf/starting/test_usual_duration.py"
MODES = "tests/integration/test_late_runs.py"
PROVIDER = "tests/contract/test_provider.py"

MUTANTS = [
    Mutant("late run reported again and again", "adf/waiting/late_run.py", "        self._is_over = True\n", "", LATE_RUN),
    Mutant("run reported that has ended in time", "adf/waiting/late_run.py", "            if run is None or not run.is_terminal:", "            if True:", LATE_RUN),
    Mutant("run reported whose end may not be known yet", "adf/waiting/late_run.py", "0.0 if is_seen_now else self._check_interval", "0.0", LATE_RUN),
    Mutant("late run counted from the beginning of the wait only", "adf/waiting/late_run.py", "    if run is not None and run.started_at is not None:\n        return", "    if False:\n        return", LATE_RUN),
    Mutant("late run counted by the clock of this machine", "adf/waiting/late_run.py", "service_now - run.started_at.timestamp()", "now - run.started_at.timestamp()", LATE_RUN),
    Mutant("adopted run counted from its adoption", "adf/waiting/late_run.py", "return now if seen is None or seen.started_at is None else seen.started_at.timestamp()", "return now", LATE_RUN),
    Mutant("failing warning ends the wait", "adf/waiting/late_run.py", "        except Exception as e:  # noqa: BLE001  a warning must not end the wait", "        except ZeroDivisionError as e:", f"{MODES} -k xcom_that_airflow_refuses"),
    Mutant("one run that was stuck raises the usual limit", "adf/waiting/late_run.py", "sorted(durations)[math.ceil(len(durations) * USUAL_SHARE) - 1]", "max(durations)", LATE_RUN),
    Mutant("short runs reported that vary by seconds", "adf/waiting/late_run.py", "max(usual * USUAL_FACTOR, usual + USUAL_SLACK_SECONDS)", "usual * USUAL_FACTOR", LATE_RUN),
    Mutant("few runs treated as usual", "adf/waiting/late_run.py", "if len(durations) < FEWEST_RUNS:", "if not durations:", LATE_RUN),
    Mutant("late run not counted", "adf/waiting/late_run.py", "        metrics.count(metrics.LATE_RUNS)\n", "", LATE_RUN),
    Mutant("reruns counted as usual runs", "adf/starting/usual_duration.py", "        and run.run_group_id in (None, run.run_id)\n", "", USUAL),
    Mutant("runs of other pipelines counted as usual runs", "adf/starting/usual_duration.py", "        and is_of(run, pipeline_name)\n", "", USUAL),
    Mutant("list of earlier runs waited for as long as any answer", "adf/starting/usual_duration.py", "replace(query, timeout=READ_SECONDS)", "replace(query)", USUAL),
    Mutant("late run waited for in the triggerer not noticed", "adf/waiting/poller.py", "                    late.check(wait.state.run, *poller.times())\n", "                    pass\n", f"{MODES} -k all_its_triggers"),
    Mutant("check for a late run ends the wait", "adf/waiting/poller.py", "                    if not is_check_first:\n                        raise\n", "                    raise\n", f"{MODES} -k all_its_triggers"),
    Mutant("restarted triggerer reports a late run again", "_triggerer/late_run.py", "if has_xcoms and await _has_warned(ti, late):", "if False and await _has_warned(ti, late):", f"{MODES} -k all_its_triggers"),
    Mutant("late run of an earlier try not reported again", "_triggerer/late_run.py", '"run_id": late.address.run_id, "try_number": ti.try_number}', '"run_id": late.address.run_id}', f"{MODES} -k next_try"),
    Mutant("XCom of a late run pushed by a trigger that has none", "_triggerer/late_run.py", "ti is not None and features.ASYNC_XCOMS", "ti is not None", f"{MODES} -k without_xcoms"),
    Mutant("push of the XCom of a late run delays the end of the wait", "_triggerer/late_run.py", "timeout=PUSH_SECONDS)", "timeout=None)", f"{MODES} -k failing_airflow"),
    Mutant("XCom of a late run cut off by the end of its run", "_triggerer/late_run.py", "            await asyncio.wait(tasks, timeout=PUSH_SECONDS)\n", "            pass\n", f"{MODES} -k ends_during_its_warning"),
    Mutant("limit not stored with a deferred task", "_worker/attempt.py", "                late=late_arguments(limit, begun.run, time.time()),\n", "", f"{MODES} -k all_its_triggers"),
    Mutant("late run waited for on a worker not noticed", "_worker/attempt.py", "late=None if limit is None else self._late_watch(address, limit, begun.run)", "late=None", f"{MODES} -k on_a_worker"),
    Mutant("late run in triggerer mode not noticed", "triggers/start_and_wait.py", "            **late_arguments(await self._late_limit(adf, started), started.run, time.time()),\n", "", f"{MODES} -k in_triggerer_mode"),
    Mutant("warning of an earlier run kept", "triggers/start_and_wait.py", "[] if self.warn_after is None else [LATE_RUN_KEY]", "[]", f"{MODES} -k deletes_the_warning"),
    Mutant("usual duration read for a run that has ended", "triggers/start_and_wait.py", "        if started.run is not None and started.run.is_terminal:\n            return None\n", "", f"{MODES} -k already_ended"),
    Mutant("warn_after accepted that nobody can notice", "adf/config/policies.py", "    if not waits:\n", "    if False:\n", f"{PROVIDER} -k bad_argument"),
    Mutant("unknown word accepted as warn_after", "adf/config/policies.py", "    if value == \"usual\":\n", "    if isinstance(value, str):\n", f"{PROVIDER} -k bad_argument"),
]  # fmt: skip
