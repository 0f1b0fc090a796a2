"""Mutants of starting."""

from __future__ import annotations

from tests.mutants import Mutant

START = "tests/unit/adf/starting/test_create_run.py"
BEGIN = "tests/unit/adf/starting/test_start_or_adopt.py"
EXPLAINED = "tests/integration/adf/reporting/test_explain.py"
TRIGGERER_MODE = "tests/integration/triggers/test_start_and_wait.py"
PACE = "tests/unit/adf/starting/test_rate_limit.py"
OUTLET = "tests/unit/adf/starting/test_start_queue.py"

MUTANTS = [
    Mutant("lost answer not looked for", "adf/starting/create_run.py", "if verdict is Verdict.AMBIGUOUS:", "if False:", START),
    Mutant("throttled start not repeated", "adf/starting/create_run.py", "case AdfThrottledError():\n            return Verdict.NOT_STARTED", "case AdfThrottledError():\n            return Verdict.REFUSED", START),
    Mutant("another pipeline's run adopted", "adf/starting/find_run.py", "if run.pipeline_name.lower() != criteria.pipeline_name.lower():", "if False:", START),
    Mutant("start tried for ever", "adf/starting/create_run.py", "verdict is Verdict.REFUSED or timing.clock() + pause > until", "verdict is Verdict.REFUSED", START),
    Mutant("contradicting recovery", "adf/api/recovery.py", "if self.start_activity_name and self.start_from_failure:", "if False:", START),
    Mutant("recovery without a reference", "adf/api/recovery.py", "if self.is_recovery and not self.reference_pipeline_run_id:", "if False:", START),
    Mutant("retry starts a second run", "adf/starting/intent.py", "return ResolveLostStart(intent=stored) if stored.phase is Phase.SENDING else Adopt(intent=stored)", "return StartNew()", BEGIN),
    Mutant("clear adopts the old run", "adf/starting/intent.py", "before.max_tries != now.max_tries or", "", BEGIN),
    Mutant("clear of a running task adopts", "adf/starting/intent.py", "(before.clear_number != now.clear_number and not stored.try_failed)", "False", BEGIN),
    Mutant("clear of another task taken for ours", "adf/starting/intent.py", "and not stored.try_failed)", ")", BEGIN),
    Mutant("changed parameters adopt", "adf/starting/intent.py", "or stored.fingerprint != wanted_fingerprint", "", BEGIN),
    Mutant("unreadable intent taken for none", "adf/starting/intent.py", "    run_id, key = (_guid(stored, name)", "    return None\n    run_id, key = (_guid(stored, name)", BEGIN),
    Mutant("obsolete run not cancelled", "adf/starting/start_or_adopt.py", "if cancel and seen.status != RunStatus.CANCELING:", "if False:", BEGIN),
    Mutant("obsolete run overlapped", "adf/starting/start_or_adopt.py", "            if remaining is not None:", "            if False:", BEGIN),
    Mutant("obsolete run that cannot be seen ignored", "adf/starting/start_or_adopt.py", "            return None\n        raise AdfError(", "            return None\n        return None\n        raise AdfError(", BEGIN),
    Mutant("run that came to nothing adopted", "adf/starting/start_or_adopt.py", "run.status in (RunStatus.FAILED, RunStatus.CANCELLED)", "False", BEGIN),
    Mutant("run that is being cancelled adopted", "adf/starting/start_or_adopt.py", "run.status == RunStatus.CANCELING and not same_try:", "False:", BEGIN),
    Mutant("sent before it is written down", "adf/starting/create_run.py", "            yield save(sending)\n", "", BEGIN),
    Mutant("blind start", "adf/starting/create_run.py", "and intent.service_uses_key:", ":", BEGIN),
    Mutant("absence that is proven not used", "adf/starting/create_run.py", "and intent.service_uses_key:", "and False:", BEGIN),
    Mutant("on_ambiguous_start ignored", "adf/starting/create_run.py", 'if start.on_ambiguous == "start":', "if False:", BEGIN),
    Mutant("first that looks the same adopted", "adf/starting/create_run.py", "complete and len(result.possible) == 1", "complete and result.possible", BEGIN),
    Mutant("sibling's run adopted", "adf/starting/find_run.py", "if run.run_id not in claimed", "if True", BEGIN),
    Mutant("claim of a sibling not heeded", "adf/starting/create_run.py", "or (yield claim(found.run_id))", "or True", BEGIN),
    Mutant("other parameters' run adopted", "adf/starting/find_run.py", "return Likeness.POSSIBLE if same else Likeness.NO", "return Likeness.POSSIBLE", BEGIN),
    Mutant("own earlier run adopted", "adf/starting/find_run.py", "if run.run_id not in intent.previous_run_ids:", "if True:", BEGIN),
    Mutant("clocks taken to agree", "adf/starting/find_run.py", "intent.sent_at + now - timing.clock()", "intent.sent_at", BEGIN),
    Mutant("correlation parameter not looked at", "adf/starting/find_run.py", "    if criteria.correlation_parameter is not None:", "    if False:", BEGIN),
    Mutant("same try taken for a cleared one", "adf/starting/intent.py", "if not stored.task_try.is_try_of(now) and (", "if (", BEGIN),
    Mutant("newer intent not read", "adf/starting/intent.py", "fields = known_members(cls, stored)", "fields = dict(stored)", BEGIN),
    Mutant("evidence of another factory used", "adf/starting/intent.py", "older.service_uses_key and older.factory == self.factory", "older.service_uses_key", BEGIN),
    Mutant("run of another time adopted", "adf/starting/find_run.py", "-START_CLOCK_SLACK_SECONDS <= began.timestamp() - sent_at <= START_WINDOW_SECONDS", "True", BEGIN),
    Mutant("run of a trigger adopted", "adf/starting/find_run.py", 'or kind != "Manual"', "", BEGIN),
    Mutant("missing factory taken for an ended run", "adf/starting/start_or_adopt.py", 'and answer.missing == "run"', "", BEGIN),
    Mutant("404 alone taken for an ended run", "adf/starting/start_or_adopt.py", "return older.sent_at is not None and timing.clock() - older.sent_at > RUN_RETENTION.total_seconds()", "return True", BEGIN),
    Mutant("another run than the found one waited for", "adf/starting/start_or_adopt.py", "return StillActive(intent=older, run=seen, is_ours=is_ours)", "return StillActive(intent=start.intent(), run=seen, is_ours=is_ours)", BEGIN),
    Mutant("retry claims nothing", "adf/starting/start_or_adopt.py", "            yield claim(known.run_id or known.start_key)\n", "", BEGIN),
    Mutant("404 without near names", "adf/starting/create_run.py", "raise (yield from with_suggestions(answer, start.factory, start.pipeline_name))", "raise answer", f"{EXPLAINED} -k misspelt"),
    Mutant("throttled start holds nobody", "adf/starting/start_queue.py", "            self._bucket.hold(time.time() + (e.retry_after or 0))\n", "", f"{TRIGGERER_MODE} -k holds_all"),
    Mutant("all starts under way at once", "adf/starting/start_queue.py", "AT_ONCE = 20", "AT_ONCE = 2000", f"{TRIGGERER_MODE} -k few_starts"),
    Mutant("start that has rested does not wait for its turn", "adf/starting/start_queue.py", "            await self.enter()\n        await self._client", "            pass\n        await self._client", OUTLET),
    Mutant("answered start keeps its place", "adf/starting/start_queue.py", "        finally:\n            self.leave()\n\n    async def enter", "        finally:\n            pass\n\n    async def enter", OUTLET),
    Mutant("start that was about to leave leaves while all are held", "adf/starting/start_queue.py", "        while held := self._bucket.held(time.time()):", "        while held := 0:", OUTLET),
    Mutant("start that is looked for keeps the others waiting", "adf/starting/start_queue.py", "        self.leave()\n        await", "        await", f"{TRIGGERER_MODE} -k written_down_before"),
    Mutant("starts not paced", "adf/starting/rate_limit.py", "return max(0.0, self._empty_until - now - self.burst / self.per_second)", "return 0.0", PACE),
    Mutant("throttle ends no burst", "adf/starting/rate_limit.py", "until + (self.burst - 1) / self.per_second", "until", PACE),
    Mutant("failed run of the same try is followed by another", "adf/starting/start_or_adopt.py", "(RunStatus.FAILED, RunStatus.CANCELLED) and not same_try:", "(RunStatus.FAILED, RunStatus.CANCELLED):", f"{TRIGGERER_MODE} -k its_run_fails"),
    Mutant("another's run adopted where keys are ids", "adf/starting/create_run.py", "        if intent.service_uses_key:\n            # If", "        if False:\n            # If", f"{TRIGGERER_MODE} -k blind_start"),
    Mutant("lost run of the try before taken for this one's", "adf/starting/start_or_adopt.py", "not_adopted_yet=not same_try)", "not_adopted_yet=False)", BEGIN),
    Mutant("adopted run taken for the one of the try before", "adf/starting/start_or_adopt.py", "        not_adopted_yet=False,\n", "", BEGIN),
    Mutant("older run of another pipeline not found", "adf/starting/start_or_adopt.py", "            return SearchResult(proven=(seen,))", "            return SearchResult(error=AdfError(seen.pipeline_name))", f"{BEGIN} -k start_of_another_pipeline"),
    Mutant("failed looks for an obsolete run taken for its absence", "adf/starting/start_or_adopt.py", "        if result.error is not None:\n            raise AdfError(", "        if False:\n            raise AdfError(", f"{BEGIN} -k cannot_be_looked_for"),
    Mutant("failed look for an obsolete run not repeated", "adf/starting/start_or_adopt.py", "        if len(result.proven) == 1 or result.error is None:", "        if True:", f"{BEGIN} -k once_looks_work_again"),
    Mutant("list alone shows that an obsolete start did nothing", "adf/starting/start_or_adopt.py", "        if not result.key_unknown:", "        if False:", f"{BEGIN} -k about_the_key_and_the_list"),
    Mutant("obsolete run looked for without an end", "adf/starting/start_or_adopt.py", "        if timing.clock() + pause > until:\n            return result", "        if timing.clock() > until + 600:\n            return result", f"{BEGIN} -k cannot_be_looked_for"),
    Mutant("clear said to start a run although looks fail", "adf/starting/create_run.py", '" once the search for its run works" if result.error is not None else ""', '""', f"{BEGIN} -k a_clear_looks_too"),
]  # fmt: skip
