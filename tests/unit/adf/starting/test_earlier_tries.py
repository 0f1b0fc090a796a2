"""What a try does about runs of earlier tries where nothing outlives a try: it finds them by keys that it computes."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.config.policies import PresentRuns
from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfAuthenticationError,
    AdfConfigurationError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.starting.create_run import LATE_SEARCH_SECONDS
from airflow_adf_mi.adf.starting.intent import TaskTry, read_intent
from airflow_adf_mi.adf.starting.run_list import PATIENCE_SECONDS
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.start_key import is_start_key, random_key
from airflow_adf_mi.adf.starting.start_or_adopt import start_or_adopt
from airflow_adf_mi.adf.starting.started import StillActive
from airflow_adf_mi.adf.starting.try_keys import DAG_RUN_SLACK_SECONDS, KnownRun, TryKeys, intent_of
from airflow_adf_mi.adf.timing import Timing
from tests.support.service import MemoryJournal, ProcessDied, Service, run_on

FACTORY = FactoryRef(subscription_id="s", resource_group_name="rg", factory_name="adf")
RETRIES = 2


@dataclass
class World:
    """A task whose tries follow each other, as Airflow 3.1 counts them."""

    service: Service = field(default_factory=Service)
    retries: int = RETRIES
    try_number: int = 0
    max_tries: int = RETRIES
    dag_run_began: float | None = None
    kept: Any = None
    """What the present try has stored."""
    retry_delay: float | None = None
    """Seconds for which Airflow certainly waits before a retry."""
    others: set[str] = field(default_factory=set)
    """Runs that other instances of the mapped task have claimed."""

    def __post_init__(self) -> None:
        self.dag_run_began = self.began = self.service.now

    @property
    def keys(self) -> TryKeys:
        return TryKeys(
            deployment="here",
            dag_id="dag",
            dag_run_id="run",
            task_id="task",
            now=TaskTry(try_number=self.try_number, max_tries=self.max_tries),
            retries=self.retries,
            previous_ended_by=None if self.retry_delay is None else self.began - self.retry_delay,
            dag_run_began=self.dag_run_began,
        )

    def retry(self, **start: Any) -> Any:
        """Begin the next try."""
        self.try_number += 1
        self.service.now += 30
        self.began = self.service.now
        self.kept = None
        return self.go_on(**start)

    def clear(self, **start: Any) -> Any:
        """Begin the first try after a clear."""
        self.max_tries = self.try_number + self.retries
        return self.retry(**start)

    def make_dag_run_again(self) -> None:
        """Delete the Dag run, and make another one with the same name."""
        self.service.now += 60
        self.dag_run_began, self.try_number, self.max_tries = self.service.now, 0, self.retries

    def go_on(self, *, cancel: bool = True, **start: Any) -> Any:
        """Begin, or continue the present try. What it begins with, after a superseded run has ended."""
        order = Start(**{"factory": FACTORY, "pipeline_name": "Load", **start})
        journal = MemoryJournal(self.service, kept=self.kept, others=self.others)
        while True:
            routine = start_or_adopt(
                order,
                read_intent(journal.kept, order.intent(self.keys.now)),
                self.keys.now,
                cancel_superseded=cancel,
                timing=Timing(clock=self.service.clock, jitter=lambda: 0.5),
                keys=self.keys,
            )
            try:
                begun = run_on(routine, self.service, journal)
            finally:
                self.kept = journal.kept
            if not isinstance(begun, StillActive):
                return begun
            self.service.settle_cancels()
            if begun.run.run_id in self.service.live():
                # The run is not cancelled. The try only waits for it.
                self.service.end(begun.run.run_id, "Succeeded")

    def status(self, run_id: str) -> str:
        return str(self.service.runs[run_id]["status"])


def test_first_try_starts_a_run_under_a_key_that_shows_whose_it_is() -> None:
    world = World()
    begun = world.retry()
    assert not begun.adopted
    assert list(world.service.runs) == [begun.run_id] == [world.keys.key(1)]
    assert is_start_key(begun.run_id)


@pytest.mark.parametrize("status", ["InProgress", "Queued", "Succeeded"])
def test_retry_adopts_the_run_of_the_try_before(status: str) -> None:
    world = World()
    first = world.retry()
    world.service.end(first.run_id, status)
    second = world.retry()
    assert second.adopted
    assert second.run_id == first.run_id
    assert world.service.created == 1


def test_retry_adopts_a_run_although_a_try_between_started_nothing() -> None:
    world = World(retries=5, max_tries=5)
    first = world.retry()
    world.try_number += 2
    assert world.retry().run_id == first.run_id


@pytest.mark.parametrize("status", ["Failed", "Cancelled"])
def test_retry_starts_another_run_after_a_failed_one_and_the_next_try_finds_it(status: str) -> None:
    world = World()
    first = world.retry()
    world.service.end(first.run_id, status)
    second = world.retry()
    assert not second.adopted
    assert second.run_id == world.keys.key(2)
    assert world.retry().run_id == second.run_id


def test_retry_after_a_kill_finds_the_run_of_a_start_that_was_never_answered() -> None:
    world = World()
    world.service.dies_after_create = True
    with pytest.raises(ProcessDied):
        world.retry()
    world.service.dies_after_create = False
    begun = world.retry()
    assert begun.adopted
    assert world.service.created == 1


def test_retry_after_a_kill_before_the_request_left_starts_a_run() -> None:
    world = World()
    world.service.on_create = lambda: (_ for _ in ()).throw(ProcessDied)
    with pytest.raises(ProcessDied):
        world.retry()
    world.service.on_create = lambda: "answered"
    assert not world.retry().adopted
    assert world.service.created == 1


@pytest.mark.parametrize("cancel", [True, False])
def test_clear_ends_the_run_and_starts_another(cancel: bool) -> None:
    world = World()
    first = world.retry()
    second = world.clear(cancel=cancel)
    assert world.status(first.run_id) == ("Cancelled" if cancel else "Succeeded")
    assert world.service.live() == [second.run_id]


def test_clear_never_accepts_a_run_that_succeeded_before_it() -> None:
    world = World()
    first = world.retry()
    world.service.end(first.run_id, "Succeeded")
    second = world.clear()
    assert second.run_id != first.run_id
    assert not second.adopted


def test_retry_after_a_clear_adopts_the_run_that_the_clear_started() -> None:
    world = World()
    world.retry()
    second = world.clear()
    assert world.retry().run_id == second.run_id


@pytest.mark.parametrize("retries", [0, 1, 3, 50])
def test_edited_retries_never_make_two_runs_overlap(retries: int) -> None:
    """The run may be replaced, because nobody can tell whether the task was cleared."""
    world = World()
    first = world.retry()
    world.retries = retries
    second = world.retry()
    assert world.status(first.run_id) == "Cancelled"
    assert world.service.live() == [second.run_id]


@pytest.mark.parametrize("status", ["InProgress", "Succeeded", "Failed"])
@pytest.mark.parametrize("tries", [1, 2, 3])
def test_dag_run_that_is_made_again_ends_the_old_run_and_never_accepts_it(tries: int, status: str) -> None:
    world = World()
    for _ in range(tries):
        old = world.retry()
        world.service.end(old.run_id, "Failed")
    world.service.end(old.run_id, status)
    world.make_dag_run_again()
    first = world.retry()
    assert first.run_id == world.keys.key(1, 1)
    assert world.status(old.run_id) == {"InProgress": "Cancelled"}.get(status, status)
    assert world.service.live() == [first.run_id]
    second = world.retry()
    assert second.run_id == first.run_id


def test_dag_run_that_begins_again_after_its_end_starts_another_run() -> None:
    """A clear of an ended Dag run begins it again. Then `max_tries` is not needed."""
    world = World()
    first = world.retry()
    world.service.end(first.run_id, "Succeeded")
    world.service.now += 60
    world.dag_run_began = world.service.now
    assert world.retry().run_id != first.run_id


def test_changed_parameters_start_another_run_once_the_older_run_has_ended() -> None:
    world = World()
    first = world.retry(parameters={"day": "1"})
    second = world.retry(parameters={"day": "2"})
    assert world.status(first.run_id) == "Cancelled"
    assert world.service.live() == [second.run_id]


def test_another_pipeline_starts_another_run_once_the_older_run_has_ended() -> None:
    world = World()
    first = world.retry()
    second = world.retry(pipeline_name="Another")
    assert world.status(first.run_id) == "Cancelled"
    assert world.service.live() == [second.run_id]


def test_masked_value_counts_as_another_value() -> None:
    world = World()
    first = world.retry(parameters={"password": "1"})
    world.service.runs[first.run_id]["parameters"]["password"] = "*****"
    second = world.retry(parameters={"password": "1"})
    assert world.status(first.run_id) == "Cancelled"
    assert world.service.live() == [second.run_id]


@pytest.mark.parametrize(
    "changed",
    [
        {"parameters": {"day": "1", "added": "2"}},
        {"parameters": {}},
        {"recovery": Recovery(reference_pipeline_run_id="earlier", is_recovery=True)},
    ],
    ids=["added parameter", "removed parameter", "recovery arguments"],
)
def test_change_that_the_run_does_not_show_is_not_noticed(changed: dict[str, Any]) -> None:
    """Only a store could show it. So the retry adopts the run (docs/versions.md)."""
    world = World()
    first = world.retry(parameters={"day": "1"})
    second = world.retry(**changed)
    assert second.adopted
    assert second.run_id == first.run_id


def test_run_in_another_factory_is_not_noticed() -> None:
    """Only a store could name that factory. So the run stays active (docs/versions.md)."""
    world = World()
    first = world.retry()
    second = world.retry(factory=replace(FACTORY, factory_name="another"))
    assert not second.adopted
    assert world.service.live() == [first.run_id, second.run_id]


def test_retries_that_are_raised_after_a_clear_hide_the_clear() -> None:
    """Airflow counts only `max_tries`, which the clear has already set (docs/versions.md)."""
    world = World()
    first = world.retry()
    world.max_tries = world.try_number + world.retries
    world.retries += 1
    second = world.retry()
    assert second.adopted
    assert second.run_id == first.run_id


def test_continued_try_keeps_its_run_and_its_key() -> None:
    world = World()
    first = world.retry()
    world.service.end(first.run_id, "Failed")
    assert world.go_on().run_id == first.run_id
    world.kept = None
    assert world.go_on().run_id == first.run_id
    assert world.service.created == 1


def test_try_whose_start_provably_started_nothing_sends_its_key_again() -> None:
    world = World()
    fates = iter(["dropped", "answered"])
    world.service.on_create = lambda: next(fates)
    world.service.start_elsewhere(replace(world.keys, dag_id="another").key(1))
    begun = world.retry()
    assert begun.run_id == world.keys.key(1)
    assert world.service.requested == 2


def test_try_that_begins_its_start_again_uses_its_key_again() -> None:
    """The next try can compute only this key."""
    world = World()
    world.service.on_create = lambda: "refused"
    with pytest.raises(AdfPermissionError):
        world.retry()
    world.service.on_create = lambda: "answered"
    begun = world.go_on()
    assert begun.run_id == world.keys.key(1)
    assert world.retry().run_id == begun.run_id


def test_superseded_run_that_has_just_ended_hides_no_other_run() -> None:
    """The deleted Dag run has left a run that is active, and this Dag run has a run of its own: also another run is known."""
    world = World()
    old = world.retry()
    world.make_dag_run_again()
    first = world.retry()
    world.service.runs[old.run_id]["status"] = "InProgress"
    ends = iter([False, False, True])

    def step() -> None:
        if next(ends, False):
            world.service.end(old.run_id, "Succeeded")

    world.service.step = step
    second = world.retry()
    assert second.run_id == first.run_id
    assert world.service.created == 2


@pytest.mark.parametrize("begin", [World.retry, World.clear])
def test_run_that_is_known_by_its_key_is_proof_enough(begin: Callable[[World], Any]) -> None:
    world = World(Service(list_lag=1e6))
    first = world.retry()
    world.service.end(first.run_id, "Failed")
    fates = iter(["dropped", "answered"])
    world.service.on_create = lambda: next(fates)
    assert begin(world).run_id == world.keys.key(2)


@pytest.mark.parametrize(
    "error",
    [
        AdfUnavailableError("503", status=503),
        AdfPermissionError("403", status=403),
        AdfNotFoundError("404", status=404),
    ],
)
def test_nothing_is_started_while_the_service_does_not_answer_for_the_keys(error: AdfError) -> None:
    world = World()
    world.service.faults = repeat(error)
    began = world.service.now
    with pytest.raises(AdfError, match=r"could not be checked .*start key .*So nothing was started\..*durable=False"):
        world.retry()
    assert world.service.requested == 0
    assert world.service.now - began <= 30 + PATIENCE_SECONDS


def test_short_outage_delays_a_start_only() -> None:
    world = World()
    world.service.faults = iter([AdfUnavailableError("503", status=503)] * 3)
    assert not world.retry().adopted


@pytest.mark.parametrize("missing", ["factory", "subscription"])
def test_missing_factory_is_reported_at_once_and_by_the_start_of_a_first_try(missing: str) -> None:
    world = World()
    world.service.missing = missing
    world.service.on_create = lambda: "refused"
    began = world.service.now
    with pytest.raises(AdfPermissionError):
        world.retry()
    assert world.service.requested == 1
    with pytest.raises(AdfError, match="nothing was started"):
        world.retry()
    assert world.service.requested == 1
    assert world.service.now == began + 60


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (AdfConfigurationError("wrong"), 0),
        (AdfAuthenticationError("wrong"), 0),
        (AdfAuthenticationError("wrong", transient=True), PATIENCE_SECONDS),
    ],
)
def test_identity_or_connection_that_cannot_be_used_is_reported_as_it_is(error: AdfError, seconds: float) -> None:
    world = World()
    world.service.faults = repeat(error)
    began = world.service.now
    with pytest.raises(type(error), match=r"^wrong$"):
        world.retry()
    assert world.service.now - began - 30 == pytest.approx(seconds, abs=PATIENCE_SECONDS / 2 if seconds else 0)
    assert world.service.requested == 0


def test_retry_in_a_factory_with_run_ids_of_its_own_fails_if_a_similar_run_may_be_its_own() -> None:
    world = World(Service(own_ids=True))
    world.retry()
    with pytest.raises(AdfAmbiguousStartError, match=r"1 similar run: own-1 .*So nothing was started") as raised:
        world.retry()
    assert [run.run_id for run in raised.value.candidates] == ["own-1"]
    assert world.service.created == 1
    # The user has seen that it is not this task's run.
    assert world.clear().run_id == "own-2"


def test_retry_in_a_factory_with_run_ids_of_its_own_starts_a_run_if_there_is_no_similar_one() -> None:
    world = World(Service(own_ids=True))
    older = world.service.start_foreign()
    world.service.now += 60
    world.make_dag_run_again()
    world.service.runs[older]["lastUpdated"] = _moment(world.service.now)
    world.service.start_foreign("Another")
    world.service.on_create = lambda: "refused"
    with pytest.raises(AdfPermissionError):
        world.retry()
    world.service.on_create = lambda: "answered"
    assert world.retry().run_id == "own-1"


def test_retry_in_a_factory_with_run_ids_of_its_own_may_start_a_second_run_while_the_list_lags() -> None:
    """The page "Versions" says so."""
    world = World(Service(own_ids=True, list_lag=3600.0))
    first = world.retry()
    second = world.retry()
    assert world.service.live() == [first.run_id, second.run_id]


def test_run_that_another_instance_has_claimed_is_not_similar() -> None:
    world = World(Service(own_ids=True))
    world.others = {world.service.start_foreign()}
    world.try_number = 1
    assert not world.retry().adopted


@pytest.mark.parametrize("status", ["InProgress", "Failed"])
def test_correlation_parameter_identifies_the_run_of_an_earlier_try(status: str) -> None:
    world = World(Service(own_ids=True))
    first = world.retry(correlation_parameter="key")
    world.service.start_foreign()
    world.service.end(first.run_id, status)
    second = world.retry(correlation_parameter="key")
    assert second.run_id == ("own-1" if status == "InProgress" else "own-2")
    assert not second.intent.service_uses_key


def test_nothing_is_started_while_the_list_cannot_be_read() -> None:
    world = World(Service(own_ids=True))
    world.retry()
    world.service.faulty, world.service.faults = "query_by_factory", repeat(AdfUnavailableError("503", status=503))
    with pytest.raises(AdfError, match="nothing was started"):
        world.retry()
    assert world.service.created == 1


def test_retry_lists_no_runs_if_a_run_is_known_by_its_key() -> None:
    world = World()
    world.retry()
    world.retry()
    assert world.service.queries == 0


@pytest.mark.parametrize(
    ("retry_delay", "late", "adopted"), [(None, 40.0, True), (0.0, 140.0, True), (0.0, 200.0, False)]
)
def test_retry_waits_for_the_run_of_a_start_that_the_service_still_works_on(
    retry_delay: float | None, late: float, adopted: bool
) -> None:
    world = World(Service(late_seconds=late), retry_delay=retry_delay)
    world.service.on_create = lambda: "late"
    with pytest.raises(ProcessDied):
        world.retry()
    world.service.on_create = lambda: "answered"
    assert world.retry().adopted == adopted


def test_retry_after_a_long_delay_waits_a_short_time_only() -> None:
    world = World(retry_delay=300.0)
    world.service.on_create = lambda: "refused"
    with pytest.raises(AdfPermissionError):
        world.retry()
    world.service.on_create = lambda: "answered"
    world.retry()
    assert world.service.now - world.began == LATE_SEARCH_SECONDS


def test_try_that_adopts_a_run_waits_for_no_other() -> None:
    world = World(retries=5, max_tries=5)
    world.retry()
    world.try_number += 1
    world.retry()
    assert world.service.now == world.began


def test_run_that_is_over_but_still_shown_as_active_does_not_delay_the_new_run() -> None:
    world = World()
    first = world.retry()
    world.service.shows_old_status = True
    second = world.clear()
    assert second.run_id != first.run_id


@pytest.mark.parametrize("status", ["Failed", "Cancelled"])
def test_similar_run_that_would_be_replaced_makes_no_retry_fail(status: str) -> None:
    world = World(Service(own_ids=True))
    world.service.end(world.retry().run_id, status)
    assert world.retry().run_id == "own-2"


def test_author_may_allow_a_second_start_beside_a_similar_run() -> None:
    world = World(Service(own_ids=True))
    world.retry()
    assert world.retry(on_ambiguous="start").run_id == "own-2"


def test_clear_ends_a_run_that_the_correlation_parameter_identifies() -> None:
    world = World(Service(own_ids=True))
    first = world.retry(correlation_parameter="key")
    second = world.clear(correlation_parameter="key")
    assert world.status(first.run_id) == "Cancelled"
    assert world.service.live() == [second.run_id]


def test_list_that_fails_for_a_moment_is_read_again() -> None:
    world = World(Service(own_ids=True))
    world.service.end(world.retry().run_id, "Failed")
    world.service.faulty = "query_by_factory"
    world.service.faults = iter([AdfUnavailableError("503", status=503)] * 4)
    assert world.retry().run_id == "own-2"


def test_two_deployments_have_different_keys() -> None:
    keys = World().keys
    assert replace(keys, deployment="elsewhere").key(1) != keys.key(1)


def test_factory_with_run_ids_of_its_own_is_not_taken_for_one_that_uses_keys() -> None:
    world = World(Service(own_ids=True))
    world.service.on_create = lambda: "dropped"
    with pytest.raises(AdfAmbiguousStartError):
        world.retry()


@given(
    began=st.floats(-3600, 3600),
    ahead=st.floats(-600, 600),
    number=st.integers(1, 6),
    cleared_through=st.integers(0, 6),
)
def test_run_is_adopted_only_if_it_began_in_this_dag_run_and_after_the_clear(
    began: float, ahead: float, number: int, cleared_through: int
) -> None:
    dag_run_began = 1_000_000.0
    keys = TryKeys(
        deployment="here",
        dag_id="dag",
        dag_run_id="run",
        task_id="task",
        now=TaskTry(try_number=7, max_tries=cleared_through + 3),
        retries=3,
        dag_run_began=dag_run_began,
    )
    run = PipelineRun.from_wire(
        {
            "runId": keys.key(number),
            "pipelineName": "Load",
            "status": "Succeeded",
            "runStart": _moment(dag_run_began + began - ahead),
        }
    )
    start = Start(factory=FACTORY, pipeline_name="Load")
    found = intent_of([KnownRun(try_number=number, key=run.run_id, run=run)], start, keys, clock_ahead=ahead)
    if abs(began + DAG_RUN_SLACK_SECONDS) > 0.001:
        assert (found is not None) == (began >= -DAG_RUN_SLACK_SECONDS and number > cleared_through)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def test_run_without_times_is_not_adopted() -> None:
    world = World()
    first = world.retry()
    for name in ("runStart", "lastUpdated"):
        world.service.runs[first.run_id][name] = None
    second = world.retry()
    assert world.status(first.run_id) == "Cancelled"
    assert world.service.live() == [second.run_id]


@given(ahead=st.sampled_from([0.0, 90.0, -90.0]), seed=st.integers(0, 2**32))
@settings(max_examples=300)
def test_no_two_runs_overlap_and_none_is_started_without_need(ahead: float, seed: int) -> None:
    """For tries that die at any step, lost answers, runs that end in any way, and retries, clears and edits in any order."""
    dice = random.Random(seed)
    world = World(Service(ahead=ahead))
    service = world.service
    service.on_create = lambda: dice.choice(["answered", "answered", "lost", "dropped", "late"])
    replaceable: set[str] = set()
    """Runs that another run may follow: they failed, were cancelled, or their task was cleared."""
    begin, is_edited = world.retry, False
    for _ in range(8):
        lives = iter([False] * dice.randrange(1, 25) + [True])

        def step(lives: Any = lives) -> None:
            assert len(service.live()) <= 1, "two runs of one task at a time"
            if next(lives, False):
                raise ProcessDied

        service.step = step if dice.random() < 0.6 else lambda: None
        service.faults = repeat(AdfUnavailableError("503", status=503), dice.choice([0, 0, 0, 1, 4, 1000]))
        before = set(service.runs)
        try:
            begun = begin()
            assert begun.run_id in service.runs
            assert begun.run_id not in before or begun.adopted
            assert not (begin == world.clear and begun.run_id in before), "a run from before the clear was adopted"
        except (ProcessDied, AdfError):
            pass
        service.step = lambda: None
        service.faults = iter(())
        assert len(service.live()) <= 1
        assert service.created <= len(replaceable) + 1
        for run_id in service.live():
            if dice.random() < 0.5:
                service.end(run_id, dice.choice(["Succeeded", "Failed", "Cancelled"]))
        service.settle_cancels()
        replaceable |= {run_id for run_id, run in service.runs.items() if run["status"] in ("Failed", "Cancelled")}
        service.now += dice.choice([1.0, 60.0, 2000.0])
        begin = world.clear if dice.random() < 0.25 else world.retry
        is_edited = begin != world.clear and (is_edited or dice.random() < 0.1)
        if is_edited:
            world.retries = dice.randrange(6)
        if is_edited or begin == world.clear:
            replaceable |= set(service.runs)


ACCEPT = PresentRuns(on_succeeded_run="accept", succeeded_within=86_400.0)


def test_clear_does_not_accept_the_run_of_an_earlier_try_as_somebody_elses() -> None:
    world = World()
    world.service.declares = {}
    first = world.retry(present_runs=ACCEPT)
    world.service.end(first.run_id, "Succeeded")
    again = world.clear(present_runs=ACCEPT)
    assert again.run_id != first.run_id
    assert again.is_foreign is False


def with_adopted_run(world: World) -> Any:
    """A try that adopts the active run of somebody else."""
    world.service.declares = {}
    foreign = world.service.start_foreign()
    first = world.retry(present_runs=PresentRuns(on_live_run="adopt"))
    assert (first.run_id, first.is_foreign) == (foreign, True)
    return first


@pytest.mark.parametrize("status", ["InProgress", "Succeeded"])
def test_retry_looks_again_instead_of_remembering_the_run_that_the_try_before_adopted(status: str) -> None:
    world = World()
    world.service.start_elsewhere(random_key(), "Another")
    first = with_adopted_run(world)
    world.service.end(first.run_id, status)
    second = world.retry(present_runs=PresentRuns(on_live_run="adopt"))
    assert (second.run_id == first.run_id) is (status == "InProgress")
    assert second.is_foreign is (status == "InProgress")


def test_retry_does_not_look_again_if_the_adopted_run_may_be_its_own() -> None:
    world = World()
    with_adopted_run(world)
    with pytest.raises(AdfAmbiguousStartError):
        world.retry(present_runs=PresentRuns(on_live_run="adopt"))
    assert world.service.created == 0


def test_clear_does_not_fail_because_of_its_own_run_whose_end_is_proven() -> None:
    world = World()
    first = world.retry()
    world.service.shows_old_status = True
    again = world.clear(present_runs=PresentRuns(on_live_run="fail"))
    assert again.run_id != first.run_id


def test_retry_continues_the_failed_run_of_the_try_before() -> None:
    world = World()
    first = world.retry(retry_from_failure="retry")
    world.service.end(first.run_id, "Failed")
    again = world.retry(retry_from_failure="retry")
    assert again.intent.rerun_of == first.run_id


@pytest.mark.parametrize(("how", "continues"), [("retry", False), ("always", True)])
def test_clear_continues_the_last_failed_run_if_the_author_says_always(
    how: str, continues: bool, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    first = world.retry(retry_from_failure=how)
    world.service.end(first.run_id, "Failed")
    with caplog.at_level(logging.INFO):
        again = world.clear(retry_from_failure=how)
    assert (again.intent.rerun_of == first.run_id) is continues
    assert ("Starting from the beginning: the task was cleared, or" in caplog.text) is not continues


def test_dag_run_that_was_made_again_continues_no_run_of_the_deleted_one() -> None:
    world = World()
    first = world.retry(retry_from_failure="always")
    world.service.end(first.run_id, "Failed")
    world.make_dag_run_again()
    again = world.retry(retry_from_failure="always")
    assert again.intent.rerun_of is None
    world.service.end(again.run_id, "Failed")
    assert world.clear(retry_from_failure="always").intent.rerun_of == again.run_id


def test_retry_in_a_factory_with_run_ids_of_its_own_continues_no_run_without_a_correlation_parameter() -> None:
    world = World(Service(own_ids=True))
    first = world.retry(retry_from_failure="retry")
    world.service.end(first.run_id, "Failed")
    again = world.retry(retry_from_failure="retry")
    assert again.run_id != first.run_id
    assert again.intent.rerun_of is None


def test_clear_in_a_factory_with_run_ids_of_its_own_may_accept_its_own_earlier_run() -> None:
    accepted = {}
    for correlation in ("key", None):
        world = World(Service(own_ids=True))
        world.service.declares = {} if correlation is None else {"key": {"type": "String", "defaultValue": ""}}
        first = world.retry(present_runs=ACCEPT, correlation_parameter=correlation)
        world.service.end(first.run_id, "Succeeded")
        accepted[correlation] = (
            world.clear(present_runs=ACCEPT, correlation_parameter=correlation).run_id == first.run_id
        )
    assert accepted == {"key": False, None: True}


@pytest.mark.parametrize(("how", "waits"), [("never", False), ("retry", True)])
def test_rerun_of_somebody_with_the_correlation_parameter_of_its_group_is_never_owned(how: str, waits: bool) -> None:
    world = World(Service(own_ids=True))
    arguments = {"correlation_parameter": "key", "retry_from_failure": how}
    first = world.retry(**arguments)
    world.service.end(first.run_id, "Failed")
    world.service.now += 60
    theirs = world.service.start_foreign()
    world.service.join_group(theirs, first.run_id)
    adopted = world.retry(**arguments)
    assert (adopted.run_id, adopted.is_foreign) == (theirs, True)
    world.clear(**arguments)
    # It may be a rerun of this task, if this task makes reruns. Then the clear waits for its end.
    assert world.status(theirs) == ("Succeeded" if waits else "InProgress")


def test_retry_adopts_a_rerun_that_has_the_correlation_parameter_of_the_run_it_continues() -> None:
    world = World()
    world.service.own_ids = True
    first = world.retry(correlation_parameter="key", retry_from_failure="retry")
    world.service.end(first.run_id, "Failed")
    second = world.retry(correlation_parameter="key", retry_from_failure="retry")
    assert second.intent.rerun_of == first.run_id
    third = world.retry(correlation_parameter="key", retry_from_failure="retry")
    assert third.run_id == second.run_id
    assert world.service.runs[second.run_id]["status"] == "InProgress"


@pytest.mark.parametrize("own_ids", [False, True])
def test_late_run_of_an_earlier_try_is_not_taken_for_somebody_elses(own_ids: bool) -> None:
    world = World(Service(own_ids=own_ids, late_seconds=10_000.0, on_create=lambda: "late"))
    world.service.declares = {"key": {"type": "String", "defaultValue": ""}}
    policy = PresentRuns(on_live_run="fail")
    with pytest.raises(ProcessDied):
        world.retry(present_runs=policy, correlation_parameter="key")
    world.service.on_create = lambda: "answered"
    (lost,) = world.service.runs
    world.service.show_at_the_look(lost)
    begun = world.clear(present_runs=policy, correlation_parameter="key")
    assert (begun.adopted, begun.run_id == lost, world.service.created) == (False, False, 2)


def test_runs_of_earlier_tries_are_kept_in_their_order() -> None:
    """The oldest are forgotten first, if they are too many."""
    world = World(retries=9, max_tries=9)
    own = []
    for _ in range(9):
        own.append(world.retry().run_id)
        world.service.end(own[-1], "Failed")
    known = world.retry().intent.previous_run_ids
    assert [run_id for run_id in known if run_id in own] == own
