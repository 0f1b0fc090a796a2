"""The rules of waiting on a virtual clock: a day with a list that lags, a service that throttles and tokens that expire, and
an hour with 100,000 runs. No request is made; the rules are those that the triggers use.

    python -m bench.simulation            both, and the plot bench/requests.svg
"""

from __future__ import annotations

import heapq
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from airflow_adf_mi.adf.errors import AdfAuthenticationError, AdfError, AdfNotFoundError, AdfThrottledError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.waiting.poll_plan import PollPlan, PollRun, Sleep
from airflow_adf_mi.adf.waiting.run_list import ListQuery
from airflow_adf_mi.adf.waiting.single_run import Ended
from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.gateway.limits import READS, Limits

PAGE = 100
"""Runs on a page of the list, and so in one request."""
HOUR = 3600.0
DAY = 24 * HOUR
INTERVAL = 60.0
TOKEN_LIFE = 6 * HOUR
REQUEST_SECONDS = 0.05
START = 1_000_000.0


@dataclass
class Service:
    """A factory whose list lags at times, whose identity has the service's read limit, and whose tokens expire."""

    lag: Callable[[float], float]
    """For a time of the simulation: the seconds by which the list lags."""
    outage: Callable[[float], bool] = lambda _now: False
    ends: dict[str, float] = field(default_factory=dict)
    order: list[tuple[float, str]] = field(default_factory=list)
    """(end, run), in the order of the ends."""
    requests: int = 0
    throttled: int = 0
    outages: int = 0
    refused: int = 0
    now: float = START
    token_until: float = START + TOKEN_LIFE

    def __post_init__(self) -> None:
        self.limits = Limits(lambda: self.now)
        self.limits.enforced = True
        self.remaining: int | None = None

    def _problem(self, pages: int = 1) -> AdfError | None:
        self.requests += pages
        if self.now > self.token_until:
            # Like a service that refuses a token early; the next one is accepted.
            self.token_until = self.now + TOKEN_LIFE
            self.refused += 1
            return AdfAuthenticationError("401: the token has expired", refused_token=True)
        for _ in range(pages):
            try:
                self.remaining = self.limits.take("identity", READS)
            except ServiceError as e:
                self.throttled += 1
                return AdfThrottledError("429", status=429, retry_after=float(e.headers["Retry-After"]))
        if self.outage(self.now):
            self.outages += 1
            return AdfThrottledError("429", status=429, retry_after=5.0)
        return None

    def poll(self, run_id: str) -> PipelineRun | AdfError:
        problem = self._problem()
        if problem is not None:
            return problem
        if run_id not in self.ends:
            return AdfNotFoundError("404", status=404, missing="run")
        ended = self.ends[run_id] <= self.now
        return _run(run_id, "Succeeded" if ended else "InProgress", self.ends[run_id] if ended else self.now)

    def list(self, query: ListQuery) -> list[PipelineRun] | AdfError:
        until = min(query.before, self.now - self.lag(self.now))
        shown = self.order[_place(self.order, query.after) : _place(self.order, until)]
        problem = self._problem(max(1, -(-len(shown) // PAGE)))
        return problem or [_run(run_id, "Succeeded", end) for end, run_id in shown]


@dataclass
class Outcome:
    """The results of a simulation."""

    runs: int
    lost: int
    requests: int
    throttled: int
    outages: int
    refused: int
    most_waiting: int
    lags: list[float]


def simulate(service: Service, arrivals: Sequence[tuple[float, float, str]], triggerers: int) -> Outcome:
    """Wait for all of `arrivals` (begin, end, run; in order of begin), spread over triggerers that share one identity."""
    service.ends = {run_id: end for _, end, run_id in arrivals}
    service.order = sorted((end, run_id) for _, end, run_id in arrivals)
    plans = [PollPlan(jitter=n / triggerers) for n in range(triggerers)]
    wakes = [(START, n) for n in range(triggerers)]
    lags: list[float] = []
    waiting = most = 0
    arrived = 0
    while wakes:
        service.now, number = heapq.heappop(wakes)
        while arrived < len(arrivals) and arrivals[arrived][0] <= service.now:
            begin, _, run_id = arrivals[arrived]
            plans[arrived % triggerers].add(run_id, interval=INTERVAL, not_ended_before=begin, now=service.now)
            arrived += 1
            waiting += 1
            most = max(most, waiting)
        plan = plans[number]
        action = plan.next(service.now, service.now, service.remaining)
        found = {}
        pause = REQUEST_SECONDS
        if isinstance(action, Sleep):
            next_arrival = arrivals[arrived][0] - service.now if arrived < len(arrivals) else float("inf")
            pause = max(0.001, min(action.seconds, next_arrival))
        elif isinstance(action, PollRun):
            found = plan.poll_answered(action, service.poll(action.run_id), service.now)
        else:
            answer = service.list(action)
            found = (
                plan.list_failed(answer, service.now)
                if isinstance(answer, AdfError)
                else plan.list_answered(action, answer, service.now)
            )
        for run_id, outcome in found.items():
            if isinstance(outcome, Ended) and service.ends[run_id] <= service.now:
                lags.append(service.now - service.ends[run_id])
            plan.remove(run_id)
            waiting -= 1
        if arrived < len(arrivals) or any(map(len, plans)):
            heapq.heappush(wakes, (service.now + pause, number))
    return Outcome(
        runs=len(arrivals),
        lost=len(arrivals) - len(lags),
        requests=service.requests,
        throttled=service.throttled,
        outages=service.outages,
        refused=service.refused,
        most_waiting=most,
        lags=sorted(lags),
    )


def arrivals(
    dice: random.Random, hours: float, an_hour: int, seconds: tuple[float, float]
) -> list[tuple[float, float, str]]:
    """Runs that begin at random moments and last for random times."""
    begins = sorted(START + dice.uniform(0, hours * HOUR) for _ in range(int(hours * an_hour)))
    return [(begin, begin + dice.uniform(*seconds), f"run-{n}") for n, begin in enumerate(begins)]


def a_day(an_hour: int = 5_000) -> tuple[Outcome, str]:
    """24 hours: the list lags for a while in every third hour, throttling for a minute every hour, an expired token."""
    dice = random.Random(1)  # noqa: S311  for a simulation that is the same every time
    service = Service(
        lag=lambda now: 600.0 if (now - START) // HOUR % 3 == 1 and (now - START) % HOUR < 1800 else 5.0,
        outage=lambda now: (now - START) % HOUR < 60,
    )
    result = simulate(service, arrivals(dice, 24, an_hour, (60, 1200)), triggerers=2)
    return result, _text(f"24 hours, {an_hour:,} runs an hour of 1 to 20 minutes, 2 triggerers", result, 24)


def an_hour(a_hour: int = 100_000, triggerers: int = 4) -> tuple[Outcome, str]:
    """100,000 runs an hour."""
    dice = random.Random(2)  # noqa: S311  as above
    result = simulate(Service(lag=lambda _now: 5.0), arrivals(dice, 1, a_hour, (60, 1200)), triggerers)
    return result, _text(f"1 hour, {a_hour:,} runs an hour of 1 to 20 minutes, {triggerers} triggerers", result, 1)


def _text(what: str, result: Outcome, hours: float) -> str:
    middle = result.lags[len(result.lags) // 2]
    return (
        f"{what}: {result.runs:,} runs, at most {result.most_waiting:,} waited for at once; {result.lost} lost. "
        f"{result.requests:,} requests ({result.requests / hours / HOUR:.1f} a second; the service permits 25), "
        f"{result.throttled:,} beyond the service's limit. {result.outages:,} requests were throttled because the service "
        f"throttled everybody; {result.refused} were refused because the token had expired. An end was detected after "
        f"{middle:.0f} s (median), and after {result.lags[-1]:.0f} s at most"
    )


def provider_requests(waiting: int, interval: float = INTERVAL) -> float:
    """Requests a second of triggers that each poll their own run only, once an interval."""
    return waiting / interval


def requests_against_waits(
    counts: Sequence[int] = (10, 30, 100, 300, 1000, 3000, 10_000),
) -> list[tuple[int, float, float]]:
    """(waits, the provider's requests a second, ours). The ends are spread over ten minutes, and the list keeps up."""
    points = []
    for waiting in counts:
        runs = [(START, START + 1200 + n / waiting * 600, f"run-{n}") for n in range(waiting)]
        service = Service(lag=lambda _now: 5.0)
        result = simulate(service, runs, triggerers=max(1, waiting // 1000))
        seconds = 1200 + 600 / 2
        points.append((waiting, provider_requests(waiting), result.requests / seconds))
    return points


def plot(points: Sequence[tuple[int, float, float]], to: Path) -> None:
    """Both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    waits = [point[0] for point in points]
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.loglog(waits, [point[1] for point in points], "o-", label="one poll for each run and interval (provider)")
    axes.loglog(waits, [point[2] for point in points], "o-", label="this package")
    axes.axhline(25, linestyle="--", color="grey", label="the service's limit for an identity")
    axes.set_xlabel("runs waited for at once")
    axes.set_ylabel("requests a second")
    axes.set_title(f"Simulated: interval {INTERVAL:.0f} s, list that keeps up")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend()
    figure.savefig(to, metadata={"Date": None})


def _run(run_id: str, status: str, updated: float) -> PipelineRun:
    return PipelineRun(
        run_id=run_id,
        status=status,
        pipeline_name="Load",
        last_updated=datetime.fromtimestamp(updated, UTC),
    )


def _place(order: Sequence[tuple[float, str]], moment: float) -> int:
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if order[middle][0] < moment:
            low = middle + 1
        else:
            high = middle
    return low


def main() -> int:
    for simulated in (a_day, an_hour):
        result, text = simulated()
        print(text, flush=True)
        if result.lost:
            return 1
    points = requests_against_waits()
    for waits, theirs, ours in points:
        print(f"{waits:6,} waits: {theirs:7.2f} requests a second if each polls for itself, {ours:5.2f} here")
    plot(points, Path(__file__).parent / "requests.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
