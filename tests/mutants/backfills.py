"""Mutants of parameters, reruns, full queues, and runs that are already there."""

from __future__ import annotations

from tests.mutants import Mutant

DECLARED = "tests/unit/adf/starting/test_declared_parameters.py"
PUBLISHED = "tests/unit/adf/starting/test_published_pipeline.py"
RERUN = "tests/unit/adf/starting/test_rerun.py"
TURNS = "tests/unit/adf/starting/test_turns.py"
FULL_QUEUE = "tests/integration/test_full_queue.py"
PRESENT = "tests/unit/adf/starting/test_present_runs.py"
PRESENT_IN_TASKS = "tests/integration/test_present_runs.py"
START = "tests/unit/adf/starting/test_create_run.py"

MUTANTS = [
    Mutant("undeclared parameter sent", "adf/starting/declared_parameters.py", "        if one is None:\n            problems.append(f\"{name!r} is not declared.{_suggestion(name, by_name)}\")\n            continue", "        if one is None:\n            values[name] = value\n            continue", DECLARED),
    Mutant("missing parameter not noticed", "adf/starting/declared_parameters.py", "if not one.has_default and one.name not in values", "if False and one.name not in values", DECLARED),
    Mutant("parameter given in two spellings sent", "adf/starting/declared_parameters.py", "if one.name in values:", "if False:", DECLARED),
    Mutant("name of another case sent as given", "adf/starting/declared_parameters.py", "            values[one.name] = _fitted(one.type, value)", "            values[name] = _fitted(one.type, value)", DECLARED),
    Mutant("infinite number sent", "adf/starting/declared_parameters.py", " and value not in (math.inf, -math.inf)", "", DECLARED),
    Mutant("boolean sent as a number", "adf/starting/declared_parameters.py", "return isinstance(value, int | float) and not isinstance(value, bool)", "return isinstance(value, int | float)", DECLARED),
    Mutant("correlation parameter that is no String accepted", "adf/starting/declared_parameters.py", 'if one.type != "string":', "if False:", DECLARED),
    Mutant("kept definition refuses", "adf/starting/published_pipeline.py", "        if not fitted.problems:\n            return _sending(start, fitted)", "        if fitted.problems:\n            raise AdfConfigurationError(\"old\")\n        return _sending(start, fitted)", PUBLISHED),
    Mutant("definition kept for ever", "adf/starting/published_pipeline.py", "if timing.clock() - read_at < KEPT_SECONDS:", "if declared:", PUBLISHED),
    Mutant("unreadable definition prevents a start", "adf/starting/published_pipeline.py", "        return start\n    for old in", "        raise\n    for old in", PUBLISHED),
    Mutant("fingerprint of the converted values", "adf/starting/start.py", "fingerprint(self.factory, self.pipeline_name, self.parameters, self.recovery)", "fingerprint(self.factory, self.pipeline_name, self.fitted and self.fitted.values, self.recovery)", f"{PUBLISHED} {START}"),
    Mutant("converted value not recognised", "adf/starting/find_run.py", "    return wanted is not None and wanted == _read(shown)", "    return False", DECLARED),
    Mutant("respelled name not recognised", "adf/starting/find_run.py", "return {name.lower(): value for name, value in parameters.items()}", "return dict(parameters)", DECLARED),
    Mutant("rerun without being asked", "adf/starting/start_or_adopt.py", 'run.status == RunStatus.FAILED and start.retry_from_failure != "never" and not known.is_foreign', "run.status == RunStatus.FAILED and not known.is_foreign", RERUN),
    Mutant("foreign run continued", "adf/starting/start_or_adopt.py", ' and start.retry_from_failure != "never" and not known.is_foreign', ' and start.retry_from_failure != "never"', PRESENT),
    Mutant("clear continues although the author says retry", "adf/starting/start_or_adopt.py", 'wanted = ("always",) if is_clear else ("retry", "always")', 'wanted = ("retry", "always")', RERUN),
    Mutant("run with other parameters continued", "adf/starting/start_or_adopt.py", "older.fingerprint != fresh.fingerprint or start.retry_from_failure", "start.retry_from_failure", RERUN),
    Mutant("older run of a group continued", "adf/starting/rerun.py", "if failed.is_latest is False and failed.run_group_id is not None:", "if False:", RERUN),
    Mutant("rerun of a person not adopted", "adf/starting/rerun.py", "if latest.status not in (RunStatus.FAILED, RunStatus.CANCELLED):", "if False:", RERUN),
    Mutant("cancelled rerun continued", "adf/starting/rerun.py", "    if latest.status != RunStatus.FAILED:", "    if False:", RERUN),
    Mutant("refused rerun fails the try", "adf/starting/rerun.py", "    except AdfRequestError as e:\n", "    except ZeroDivisionError as e:\n", RERUN),
    Mutant("missing role starts from the beginning", "adf/starting/rerun.py", "except (AdfPermissionError, AdfThrottledError):", "except AdfThrottledError:", RERUN),
    Mutant("lost rerun not searched for in its group", "adf/starting/find_run.py", "    if criteria.rerun_group_id is not None:", "    if False:", RERUN),
    Mutant("earlier run of the group taken for the lost rerun", "adf/starting/find_run.py", "    return began.timestamp() - sent_at >= -START_CLOCK_SLACK_SECONDS", "    return True", RERUN),
    Mutant("lost rerun sent again from the beginning", "adf/starting/start_or_adopt.py", "    if lost.rerun_of is not None:", "    if False:", RERUN),
    Mutant("full queue counts as a refusal", "adf/starting/create_run.py", "            return Verdict.QUEUE_FULL", "            return Verdict.REFUSED", FULL_QUEUE),
    Mutant("place in the queue lost after another refusal", "adf/starting/create_run.py", "first_refused_at=prepared.first_refused_at or sending.sent_at", "first_refused_at=sending.sent_at", FULL_QUEUE),
    Mutant("time in the queue not counted", "_worker/attempt.py", "self._deadlines.of_wait(intent.first_refused_at or time.time())", "self._deadlines.of_wait(time.time())", FULL_QUEUE),
    Mutant("limit of a wait for a place counted from its end", "_worker/queue_wait.py", "self._deadlines.of_wait(self._refused_at or time.time())", "self._deadlines.of_wait(time.time())", FULL_QUEUE),
    Mutant("wait for a place never ends", "_worker/queue_wait.py", "        if now >= deadline.at:\n            raise self.error(start) from refusal", "        if False:\n            raise self._queue_was_full() from refusal", f"{FULL_QUEUE} -k deadline_of_a_blocking"),
    Mutant("last start goes first", "adf/starting/turns.py", "key=self._waiting.__getitem__)[", "key=self._waiting.__getitem__, reverse=True)[", TURNS),
    Mutant("start under way takes no place", "adf/starting/turns.py", "free = self._limit - queued - len(self._let_go)", "free = self._limit - queued", TURNS),
    Mutant("place given away while a busy Airflow resumes the task", "adf/starting/turns.py", "if at > now - COUNTED_SECONDS]", "if at > now - UNDER_WAY_SECONDS]", TURNS),
    Mutant("list believed although a start came back", "adf/starting/turns.py", "            self._is_believed = self._is_probing = False", "            self._is_probing = False", TURNS),
    Mutant("wrong list believed again for ever", "adf/starting/turns.py", "            self._limit = min(self._limit, self._shown)", "            pass", TURNS),
    Mutant("full list never doubted", "adf/starting/turns.py", "else int(is_stale)", "else 0", TURNS),
    Mutant("all starts go at once", "adf/starting/turns.py", "return min(free, MOST_AT_ONCE) if free > 0", "return free if free > 0", TURNS),
    Mutant("another pipeline's queued runs counted", "adf/starting/pipeline_queue.py", "None if queued is None else queued[name]", "None if queued is None else queued.total()", FULL_QUEUE),
    Mutant("active run with other parameters adopted", "adf/starting/present_runs.py", "run.status in _USABLE and is_equal(run)", "run.status in _USABLE", PRESENT),
    Mutant("foreign run that is being cancelled adopted", "adf/starting/present_runs.py", "(run.status in _USABLE and is_equal(run))", "is_equal(run)", PRESENT),
    Mutant("own earlier run accepted after a clear", "adf/starting/present_runs.py", "*(run for run in listed if run.run_id not in own)]", "*listed]", PRESENT),
    Mutant("ended run counts as active", "adf/starting/present_runs.py", "        live = [run for run in seen if not run.is_terminal]", "        live = list(seen)", PRESENT),
    Mutant("secure parameters compared", "adf/starting/present_runs.py", "    if any(one.is_secure for one in declared):", "    if False:", PRESENT),
    Mutant("defaults not compared", "adf/starting/present_runs.py", "    return all(\n        one.name in run.parameters and", "    return all(\n        one.name not in values or one.name in run.parameters and", PRESENT),
    Mutant("unreadable list means no run", "adf/starting/present_runs.py", "    if error is not None:\n        raise AdfError(\n            f\"The runs", "    if False:\n        raise AdfError(\n            f\"The runs", PRESENT),
    Mutant("second active run not reported", "adf/starting/present_runs.py", "        if others:\n            metrics", "        if False:\n            metrics", PRESENT),
    Mutant("foreign run ended by a clear", "adf/starting/start_or_adopt.py", "if older.phase is Phase.PREPARED or older.is_foreign:\n        return None", "if older.phase is Phase.PREPARED:\n        return None", PRESENT),
    Mutant("foreign run cancelled by a kill", "_worker/owned_run.py", "intent.phase is Phase.PREPARED or intent.is_foreign else intent", "intent.phase is Phase.PREPARED else intent", f"{PRESENT_IN_TASKS} -k kill"),
    Mutant("foreign run cancelled by a timeout", "_worker/attempt.py", "self._task.cancel_on_timeout and not begun.is_foreign", "self._task.cancel_on_timeout", f"{PRESENT_IN_TASKS} -k timeout"),
    Mutant("foreign run cancelled by a kill in triggerer mode", "_triggerer/start.py", "        if latest.is_foreign:", "        if False:", f"{PRESENT_IN_TASKS} -k triggerer_mode"),
    Mutant("skip recorded as a failure", "_worker/attempt.py", "except (AdfTaskKilled, AirflowSkipException):", "except AdfTaskKilled:", f"{PRESENT_IN_TASKS} -k skip"),
    Mutant("list without a later run counts as fresh", "adf/starting/find_run.py", "run.started_at is not None and run.started_at.timestamp() > since]", "run.started_at is not None]", START),
    Mutant("lost start sent again although the list may lag", "adf/starting/create_run.py", "        if later is not None and not again.proven", "        if not again.proven", START),
    Mutant("full queue delays starts of other pipelines", "adf/starting/start_queue.py", "        except AdfQueueFullError:", "        except ZeroDivisionError:", "tests/unit/adf/starting/test_start_queue.py"),
    Mutant("own run taken for a later run", "adf/starting/find_run.py", "next((run for run in later if _is_of_another_start(run, criteria, intent.start_key)), None)", "next(iter(later), None)", START),
    Mutant("lost start sent again before a last search", "adf/starting/create_run.py", "        if len(again.proven) == 1:", "        if False:", START),
    Mutant("letters compared without their case", "adf/starting/declared_parameters.py", "        return bool(shown == value) or", "        return bool(shown.lower() == str(value).lower()) or", PRESENT),
    Mutant("comparison after the start ends the try", "adf/starting/present_runs.py", "        except AdfError as e:\n            # The run has begun.", "        except ZeroDivisionError as e:\n            # The run has begun.", PRESENT),
    Mutant("own runs found by their keys forgotten", "adf/starting/intent.py", "dict.fromkeys((*self.previous_run_ids, *older", "dict.fromkeys((*older", "tests/unit/adf/starting/test_start_or_adopt.py"),
    Mutant("wrong parameters compared", "adf/starting/present_runs.py", "    if fitted.problems:", "    if False:", PRESENT),
    Mutant("run that has just succeeded overlooked", "adf/starting/present_runs.py", "succeeded = [*just_succeeded, ", "succeeded = [", PRESENT),
    Mutant("rerun beside an active run", "adf/starting/rerun.py", "    if live is not None:", "    if False:", PRESENT),
    Mutant("rerun of somebody owned", "adf/starting/rerun.py", "is_foreign=True, service_uses_key", "service_uses_key", RERUN),
    Mutant("somebody's run of the group owned", "adf/starting/create_run.py", "is_foreign=intent.rerun_of is not None and not started.service_uses_key", "is_foreign=False", RERUN),
    Mutant("lost rerun superseded without its group", "adf/starting/start_or_adopt.py", "    if older.rerun_of is not None:\n        criteria", "    if False:\n        criteria", RERUN),
    Mutant("ordinary run proves the ids of reruns", "adf/starting/find_run.py", " and not (of_reruns and run.run_id == run.run_group_id)", "", RERUN),
    Mutant("own run found by its key accepted after a clear", "adf/starting/start_or_adopt.py", "previous_run_ids=tuple(sorted(own_ids))", "previous_run_ids=()", "tests/unit/adf/starting/test_earlier_tries.py"),
    Mutant("run of a deleted Dag run continued", "adf/starting/try_keys.py", "found.try_number < before and _is_wanted", "_is_wanted", "tests/unit/adf/starting/test_earlier_tries.py"),
    Mutant("waits not told that their rounds have ended", "adf/starting/pipeline_queue.py", "                ready.set_exception(error)", "                pass", f"{FULL_QUEUE} -k rounds"),
    Mutant("full queue hides a start without proof", "adf/starting/create_run.py", "if verdict is Verdict.QUEUE_FULL and sent_without_proof is not None:", "if False:", START),
    Mutant("foreign run cancelled by Airflow's timeout in triggerer mode", "_worker/resumed_attempt.py", "return known is not None and known.is_foreign", "return False", f"{PRESENT_IN_TASKS} -k airflows_timeout"),
    Mutant("failed trigger of a wait for a live run not started again", "_worker/attempt.py", ' or self._start.present_runs.on_live_run == "wait"', "", f"{PRESENT_IN_TASKS} -k failed_trigger"),
]  # fmt: skip
