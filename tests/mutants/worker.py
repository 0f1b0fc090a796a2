"""Mutants of workers, kills and timeouts."""

from __future__ import annotations

from tests.mutants import Mutant

TRIGGER = "tests/integration/triggers/test_wait.py"
OWNED_RUN = "tests/integration/_worker/test_owned_run.py"
DEFERRAL = "tests/integration/triggers/test_deferral.py"
OPERATOR = "tests/integration/test_operators.py"
CANCEL_ON_KILL = "tests/integration/_triggerer/test_cancel_on_kill.py"
TASK_INSTANCE = "tests/unit/_airflow/test_task_instance.py"
PROVIDER = "tests/contract/test_provider.py"
STATS = "tests/integration/_airflow/test_stats.py"
PUSHED = "tests/integration/adf/reporting/test_outputs.py"
LINEAGE = "tests/integration/_openlineage/test_facets.py"
TRIGGERER_MODE = "tests/integration/triggers/test_start_and_wait.py"
ELIGIBILITY = "tests/integration/_triggerer/test_eligibility.py"

MUTANTS = [
    Mutant("operator ended by Airflow's timeout before its own", "_worker/deferrals.py", "timeout = deferral_timeout(plan.deadline or now, now)", "timeout=deferral_timeout(now, now)", DEFERRAL),
    Mutant("operator without its own deadline", "_worker/attempt.py", "check_interval=self._task.check_interval, deadline=deadline.at, deadline_reason", "check_interval=self._task.check_interval, deadline=None, deadline_reason", DEFERRAL),
    Mutant("kill does not replace a refused token", "_worker/owned_run.py", "        return self._credential.forget_token(refused)", "        return False", f"{OWNED_RUN} -k kill_whose"),
    Mutant("watched run cancelled", "triggers/wait.py", "cancel_on_timeout=self.owns_run and self.cancel_on_timeout", "cancel_on_timeout=self.cancel_on_timeout", TRIGGER),
    Mutant("killed worker does not cancel", "_worker/owned_run.py", "            self._canceller.request(HANDLER_WAIT_SECONDS)\n", "            self._killed = False\n", OWNED_RUN),
    Mutant("kill waits for the token lock", "_worker/owned_run.py", "            if token is not None and token.token not in self._refused:", "            if False:", OWNED_RUN),
    Mutant("kill waits for a new token", "_worker/owned_run.py", ", self._credential.given_up_token(*scopes)):", ",):", OWNED_RUN),
    Mutant("kill cancels despite cancel_on_kill=False", "_worker/owned_run.py", "if not self._cancel_on_kill:", "if False:", OWNED_RUN),
    Mutant("parameters not checked when parsed", "operators.py", "            check_parameters(static_part(self.parameters))", "            check_parameters(None)", f"{PROVIDER} -k parsed"),
    Mutant("operator without any run id not reported", "_worker/attempt.py", "if not isinstance(run_id, str) or not run_id:", "if False:", OPERATOR),
    Mutant("trigger failure treated as a timeout", "operators.py", "except TaskDeferralTimeout:", "except (TaskDeferralTimeout, TaskDeferralError):", OPERATOR),
    Mutant("start continues although its intent cannot be stored", "_worker/task_journal.py", "            raise AdfError(\n                f\"The intent to start", "            return\n            raise AdfError(\n                f\"What is about", OPERATOR),
    Mutant("failed trigger not followed by another", "_worker/attempt.py", "pause = record_trigger_failure(self._context) if self._journal is not None and may_continue else None", "pause = None", OPERATOR),
    Mutant("deadline of an adopted run restarted", "_worker/attempt.py", "        if intent.deadline is None:\n", "        if True:\n", OPERATOR),
    Mutant("execution_timeout after Airflow's", "_worker/try_deadlines.py", "else WORKER_MARGIN", "else DEFERRED_MARGIN", OPERATOR),
    Mutant("execution_timeout cancels as a kill", "_worker/attempt.py", "owned_run.on_execution_timeout(cancel=self._task.cancel_on_timeout)", "pass", OPERATOR),
    Mutant("kill cancels a run that a retry adopts", "_worker/owned_run.py", "        if self._will_be_retried():", "        if False:", OWNED_RUN),
    Mutant("kill before the start does not cancel the known run", "_worker/owned_run.py", "self.latest = None if known is None else _owned(known)", "self.latest = None", OPERATOR),
    Mutant("killed task sends createRun", "_worker/owned_run.py", "        self._check()\n        self._journal.save", "        self._journal.save", OWNED_RUN),
    Mutant("kill of a trigger whose task continues cancels", "_triggerer/cancel_on_kill.py", "if state not in OVER:", "if False:", CANCEL_ON_KILL),
    Mutant("kill of a marked task does not cancel", "_triggerer/cancel_on_kill.py", "if state not in OVER:", "if True:", CANCEL_ON_KILL),
    Mutant("cancel of a kill interrupted by Airflow", "triggers/wait.py", "await asyncio.shield(killing)", "await killing", CANCEL_ON_KILL),
    Mutant("kill without a call of on_kill does not cancel", "triggers/wait.py", "if was_killed(self, e):", "if False:", CANCEL_ON_KILL),
    Mutant("restart of a triggerer treated as a kill", "triggers/wait.py", "if was_killed(self, e):", "if True:", CANCEL_ON_KILL),
    Mutant("request for the state of the task not repeated", "_triggerer/cancel_on_kill.py", "            if time.monotonic() > until:\n                raise", "            raise", CANCEL_ON_KILL),
    Mutant("mass kill sends a request for each task", "_triggerer/cancel_on_kill.py", "if key not in kills.asked:", "if True:", CANCEL_ON_KILL),
    Mutant("eviction cancels", "_airflow/task_instance.py", "not in STOPPED", "is None", TASK_INSTANCE),
    Mutant("kill of a marked task leaves its run", "_airflow/task_instance.py", "not in STOPPED", "is not Ellipsis", TASK_INSTANCE),
    Mutant("last try leaves its run", "_airflow/task_instance.py", "    if is_last_try(context):", "    if False:", TASK_INSTANCE),
    Mutant("address of the deployment not in the key", "_airflow/task_instance.py", 'conf.get("api", "base_url", fallback="") or ""', '""', f"{TASK_INSTANCE} -k address_of_the_deployment"),
    Mutant("map index not in the key", "_airflow/task_instance.py", "map_index=ti.map_index,\n        now", "now", f"{TASK_INSTANCE} -k map_index"),
    Mutant("try before thought to have lasted until this try", "_airflow/task_instance.py", "ti.start_date.timestamp() - retry_delay", "ti.start_date.timestamp()", f"{TASK_INSTANCE} -k retry_delay"),
    Mutant("Dag run without a begin thought to be older than all runs", "_airflow/task_instance.py", "None if began is None else began.timestamp()", "0.0 if began is None else began.timestamp()", f"{TASK_INSTANCE} -k begin_of_the_dag_run"),
    Mutant("kill before the start not noticed", "_worker/attempt.py", "            if self._task.is_killed:", "            if False:", f"{OPERATOR} -k kill --timeout=20"),
    Mutant("kill right after the start not noticed", "_worker/attempt.py", "            owned_run.run(reporting_others(self._start, begun, timing=REAL_TIME))\n            owned_run.raise_if_killed()\n", "", OPERATOR),
    Mutant("kill while the intent is stored not noticed", "_worker/owned_run.py", "        try:\n            self._check()\n            # A kill between", "        try:\n            # A kill between", OPERATOR),
    Mutant("kill deletes the intent of a lost start", "_worker/owned_run.py", "            if before is None:\n", "            if True:\n", OPERATOR),
    Mutant("failure not recorded because another task was cleared", "_worker/task_journal.py", "if intent.task_try.is_try_of(now):", "if intent.task_try == now:", OPERATOR),
    Mutant("execution_timeout follows cancel_on_kill", "_worker/owned_run.py", "        self._cancel_on_kill = cancel\n", "", OPERATOR),
    Mutant("run that only the journal knows not cancelled", "_worker/attempt.py", "if stored is not None and stored.run_id and stored", "if False and stored", OPERATOR),
    Mutant("task id that could be a mapped instance not requested by itself", "_triggerer/cancel_on_kill.py", "ti.task_id if may_be_confused else None", "None", CANCEL_ON_KILL),
    Mutant("state of a mapped task read by another index", "_airflow/task_instance.py", 'f"{ti.task_id}_{ti.map_index}"', "ti.task_id", CANCEL_ON_KILL),
    Mutant("outputs without wait_for_termination accepted", "operators.py", "if self.outputs and not self.wait_for_termination:", "if False:", PUSHED),
    Mutant("bad outputs refused only after the start", "_worker/attempt.py", "        parse_outputs(self._task.outputs)\n        stored = self._stored()", "        stored = self._stored()", PUSHED),
    Mutant("run of a lost answer that failed returned as success", "_worker/attempt.py", "return self._results.of(owned_run.explain(report))", "return summary(address, begun.run, adopted=begun.adopted)", OPERATOR),
    Mutant("ambiguous start not counted", "_worker/attempt.py", "if isinstance(e, AdfAmbiguousStartError):", "if False:", STATS),
    Mutant("parameters shown to the provider", "operators.py", "        from airflow_adf_mi._openlineage.facets import at_start\n\n        hide_parameters(self)\n", "        from airflow_adf_mi._openlineage.facets import at_start\n\n", LINEAGE),
    Mutant("hidden parameters sent to the service", "operators.py", "parameters=parameters_of(self)", "parameters=self.parameters", LINEAGE),
    Mutant("mapped task starts in the triggerer", "operators.py", "start_from_trigger=False, **kwargs)", "start_from_trigger=start_from_trigger, **kwargs)", ELIGIBILITY),
    Mutant("Airflow's timeout treated as a kill", "triggers/wait.py", "return not is_late and ", "return ", f"{TRIGGERER_MODE} -k is_not_a_kill"),
    Mutant("failures of another try counted", "_worker/trigger_failures.py", " or {name: stored.get(name) for name in now} != now", "", "tests/unit/_worker/test_trigger_failures.py"),
    Mutant("pause without a bound", "_worker/trigger_failures.py", "min(12 * FIRST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * float(2**failures))", "FIRST_PAUSE_SECONDS * float(2**failures)", "tests/unit/_worker/test_trigger_failures.py"),
    Mutant("execution_timeout logged as a kill", "_worker/owned_run.py", ', why="execution_timeout has passed.")', ")", f"{OWNED_RUN} -k reason"),
    Mutant("withdrawn claim leaves a run_id", "_worker/task_journal.py", "        XCom.delete(RUN_ID_KEY, **xcom_address(self._ti))\n", "", "tests/unit/_worker/test_task_journal.py"),
    Mutant("claim of another instance not seen", "_worker/task_journal.py", "        if run_id not in self.claimed():\n", "        if True:\n", "tests/unit/_worker/test_task_journal.py"),
    Mutant("execution_timeout begins again at each resumption", "_worker/attempt.py", "start_of_try(self._context) if self._task.deferrable else self._called_at", "self._called_at", f"{OPERATOR} -k counts_from_the_beginning"),
    Mutant("run started after the time of its try", "_worker/attempt.py", "        raise_if_too_late(self._deadlines.of_try(), time.time(), report.address)\n", "", "tests/integration/test_operators.py -k no_time_left"),
    Mutant("uncounted failure of a trigger ends the wait", "_worker/trigger_failures.py", "        log.warning(\"Airflow did not store that the trigger failed", "        raise\n        log.warning(\"Airflow did not store that the trigger failed", "tests/unit/_worker/test_trigger_failures.py"),
    Mutant("blocking task starts a run after its time", "_worker/attempt.py", "        raise_if_too_late(limit, time.time(), address)\n", "", "tests/integration/test_operators.py -k blocking_task_with_no_time_left"),
    Mutant("state not asked for where Airflow shows no user's action", "triggers/wait.py", "not features.TRIGGER_ON_KILL or ", "", "tests/integration/_triggerer/test_cancel_on_kill.py -k state_decides"),
    Mutant("late trigger treated as a kill", "triggers/wait.py", "return not is_late and (", "return (", "tests/integration/_triggerer/test_cancel_on_kill.py -k ends_late"),
    Mutant("task ends in a triggerer that cannot push XComs", "_triggerer/eligibility.py", "features.ASYNC_XCOMS and ", "", "tests/unit/_airflow/test_features.py -k ends_on_a_worker"),
    Mutant("triggerer mode on an Airflow without it", "_triggerer/eligibility.py", "if not features.TEMPLATED_TRIGGERS:", "if False:", "tests/unit/_airflow/test_features.py -k triggers_have_no_templates"),
    Mutant("private name of Airflow imported without a test", "links.py", "from airflow.sdk.execution_time.xcom import XCom", "from airflow.sdk.execution_time.xcom import BaseXCom as XCom", "tests/unit/_airflow/test_features.py -k that_the_package_imports"),
    Mutant("older Airflow not refused", "__init__.py", "< (3, 1)", "< (3, 0)", "tests/unit/_airflow/test_features.py -k older_airflow"),
    Mutant("retry policy made on an Airflow without policies", "retry.py", "if not features.RETRY_POLICIES:", "if False:", "tests/unit/_airflow/test_features.py -k which_airflow"),
    Mutant("store of an older Airflow expected", "_airflow/try_store.py", "return TaskStateStore(context[\"task_state_store\"]) if features.TASK_STATE_STORE else XComStore(context[\"ti\"])", "return TaskStateStore(context[\"task_state_store\"])", "tests/unit/_airflow/test_features.py -k store_outlives"),
    Mutant("rescheduled sensor stores its state in XComs", "sensors.py", "return self.reschedule and features.TASK_STATE_STORE", "return self.reschedule", "tests/integration/test_sensors.py -k without_a_store"),
    Mutant("run of an earlier try left active by a kill before it is found", "_worker/attempt.py", "self._owning(stored or self._possible())", "self._owning(stored)", f"{OPERATOR} -k cannot_be_checked_without"),
    Mutant("event of an earlier try taken for this try's", "_worker/task_journal.py", "return Intent.from_json(self.stored()).task_try.try_number < now.try_number", "return Intent.from_json(self.stored()).task_try.try_number < 0", f"{OPERATOR} -k event_of_the_failed_try"),
    Mutant("never_fail ignored after a deferral", "sensors.py", "if not self.never_fail and not (", "if not (", "tests/integration/test_sensors.py -k does_not_know_it_there"),
    Mutant("sensor defers for a run that has ended", "sensors.py", "if not self.deferrable or (seen is not None and seen.is_terminal):", "if not self.deferrable:", "tests/integration/test_sensors.py -k already_ended"),
    Mutant("run that could not be checked counts as active", "sensors.py", "not_ended_before=None if seen is None else asked_at", "not_ended_before=asked_at", "tests/integration/test_sensors.py -k left_to_the_triggerer"),
    Mutant("soft_fail ignored at the timeout of a deferral where Airflow does not know it there", "sensors.py", " and not (self.soft_fail and is_timeout):", ":", "tests/integration/test_sensors.py -k timeout_of_the_deferral"),
    Mutant("failed trigger fails a sensor", "sensors.py", "            if not isinstance(failure, TaskDeferralError):\n                raise", "            raise", "tests/integration/test_sensors.py -k waits_again"),
    Mutant("soft_fail skips a sensor whose trigger failed", "sensors.py", "failure = e.__cause__ if isinstance(e, AirflowSkipException) else e", "failure = e", "tests/integration/test_sensors.py -k waits_again"),
    Mutant("sensor waits for triggers that fail without end", "sensors.py", "        if pause is None:\n", "        if False:\n", "tests/integration/test_sensors.py -k seventh_failure"),
    Mutant("sensor defers again without a pause", "sensors.py", "        time.sleep(pause)\n", "", "tests/integration/test_sensors.py -k pauses"),
    Mutant("timeout of a sensor counts from each deferral", "sensors.py", "counts_from=start_of_try(context)", "counts_from=now", "tests/integration/test_sensors.py -k counts_from_the_start"),
    Mutant("sensor with no time left deferred", "sensors.py", "        if now >= deadline.at:", "        if False:", "tests/integration/test_sensors.py -k no_time_left"),
    Mutant("soft_fail ignored by a sensor with no time left", "sensors.py", "kind = AirflowSkipException if self.soft_fail or self.never_fail else AirflowSensorTimeout", "kind = AirflowSensorTimeout", "tests/integration/test_sensors.py -k no_time_left"),
    Mutant("error of a failed trigger names no run", "_worker/trigger_failures.py", "could not be read. {unaffected} {e}", "could not be read. {e}", "tests/integration/test_sensors.py -k cannot_be_counted"),
    Mutant("record of a start expires", "_airflow/try_store.py", ", retention=NEVER_EXPIRE", "", "tests/unit/_airflow/test_features.py -k never_expires"),
    Mutant("timeout of a sensor that does not defer not counted", "sensors.py", "        outcome = TimedOut(run=seen, deadline_reason=reason)\n        measure(outcome, time.time())\n", "        outcome = TimedOut(run=seen, deadline_reason=reason)\n", f"{STATS} -k before_its_deferral"),
    Mutant("core's errors leave a sensor that waits again", "sensors.py", "    @airflow_errors()\n    def _wait_again(", "    def _wait_again(", "tests/integration/test_sensors.py -k seventh_failure"),
]  # fmt: skip
