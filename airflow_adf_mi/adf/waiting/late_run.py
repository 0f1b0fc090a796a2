"""Runs that last longer than they should: when a run is late, and the warning, at most one in each wait.

A run is late if it has been active for longer than a limit. The author gives the limit in seconds, or the durations of earlier
runs decide (`usual_limit`). A wait sends no request for this. It uses the clock, and the states that it has anyway:

- The time counts from the run's start, as the service shows it, by the service's clock. While no start is known, the time counts
  from the beginning of the wait.
- If an answer has just shown the run active, the run is late at the limit. In all other cases, the run may have ended, and the
  wait does not know it yet. Then the run is late one `check_interval` after the limit.

Decisions are pure. A late run is never cancelled, and no error here ends a wait.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.api.operations import Call
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.routines import Routine, ServiceTime
from airflow_adf_mi.adf.timing import Timing

T = TypeVar("T")

log = logging.getLogger(__name__)

FEWEST_RUNS = 5
"""With fewer earlier runs, nothing is usual."""
USUAL_SHARE = 0.9
"""The limit is based on the duration that this share of the earlier runs did not exceed. The longest duration would be no good
base, because one run that was stuck for days would hide all later ones. The median would be too low for a pipeline that loads
more at the end of each month."""
USUAL_FACTOR = 1.5
"""How many times this duration a run may take."""
USUAL_SLACK_SECONDS = 60.0
"""A run may always take this much longer. Short runs vary by many seconds, for example while compute starts."""


@dataclass(frozen=True, kw_only=True)
class LateLimit:
    """How long a run may be active."""

    seconds: float
    reason: str
    """Where the limit comes from, as the end of a sentence: "warn_after is 600 s"."""


def given_limit(seconds: float) -> LateLimit:
    """The limit that the author gives."""
    return LateLimit(seconds=seconds, reason=f"warn_after is {seconds:g} s")


def usual_limit(durations: Sequence[float]) -> LateLimit | None:
    """The limit that earlier runs suggest, from their durations in seconds; None if there are too few."""
    if len(durations) < FEWEST_RUNS:
        return None
    usual = sorted(durations)[math.ceil(len(durations) * USUAL_SHARE) - 1]
    limit = max(usual * USUAL_FACTOR, usual + USUAL_SLACK_SECONDS)
    return LateLimit(
        seconds=limit,
        reason=f"{USUAL_SHARE:.0%} of its last {len(durations)} successful runs took at most {usual:.0f} s, so the limit is "
        f"{limit:.0f} s",
    )


def waits_since(seen: PipelineRun | None, now: float) -> float:
    """From when on the time of a wait that begins now counts, while the wait knows no start of the run.

    :param seen: the run as the service has shown it, if it has.
    """
    return now if seen is None or seen.started_at is None else seen.started_at.timestamp()


def active_seconds(run: PipelineRun | None, *, waits_since: float, now: float, service_now: float) -> float:
    """For how long a run has been active, as far as the wait knows.

    :param run: the run as the service showed it last; None if it has not shown the run.
    :param waits_since: the epoch seconds from which the time counts while no start of the run is known.
    :param now: epoch seconds by the clock of this machine.
    :param service_now: epoch seconds by the service's clock.
    """
    if run is not None and run.started_at is not None:
        return max(0.0, service_now - run.started_at.timestamp())
    return max(0.0, now - waits_since)


@dataclass(frozen=True, kw_only=True)
class LateRun:
    """A run that is late."""

    address: RunAddress
    limit: LateLimit
    seconds: float
    """For how long the run has been active."""
    at: float
    """When a wait noticed that the run is late, in epoch seconds."""

    def announce(self) -> None:
        """Log the warning, and count it."""
        metrics.count(metrics.LATE_RUNS)
        log.warning(
            "%s has been active for %.0f s, which is too long: %s. The run continues. See %s",
            self.address,
            self.seconds,
            self.limit.reason,
            self.address.studio_url,
        )

    def to_json(self, try_number: int | None) -> dict[str, Any]:
        """The value of the XCom."""
        return {
            "run_id": self.address.run_id,
            "pipeline_name": self.address.pipeline_name,
            "try_number": try_number,
            "warned_at": self.at,
            "active_seconds": self.seconds,
            "limit_seconds": self.limit.seconds,
            "limit_reason": self.limit.reason,
            "studio_url": self.address.studio_url,
        }


class LateWatch:
    """Notices once that a run is late.

    :param address: the run.
    :param limit: how long the run may be active.
    :param waits_since: as for `active_seconds`.
    :param check_interval: seconds between two status checks of the run.
    :param on_late: called once, when the run is late. It must not block an event loop. An error that it raises is logged.
    """

    def __init__(
        self,
        address: RunAddress,
        limit: LateLimit,
        *,
        waits_since: float,
        check_interval: float,
        on_late: Callable[[LateRun], object],
    ) -> None:
        self._address = address
        self._limit = limit
        self._waits_since = waits_since
        self._check_interval = check_interval
        self._on_late = on_late
        self._is_over = False

    def seconds_left(self, run: PipelineRun | None, now: float, service_now: float) -> float | None:
        """Seconds until the next call of `check` is useful. None after the warning.

        At most `check_interval`, because the next status check may show another start, or another time of the service.
        """
        if self._is_over:
            return None
        active = active_seconds(run, waits_since=self._waits_since, now=now, service_now=service_now)
        return max(0.0, min(self._check_interval, self._limit.seconds + self._check_interval - active))

    def check(self, run: PipelineRun | None, now: float, service_now: float, *, is_seen_now: bool = False) -> None:
        """Call `on_late` if the run is late, once. Call this while the end of the run is not known.

        :param is_seen_now: whether the service has just shown that the run is active.
        """
        active = active_seconds(run, waits_since=self._waits_since, now=now, service_now=service_now)
        slack = 0.0 if is_seen_now else self._check_interval
        if self._is_over or active < self._limit.seconds + slack:
            return
        self._is_over = True
        try:
            self._on_late(LateRun(address=self._address, limit=self._limit, seconds=active, at=now))
        except Exception as e:  # noqa: BLE001  a warning must not end the wait
            log.warning("A part of the warning of a late run failed. %s: %s", type(e).__name__, e)

    def beside(self, wait: Routine[T], *, timing: Timing) -> Routine[T]:
        """The routine `wait` for one run, with a check after each answer to its status checks."""
        run: PipelineRun | None = None
        answer: Any = None
        while True:
            try:
                step = wait.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # StopIteration does not carry the generator's type
            answer = yield step
            if not isinstance(step, Call):
                continue
            is_seen_now = isinstance(answer, PipelineRun)
            run = answer if isinstance(answer, PipelineRun) else run
            if run is None or not run.is_terminal:
                service_now = yield ServiceTime()
                self.check(run, timing.clock(), service_now, is_seen_now=is_seen_now)
