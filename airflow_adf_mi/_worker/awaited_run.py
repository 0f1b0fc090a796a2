"""The run that a deferred try has waited for, if its trigger fired no event: the trigger failed, or Airflow's timeout ended it.

The problem: Airflow then resumes the task with an error only. Airflow keeps neither the arguments of the trigger, nor the method
with which the task was to continue. So the run must be found in what this try has stored:

    stored intent                       XCom `run_id`   this try has waited for
    ----------------------------------  --------------  ------------------------------------------------------------------
    names a run of this try             any             that run
    any other, or none                  a run           the run of the XCom
    this try has sent a start           none            a run whose id is not known
    none, not sent, of an earlier try   none            the end of another run, or its turn: this try has started nothing

What can go wrong: the run may be somebody else's, and Airflow did not store the intent with that record. The rule: only a
run that the stored intent names as a run of this task may be cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.starting.intent import Intent, Phase, TaskTry

if TYPE_CHECKING:
    from airflow_adf_mi.adf.config.addresses import RunAddress
    from airflow_adf_mi.adf.config.settings import AdfSettings
    from airflow_adf_mi.adf.starting.start import Start

_CHECK_VERSIONS = (
    "See the trigger's error above, and check that triggerers and workers have the same version of this package."
)


@dataclass(frozen=True, kw_only=True)
class AwaitedRun:
    """What a try has stored about the run that it has waited for."""

    start: Start
    """What this try wants to start."""
    stored: Intent | None
    pushed: object
    """The XCom `run_id`."""
    now: TaskTry
    """The present try."""
    durable: bool
    """Whether this try stores intents."""

    def address(self, settings: AdfSettings) -> RunAddress | None:
        """The address of the run; None if no run of this try is known."""
        stored, run_id = self.stored, self.pushed
        if stored is not None and stored.run_id and stored.task_try.try_number == self.now.try_number:
            return stored.address(settings)
        if not isinstance(run_id, str) or not run_id:
            return None
        return settings.run_address(self.start.factory, run_id, self.start.pipeline_name)

    def is_ours(self, address: RunAddress) -> bool:
        """Whether it is certain that this task started the run, so that a timeout may cancel the run."""
        if not self.durable:
            # Without a journal, a task adopts no run of somebody else (`AdfRunPipelineOperator` refuses these arguments).
            return True
        stored = self.stored
        if stored is None or stored.is_foreign:
            return False
        return (stored.run_id or stored.start_key).lower() == address.run_id.lower()

    def trigger_failed(self, failure: Exception, address: RunAddress | None) -> AdfError:
        """The error of a task whose wait does not continue after its trigger failed."""
        if address is None:
            return AdfError(f"The trigger of this task failed ({failure}). {self._without_a_run()} {_CHECK_VERSIONS}")
        retry = "A retry waits for it again."
        if not self.durable:
            retry = "Because of durable=False, a retry starts another run. If two runs do harm, cancel this one in ADF Studio."
        return AdfError(
            f"The trigger that waited for {address} failed ({failure}). The run itself is not affected and may continue. "
            f"{retry} {_CHECK_VERSIONS} See {address.studio_url}"
        )

    def timed_out_without_a_run(self) -> AdfError:
        """The error of a task whose time was over, and of which no run is known."""
        return AdfError(
            f"Airflow's timeout of this deferred task has passed. {self._without_a_run()} The trigger should have ended the wait "
            "before: check that triggerers run and have free capacity."
        )

    def _without_a_run(self) -> str:
        """Sentences that say what is known of the wait of a try without a known run."""
        pipeline = f"pipeline {self.start.pipeline_name!r} in {self.start.factory}"
        stored = self.stored
        if stored is not None and stored.phase is Phase.SENDING and self._is_own(stored):
            return (
                f"This try has sent a start of {pipeline} (start key {stored.start_key}), and Airflow did not store the id of "
                "its run. If a run was started, it is not affected. A retry searches for it."
            )
        if not self.durable:
            return (
                f"It is not known whether this try has started a run of {pipeline}. The run's id is not in this task's XCom "
                "run_id, and with durable=False there is no other record. If the log of this task names no run, the task has "
                "waited for its turn or for another run, and nothing was started. If the log names a run, that run is not "
                "affected. Check the run in ADF Studio before you clear the task."
            )
        waits = list(self._waits(stored))
        if not waits:
            return (
                f"This try has started no run of {pipeline}. It is not known which run it has waited for, because neither its "
                "stored intent nor its XCom run_id names a run. A retry begins anew; if no try is left, clear the task."
            )
        return (
            f"This try has waited for {' or for '.join(waits)}. It has started no run of {pipeline}. A retry waits again; if no "
            "try is left, clear the task."
        )

    def _waits(self, stored: Intent | None) -> list[str]:
        """What a try that has started nothing may have waited for."""
        if stored is not None and self._is_own(stored) and stored.first_refused_at is not None:
            return ["a place in the full queue of the pipeline"]
        waits = []
        if stored is not None and stored.phase is not Phase.PREPARED and not self._is_own(stored):
            waits.append(f"the end of run {stored.run_id or stored.start_key} of an earlier try")
        if self.start.present_runs.on_live_run == "wait":
            waits.append("the end of a run that was already there (on_live_run is 'wait')")
        return waits

    def _is_own(self, stored: Intent) -> bool:
        return stored.task_try.is_try_of(self.now)
