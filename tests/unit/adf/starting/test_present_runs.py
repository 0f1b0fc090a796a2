"""What a start does about runs that are already there: each policy, and what happens between the look and the start."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.config.policies import PresentRuns
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError, AdfPermissionError, AdfUnavailableError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.routines import Routine, Step
from airflow_adf_mi.adf.starting.declared_parameters import DeclaredParameter
from airflow_adf_mi.adf.starting.intent import Intent, read_intent
from airflow_adf_mi.adf.starting.other_runs import has_equal_parameters
from airflow_adf_mi.adf.starting.present_runs import (
    LOOK_AGAIN_SECONDS,
    MOST_OTHERS,
    chosen,
    reporting_others,
)
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.start_or_adopt import start_or_adopt
from airflow_adf_mi.adf.starting.started import Skipped, Started, StillActive
from airflow_adf_mi.adf.timing import Timing
from tests.support.routines import FACTORY
from tests.support.service import MemoryJournal, ProcessDied, Service, run_on
from tests.support.tries import CLEARED, FIRST, RETRY

DAY = {"day": {"type": "String"}, "rows": {"type": "Int", "defaultValue": 5}}


class World:
    """A task whose start looks for runs that are already there."""

    def __init__(self, **service: Any) -> None:
        self.service = Service(**{"declares": DAY, **service})
        self.journal = MemoryJournal(self.service)

    def begin(self, task_try: Any = FIRST, **arguments: Any) -> Any:
        return run_on(self.routine(self.journal, task_try, **arguments), self.service, self.journal)

    def routine(
        self,
        journal: MemoryJournal,
        task_try: Any = FIRST,
        within: float | None = None,
        *,
        check: bool = True,
        correlation: str | None = None,
        **policies: Any,
    ) -> Routine[Any]:
        """What a try begins with, and what it does when it has announced its run."""
        start = Start(
            factory=FACTORY,
            pipeline_name="Load",
            parameters={"day": "x"},
            present_runs=PresentRuns(succeeded_within=within, **policies),
            retry_from_failure="retry",
            check_parameters=check,
            correlation_parameter=correlation,
        )
        timing = Timing(clock=self.service.clock, jitter=lambda: 0.5)
        stored = read_intent(journal.kept, start.intent(task_try))
        begun = yield from start_or_adopt(start, stored, task_try, cancel_superseded=True, timing=timing)
        if isinstance(begun, Started):
            yield from reporting_others(start, begun, timing=timing)
        return begun

    def two_at_once(
        self, lead: int = 0, *, task_try: Any = FIRST, journals: Sequence[MemoryJournal] = (), **policies: Any
    ) -> list[Any]:
        """What two tasks begin with, which take their steps in turns, as two workers do. An error is returned.

        :param lead: how many steps the first task takes before the second one begins.
        :param journals: what earlier tries of the tasks have stored.
        """
        journals = journals or [MemoryJournal(self.service), MemoryJournal(self.service)]
        tasks = [(self.routine(journal, task_try, **policies), journal) for journal in journals]
        answers: list[Any] = [None, None]
        begun: dict[int, Any] = {}
        steps = 0
        while len(begun) < len(tasks):
            for number, (routine, journal) in enumerate(tasks):
                if number in begun or number * lead > steps:
                    continue
                try:
                    step = routine.send(answers[number])
                except StopIteration as end:
                    begun[number] = end.value
                except AdfError as e:
                    begun[number] = e
                else:
                    answers[number] = run_on(only(step), self.service, journal)
            steps += 1
        return [begun[0], begun[1]]

    def failed(self) -> MemoryJournal:
        """What a task has stored whose first try has failed."""
        journal = MemoryJournal(self.service)
        begun = run_on(self.routine(journal), self.service, journal)
        self.service.end(begun.run_id, "Failed")
        return journal

    def after_each_query(self, act: Callable[[], None], before: Callable[[], None] = lambda: None) -> None:
        """Do something whenever the list was made, or before that."""
        query = self.service._query_by_factory

        def acting(call: Any) -> Any:
            before()
            page = query(call)
            act()
            return page

        self.service._query_by_factory = acting  # type: ignore[method-assign]  # of our fake service

    def show_as_active(self, run_id: str) -> None:
        """Make the list show a run as active that has succeeded."""
        self.after_each_query(
            lambda: self.service.end(run_id, "Succeeded"), before=lambda: self.service.end(run_id, "InProgress")
        )

    def start_in_between(self, **parameters: str) -> list[str]:
        """Somebody starts a run after the look, and before createRun arrives. Returns its id, once it has begun."""
        theirs: list[str] = []

        def both() -> str:
            theirs.append(self.foreign(**parameters))
            return "answered"

        self.service.on_create = both
        return theirs

    def foreign(self, status: str = "InProgress", **parameters: str) -> str:
        run_id = self.service.start_foreign(**(parameters or {"day": "x", "rows": "5"}))
        self.service.end(run_id, status)
        return run_id


def only(step: Step) -> Routine[Any]:
    return (yield step)


def run(run_id: str, status: str = "InProgress", **parameters: str) -> PipelineRun:
    return PipelineRun.from_wire({"runId": run_id, "pipelineName": "Load", "status": status, "parameters": parameters})


EACH_POLICY = {
    "wait": {"on_live_run": "wait"},
    "adopt": {"on_live_run": "adopt"},
    "skip a live run": {"on_live_run": "skip"},
    "fail": {"on_live_run": "fail"},
    "accept": {"on_succeeded_run": "accept", "within": 600.0},
    "skip a succeeded run": {"on_succeeded_run": "skip", "within": 600.0},
}
each_policy = pytest.mark.parametrize("policies", EACH_POLICY.values(), ids=EACH_POLICY.keys())

EQUAL: Callable[[PipelineRun], bool] = lambda found: found.parameters.get("equal") == "yes"  # noqa: E731  a table's cell
LIVE, OTHER = run("live", equal="yes"), run("other", equal="no")
DONE, OTHER_DONE = run("done", "Succeeded", equal="yes"), run("other done", "Succeeded", equal="no")
ENDING = run("ending", "Canceling", equal="yes")


class Counts:
    def __init__(self) -> None:
        self.counted: list[str] = []

    def count(self, name: str, tags: dict[str, str], amount: int = 1) -> None:
        self.counted.append(name)

    def time(self, name: str, seconds: float, tags: dict[str, str]) -> None:
        pass


class Reported:
    """The overlaps that were logged and counted."""

    def __init__(self, caplog: pytest.LogCaptureFixture, counts: Counts) -> None:
        self._caplog = caplog
        self._counts = counts

    @property
    def lines(self) -> list[str]:
        lines = [line for line in self._caplog.messages if "active, too" in line]
        assert self._counts.counted == [metrics.OVERLAPS] * len(lines)
        assert all("Nothing was cancelled" in line for line in lines)
        return lines


@pytest.fixture
def reported(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Reported:
    counts = Counts()
    monkeypatch.setattr(metrics, "_sinks", [counts])
    caplog.set_level(logging.WARNING)
    return Reported(caplog, counts)


@pytest.mark.parametrize(
    ("policies", "live", "succeeded", "expected"),
    [
        ({}, [LIVE], [DONE], None),
        ({"on_live_run": "wait"}, [OTHER, LIVE], [], ("wait", "other")),
        ({"on_live_run": "wait"}, [ENDING], [], ("wait", "ending")),
        ({"on_live_run": "wait"}, [DONE], [], None),
        ({"on_live_run": "adopt"}, [DONE], [], None),
        ({"on_live_run": "fail"}, [OTHER], [], ("fail", "other")),
        ({"on_live_run": "adopt"}, [OTHER, LIVE], [], ("adopt", "live")),
        ({"on_live_run": "adopt"}, [OTHER, ENDING], [], None),
        ({"on_live_run": "skip"}, [OTHER], [], None),
        ({"on_live_run": "skip"}, [LIVE], [], ("skip", "live")),
        ({"on_succeeded_run": "accept"}, [], [OTHER_DONE, DONE], ("accept", "done")),
        ({"on_succeeded_run": "skip"}, [], [DONE], ("skip", "done")),
        ({"on_succeeded_run": "skip"}, [], [OTHER_DONE], None),
        ({"on_live_run": "adopt", "on_succeeded_run": "accept"}, [LIVE], [DONE], ("adopt", "live")),
        ({"on_live_run": "adopt", "on_succeeded_run": "accept"}, [OTHER], [DONE], ("accept", "done")),
        ({"on_live_run": "wait", "on_succeeded_run": "accept"}, [], [DONE], ("accept", "done")),
    ],
    ids=str,
)
def test_policy_chooses(policies: Any, live: Any, succeeded: Any, expected: Any) -> None:
    within = 60.0 if "on_succeeded_run" in policies else None
    found = chosen(PresentRuns(**policies, succeeded_within=within), live, succeeded, EQUAL)
    assert (None if found is None else (found.action, found.run.run_id)) == expected


def test_without_policies_nothing_is_looked_at() -> None:
    world = World()
    world.foreign()
    assert world.begin(check=False).adopted is False
    assert (world.service.queries, world.service.definitions_read) == (0, 0)


def test_equal_live_run_is_adopted_and_never_owned() -> None:
    world = World()
    theirs = world.foreign()
    begun = world.begin(on_live_run="adopt")
    assert (begun.run_id, begun.adopted, begun.is_foreign) == (theirs, True, True)
    assert world.service.requested == 0
    kept = Intent.from_json(world.journal.kept)
    assert (kept.run_id, kept.is_foreign) == (theirs, True)


@pytest.mark.parametrize("parameters", [{"day": "y", "rows": "5"}, {"day": "x", "rows": "6"}, {"day": "x"}])
def test_live_run_with_other_parameters_or_defaults_is_not_adopted(parameters: dict[str, str]) -> None:
    world = World()
    world.foreign(**parameters)
    assert world.begin(on_live_run="adopt").is_foreign is False


def test_pipeline_with_secure_parameters_has_no_equal_run() -> None:
    world = World(declares={**DAY, "password": {"type": "SecureString", "defaultValue": ""}})
    world.foreign(day="x", rows="5", password="")
    assert world.begin(on_live_run="adopt").is_foreign is False


def test_retry_adopts_the_same_foreign_run_again() -> None:
    world = World()
    theirs = world.foreign()
    world.begin(on_live_run="adopt")
    for status in ("InProgress", "Succeeded"):
        world.service.end(theirs, status)
        begun = world.begin(RETRY, on_live_run="adopt")
        assert (begun.run_id, begun.is_foreign) == (theirs, True)


def test_retry_after_a_failed_foreign_run_starts_a_run_of_its_own_and_continues_nothing() -> None:
    world = World()
    theirs = world.foreign()
    world.begin(on_live_run="adopt")
    world.service.end(theirs, "Failed")
    begun = world.begin(RETRY, on_live_run="adopt")
    assert (begun.is_foreign, begun.intent.rerun_of) == (False, None)
    assert world.service.created == 1


def test_clear_neither_cancels_nor_waits_for_a_foreign_run() -> None:
    world = World()
    theirs = world.foreign()
    world.begin(on_live_run="adopt")
    begun = world.begin(CLEARED)
    assert begun.is_foreign is False
    assert world.service.runs[theirs]["status"] == "InProgress"


def test_clear_adopts_a_foreign_run_again_if_the_policy_says_so() -> None:
    world = World()
    theirs = world.foreign()
    world.begin(on_live_run="adopt")
    assert world.begin(CLEARED, on_live_run="adopt").run_id == theirs


def test_wait_waits_for_any_run_and_then_starts() -> None:
    world = World()
    theirs = world.foreign(day="other")
    begun = world.begin(on_live_run="wait")
    assert isinstance(begun, StillActive)
    assert (begun.run.run_id, begun.is_ours, begun.waits_for_any) == (theirs, False, True)
    world.service.end(theirs, "Failed")
    assert isinstance(world.begin(on_live_run="wait"), Started)


def test_run_is_seen_although_the_author_spells_the_name_in_another_case() -> None:
    """Data Factory ignores the case of names, and it is not known whether queries do."""
    world = World(published_name="LOAD")
    world.service.start_foreign("LOAD")
    assert isinstance(world.begin(on_live_run="wait", check=False), StillActive)


UNREADABLE_NAMES = pytest.mark.parametrize(
    "declares", [None, AdfPermissionError("403", status=403), AdfUnavailableError("503", status=503)], ids=str
)


@UNREADABLE_NAMES
def test_run_of_another_spelling_is_seen_although_the_published_name_cannot_be_read(declares: Any) -> None:
    world = World(declares=declares, published_name="LOAD")
    world.service.start_foreign("Another")
    assert isinstance(world.begin(on_live_run="fail"), Started)
    world = World(declares=declares, published_name="LOAD")
    theirs = world.service.start_foreign("LOAD")
    assert world.begin(on_live_run="wait").run.run_id == theirs


@UNREADABLE_NAMES
def test_run_of_another_spelling_is_reported_although_the_published_name_cannot_be_read(
    declares: Any, reported: Reported
) -> None:
    world = World(declares=declares, published_name="LOAD")
    theirs: list[str] = []

    def both() -> str:
        theirs.extend((world.service.start_foreign("LOAD"), world.service.start_foreign("Another")))
        return "answered"

    world.service.on_create = both
    world.begin(on_live_run="wait")
    (line,) = reported.lines
    assert [run_id in line for run_id in theirs] == [True, False]


def test_comparison_reads_the_name_too() -> None:
    world = World()
    world.foreign()
    world.begin(on_live_run="adopt")
    assert world.service.definitions_read == 1


KEYED = {**DAY, "key": {"type": "String", "defaultValue": ""}}


@pytest.mark.parametrize("own_ids", [False, True])
@pytest.mark.parametrize("policy", ["wait", "adopt", "skip", "fail"])
def test_late_run_of_an_earlier_lost_start_is_not_taken_for_somebody_elses(
    policy: str, own_ids: bool, reported: Reported
) -> None:
    world = World(own_ids=own_ids, declares=KEYED, late_seconds=10_000.0, on_create=lambda: "late")
    with pytest.raises(ProcessDied):
        world.begin(on_live_run=policy, correlation="key")
    world.service.on_create = lambda: "answered"
    (lost,) = world.service.runs
    world.service.now += 900
    # The search for it finds nothing, and the look a moment later does.
    world.service.show_at_the_look(lost)
    begun = world.begin(CLEARED, on_live_run=policy, correlation="key")
    assert isinstance(begun, Started)
    assert (begun.adopted, world.service.created) == (False, 2)
    assert reported.lines == []


def test_rerun_of_somebody_counts_although_it_has_the_key_of_the_run_that_it_continues() -> None:
    world = World(own_ids=True, declares=KEYED)
    first = world.begin(on_live_run="fail", correlation="key").run_id
    world.service.end(first, "Cancelled")
    theirs = world.foreign()
    world.service.join_group(theirs, first)
    with pytest.raises(AdfError, match=f"Run {theirs} .* is InProgress"):
        world.begin(RETRY, on_live_run="fail", correlation="key")


def test_own_earlier_run_is_recognised_in_whatever_case_the_list_shows_its_id() -> None:
    world = World()
    first = world.begin(on_live_run="wait").run_id
    world.service.end(first, "Cancelled")
    world.service.listed[first] = {"runId": first.upper(), "status": "InProgress"}
    assert isinstance(world.begin(RETRY, on_live_run="wait"), Started)


@pytest.mark.parametrize("own_ids", [False, True])
@pytest.mark.parametrize("policy", ["skip", "accept"])
def test_clear_after_a_lost_answer_does_not_count_the_run_of_this_task(own_ids: bool, policy: str) -> None:
    world = World(own_ids=own_ids)
    world.service.dies_after_create = True
    with pytest.raises(ProcessDied):
        world.begin(on_succeeded_run=policy, within=86_400.0)
    world.service.dies_after_create = False
    (own,) = world.service.runs
    world.service.end(own, "Succeeded")
    world.service.now += 900
    begun = world.begin(CLEARED, on_succeeded_run=policy, within=86_400.0)
    assert isinstance(begun, Started)
    assert (begun.adopted, own in begun.intent.previous_run_ids) == (False, True)
    assert world.service.created == 2


@pytest.mark.parametrize("policy", ["skip", "accept"])
def test_late_clear_of_a_task_with_hundreds_of_runs_still_knows_the_first(policy: str) -> None:
    world = World()
    first = world.begin()
    world.service.end(first.run_id, "Succeeded")
    last = world.begin(CLEARED)
    world.service.end(last.run_id, "Failed")
    between = tuple(f"cleared{number}" for number in range(498))
    world.journal.kept = replace(last.intent, previous_run_ids=(first.run_id, *between)).to_json()
    again = replace(CLEARED, try_number=CLEARED.try_number + 1, max_tries=CLEARED.max_tries + 1)
    begun = world.begin(again, on_succeeded_run=policy, within=86_400.0)
    assert isinstance(begun, Started)
    assert not begun.adopted
    assert begun.intent.previous_run_ids == (first.run_id, *between, last.run_id)


@pytest.mark.parametrize("policy", ["fail", "skip", "adopt", "wait"])
def test_run_of_a_lost_answer_that_has_just_been_cancelled_does_not_count(policy: str) -> None:
    """The answer to the cancel proves its end, although the service still shows it as active."""
    world = World()
    world.service.dies_after_create = True
    with pytest.raises(ProcessDied):
        world.begin(on_live_run=policy)
    world.service.dies_after_create = False
    world.service.shows_old_status = True
    begun = world.begin(CLEARED, on_live_run=policy)
    assert isinstance(begun, Started)
    assert not begun.adopted


def test_fail_names_the_run() -> None:
    world = World()
    theirs = world.foreign(day="other")
    with pytest.raises(AdfError) as refused:
        world.begin(on_live_run="fail")
    assert str(refused.value) == (
        f"Run {theirs} of pipeline 'Load' in factory 'adf' (resource group 'rg') is InProgress, and on_live_run is 'fail'. So "
        "nothing was started. Clear the task when that run has ended, or choose another value of on_live_run."
    )
    assert world.service.requested == 0


def test_skip_stores_nothing_that_a_later_try_would_adopt() -> None:
    world = World()
    theirs = world.foreign()
    begun = world.begin(on_live_run="skip")
    assert isinstance(begun, Skipped)
    assert (begun.run.run_id, begun.policy) == (theirs, "on_live_run is 'skip'")
    assert world.journal.kept is None


def test_succeeded_run_is_accepted_within_the_time_only() -> None:
    world = World()
    theirs = world.foreign("Succeeded")
    world.service.now += 3600
    begun = world.begin(on_succeeded_run="accept", within=7200)
    assert (begun.run_id, begun.run.status, begun.is_foreign) == (theirs, "Succeeded", True)
    world.journal.kept = None
    assert world.begin(on_succeeded_run="accept", within=1800).is_foreign is False


def test_clear_does_not_accept_this_tasks_own_earlier_run() -> None:
    world = World()
    first = world.begin(on_succeeded_run="accept", within=7200)
    world.service.runs[first.run_id]["parameters"] = {"day": "x", "rows": "5"}
    world.service.end(first.run_id, "Succeeded")
    again = world.begin(CLEARED, on_succeeded_run="accept", within=7200)
    assert again.run_id != first.run_id


@each_policy
def test_run_that_ends_after_the_list_was_made_does_not_count(policies: dict[str, Any], reported: Reported) -> None:
    world = World()
    theirs = world.foreign()
    world.after_each_query(lambda: world.service.end(theirs, "Succeeded"))
    begun = world.begin(**policies)
    if "on_succeeded_run" in policies:
        # It counts as what it is: a run that has succeeded.
        assert (begun.run.run_id, begun.run.status, world.service.requested) == (theirs, "Succeeded", 0)
    else:
        assert (begun.is_foreign, begun.adopted, world.service.created) == (False, False, 1)
    assert reported.lines == []


@pytest.mark.parametrize("policy", ["wait", "adopt", "skip", "fail"])
def test_run_that_ends_after_it_was_seen_counts_as_it_was_seen(policy: str) -> None:
    world = World()
    theirs = world.foreign()
    get = world.service._get

    def ending(call: Any) -> Any:
        seen = get(call)
        world.service.end(theirs, "Succeeded")
        return seen

    world.service._get = ending  # type: ignore[method-assign]  # of our fake service
    if policy == "fail":
        with pytest.raises(AdfError, match=f"Run {theirs} .* is InProgress"):
            world.begin(on_live_run=policy)
    else:
        begun = world.begin(on_live_run=policy)
        expected = {"wait": StillActive, "adopt": Started, "skip": Skipped}[policy]
        assert (type(begun), begun.run.run_id, begun.run.status) == (expected, theirs, "InProgress")
    assert world.service.requested == 0
    # The next look sees the end.
    world.journal.kept = None
    assert world.begin(on_live_run=policy).is_foreign is False


def test_live_run_that_cannot_be_read_counts_as_live() -> None:
    world = World()
    theirs = world.foreign()
    world.service.faulty = "get"
    world.service.faults = iter([AdfUnavailableError("503", status=503)])
    assert world.begin(on_live_run="adopt").run_id == theirs


@pytest.mark.parametrize("policies", [{"on_live_run": "wait"}, {"on_succeeded_run": "skip", "within": 60.0}])
def test_list_that_cannot_be_read_starts_nothing(policies: dict[str, Any]) -> None:
    world = World()
    world.service.faulty = "query_by_factory"
    world.service.faults = iter([AdfUnavailableError("503", status=503)] * 100)
    with pytest.raises(AdfError, match="it is not known whether one is already there"):
        world.begin(**policies)
    assert world.service.requested == 0


def test_list_that_can_be_read_again_is_used() -> None:
    world = World()
    theirs = world.foreign()
    world.service.faulty = "query_by_factory"
    world.service.faults = iter([AdfUnavailableError("503", status=503)] * 2)
    assert world.begin(on_live_run="adopt").run_id == theirs


@pytest.mark.parametrize("unreadable", [None, AdfUnavailableError("503", status=503), {"day": "odd"}])
def test_pipeline_that_cannot_be_read_starts_nothing(unreadable: Any) -> None:
    world = World(declares=unreadable)
    with pytest.raises(AdfError, match="so its runs cannot be compared"):
        world.begin(on_live_run="adopt")
    assert world.service.requested == 0


@each_policy
@pytest.mark.parametrize("list_lag", [0.0, 7.0])
def test_two_tasks_at_once_both_start_and_each_reports_the_other(
    policies: dict[str, Any], list_lag: float, reported: Reported
) -> None:
    world = World(list_lag=list_lag)
    first, second = (begun.run_id for begun in world.two_at_once(**policies))
    assert sorted(world.service.live()) == sorted({first, second})
    assert len(reported.lines) == 2
    assert all(first in line and second in line for line in reported.lines)


@each_policy
@pytest.mark.parametrize("lead", range(1, 15))
def test_two_runs_of_two_tasks_are_reported_whoever_is_first(
    policies: dict[str, Any], lead: int, reported: Reported
) -> None:
    world = World()
    first, second = world.two_at_once(lead, **policies)
    started = [begun for begun in (first, second) if isinstance(begun, Started) and not begun.is_foreign]
    assert sorted(world.service.live()) == sorted(begun.run_id for begun in started)
    if len(started) == 2:
        assert any(first.run_id in line and second.run_id in line for line in reported.lines)
    else:
        # The second task has seen the run of the first one.
        assert started == [first]
        assert reported.lines == []


ABOUT_RERUNS = pytest.mark.parametrize(
    ("policies", "counts"), [({}, False), ({"on_live_run": "wait"}, True), ({"on_live_run": "fail"}, True)], ids=str
)
"""Policies of a rerun, and whether they are about runs that are already there."""


@ABOUT_RERUNS
def test_two_reruns_at_once_both_start_and_each_reports_the_other(
    policies: dict[str, Any], counts: bool, reported: Reported
) -> None:
    world = World()
    journals = [world.failed(), world.failed()]
    first, second = world.two_at_once(task_try=RETRY, journals=journals, **policies)
    assert first.intent.rerun_of != second.intent.rerun_of
    assert sorted(world.service.live()) == sorted([first.run_id, second.run_id])
    assert len(reported.lines) == (2 if counts else 0)
    assert all(first.run_id in line and second.run_id in line for line in reported.lines)


@ABOUT_RERUNS
def test_foreign_start_between_the_look_and_a_rerun_is_reported(
    policies: dict[str, Any], counts: bool, reported: Reported
) -> None:
    world = World()
    world.journal = world.failed()
    theirs = world.start_in_between(day="other")
    begun = world.begin(RETRY, **policies)
    assert begun.intent.rerun_of is not None
    assert sorted(world.service.live()) == sorted([begun.run_id, *theirs])
    assert [theirs[0] in line for line in reported.lines] == ([True] if counts else [])


def test_run_that_ends_between_the_look_and_a_rerun_does_not_count() -> None:
    world = World()
    world.journal = world.failed()
    theirs = world.foreign(day="other")
    world.show_as_active(theirs)
    begun = world.begin(RETRY, on_live_run="wait")
    assert isinstance(begun, Started)
    assert begun.intent.rerun_of is not None


@each_policy
def test_foreign_start_in_between_is_reported_and_not_cancelled(policies: dict[str, Any], reported: Reported) -> None:
    world = World()
    theirs = world.start_in_between()
    begun = world.begin(**policies)
    assert begun.is_foreign is False
    assert sorted(world.service.live()) == sorted([begun.run_id, *theirs])
    (line,) = reported.lines
    assert begun.run_id in line
    assert theirs[0] in line


@each_policy
def test_foreign_start_with_other_parameters_is_reported_if_parameters_do_not_matter(
    policies: dict[str, Any], reported: Reported
) -> None:
    world = World()
    world.start_in_between(day="y", rows="5")
    world.begin(**policies)
    assert len(reported.lines) == (1 if policies.get("on_live_run") in ("wait", "fail") else 0)


@each_policy
def test_run_that_the_list_shows_as_active_after_its_end_is_not_reported(
    policies: dict[str, Any], reported: Reported
) -> None:
    world = World()
    theirs = world.start_in_between()

    def ended(status: str) -> None:
        for run_id in theirs:
            world.service.end(run_id, status)

    world.after_each_query(lambda: ended("Succeeded"), before=lambda: ended("InProgress"))
    world.begin(**policies)
    assert theirs
    assert reported.lines == []


def test_run_of_long_ago_that_the_list_did_not_show_is_reported(reported: Reported) -> None:
    world = World(list_lag=7.0)
    theirs = world.foreign()
    world.service.now += 3600
    # A long activity changes nothing about its run.
    world.service.runs[theirs]["listed_at"] = world.service.now + 7
    world.begin(on_live_run="adopt")
    assert theirs in reported.lines[0]


def test_look_after_a_lost_start_that_was_found(reported: Reported) -> None:
    world = World()
    theirs = world.foreign()
    world.service.end(theirs, "Succeeded")

    def lost() -> str:
        world.service.end(theirs, "InProgress")
        return "lost"

    world.service.on_create = lost
    begun = world.begin(on_live_run="adopt")
    assert (begun.adopted, begun.is_foreign) == (True, False)
    assert theirs in reported.lines[0]


@pytest.mark.parametrize(("later", "lines"), [(10.0, 1), (3600.0, 0)])
def test_retry_looks_for_the_try_that_died_but_not_hours_later(later: float, lines: int, reported: Reported) -> None:
    world = World(dies_after_create=True)
    theirs = world.start_in_between()
    with pytest.raises(ProcessDied):
        world.begin(on_live_run="adopt")
    world.service.now += later
    begun = world.begin(RETRY, on_live_run="adopt")
    assert (begun.adopted, begun.is_foreign, len(theirs)) == (True, False, 1)
    assert len(reported.lines) == lines


def test_retry_that_accepts_its_ended_run_does_not_look(reported: Reported) -> None:
    world = World()
    first = world.begin(on_live_run="adopt")
    world.service.end(first.run_id, "Succeeded")
    world.foreign()
    assert world.begin(RETRY, on_live_run="adopt").run_id == first.run_id
    assert reported.lines == []


def test_look_after_the_start_reads_all_pages_and_names_some_runs(reported: Reported) -> None:
    world = World(page_size=2)
    many: list[str] = []

    def crowd() -> str:
        many.extend(world.foreign(day="y") for _ in range(20))
        many.extend(world.foreign() for _ in range(30))
        return "answered"

    world.service.on_create = crowd
    before = world.service.now
    world.begin(on_live_run="adopt")
    assert world.service.now - before < LOOK_AGAIN_SECONDS
    (line,) = reported.lines
    assert sum(f" {run_id}," in line or f" {run_id}." in line for run_id in many[20:]) == MOST_OTHERS
    assert world.service.polls == MOST_OTHERS


def test_runs_of_earlier_tries_are_not_reported(reported: Reported) -> None:
    world = World()
    first = world.begin(on_live_run="wait")
    world.service.end(first.run_id, "Cancelled")

    def shown_late() -> str:
        world.service.end(first.run_id, "InProgress")
        return "answered"

    world.service.on_create = shown_late
    world.begin(RETRY, on_live_run="wait")
    assert len(world.service.live()) == 2
    assert reported.lines == []


@pytest.mark.parametrize("policy", ["wait", "fail", "adopt", "skip"])
def test_look_reads_one_run_of_a_hundred(policy: str) -> None:
    world = World()
    compares = policy in ("adopt", "skip")
    theirs = [world.foreign() for _ in range(1 if compares else 100)]
    world.service.now += 1
    if compares:
        theirs += [world.foreign(day="y", rows="5") for _ in range(99)]
    with contextlib.suppress(AdfError):
        begun = world.begin(on_live_run=policy)
        assert begun.run.run_id in theirs
    assert world.service.requested == 0
    assert world.service.polls == 1


def test_look_after_the_start_ends_although_the_list_lags() -> None:
    world = World(list_lag=10_000.0)
    before = world.service.now
    assert isinstance(world.begin(on_live_run="wait"), Started)
    assert world.service.now - before <= LOOK_AGAIN_SECONDS


def test_look_after_the_start_ends_when_the_list_shows_our_run() -> None:
    world = World(list_lag=7.0)
    before = world.service.now
    world.begin(on_live_run="wait")
    assert 7.0 <= world.service.now - before <= 10.0


def declared(**types: str) -> tuple[DeclaredParameter, ...]:
    return tuple(DeclaredParameter(name=name, type=kind, has_default=False) for name, kind in types.items())


def test_equal_parameters_are_all_parameters() -> None:
    both = declared(a="int", b="bool")
    assert has_equal_parameters(run("r", a="1", b="true"), {"a": 1, "b": True}, both)
    assert not has_equal_parameters(run("r", a="1"), {"a": 1, "b": True}, both)
    assert not has_equal_parameters(run("r", a="2", b="true"), {"a": 1, "b": True}, both)


@pytest.mark.parametrize(
    ("kind", "value", "shown", "equal"),
    [
        ("string", "2.10", "2.1", False),
        ("string", "1e3", "1000", False),
        ("string", "true", "True", False),
        ("string", "x", "x", True),
        ("array", ["a"], '["A"]', False),
        ("array", ["a", 1], '["a",1]', True),
        ("object", {"path": "abc"}, '{"path":"ABC"}', False),
        ("object", {"b": 1, "a": 2}, '{"a":2, "b":1}', True),
        ("float", 2.1, "2.10", True),
        ("int", 5, "5", True),
        ("int", 5, "five", False),
        ("bool", True, "True", True),
        ("bool", True, "1", False),
        ("odd", "x", "x", True),
        ("string", None, "", True),
    ],
)
def test_value_is_compared_by_its_declared_type(kind: str, value: Any, shown: str, equal: bool) -> None:
    assert has_equal_parameters(run("r", p=shown), {"p": value}, declared(p=kind)) is equal


def test_parameters_that_do_not_fit_are_refused_before_the_comparison() -> None:
    world = World(declares={"dya": {"type": "String", "defaultValue": "x"}})
    world.foreign("Succeeded", dya="x")
    with pytest.raises(AdfConfigurationError, match="'day' is not declared"):
        world.begin(on_succeeded_run="accept", within=60.0)
    assert world.begin(on_succeeded_run="accept", within=60.0, check=False).is_foreign is False


@pytest.mark.parametrize("policy", ["wait", "adopt"])
def test_run_that_succeeded_a_moment_ago_is_accepted_although_the_list_lags(policy: str) -> None:
    world = World()
    theirs = world.foreign()
    world.show_as_active(theirs)
    begun = world.begin(on_live_run=policy, on_succeeded_run="accept", within=60.0)
    assert (begun.run_id, begun.run.status) == (theirs, "Succeeded")


@pytest.mark.parametrize("policy", ["wait", "fail"])
def test_rerun_waits_for_an_active_run_too(policy: str) -> None:
    world = World()
    first = world.begin(on_live_run=policy).run_id
    world.service.end(first, "Failed")
    world.foreign()
    if policy == "fail":
        with pytest.raises(AdfError, match="on_live_run is 'fail'"):
            world.begin(RETRY, on_live_run=policy)
    else:
        assert isinstance(world.begin(RETRY, on_live_run=policy), StillActive)
    assert world.service.created == 1


@pytest.mark.parametrize("policy", ["wait", "adopt"])
@pytest.mark.parametrize("lost", ["republished", "unreadable definition", "unreadable list"])
def test_rerun_ignores_parameters_and_runs_that_succeeded(
    policy: str, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    policies: dict[str, Any] = {"on_live_run": policy, "on_succeeded_run": "accept", "within": 60.0}
    first = world.begin(**policies).run_id
    world.service.end(first, "Failed")
    query = world.service._query_by_factory

    def refusing(call: Any) -> Any:
        if {"operand": "Status", "operator": "Equals", "values": ["Succeeded"]} in call.args[2]["filters"]:
            raise AdfUnavailableError("503", status=503)
        return query(call)

    match lost:
        case "republished":
            world.service.declares = {"other": {"type": "String"}}
        case "unreadable definition":
            world.service.declares = AdfUnavailableError("503", status=503)
        case _:
            world.service._query_by_factory = refusing  # type: ignore[method-assign]  # of our fake service
    begun = world.begin(RETRY, **policies)
    assert (begun.intent.rerun_of, begun.adopted) == (first, False)
    assert world.service.live() == [begun.run_id]
    assert "othing was started" not in caplog.text


@pytest.mark.parametrize(
    ("kind", "default", "shown"),
    [
        ("Int", "5", "5"),
        ("Float", "2.10", "2.1"),
        ("Bool", "True", "true"),
        ("Array", '["a", 1]', '["a",1]'),
        ("String", 5, "5"),
    ],
)
def test_default_is_compared_by_its_declared_type(kind: str, default: Any, shown: str) -> None:
    world = World(declares={"day": {"type": "String"}, "one": {"type": kind, "defaultValue": default}})
    theirs = world.foreign(day="x", one=shown)
    assert world.begin(on_live_run="adopt").run_id == theirs


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"on_live_run": "stop"}, "on_live_run is 'stop'; it must be 'start', 'wait', 'adopt', 'skip' or 'fail'"),
        ({"on_succeeded_run": "adopt"}, "on_succeeded_run is 'adopt'; it must be 'start', 'accept' or 'skip'"),
        ({"on_succeeded_run": "accept"}, "belong together"),
        ({"succeeded_within": 5.0}, "belong together"),
    ],
    ids=str,
)
def test_wrong_policies_are_refused(wrong: Any, message: str) -> None:
    with pytest.raises(AdfConfigurationError, match=message):
        PresentRuns(**wrong)


def test_pipeline_that_becomes_unreadable_does_not_end_a_started_try(caplog: pytest.LogCaptureFixture) -> None:
    world = World()

    def unreadable_once_started() -> None:
        if world.service.live():
            world.service.declares = AdfUnavailableError("503 for the definition", status=503)

    world.service.step = unreadable_once_started
    begun = world.begin(on_live_run="adopt")
    assert world.service.live() == [begun.run_id]
    assert "could not be compared with other active runs" in caplog.text
    assert "503 for the definition" in caplog.text
    assert "Nothing was started" not in caplog.text


@pytest.mark.parametrize("action", ["accept", "skip"])
def test_run_that_the_list_still_shows_as_active_counts_with_on_succeeded_run_alone(action: str) -> None:
    world = World()
    theirs = world.foreign()
    world.show_as_active(theirs)
    begun = world.begin(on_succeeded_run=action, within=60.0)
    assert (begun.run.run_id, begun.run.status, world.service.requested) == (theirs, "Succeeded", 0)


def test_run_that_the_list_still_shows_as_active_must_have_succeeded_within_the_time() -> None:
    world = World()
    theirs = world.foreign()
    world.service.finish(theirs)
    world.service.now += 3600
    world.service.listed[theirs] = {"status": "InProgress"}
    assert world.begin(on_succeeded_run="accept", within=3500.0).is_foreign is False
    world.journal.kept = None
    assert world.begin(on_succeeded_run="accept", within=3700.0).run_id == theirs


def test_active_run_with_other_parameters_is_not_read_for_on_succeeded_run() -> None:
    world = World()
    world.show_as_active(world.foreign(day="y", rows="5"))
    assert world.begin(on_succeeded_run="accept", within=60.0).is_foreign is False
    assert world.service.polls == 0


def test_search_for_a_run_that_has_just_succeeded_ends_with_the_first() -> None:
    world = World()
    theirs = [world.foreign() for _ in range(20)]
    for run_id in theirs:
        world.service.finish(run_id)
        world.service.listed[run_id] = {"status": "InProgress"}
    assert world.begin(on_succeeded_run="accept", within=60.0).run_id in theirs
    assert world.service.polls == 1


def finish_later(world: World, theirs: list[str], seconds: float) -> None:
    """Let the runs end so many seconds from now, while the task looks at the list."""
    at = world.service.now + seconds

    def end() -> None:
        for run_id in theirs:
            if world.service.now >= at and run_id in world.service.live():
                world.service.finish(run_id)

    world.service.step = end


AHEAD = pytest.mark.parametrize("ahead", [-100.0, 0.0, 100.0])
"""By how many seconds the service's clock differs from the task's."""


@AHEAD
@each_policy
def test_run_that_was_beside_our_run_and_has_ended_is_reported(
    policies: dict[str, Any], ahead: float, reported: Reported
) -> None:
    world = World(list_lag=7.0, ahead=ahead)
    theirs = world.start_in_between()
    finish_later(world, theirs, 5.0)
    begun = world.begin(**policies)
    (line,) = reported.lines
    assert f"Run {begun.run_id} was started" in line
    assert f"these runs were active, too, and have ended: {theirs[0]}. This task did not start them." in line
    assert "are active" not in line


def test_run_that_ends_between_the_two_lists_is_reported(reported: Reported) -> None:
    world = World()
    theirs = world.start_in_between()

    def end() -> None:
        world.service.now += 1
        for run_id in theirs:
            if run_id in world.service.live():
                world.service.finish(run_id)

    world.after_each_query(end)
    world.begin(on_live_run="wait")
    (line,) = reported.lines
    assert f"have ended: {theirs[0]}." in line
    # The look, the list that shows our run, and the active runs.
    assert (world.service.queries, world.service.polls) == (3, 1)


def test_active_and_ended_runs_are_reported_in_one_line(reported: Reported) -> None:
    world = World(list_lag=7.0)
    theirs: list[str] = []

    def two() -> str:
        theirs.extend((world.foreign(), world.foreign()))
        finish_later(world, theirs[:1], 5.0)
        return "answered"

    world.service.on_create = two
    world.begin(on_live_run="wait")
    (line,) = reported.lines
    assert f"these runs are active, too: {theirs[1]}; these runs were active, too, and have ended: {theirs[0]}." in line


@AHEAD
def test_run_that_ended_a_moment_before_our_start_is_not_reported(ahead: float, reported: Reported) -> None:
    world = World(ahead=ahead)
    theirs = world.foreign()
    assert isinstance(world.begin(on_live_run="wait"), StillActive)
    world.service.now += 600
    world.service.finish(theirs)
    world.service.now += 0.2
    assert isinstance(world.begin(on_live_run="wait"), Started)
    assert reported.lines == []


def test_run_that_ended_before_our_start_is_not_reported_if_the_list_never_shows_our_run(reported: Reported) -> None:
    world = World(list_lag=10_000.0)
    theirs = world.foreign()
    world.service.runs[theirs]["listed_at"] = 0.0
    world.service.finish(theirs)
    world.service.now += 0.2
    assert isinstance(world.begin(on_live_run="wait"), Started)
    assert reported.lines == []


def test_run_that_began_after_the_end_of_our_run_is_not_reported(reported: Reported) -> None:
    world = World(list_lag=7.0)
    began = world.service.now

    def one_after_the_other() -> None:
        live = world.service.live()
        if world.service.now >= began + 2 and len(world.service.runs) == 1 and live:
            world.service.finish(live[0])
            world.service.now += 1
            theirs = world.foreign()
            world.service.runs[theirs]["listed_at"] = 0.0
            world.service.now += 1
            world.service.finish(theirs)

    world.service.step = one_after_the_other
    world.begin(on_live_run="wait")
    assert len(world.service.runs) == 2
    assert reported.lines == []


def test_list_is_read_once_more_when_the_time_of_the_look_is_over(reported: Reported) -> None:
    world = World(list_lag=LOOK_AGAIN_SECONDS - 0.5)
    theirs = world.start_in_between()
    world.begin(on_live_run="wait")
    (line,) = reported.lines
    assert theirs[0] in line
