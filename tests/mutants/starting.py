"""Mutants of starting runs."""

from __future__ import annotations

from tests.mutants import Mutant

START = "tests/unit/adf/starting/test_create_run.py"
START_OR_ADOPT = "tests/unit/adf/starting/test_start_or_adopt.py"
EXPLAINED = "tests/integration/adf/reporting/test_explain.py"
TRIGGERER_MODE = "tests/integration/triggers/test_start_and_wait.py"
RATE_LIMIT = "tests/unit/adf/starting/test_rate_limit.py"
START_QUEUE = "tests/unit/adf/starting/test_start_queue.py"

MUTANTS = [
    Mutant("lost start not searched for", "adf/starting/create_run.py", "if verdict is Verdict.AMBIGUOUS:", "if False:", START),
    Mutant("throttled start not repeated", "adf/starting/create_run.py", "case AdfThrottledError():\n            return Verdict.NOT_STARTED", "case AdfThrottledError():\n            return Verdict.REFUSED", START),
    Mutant("another pipeline's run adopted", "adf/starting/find_run.py", "if run.pipeline_name.lower() != criteria.pipeline_name.lower():", "if False:", START),
    Mutant("start repeated for ever", "adf/starting/create_run.py", "verdict is Verdict.REFUSED or timing.clock() + pause > until", "verdict is Verdict.REFUSED", START),
    Mutant("contradicting recovery arguments accepted", "adf/api/recovery.py", "if self.start_activity_name and self.start_from_failure:", "if False:", START),
    Mutant("recovery without a reference accepted", "adf/api/recovery.py", "if self.is_recovery and not self.reference_pipeline_run_id:", "if False:", START),
    Mutant("retry starts a second run beside the live one", "adf/starting/intent.py", "return ResolveLostStart(intent=stored) if stored.phase is Phase.SENDING else Adopt(intent=stored)", "return StartNew()", START_OR_ADOPT),
    Mutant("clear adopts the older run", "adf/starting/intent.py", "before.max_tries != now.max_tries or", "", START_OR_ADOPT),
    Mutant("clear of a running task adopts its run", "adf/starting/intent.py", "(before.clear_number != now.clear_number and not stored.try_failed)", "False", START_OR_ADOPT),
    Mutant("clear of another task treated as a clear of this one", "adf/starting/intent.py", "and not stored.try_failed)", ")", START_OR_ADOPT),
    Mutant("changed parameters adopt the older run", "adf/starting/intent.py", "or stored.fingerprint != wanted_fingerprint", "", START_OR_ADOPT),
    Mutant("unreadable intent treated as no intent", "adf/starting/intent.py", "    run_id, key = (_guid(stored, name)", "    return None\n    run_id, key = (_guid(stored, name)", START_OR_ADOPT),
    Mutant("superseded run not cancelled", "adf/starting/start_or_adopt.py", "if cancel and seen.status != RunStatus.CANCELING:", "if False:", START_OR_ADOPT),
    Mutant("new run started before the superseded run has ended", "adf/starting/start_or_adopt.py", "            if remaining is not None:", "            if False:", START_OR_ADOPT),
    Mutant("superseded run ignored if its status checks fail", "adf/starting/start_or_adopt.py", "            return None\n        raise AdfError(", "            return None\n        return None\n        raise AdfError(", START_OR_ADOPT),
    Mutant("failed or cancelled run adopted", "adf/starting/start_or_adopt.py", "run.status in (RunStatus.FAILED, RunStatus.CANCELLED)", "False", START_OR_ADOPT),
    Mutant("run that is being cancelled adopted", "adf/starting/start_or_adopt.py", "run.status == RunStatus.CANCELING and not same_try:", "False:", START_OR_ADOPT),
    Mutant("createRun sent before its intent is stored", "adf/starting/create_run.py", "            yield save(sending)\n", "", START_OR_ADOPT),
    Mutant("lost start sent again without proof", "adf/starting/create_run.py", "and intent.service_uses_key:", ":", START_OR_ADOPT),
    Mutant("proof that nothing was started not used", "adf/starting/create_run.py", "and intent.service_uses_key:", "and False:", START_OR_ADOPT),
    Mutant("on_ambiguous_start ignored", "adf/starting/create_run.py", 'if start.on_ambiguous == "start":', "if False:", START_OR_ADOPT),
    Mutant("first of several similar runs adopted", "adf/starting/create_run.py", "complete and len(result.possible) == 1", "complete and result.possible", START_OR_ADOPT),
    Mutant("run that another instance has claimed adopted", "adf/starting/find_run.py", "if run.run_id not in claimed", "if True", START_OR_ADOPT),
    Mutant("claim of another instance ignored", "adf/starting/create_run.py", "or (yield claim(found.run_id))", "or True", START_OR_ADOPT),
    Mutant("run with other parameters adopted", "adf/starting/find_run.py", "return Likeness.POSSIBLE if same else Likeness.NO", "return Likeness.POSSIBLE", START_OR_ADOPT),
    Mutant("earlier run of the task adopted", "adf/starting/find_run.py", "if run.run_id not in intent.previous_run_ids:", "if True:", START_OR_ADOPT),
    Mutant("difference of the clocks ignored", "adf/starting/find_run.py", "intent.sent_at + now - timing.clock()", "intent.sent_at", START_OR_ADOPT),
    Mutant("correlation parameter not compared", "adf/starting/find_run.py", "    if criteria.correlation_parameter is not None:", "    if False:", START_OR_ADOPT),
    Mutant("continued try treated as a cleared one", "adf/starting/intent.py", "if not stored.task_try.is_try_of(now) and (", "if (", START_OR_ADOPT),
    Mutant("intent of a newer version not read", "adf/starting/intent.py", "fields = known_members(cls, stored)", "fields = dict(stored)", START_OR_ADOPT),
    Mutant("evidence of another factory used", "adf/starting/intent.py", "older.service_uses_key and older.factory == self.factory", "older.service_uses_key", START_OR_ADOPT),
    Mutant("run that began at another time adopted", "adf/starting/find_run.py", "-START_CLOCK_SLACK_SECONDS <= began.timestamp() - sent_at <= START_WINDOW_SECONDS", "True", START_OR_ADOPT),
    Mutant("run that a trigger started adopted", "adf/starting/find_run.py", 'or kind != "Manual"', "", START_OR_ADOPT),
    Mutant("missing factory treated as an ended run", "adf/starting/start_or_adopt.py", 'and answer.missing == "run"', "", START_OR_ADOPT),
    Mutant("404 alone treated as an ended run", "adf/starting/start_or_adopt.py", "return older.sent_at is not None and timing.clock() - older.sent_at > RUN_RETENTION.total_seconds()", "return True", START_OR_ADOPT),
    Mutant("another run than the found one waited for", "adf/starting/start_or_adopt.py", "return StillActive(intent=older, run=seen, is_ours=is_ours)", "return StillActive(intent=start.intent(), run=seen, is_ours=is_ours)", START_OR_ADOPT),
    Mutant("retry claims nothing", "adf/starting/start_or_adopt.py", "            yield claim(known.run_id or known.start_key)\n", "", START_OR_ADOPT),
    Mutant("404 without suggested names", "adf/starting/create_run.py", "raise (yield from with_suggestions(answer, start.factory, start.pipeline_name))", "raise answer", f"{EXPLAINED} -k misspelt"),
    Mutant("throttled start does not delay other starts", "adf/starting/start_queue.py", "            self._bucket.hold(time.time() + (e.retry_after or 0))\n", "", f"{TRIGGERER_MODE} -k delays_all"),
    Mutant("all starts sent at once", "adf/starting/start_queue.py", "AT_ONCE = 20", "AT_ONCE = 2000", f"{TRIGGERER_MODE} -k few_starts"),
    Mutant("start does not wait for its turn after a pause", "adf/starting/start_queue.py", "            await self.enter()\n        await self._client", "            pass\n        await self._client", START_QUEUE),
    Mutant("cause of a failed search not logged", "adf/starting/create_run.py", "            _cause(result),\n", "            \"\",\n", START),
    Mutant("answered start keeps its place in the queue", "adf/starting/start_queue.py", "        finally:\n            self.leave()\n\n    async def enter", "        finally:\n            pass\n\n    async def enter", START_QUEUE),
    Mutant("next start sent while all starts are delayed", "adf/starting/start_queue.py", "        while held := self._bucket.held(time.time()):", "        while held := 0:", START_QUEUE),
    Mutant("search for a lost start keeps its place in the queue", "adf/starting/start_queue.py", "        self.leave()\n        await", "        await", f"{TRIGGERER_MODE} -k start_of_a_lost_triggerer"),
    Mutant("starts sent without a rate limit", "adf/starting/rate_limit.py", "return max(0.0, self._empty_until - now - self.burst / self.per_second)", "return 0.0", RATE_LIMIT),
    Mutant("throttled start does not end the burst", "adf/starting/rate_limit.py", "until + (self.burst - 1) / self.per_second", "until", RATE_LIMIT),
    Mutant("failed run of a continued try followed by another run", "adf/starting/start_or_adopt.py", "(RunStatus.FAILED, RunStatus.CANCELLED) and not same_try:", "(RunStatus.FAILED, RunStatus.CANCELLED):", f"{TRIGGERER_MODE} -k its_run_fails"),
    Mutant("run with another id adopted although keys are run ids", "adf/starting/create_run.py", "        if intent.service_uses_key:\n            # If", "        if False:\n            # If", f"{TRIGGERER_MODE} -k blind_start"),
    Mutant("lost run of the previous try treated as this try's run", "adf/starting/start_or_adopt.py", "not_adopted_yet=not same_try)", "not_adopted_yet=False)", START_OR_ADOPT),
    Mutant("adopted run treated as the previous try's run", "adf/starting/start_or_adopt.py", "        not_adopted_yet=False,\n", "", START_OR_ADOPT),
    Mutant("older run of another pipeline not found", "adf/starting/start_or_adopt.py", "            return SearchResult(proven=(seen,))", "            return SearchResult(error=AdfError(seen.pipeline_name))", f"{START_OR_ADOPT} -k start_of_another_pipeline"),
    Mutant("failed search for a superseded run treated as its absence", "adf/starting/start_or_adopt.py", "        if result.error is not None:\n            raise AdfError(", "        if False:\n            raise AdfError(", f"{START_OR_ADOPT} -k while_the_search_fails"),
    Mutant("failed search for a superseded run not repeated", "adf/starting/start_or_adopt.py", "        if len(result.proven) == 1 or result.error is None:", "        if True:", f"{START_OR_ADOPT} -k once_the_search_works_again"),
    Mutant("list alone treated as proof that a superseded start started nothing", "adf/starting/start_or_adopt.py", "        if not result.key_unknown:", "        if False:", f"{START_OR_ADOPT} -k both_the_key_and_the_list"),
    Mutant("superseded run searched for without an end", "adf/starting/start_or_adopt.py", "        if timing.clock() + pause > until:\n            return result", "        if timing.clock() > until + 600:\n            return result", f"{START_OR_ADOPT} -k while_the_search_fails"),
    Mutant("error promises that a clear starts a run although the search fails", "adf/starting/create_run.py", "run works\" if result.error is not None else \"\"", "run works\" if False else \"\"", f"{START_OR_ADOPT} -k what_a_clear_does"),
    Mutant("start sent blindly again and again", "adf/starting/create_run.py", "                start = replace(start, on_ambiguous=\"fail\")\n", "", "tests/unit/adf/starting/test_start_or_adopt.py -k at_most_one"),
    Mutant("lost start of an earlier try not counted", "adf/starting/start_or_adopt.py", "            start = replace(start, on_ambiguous=\"fail\")\n", "", "tests/unit/adf/starting/test_start_or_adopt.py -k at_most_one"),
    Mutant("refused retry forgets the proof", "adf/starting/intent.py", "        return StartNew(older=stored)\n    return ResolveLostStart", "        return StartNew()\n    return ResolveLostStart", "tests/unit/adf/starting/test_start_or_adopt.py -k keeps_the_proof"),
    Mutant("time of createRun taken too late", "adf/starting/start_or_adopt.py", "            asked_at = timing.clock()\n", "            asked_at = timing.clock() + 60\n", "tests/unit/adf/starting/test_start_or_adopt.py -k active_from_its_answer"),
]  # fmt: skip
