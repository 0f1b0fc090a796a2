"""Waits for many runs of one factory: which request to send next, and what an answer means for each wait. Pure.

The problem: a thousand tasks may wait for runs of one factory. One poll for each run and interval would use up the service's
limit. The run list is much cheaper, because one query finds all runs that have ended since the previous query. But the list can
lag behind the truth, for one run or for all runs (`run_list`).

The rule: the list is believed only if it shows an end. All runs are also polled one by one, the longest overdue first. So if
the list shows nothing, ends are found later, but no end is missed.

    how many runs, and how the list is     list queries           polls of single runs
    -------------------------------------  ---------------------  --------------------------------------
    up to 4 runs                           none                   each at its own interval
    more, and the list keeps up            one in each interval   1 a second ("canaries")
    more, and the list lags or fails,      one in each interval   a burst of 100, then up to 12 a second
    or some run was never polled                                  (the burst only when a lag is found)

The life of a wait:

    add ----> never polled ----> active -----------------> ended
      |       (polled first)     polled again when due     by a poll or by the list, whichever shows it first
      |                             ^
      +-----------------------------+   if the run was active at a recent moment, it needs no first poll;
                                        the next list query reaches back to that moment

`next` decides about one request at a time. The answer comes back through `poll_answered`, `list_answered` or `list_failed`,
perhaps much later and after other answers. So the moment at which a request was sent is kept. The caller may send several
requests before the first answer. `failure_tracker` handles a failure that concerns all runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.retrying import backoff
from airflow_adf_mi.adf.waiting.failure_tracker import FailureTracker, concerns_all
from airflow_adf_mi.adf.waiting.poll_queue import NEVER_POLLED, PollQueue
from airflow_adf_mi.adf.waiting.run_list import LIST_REACH_SECONDS, ExpectedEnd, ListQuery, RunListTracker
from airflow_adf_mi.adf.waiting.single_run import Ended, GaveUp, Outcome, Plan, WaitState, next_state

FEW_RUNS = 4
"""Up to this many runs are polled one by one. These polls are as cheap as the list, and show every status."""
SERVICE_CLOCK_SLACK_SECONDS = 2.0
"""Seconds by which our estimate of the service's clock may be wrong. The service's answers only give whole seconds."""
FEWEST_REMAINING_READS = 60
"""If the service reports fewer remaining reads than this, all requests slow down."""


@dataclass(frozen=True)
class PollRun:
    """Poll one run."""

    run_id: str
    at: float
    """When the poll is sent."""


@dataclass(frozen=True)
class Sleep:
    """Send nothing for this many seconds."""

    seconds: float


NextAction = ListQuery | PollRun | Sleep


@dataclass(kw_only=True)
class _WaitedRun:
    """A run that is waited for."""

    interval: float
    added: float
    expected_from: float
    """If the run ended at or after this moment, the list should show its end. The moment is by our clock, because the service's
    clock may not be known yet. Each poll that shows the run active sets it to the moment of the poll."""
    state: WaitState = field(default_factory=WaitState)


class PollPlan:
    """The runs of one factory that are waited for, and what is known of them.

    Times are seconds of our clock; its zero does not matter. Only the times of the list are of the service's clock.
    """

    def __init__(self, *, jitter: float = 0.5) -> None:
        self._waited: dict[str, _WaitedRun] = {}
        self._intervals: Counter[float] = Counter()
        self._run_list = RunListTracker()
        self._queue = PollQueue(jitter)
        self._failures = FailureTracker(jitter)
        self._jitter = jitter
        self._next_list_at = float("-inf")
        self._list_query_began: float | None = None
        """When the list query in flight was sent; None if no list query is in flight."""
        self._joined_from: float | None = None
        """The next list query must begin here or earlier, because of waits that began after the last list query."""
        self._service_ahead = 0.0
        """Seconds by which the service's clock is ahead of ours."""
        self._slowdown = 1.0

    def __len__(self) -> int:
        return len(self._waited)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._waited

    @property
    def error(self) -> AdfError | None:
        """Why polls fail or are not sent; None as soon as a poll has worked."""
        return self._failures.error

    @property
    def is_lagging(self) -> bool:
        """Whether the list is not trusted, because it has missed an end, or is unavailable."""
        return self._run_list.is_lagging

    def add(self, run_id: str, *, interval: float, not_ended_before: float | None, now: float) -> None:
        """Wait for a run.

        :param interval: seconds between two polls of the run. A shorter interval replaces the interval of an earlier wait.
        :param not_ended_before: a moment of our clock before which the run had not ended. None: no such moment is known.
        """
        if not_ended_before is not None and not_ended_before > now + SERVICE_CLOCK_SLACK_SECONDS:
            # Another machine stored this moment, and its clock is ahead of ours.
            not_ended_before = None
        known = self._waited.get(run_id)
        if known is not None:
            if interval < known.interval:
                self._intervals -= Counter([known.interval])
                self._intervals[interval] += 1
                known.interval = interval
                self._queue.set_interval(run_id, interval)
                self._list_within(interval, now)
            return
        polled_at, expected_from = NEVER_POLLED, now
        if not_ended_before is not None and now - not_ended_before <= LIST_REACH_SECONDS:
            polled_at = expected_from = not_ended_before
            joined = not_ended_before - SERVICE_CLOCK_SLACK_SECONDS
            self._joined_from = joined if self._joined_from is None else min(self._joined_from, joined)
        is_first = not self._waited
        self._waited[run_id] = _WaitedRun(interval=interval, added=now, expected_from=expected_from)
        self._intervals[interval] += 1
        self._queue.put(run_id, polled_at, interval)
        if is_first:
            self._next_list_at = now + interval * self._jitter
        else:
            self._list_within(interval, now)

    def _list_within(self, interval: float, now: float) -> None:
        """Send the next list query within `interval`, unless all requests are paused."""
        self._next_list_at = min(
            self._next_list_at, max(self._failures.pause_until, now + interval * 0.9 * self._slowdown)
        )

    def remove(self, run_id: str) -> None:
        """Forget a run, because nobody waits for it any longer."""
        waited = self._waited.pop(run_id, None)
        if waited is not None:
            self._intervals -= Counter([waited.interval])
            self._queue.remove(run_id)

    def state_of(self, run_id: str) -> WaitState:
        """What is known of a run."""
        return self._waited[run_id].state

    def next(self, now: float, service_now: float | None, remaining_reads: int | None = None) -> NextAction:
        """Return what to do now.

        :param service_now: the service's time; None before the service's first answer. Until then, the list cannot be queried.
        :param remaining_reads: how many reads are left in the service's limit, if the service has reported it.
        """
        if not self._waited:
            return Sleep(60.0)
        if now < self._failures.pause_until:
            return Sleep(self._failures.pause_until - now)
        self._slowdown = 1.0 if remaining_reads is None or remaining_reads > FEWEST_REMAINING_READS else 4.0
        interval = self._interval
        if service_now is not None:
            self._service_ahead = service_now - now
        if len(self._waited) <= FEW_RUNS:
            self._run_list.forget_position()
            self._joined_from = None
        can_list = len(self._waited) > FEW_RUNS and self._list_query_began is None
        list_at = max(self._next_list_at, self._failures.list_pause_until)
        if can_list and service_now is not None and now >= list_at:
            self._next_list_at = now + interval * 0.9 * self._slowdown
            self._list_query_began = now
            if self._joined_from is not None:
                self._run_list.reach_back(self._joined_from + self._service_ahead)
                self._joined_from = None
            unseen_since = min(waited.expected_from for waited in self._waited.values()) - SERVICE_CLOCK_SLACK_SECONDS
            return self._run_list.next_query(service_now, unseen_since + self._service_ahead)
        first = self._queue.first(now)
        wait = list_at - now if can_list and service_now is not None else interval
        if first is not None:
            at = self._queue.allowed_at(first, now)
            if at <= now:
                is_full = self.is_lagging or len(self._waited) <= FEW_RUNS or self._queue.has_unpolled_run
                self._queue.record_poll(first, now, is_full=is_full, slow=self._slowdown)
                self._queue.put(first, now, self._waited[first].interval)
                return PollRun(first, now)
            wait = min(wait, at - now)
        return Sleep(max(0.01, wait))

    def list_answered(self, asked: ListQuery, items: Sequence[PipelineRun], now: float) -> dict[str, Outcome]:
        """Record the answer to the list query `asked`. Returns the outcomes that the answer shows.

        :param items: the entries of all pages of the answer.
        """
        self._list_query_began = None
        self._failures.list_answered()
        found: dict[str, Outcome] = {}
        expected = {
            run.run_id: self._expected_end(self._waited[run.run_id]) for run in items if run.run_id in self._waited
        }
        for run in self._run_list.take_answer(asked, items, expected, now):
            self._waited[run.run_id].state = WaitState(run=run)
            found[run.run_id] = Ended(run=run)
        if self._run_list.has_more:
            self._next_list_at = now
        return found

    def poll_answered(self, asked: PollRun, seen: PipelineRun | AdfError, now: float) -> dict[str, Outcome]:
        """Record the answer to a poll, and return the outcomes. If the service has refused for 5 minutes, all waits end."""
        run_id = asked.run_id
        waited = self._waited.get(run_id)
        if isinstance(seen, AdfError) and concerns_all(seen):
            if waited is not None:
                # Poll the run again soon, whatever its interval, because only more polls show whether a refusal lasts.
                self._queue.put(run_id, now - waited.interval, waited.interval)
            self._failures.poll_failed(seen, asked.at, now)
            return self._give_up()
        self._failures.poll_answered(asked.at, shows_run=isinstance(seen, PipelineRun))
        if waited is None:
            return {}
        waited.state, outcome = next_state(waited.state, seen, now, Plan(check_interval=waited.interval))
        if isinstance(seen, PipelineRun):
            if seen.is_terminal:
                was_lagging = self.is_lagging
                self._run_list.record_polled_end(seen, self._expected_end(waited), now)
                if self.is_lagging and not was_lagging:
                    self._queue.burst()
            else:
                waited.expected_from = max(waited.expected_from, asked.at)
        else:
            self._queue.retry(run_id, now, now + backoff(waited.state.failures, None, self._jitter))
        return {run_id: outcome} if outcome is not None else {}

    def list_failed(self, error: AdfError, now: float) -> dict[str, Outcome]:
        """Record that the list query failed. Returns the outcomes of all waits if they end because of this failure."""
        asked_at = now if self._list_query_began is None else self._list_query_began
        self._list_query_began = None
        self._next_list_at = now
        self._failures.list_failed(error, asked_at, now)
        if self._failures.is_list_unavailable:
            # Polls of single runs replace the list, at full pace.
            self._run_list.record_unavailable(now)
        return self._give_up()

    def list_query_lost(self, now: float) -> None:
        """Record that the list query in flight will never be answered."""
        self._list_query_began = None
        self._next_list_at = now + self._interval if self._waited else now

    def _give_up(self) -> dict[str, Outcome]:
        error = self._failures.final_error
        if error is None:
            return {}
        return {run_id: GaveUp(error=error, run=waited.state.run) for run_id, waited in self._waited.items()}

    def _expected_end(self, waited: _WaitedRun) -> ExpectedEnd:
        return ExpectedEnd(
            added=waited.added + self._service_ahead, expected_from=waited.expected_from + self._service_ahead
        )

    @property
    def _interval(self) -> float:
        return min(self._intervals)
