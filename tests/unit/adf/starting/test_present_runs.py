"""What a start does about runs that are already there: each policy, and what happens between the look and the start."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.config.policies import PresentRuns
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError, AdfUnavailableError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.starting.declared_parameters import DeclaredParameter
from airflow_adf_mi.adf.starting.intent import Intent, read_intent
from airflow_adf_mi.adf.starting.present_runs import LOOK_AGAIN_SECONDS, chosen, has_equal_parameters, reporting_others
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.start_or_adopt import start_or_adopt
from airflow_adf_mi.adf.starting.started import Skipped, Started, StillActive
from airflow_adf_mi.adf.timing import Timing
from tests.support.routines import FACTORY
from tests.support.service import MemoryJournal, Service, run_on
from tests.support.tries import CLEARED, FIRST, RETRY

DAY = {"day": {"type": "String"}, "rows": {"type": "Int", "defaultValue": 5}}


class World:
    """A task whose start looks for runs that are already there."""

    def __init__(self, **service: Any) -> None:
        self.service = Service(**{"declares": DAY, **service})
        self.journal = MemoryJournal(self.service)

    def begin(self, task_try: Any = FIRST, within: float | None = None, *, check: bool = True, **policies: Any) -> Any:
        start = Start(
            factory=FACTORY,
            pipeline_name="Load",
            parameters={"day": "x"},
            present_runs=PresentRuns(succeeded_within=within, **policies),
            retry_from_failure="retry",
            check_parameters=check,
        )
        routine = start_or_adopt(
            start,
            read_intent(self.journal.kept, start.intent(task_try)),
            task_try,
            cancel_superseded=True,
            timing=Timing(clock=self.service.clock, jitter=lambda: 0.5),
        )
        begun = run_on(routine, self.service, self.journal)
        if isinstance(begun, Started):
            others = reporting_others(start, begun, timing=Timing(clock=self.service.clock, jitter=lambda: 0.5))
            run_on(others, self.service, self.journal)
        return begun

    def foreign(self, status: str = "InProgress", **parameters: str) -> str:
        run_id = self.service.start_foreign(**(parameters or {"day": "x", "rows": "5"}))
        self.service.end(run_id, status)
        return run_id


def run(run_id: str, status: str = "InProgress", **parameters: str) -> PipelineRun:
    return PipelineRun.from_wire({"runId": run_id, "pipelineName": "Load", "status": status, "parameters": parameters})


EQUAL: Callable[[PipelineRun], bool] = lambda found: found.parameters.get("equal") == "yes"  # noqa: E731  a table's cell
LIVE, OTHER = run("live", equal="yes"), run("other", equal="no")
DONE, OTHER_DONE = run("done", "Succeeded", equal="yes"), run("other done", "Succeeded", equal="no")
ENDING = run("ending", "Canceling", equal="yes")


@pytest.mark.parametrize(
    ("policies", "live", "succeeded", "expected"),
    [
        ({}, [LIVE], [DONE], None),
        ({"on_live_run": "wait"}, [OTHER, LIVE], [], ("wait", "other")),
        ({"on_live_run": "wait"}, [ENDING], [], ("wait", "ending")),
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


@pytest.mark.parametrize("policy", ["adopt", "wait", "fail"])
def test_run_that_ended_after_the_list_was_made_is_not_live(policy: str) -> None:
    world = World()
    theirs = world.foreign()
    query = world.service._query_by_factory

    def lagging(call: Any) -> Any:
        page = query(call)
        world.service.end(theirs, "Succeeded")
        return page

    world.service._query_by_factory = lagging  # type: ignore[method-assign]  # of our fake service
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


class Counts:
    def __init__(self) -> None:
        self.counted: list[str] = []

    def count(self, name: str, tags: dict[str, str]) -> None:
        self.counted.append(name)

    def time(self, name: str, seconds: float, tags: dict[str, str]) -> None:
        pass


def test_second_run_that_began_at_the_same_time_is_reported_and_not_cancelled(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = Counts()
    monkeypatch.setattr(metrics, "_sinks", [counts])
    world = World()
    theirs = list[str]()

    def both() -> str:
        theirs.append(world.foreign())
        return "answered"

    world.service.on_create = both
    with caplog.at_level(logging.WARNING):
        begun = world.begin(on_live_run="adopt")
    assert begun.is_foreign is False
    assert any(
        begun.run_id in line and theirs[0] in line and "Nothing was cancelled" in line for line in caplog.messages
    )
    assert counts.counted == [metrics.OVERLAPS]
    assert world.service.runs[theirs[0]]["status"] == "InProgress"


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


def test_run_that_succeeded_a_moment_ago_is_accepted_although_the_list_lags() -> None:
    world = World()
    theirs = world.foreign()
    query = world.service._query_by_factory

    def lagging(call: Any) -> Any:
        world.service.end(theirs, "InProgress")
        page = query(call)
        world.service.end(theirs, "Succeeded")
        return page

    world.service._query_by_factory = lagging  # type: ignore[method-assign]  # of our fake service
    begun = world.begin(on_live_run="wait", on_succeeded_run="accept", within=60.0)
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
    assert "could not be compared with runs that began at the same time" in caplog.text
    assert "503 for the definition" in caplog.text
    assert "Nothing was started" not in caplog.text
