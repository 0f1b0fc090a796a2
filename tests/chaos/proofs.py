"""`make chaos-proofs`: removes the rule of each guarantee, and checks that its row of the chaos suite fails.

A proof is: the guarantee, the file, the rule, its replacement, and the row that must fail.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutation import mutated_copy
from tests.support.processes import run_program, run_to_end, side_by_side

AT_ONCE = 2
TIMEOUT = 600


@dataclass(frozen=True)
class Proof:
    guarantee: str
    file: str
    old: str
    new: str
    row: str


PROOFS = [
    Proof("a retry adopts a live run", "adf/starting/intent.py", "else Adopt(intent=stored)", "else StartNew()", "kill-waiting-process"),
    Proof("a retry accepts a succeeded run", "adf/starting/intent.py", "else Adopt(intent=stored)", "else StartNew()", "kill-result-process"),
    Proof("an intent is stored before createRun is sent", "adf/starting/create_run.py", "            yield save(sending)\n", "", "kill-sent-deferrable-process"),
    Proof("no lost start is sent again without proof", "adf/starting/create_run.py", "and intent.service_uses_key:", ":", "kill-sending-blocking-process"),
    Proof("the run of a lost start is searched for", "adf/starting/create_run.py", "if verdict is Verdict.AMBIGUOUS:", "if False:", "lost-drop-blocking"),
    Proof("the run of a lost start is found in the list", "adf/starting/find_run.py", "return Likeness.POSSIBLE if has_parameters(run, criteria.parameters) else Likeness.NO", "return Likeness.NO", "lost-own-ids-deferrable"),
    Proof("a clear starts a new run", "adf/starting/intent.py", "return before.max_tries != now.max_tries or", "return False and", "cleared-after-success-deferrable"),
    Proof("a clear of a running task starts a new run", "adf/starting/intent.py", "(before.clear_number != now.clear_number and not stored.try_failed)", "False", "cleared-and-killed"),
    Proof("runs of one task never overlap", "adf/starting/start_or_adopt.py", "            if isinstance(superseded, StillActive):", "            if False:", "cleared-slow-cancel-deferrable"),
    Proof("changed parameters start a new run", "adf/starting/intent.py", "or stored.fingerprint != wanted_fingerprint", "", "parameters-changed"),
    Proof("marking a deferred task cancels its run", "_triggerer/cancel_on_kill.py", "    if state not in OVER:", "    if True:", "marked-failed-deferrable"),
    Proof("a triggerer that was replaced does not cancel", "_triggerer/cancel_on_kill.py", "    if state not in OVER:", "    if False:", "triggerer-stopped-deferrable"),
    Proof("marking a task on a worker cancels its run", "_worker/owned_run.py", "            self._canceller.request(HANDLER_WAIT_SECONDS)\n", "            self._killed = False\n", "marked-failed-blocking"),
    Proof("an eviction leaves the run to the retry", "_airflow/task_instance.py", "not in STOPPED", "is None", "eviction"),
    Proof("a refused token does not stop a cancel", "_worker/owned_run.py", ", self._credential.given_up_token(*scopes)):", ",):", "sigterm-in-token-lock-401"),
    Proof("failed status checks do not end a wait", "adf/waiting/single_run.py", "REFUSAL_GRACE_SECONDS = 300.0", "REFUSAL_GRACE_SECONDS = 0.0", "status-checks-404-deferrable"),
    Proof("a trigger that cannot be imported does not end a wait", "_worker/trigger_failures.py", "MOST_TRIGGER_FAILURES = 6", "MOST_TRIGGER_FAILURES = 0", "import-blocked"),
    Proof("our timeout cancels the run", "adf/reporting/conclude.py", "isinstance(outcome, TimedOut) and cancel_on_timeout", "False", "own-timeout-deferrable"),
    Proof("a sensor owns nothing", "triggers/wait.py", "and self.owns_run and self.task_instance", "and self.task_instance", "sensor-marked-deferrable"),
    Proof("an intent is stored in the triggerer before createRun is sent", "_triggerer/xcom_journal.py", "            await self._write_if_new(intent)\n            if self._is_stale", "            if self._is_stale", "kill-sent-own-ids-triggerer-mode"),
    Proof("a clear in the triggerer starts a new run", "_triggerer/stored_start.py", "TaskTry(try_number=0, clear_number=-1)", "TaskTry(try_number=0)", "cleared-keep-triggerer-mode"),
    Proof("a clear after a failure in the triggerer starts a new run", "_triggerer/stored_start.py", " if self.intent.try_failed else None", "", "cleared-after-timeout-triggerer-mode"),
    Proof("createRun waits until its intent is stored", "_triggerer/xcom_journal.py", "            await self._write_if_new(intent)\n            if self._is_stale", "            if self._is_stale", "kill-storing-own-ids-triggerer-mode"),
    Proof("a continued try finds its own start", "_triggerer/stored_start.py", "        if self.is_of(now):\n            return self.intent\n", "", "kill-naming-own-ids-triggerer-mode"),
    Proof("the triggerer that finds the run pushes its id", "_triggerer/xcom_journal.py", "                await self._push_run_id(intent.run_id)\n", "                pass\n", "kill-sent-triggerer-mode"),
    Proof("run_id never names a run that does not exist", "_triggerer/xcom_journal.py", "        self.latest = intent\n\n    async def save_best_effort", "        self.latest = intent\n        await self._push_run_id(intent.start_key)\n\n    async def save_best_effort", "kill-sending-triggerer-mode"),
    Proof("marking a task in triggerer mode cancels its run", "triggers/start_and_wait.py", "        if self._killing is None and self.task_instance is not None:", "        if False:", "marked-failed-triggerer-mode"),
    Proof("a trigger in triggerer mode that cannot be imported loses nothing", "_worker/trigger_failures.py", "    if failures >= MOST_TRIGGER_FAILURES:", "    if True:", "import-blocked-triggerer-mode"),
    Proof("a mark on a worker never cancels a run of somebody else", "_worker/owned_run.py", "Phase.PREPARED or intent.is_foreign else intent", "Phase.PREPARED else intent", "present-marked-blocking"),
    Proof("a mark never cancels a deferred task's run of somebody else", "_worker/attempt.py", "owns_run=not begun.is_foreign", "owns_run=True", "present-marked-deferrable"),
    Proof("a mark in triggerer mode never cancels a run of somebody else", "_triggerer/start.py", "        if latest.is_foreign:", "        if False:", "present-marked-triggerer-mode"),
    Proof("a clear with upstream tasks in triggerer mode starts a new run", "_triggerer/xcom_journal.py", '        """\n        await raise_if_cleared(self._ti)\n', '        """\n', "cleared-with-upstream-triggerer-mode"),
    Proof("the trigger of a cleared task rests", "_triggerer/cleared.py", "        if trigger.trigger_id in fired:", "        if False:", "cleared-with-upstream-deferrable"),
]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make chaos-proofs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[])
    only = parser.parse_args(arguments).only
    chosen = [proof for proof in PROOFS if not only or any(text in f"{proof.guarantee} {proof.row}" for text in only)]
    with side_by_side(AT_ONCE, interrupt_children=True) as pool:
        verdicts = list(pool.map(_try, chosen))
    failed = verdicts.count(True)
    print(f"{failed} of {len(chosen)} rows fail without their rule.")
    return 0 if failed == len(chosen) else 1


def _try(proof: Proof) -> bool:
    """Whether the row fails without its rule. Prints the result."""
    folder = Path(tempfile.mkdtemp(prefix="adf-proof-"))
    folder.chmod(0o755)
    try:
        environment = mutated_copy(folder, proof.file, proof.old, proof.new)
        if environment is None:
            result, fails = "the rule was not found", False
        else:
            result, fails = _row_without_rule(proof, folder, environment)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'fails' if fails else 'STILL AS EXPECTED':17}  {proof.guarantee:50} {proof.row:35} {result}", flush=True)
    return fails


def _row_without_rule(proof: Proof, folder: Path, environment: dict[str, str]) -> tuple[str, bool]:
    command = [sys.executable, "-m", "tests.chaos", "--only", proof.row]
    done = run_to_end(command, cwd=folder, env=environment, timeout=TIMEOUT)
    # The row itself must have ended: a suite that breaks down proves nothing.
    line = re.search(rf"^\[ *[\d.]+ s\] {re.escape(proof.row)}: (.*)$", done.stdout, re.MULTILINE)
    if line is None:
        return f"the suite broke down: {done.stderr[-300:]}", False
    return line[1][:160], done.returncode == 1 and line[1] != "as expected"


if __name__ == "__main__":
    run_program(main)
