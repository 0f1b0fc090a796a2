"""Mutants of the examples and of the emulator as a tool for tests."""

from __future__ import annotations

from tests.mutants import Mutant

WINDOWS = "tests/unit/test_windows.py"
GUESSES = "tests/unit/emulator/pipelines/test_guesses.py"
SCRIPT = "tests/unit/emulator/pipelines/test_script.py"
SEVERAL_EMULATORS = "tests/integration/emulator/test_several_emulators.py"
ENDS = "tests/integration/test_ends_on_signals.py"
FACTORY = "tests/unit/emulator/service/test_state.py"
RECOVERY = "tests/unit/emulator/pipelines/test_recovery.py"
QUERIES = "tests/unit/emulator/service/test_queries.py"
HTTP = "tests/integration/emulator/test_server.py"
EMULATOR = "emulator"

MUTANTS = [
    Mutant("example copies an empty window", "../dags/01_data_interval.py", 'CronDataIntervalTimetable("@daily", timezone="UTC")', '"@daily"', f"{WINDOWS} -k last_complete_day"),
    Mutant("example of triggerer mode copies an empty window", "../dags/06_triggerer_mode.py", 'CronDataIntervalTimetable("@daily", timezone="UTC")', '"@daily"', f"{WINDOWS} -k last_complete_day"),
    Mutant("empty window accepted by the demo", "../tests/support/examples.py", '"window_hours": window.hours if window else None', '"window_hours": 24', f"{WINDOWS} -k reports_empty"),
    Mutant("background job ignores SIGINT", "../tests/support/processes.py", "for number in (signal.SIGINT, signal.SIGTERM):", "for number in (signal.SIGTERM,):", f"{ENDS} -k demo-int --timeout=100"),
    Mutant("SIGTERM ends a program without cleaning up", "../tests/support/processes.py", "for number in (signal.SIGINT, signal.SIGTERM):", "for number in (signal.SIGINT,):", f"{ENDS} -k soak"),
    Mutant("interrupt that is swallowed does not end a program", "../tests/support/processes.py", "raise_on_signals(repeatedly=True)", "raise_on_signals()", f"{ENDS} -k swallows --timeout=100"),
    Mutant("repeated interrupt stops a cleanup", "../tests/support/processes.py", "    if sys.exception() is None:\n", "    if True:\n", f"{ENDS} -k swallows --timeout=100"),
    Mutant("waiting work begins after an interrupt", "../tests/support/processes.py", "wait=False, cancel_futures=True", "wait=False", f"{ENDS} -k threads --timeout=100"),
    Mutant("children of an interrupted program continue", "../tests/support/processes.py", "        if interrupt_children:", "        if False:", f"{ENDS} -k threads --timeout=100"),
    Mutant("guess not listed", f"{EMULATOR}/pipelines/runs.py", "            self.guesses.append(guess)\n", "", GUESSES),
    Mutant("guess not logged", f"{EMULATOR}/pipelines/runs.py", '            log.warning("%s Run %s.", guess, self.run_id)\n', "", GUESSES),
    Mutant("guess logged in each iteration", f"{EMULATOR}/pipelines/runs.py", "        if guess not in self.guesses:", "        if True:", f"{GUESSES} -k each_iteration"),
    Mutant("condition guessed in silence", f"{EMULATOR}/pipelines/containers.py", '    attempt.guess("expression", attempt.properties.get("expression"), str(truth).lower(), member)\n', "", GUESSES),
    Mutant("items guessed in silence", f"{EMULATOR}/pipelines/containers.py", '    attempt.guess("items", attempt.properties.get("items"), f"{DEFAULT_ITEMS} items", "items")\n', "", GUESSES),
    Mutant("child's parameter guessed in silence", f"{EMULATOR}/pipelines/containers.py", "        if value is UNKNOWN:\n            attempt.guess", "        if False:\n            attempt.guess", GUESSES),
    Mutant("property guessed in silence", f"{EMULATOR}/pipelines/attempt.py", "        self.guess(name, self.properties.get(name), taken, member)\n", "", GUESSES),
    Mutant("number guessed in silence", f"{EMULATOR}/pipelines/attempt.py", '            self.guess(what, value, f"{default:g}", member)\n', "", GUESSES),
    Mutant("timeout guessed in silence", f"{EMULATOR}/pipelines/attempt.py", '            self.guess(what, value, f"{DEFAULT_TIMEOUT / 86_400:g} days")\n', "", GUESSES),
    Mutant("filter's condition guessed in silence", f"{EMULATOR}/pipelines/activities.py", "        if met is UNKNOWN and attempt.script.output is None:", "        if False:", GUESSES),
    Mutant("filter's items guessed in silence", f"{EMULATOR}/pipelines/activities.py", "        if attempt.script.output is None:\n", "        if False:\n", GUESSES),
    Mutant("return value guessed in silence", f"{EMULATOR}/pipelines/activities.py", "    if known is UNKNOWN:\n", "    if False:\n", GUESSES),
    Mutant("scripted value of a variable ignored", f"{EMULATOR}/pipelines/activities.py", "    if attempt.script.value is not UNKNOWN:\n", "    if False:\n", GUESSES),
    Mutant("user property guessed in silence", f"{EMULATOR}/pipelines/walker.py", "        if value is UNKNOWN:\n            self.run.guess", "        if False:\n            self.run.guess", GUESSES),
    Mutant("guesses not shown by the control interface", f"{EMULATOR}/service/control.py", '        "guesses": [guess.to_json() for guess in run.guesses],\n', "", f"{HTTP} -k advances_the_clock"),
    Mutant("script's names not checked at load", f"{EMULATOR}/server.py", "        if script is not None:\n", "        if False:\n", SCRIPT),
    Mutant("script's names not checked on upload", f"{EMULATOR}/service/control.py", "self._parts.set_script(Script.from_json(await request.json()))", "setattr(self._parts.factories[0], 'script', Script.from_json(await request.json()))", f"{HTTP} -k explains_why"),
    Mutant("misspelt activity of a script accepted", f"{EMULATOR}/pipelines/script_names.py", "        if name not in known:\n", "        if False:\n", SCRIPT),
    Mutant("misspelt parameter of `when` accepted", f"{EMULATOR}/pipelines/script_names.py", "            if name not in parameters:", "            if False:", SCRIPT),
    Mutant("activity of another pipeline in `runs` accepted", f"{EMULATOR}/pipelines/script_names.py", '            if key.partition("/")[0] != pipeline:', "            if False:", SCRIPT),
    Mutant("error of an activity that never fails accepted", f"{EMULATOR}/pipelines/script_names.py", "    if entry.error and not fails:", "    if False:", SCRIPT),
    Mutant("member for another type of activity accepted", f"{EMULATOR}/pipelines/script_names.py", "and not types & acts_on:", "and False:", SCRIPT),
    Mutant("run of a script without a pipeline accepted", f"{EMULATOR}/pipelines/script.py", '    if "pipeline" not in entry:', "    if False:", SCRIPT),
    Mutant("member of the wrong type accepted", f"{EMULATOR}/pipelines/script_shape.py", "        if not members[name].fits(value):", "        if False:", SCRIPT),
    Mutant("switch of the wrong type accepted", f"{EMULATOR}/switches.py", "            if not _fits(value, hints[name]):", "            if False:", f"{HTTP} -k explains_why"),
    Mutant("full queue answered with another status", f"{EMULATOR}/pipelines/queue.py", "FullQueueError(switches.full_queue_status,", "FullQueueError(400,", f"{FACTORY} -k full_queue"),
    Mutant("queue filled by runs that need not wait", f"{EMULATOR}/pipelines/queue.py", ">= free + switches.most_queued:", ">= switches.most_queued:", f"{FACTORY} -k queue"),
    Mutant("refusal by a full queue not counted", f"{EMULATOR}/service/arm.py", "            record.full_queue = isinstance(e, FullQueueError)\n", "", f"{HTTP} -k full_queue"),
    Mutant("older run of a group updated by a recovery", f"{EMULATOR}/service/state.py", "self.supersede(other)", "other.is_latest = False\n                self.touch(other)", RECOVERY),
    Mutant("child of a recovery run begins again", f"{EMULATOR}/pipelines/lifecycle.py", "            if earlier is not None and self.switches.recovery_reaches_children:", "            if False:", RECOVERY),
    Mutant("child of a recovery run ignores the switch", f"{EMULATOR}/pipelines/lifecycle.py", "if earlier is not None and self.switches.recovery_reaches_children:", "if earlier is not None:", RECOVERY),
    Mutant("containers of a recovery run begin again", f"{EMULATOR}/pipelines/attempt.py", "        if earlier is None or earlier.item", "        if True or earlier.item", RECOVERY),
    Mutant("iteration with another item continued", f"{EMULATOR}/pipelines/attempt.py", 'earlier is None or earlier.item != members["item"]:', "earlier is None:", RECOVERY),
    Mutant("retry in a recovery run continues", f"{EMULATOR}/pipelines/attempt.py", "if self._number > 1 or self.entry.name not in", "if self.entry.name not in", RECOVERY),
    Mutant("recovery continues activities whose predecessors run again", f"{EMULATOR}/pipelines/recovery.py", "if name not in carried and before[name] <= carried)", "if name not in carried)", RECOVERY),
    Mutant("recovery repeats activities that were skipped by success", f"{EMULATOR}/pipelines/recovery.py", 'in ("Succeeded", "Skipped")}', 'in ("Succeeded",)}', RECOVERY),
    Mutant("recovery forgets variables", f"{EMULATOR}/pipelines/walker.py", "            run.assign(assignment)\n", "            pass\n", RECOVERY),
    Mutant("recovery forgets outputs inside containers", f"{EMULATOR}/pipelines/recovery.py", "        for each in inner:", "        for each in []:", RECOVERY),
    Mutant("unlisted run shown in the list", f"{EMULATOR}/service/state.py", "self.runs.values() if run.is_listed]", "self.runs.values()]", f"{HTTP} -k unlisted"),
    Mutant("fault that hides no run accepted", f"{EMULATOR}/gateway/faults.py", '        if fault.unlisted and fault.effect == "before" and', '        if False and', f"{HTTP} -k never_apply"),
    Mutant("times of filters compared as text", f"{EMULATOR}/service/queries.py", "        return _moment(value)\n", "        return value\n", QUERIES),
    Mutant("list ordered by a field that the specification lacks", f"{EMULATOR}/service/queries.py", 'body.get("orderBy"), _RUN_ORDERS)', 'body.get("orderBy"), _RUN_OPERANDS)', QUERIES),
    Mutant("switch for the ids of recovery runs ignored", f"{EMULATOR}/service/state.py", "(not is_recovery or self.switches.rerun_id_from_request_id)", "True", FACTORY),
    Mutant("switch for the ids of recovery runs affects a mere reference", f"{EMULATOR}/service/state.py", "is_recovery=is_recovery)\n        if run_id in", "is_recovery=reference_run_id is not None)\n        if run_id in", FACTORY),
    Mutant("recovery of a superseded run never refused", f"{EMULATOR}/pipelines/recovery.py", "if is_recovery and not run.is_latest and", "if False and", FACTORY),
    Mutant("case of filters never ignored", f"{EMULATOR}/service/queries.py", "value.lower() if ignores_case and isinstance(value, str) else value", "value", QUERIES),
    Mutant("denial of an unknown identity accepted", f"{EMULATOR}/service/control.py", "            if client_id not in identities:", "            if False:", f"{HTTP} -k explains_why"),
    Mutant("interrupted emulator continues to serve", f"{EMULATOR}/server.py", "                loop.call_soon_threadsafe(loop.stop)\n", "                loop.is_running()\n", "tests/unit/emulator/pipelines/test_script.py -k interrupted --timeout=100"),
    Mutant("token of an emulator sent to the next one", "adf/auth/credential.py", "    place = where_tokens_come_from(os.environ)\n", "    place = ()\n", f"{SEVERAL_EMULATORS} -k at_once"),
    Mutant("credentials not forgotten", "adf/auth/credential.py", "    _credentials.clear()\n", "    pass\n", f"{SEVERAL_EMULATORS} -k forgotten"),
]  # fmt: skip
