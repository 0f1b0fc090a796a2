"""What a try does about runs of earlier tries: no two active runs, no run lost, no run started without need."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfQueueFullError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.starting.intent import MOST_PREVIOUS_RUNS, Intent, Phase, StartNew, TaskTry, decide
from airflow_adf_mi.adf.starting.run_list import PATIENCE_SECONDS
from airflow_adf_mi.adf.starting.start import START_SETTLE_SECONDS, Start
from airflow_adf_mi.adf.starting.start_key import random_key
from airflow_adf_mi.adf.starting.started import Started
from tests.support.service import ProcessDied
from tests.support.tries import (
    CLEARED,
    CLEARED_WHILE_RUNNING,
    FACTORY,
    FIRST,
    RETRY,
    RETRY_OF_CLEAR,
    SECOND_RETRY,
    World,
)


def test_first_try_starts_a_run_under_its_key() -> None:
    world = World()
    begun = world.begin(FIRST)
    assert not begun.adopted
    assert list(world.service.runs) == [begun.run_id] == [begun.intent.start_key]
    assert Intent.from_json(world.journal.kept).phase is Phase.STARTED


def test_retry_adopts_a_live_run() -> None:
    world = World()
    first = world.begin(FIRST)
    again = world.begin(RETRY)
    assert (again.run_id, again.adopted) == (first.run_id, True)
    assert world.service.created == 1


def test_retry_accepts_a_run_that_has_succeeded() -> None:
    world = World()
    first = world.begin(FIRST)
    world.service.end(first.run_id, "Succeeded")
    again = world.begin(RETRY)
    assert again.run is not None
    assert again.run.status == "Succeeded"
    assert world.service.created == 1


@pytest.mark.parametrize("status", ["Failed", "Cancelled"])
def test_retry_starts_another_run_after_a_failed_or_cancelled_one(status: str) -> None:
    world = World()
    first = world.begin(FIRST)
    world.service.end(first.run_id, status)
    again = world.begin(RETRY)
    assert again.run_id != first.run_id
    assert not again.adopted


def test_retry_waits_for_a_run_that_is_being_cancelled() -> None:
    world = World()
    first = world.begin(FIRST)
    world.service.end(first.run_id, "Canceling")
    again = world.begin(RETRY)
    assert world.status(first.run_id) == "Cancelled"
    assert again.run_id != first.run_id


@pytest.mark.parametrize("status", ["Canceling", "Failed", "Cancelled"])
def test_retry_starts_another_run_if_the_lost_run_failed_or_was_cancelled(status: str) -> None:
    """The retry may have recorded its search for that run, and may have been interrupted while it waited."""
    world = World()
    first = world.begin(FIRST)
    world.service.end(first.run_id, "Canceling")
    world.journal.kept |= {"phase": "sending", "run_id": None, "failed": True}
    if status != "Canceling":
        # What the interrupted retry has left.
        world.journal.kept |= {"task_try": asdict(RETRY), "try_failed": False, "not_adopted_yet": True}
        world.service.end(first.run_id, status)
    again = world.begin(RETRY)
    assert not again.adopted
    assert again.run_id != first.run_id
    assert Intent.from_json(world.journal.kept).not_adopted_yet is False


def test_adopted_run_of_a_lost_start_belongs_to_the_retry_from_then_on() -> None:
    world = World()
    first = world.begin(FIRST)
    world.journal.kept |= {"phase": "sending", "run_id": None, "failed": True}
    assert world.begin(RETRY).run_id == first.run_id
    world.service.end(first.run_id, "Failed")
    # The same try continues after its trigger was lost. It has one run, even if that failed.
    assert world.begin(RETRY).run_id == first.run_id


@pytest.mark.parametrize("task_try", [CLEARED, CLEARED_WHILE_RUNNING])
@pytest.mark.parametrize("status", ["InProgress", "Succeeded", "Failed"])
def test_clear_starts_a_new_run_once_the_older_run_has_ended(task_try: TaskTry, status: str) -> None:
    world = World()
    first = world.begin(FIRST)
    world.service.end(first.run_id, status)
    again = world.begin(task_try)
    assert again.run_id != first.run_id
    assert world.status(first.run_id) == ("Cancelled" if status == "InProgress" else status)
    assert world.service.live() == [again.run_id]


def test_clear_starts_a_new_run_although_the_cancel_came_too_late() -> None:
    world = World(cancel_loses=True)
    first = world.begin(FIRST)
    again = world.begin(CLEARED_WHILE_RUNNING)
    assert world.status(first.run_id) == "Succeeded"
    assert again.run_id != first.run_id


def test_clear_waits_for_a_run_that_must_not_be_cancelled() -> None:
    world = World()
    first = world.begin(FIRST)
    again = world.begin(CLEARED, cancel=False)
    assert world.status(first.run_id) == "Succeeded"
    assert again.run_id != first.run_id


def test_clear_of_a_failed_task_starts_a_new_run() -> None:
    world = World()
    first = world.begin(FIRST)
    world.journal.kept["try_failed"] = True
    again = world.begin(CLEARED)
    assert again.run_id != first.run_id
    assert world.status(first.run_id) == "Cancelled"


def test_clear_of_another_task_does_not_clear_a_task_whose_try_failed() -> None:
    world = World()
    first = world.begin(FIRST)
    world.journal.kept["try_failed"] = True
    again = world.begin(CLEARED_WHILE_RUNNING)
    assert (again.run_id, again.adopted) == (first.run_id, True)


@pytest.mark.parametrize("parameters", [{"day": "1"}, {"day": "2"}])
def test_continued_try_ignores_clears_and_changed_parameters(parameters: dict[str, str]) -> None:
    """The try begins again when its trigger has failed, whatever was cleared or rendered again meanwhile."""
    world = World()
    first = world.begin(FIRST, parameters={"day": "1"})
    world.journal.kept |= {"deadline": 5.0}
    again = world.begin(replace(FIRST, clear_number=5), parameters=parameters)
    assert (again.run_id, again.adopted) == (first.run_id, True)
    assert again.intent.deadline == 5.0, "the wait is the same"
    assert world.status(first.run_id) == "InProgress"


def test_intent_of_a_newer_version_is_read_without_its_unknown_members() -> None:
    world = World()
    first = world.begin(FIRST)
    world.service.end(first.run_id, "Succeeded")
    world.journal.kept |= {"version": 2, "newer": 1}
    world.journal.kept["task_try"]["newer"] = world.journal.kept["factory"]["newer"] = 1
    assert world.begin(CLEARED).run_id != first.run_id
    assert world.begin(RETRY_OF_CLEAR).adopted


def test_unreadable_intent_adopts_no_similar_run() -> None:
    world = World()
    world.service.start_foreign()
    world.journal.kept = {"version": 99}
    with pytest.raises(AdfAmbiguousStartError):
        world.begin(RETRY)


@pytest.mark.parametrize("missing", ["factory", "subscription"])
def test_missing_factory_does_not_mean_that_its_runs_have_ended(missing: str) -> None:
    world = World()
    world.begin(FIRST)
    world.service.missing = missing
    with pytest.raises(AdfError, match="nothing was started"):
        world.begin(CLEARED)
    assert world.service.created == 1


def test_unknown_run_that_must_not_be_cancelled_counts_as_active_for_45_days() -> None:
    world = World()
    world.begin(FIRST)
    world.service.missing = "run"
    with pytest.raises(AdfError, match="nothing was started"):
        world.begin(CLEARED, cancel=False)
    world.service.now += 46 * 86400
    world.begin(CLEARED, cancel=False)
    assert world.service.created == 2


def test_run_ids_of_one_factory_prove_nothing_about_another_factory() -> None:
    world = World()
    first = world.begin(FIRST)
    world.service.end(first.run_id, "Failed")
    world.service.own_ids = True
    world.service.on_create = lambda: "dropped"
    elsewhere = FactoryRef(subscription_id="s", resource_group_name="rg", factory_name="other")
    with pytest.raises(AdfAmbiguousStartError):
        world.begin(RETRY, factory=elsewhere)


@pytest.mark.parametrize("pipeline", ["Load", "Another"])
def test_run_of_another_deployment_proves_that_a_dropped_start_started_nothing(pipeline: str) -> None:
    world = World()
    elsewhere = world.service.start_elsewhere(random_key(), pipeline)
    fates = iter(["dropped", "answered"])
    world.service.on_create = lambda: next(fates)
    begun = world.begin(FIRST)
    assert set(world.service.runs) == {elsewhere, begun.run_id}
    assert world.service.requested == 2


@pytest.mark.parametrize(
    ("run_id", "lag", "fault"),
    [
        (str(uuid.UUID(int=uuid.UUID(random_key()).int ^ 1)), 0.0, None),
        (str(uuid.uuid4()), 0.0, None),
        (random_key(), 1e6, None),
        (random_key(), 0.0, AdfUnavailableError("503", status=503)),
    ],
    ids=["almost a key", "Azure's id", "not listed yet", "the list fails"],
)
def test_dropped_start_stays_ambiguous_without_a_listed_start_key(
    run_id: str, lag: float, fault: AdfError | None
) -> None:
    world = World(list_lag=lag)
    world.service.start_elsewhere(run_id, "Another")
    world.service.on_create = lambda: "dropped"
    world.service.faulty, world.service.faults = "query_by_factory", repeat(fault) if fault else iter(())
    with pytest.raises(AdfAmbiguousStartError):
        world.begin(FIRST)
    assert world.service.requested == 1


def test_list_is_queried_for_start_keys_only_at_the_end_of_a_search() -> None:
    world = World()
    world.begin(FIRST)
    assert world.service.queries == 0
    world = World()
    world.service.on_create = lambda: "lost"
    world.begin(FIRST)
    assert world.service.queries == 0


def test_similar_run_is_not_ours_in_a_factory_that_uses_start_keys() -> None:
    world = World()
    world.service.start_elsewhere(random_key())
    world.service.on_create = lambda: "dropped"
    with pytest.raises(AdfUnavailableError):
        world.begin(FIRST)
    similar = world.service.start_foreign()
    world.service.on_create = lambda: "answered"
    begun = world.begin(CLEARED)
    assert world.status(similar) == "InProgress"
    assert begun.run_id in world.service.live()


def test_similar_run_of_a_superseded_start_is_waited_for_and_not_cancelled() -> None:
    world = World(own_ids=True)
    lost_start(world, "answered")
    begun = world.begin(CLEARED)
    assert world.status("own-1") == "Succeeded"
    assert world.service.live() == [begun.run_id]


def test_retry_claims_the_run_that_it_adopts() -> None:
    world = World()
    first = world.begin(FIRST)
    world.journal.claims.clear()
    world.begin(RETRY)
    assert world.journal.claims == [first.run_id]


@pytest.mark.parametrize("began", [-60.0, 400.0])
def test_run_that_began_at_another_time_is_not_adopted(began: float) -> None:
    world = World(own_ids=True)
    world.service.now += began
    stranger = world.service.start_foreign() if began < 0 else None
    world.service.now -= began
    lost_start(world, "dropped")
    world.service.now += max(0.0, began)
    stranger = stranger or world.service.start_foreign()
    with pytest.raises(AdfAmbiguousStartError):
        world.begin(RETRY)
    assert stranger not in world.journal.claims


def test_run_that_a_trigger_or_a_pipeline_started_is_not_adopted() -> None:
    world = World(own_ids=True)
    lost_start(world, "dropped")
    world.service.runs[world.service.start_foreign()]["invokedBy"] = {"invokedByType": "ScheduleTrigger"}
    with pytest.raises(AdfAmbiguousStartError):
        world.begin(RETRY)


def test_adopting_a_run_resets_try_failed() -> None:
    world = World()
    world.begin(FIRST)
    world.journal.kept["try_failed"] = True
    world.begin(RETRY)
    assert Intent.from_json(world.journal.kept).try_failed is False


def test_changed_parameters_start_a_new_run_once_the_older_run_has_ended() -> None:
    world = World()
    first = world.begin(FIRST, parameters={"day": "1"})
    again = world.begin(RETRY, parameters={"day": "2"})
    assert world.status(first.run_id) == "Cancelled"
    assert again.run_id != first.run_id


def test_nothing_is_started_while_status_checks_of_the_older_run_fail() -> None:
    world = World()
    world.begin(FIRST)
    world.service.polls_fail = True
    with pytest.raises(AdfError, match="nothing was started"):
        world.begin(CLEARED)
    assert world.service.created == 1


@pytest.mark.parametrize("is_over", [False, True])
def test_unreadable_answers_about_the_older_run_stop_a_clear_until_it_has_ended(is_over: bool) -> None:
    world = World()
    first = world.begin(FIRST)
    if is_over:
        world.service.end(first.run_id, "Succeeded")
    world.service.polls_unreadable = True
    if not is_over:
        with pytest.raises(AdfError, match="nothing was started"):
            world.begin(CLEARED)
        assert (world.service.created, world.status(first.run_id)) == (1, "Canceling")
        world.service.settle_cancels()
    assert world.begin(CLEARED).run_id != first.run_id
    assert world.service.created == 2


def test_run_that_the_service_has_forgotten_does_not_stop_a_clear() -> None:
    world = World()
    first = world.begin(FIRST)
    del world.service.runs[first.run_id]
    assert world.begin(CLEARED).run_id in world.service.runs


def test_retry_after_a_kill_while_prepared_starts_one_run() -> None:
    world = World()
    world.journal.kept = Start(factory=FACTORY, pipeline_name="Load").intent(FIRST).to_json()
    world.begin(RETRY)
    assert world.service.created == 1


def lost_start(world: World, fate: str, **start: Any) -> None:
    """Kill a try while its createRun is in flight. The request arrives, or it does not (`fate`)."""

    def die() -> str:
        if fate == "dropped":
            raise ProcessDied
        world.service.dies_after_create = True
        return fate

    world.service.on_create = die
    with pytest.raises(ProcessDied):
        world.begin(FIRST, **start)
    world.service.on_create = lambda: "answered"
    world.service.dies_after_create = False


def test_retry_after_a_kill_while_sending_finds_the_run_by_its_key() -> None:
    world = World()
    lost_start(world, "answered")
    again = world.begin(RETRY)
    assert again.adopted
    assert world.service.created == 1


@pytest.mark.parametrize("ahead", [0.0, 90.0, -90.0])
def test_retry_after_a_kill_while_sending_finds_the_run_in_the_list(ahead: float) -> None:
    world = World(own_ids=True, ahead=ahead)
    lost_start(world, "answered", parameters={"day": "1"})
    again = world.begin(RETRY, parameters={"day": "1"})
    assert again.adopted
    assert world.service.created == 1
    assert world.journal.claims == [again.run_id]


def test_lost_start_is_ambiguous_until_the_lagging_list_shows_its_run() -> None:
    world = World(own_ids=True, list_lag=600)
    lost_start(world, "answered")
    with pytest.raises(
        AdfAmbiguousStartError, match=r"the task does not start another.* The cleared task starts a new run[.]"
    ):
        world.begin(RETRY)
    world.service.now += 600
    assert world.begin(RETRY).adopted
    assert world.service.created == 1


def test_ambiguous_start_after_a_failed_search_explains_what_a_clear_does() -> None:
    world = World()
    lost_start(world, "answered")
    world.service.faults = repeat(UNAVAILABLE)
    with pytest.raises(
        AdfAmbiguousStartError, match=r"starts a new run as soon as the search for the lost start's run works[.]"
    ):
        world.begin(RETRY)


def test_retry_after_a_kill_before_the_request_left_never_starts_blindly() -> None:
    world = World(own_ids=True)
    lost_start(world, "dropped")
    for _ in range(3):
        with pytest.raises(AdfAmbiguousStartError):
            world.begin(RETRY)
    assert world.service.created == 0
    # The user finds no run in ADF Studio, and clears the task.
    world.begin(CLEARED)
    assert world.service.created == 1


def test_start_that_provably_started_nothing_is_sent_again() -> None:
    """The service was seen to use our keys as run ids. So an unknown key proves that nothing was started."""
    world = World()
    first = world.begin(FIRST)
    world.service.end(first.run_id, "Failed")
    fates = iter(["dropped", "answered"])
    world.service.on_create = lambda: next(fates)
    again = world.begin(RETRY)
    assert world.service.created == 2
    assert again.run_id in world.service.runs


def test_start_that_is_sent_again_with_proof_uses_up_no_start_without_proof() -> None:
    world = World()
    first = world.begin(FIRST)
    world.service.end(first.run_id, "Failed")
    service = world.service

    def fail_lists() -> str:
        service.faulty, service.faults = "query_by_factory", repeat(AdfUnavailableError("no list"))
        return "dropped"

    fates: Iterator[Callable[[], str]] = iter([lambda: "dropped", fail_lists, lambda: "answered"])
    service.on_create = lambda: next(fates)()
    begun = world.begin(RETRY, on_ambiguous="start")
    assert (service.requested, service.created, begun.adopted) == (4, 2, False)


def test_author_may_allow_a_second_start() -> None:
    world = World(own_ids=True)
    lost_start(world, "dropped")
    begun = world.begin(RETRY, on_ambiguous="start")
    assert not begun.adopted
    assert world.service.created == 1


def test_try_makes_at_most_one_second_start_without_proof() -> None:
    """Two runs may do no harm, but a service that loses every answer must not start a run a second."""
    world = World(own_ids=True)
    fates = iter(["dropped"] * 5)
    world.service.on_create = lambda: next(fates)
    said = "This try has already sent the start again, as on_ambiguous_start allows."
    with pytest.raises(AdfAmbiguousStartError, match=said) as first:
        world.begin(FIRST, on_ambiguous="start", settle=1)
    assert "set on_ambiguous_start" not in str(first.value)
    assert world.service.requested == 2
    with pytest.raises(AdfAmbiguousStartError, match=said):
        world.begin(RETRY, on_ambiguous="start", settle=1)
    assert world.service.requested == 3, "the retry counts the lost start of the first try"


@pytest.mark.parametrize("allowed", ["start", "start_if_list_is_fresh"])
@pytest.mark.parametrize(("fate", "error"), [("full", AdfAmbiguousStartError), ("refused", AdfPermissionError)])
def test_refused_start_without_proof_keeps_the_record_of_the_earlier_try(
    fate: str, error: type[AdfError], allowed: str
) -> None:
    world = World(own_ids=True)
    order: dict[str, Any] = {"correlation_parameter": "key", "on_ambiguous": allowed}
    lost_start(world, "answered", **order)
    (first,) = world.service.runs
    sent_at = world.service.now
    # The list is fresh, and leaves out just this run.
    world.service.runs[first]["listed_at"] += 3600.0
    world.service.now += 60.0
    world.service.end(world.service.start_foreign("Other"), "Succeeded")
    world.service.on_create = lambda: fate
    with pytest.raises(error):
        world.begin(RETRY, **order)
    kept = Intent.from_json(world.journal.kept)
    assert (world.service.requested, kept.phase, kept.sent_at) == (2, Phase.SENDING, sent_at)
    world.service.now += 3600.0
    world.service.on_create = lambda: "answered"
    begun = world.begin(RETRY_OF_CLEAR, **order)
    assert (world.status(first), world.service.live()) == ("Cancelled", [begun.run_id])


@pytest.mark.parametrize(("fate", "error"), [("full", AdfAmbiguousStartError), ("refused", AdfPermissionError)])
def test_refused_start_without_proof_keeps_the_record_of_the_first_request(fate: str, error: type[AdfError]) -> None:
    world = World(own_ids=True, list_lag=3600.0)
    world.service.on_create = iter(["lost", fate]).__next__
    sent_at = world.service.now
    with pytest.raises(error):
        world.begin(FIRST, on_ambiguous="start")
    kept = Intent.from_json(world.journal.kept)
    assert (world.service.requested, kept.phase, kept.sent_at) == (2, Phase.SENDING, sent_at)


def test_full_queue_after_a_proof_that_nothing_was_started_is_waited_out() -> None:
    world = World()
    world.service.start_elsewhere(random_key())
    world.service.on_create = iter(["dropped", "full"]).__next__
    with pytest.raises(AdfQueueFullError):
        world.begin(FIRST)
    kept = Intent.from_json(world.journal.kept)
    assert (kept.phase, kept.sent_at, kept.first_refused_at) == (Phase.PREPARED, None, world.service.now)


def test_refused_retry_keeps_the_proof_that_the_service_uses_our_keys() -> None:
    world = World()
    first = world.begin(FIRST)
    world.service.end(first.run_id, "Failed")
    world.service.on_create = lambda: "refused"
    with pytest.raises(AdfPermissionError):
        world.begin(RETRY)
    intent = Intent.from_json(world.journal.kept)
    assert intent.phase is Phase.PREPARED
    decision = decide(intent, replace(RETRY, try_number=RETRY.try_number + 1), intent.fingerprint)
    assert decision == StartNew(older=intent)
    fresh = Start(factory=FACTORY, pipeline_name="Load").intent().after(intent)
    assert fresh.service_uses_key
    assert first.run_id in fresh.previous_run_ids


def test_own_runs_stay_known_when_a_start_replaces_older_ones() -> None:
    start = Start(factory=FACTORY, pipeline_name="Load")
    older = replace(start.intent().started("newest"), previous_run_ids=("first", "second"))
    fresh = replace(start.intent(), previous_run_ids=("found by its key", "second"))
    known = ("found by its key", "second", "first", "newest")
    assert fresh.after(older).previous_run_ids == known
    assert fresh.after(older).after(older) == fresh.after(older)
    assert fresh.after(replace(older, run_id="Second")).previous_run_ids[1:3] == ("Second", "first")


def test_key_of_an_earlier_start_stays_known_unless_nothing_was_sent_or_it_is_sent_again() -> None:
    start = Start(factory=FACTORY, pipeline_name="Load")
    older, fresh = start.intent(), start.intent()
    assert fresh.after(older).previous_run_ids == ()
    sending = replace(older, phase=Phase.SENDING)
    assert fresh.after(sending).previous_run_ids == (older.start_key,)
    assert replace(fresh, start_key=older.start_key).after(sending).previous_run_ids == ()


def test_key_of_a_start_whose_run_is_known_stays_known_only_if_another_run_of_the_start_may_appear() -> None:
    start = Start(factory=FACTORY, pipeline_name="Load")
    fresh, older = start.intent(), replace(start.intent(), sent_at=50.0).started("own")
    assert fresh.after(older).previous_run_ids == ("own",)
    sent_again = replace(older, may_have_two_runs=True)
    assert fresh.after(sent_again).previous_run_ids == ("own", older.start_key)
    watched = replace(older, is_foreign=True)
    assert fresh.after(watched).previous_run_ids == (older.start_key,)
    assert fresh.after(replace(watched, sent_at=None)).previous_run_ids == ()


def test_start_that_is_sent_again_without_proof_may_have_two_runs() -> None:
    world = World(own_ids=True, late_seconds=10_000.0, on_create=lambda: "late")
    with pytest.raises(ProcessDied):
        world.begin(FIRST, on_ambiguous="start")
    key = world.journal.kept["start_key"]
    world.service.on_create = lambda: "answered"
    retried = world.begin(RETRY, on_ambiguous="start")
    assert (retried.intent.start_key, retried.intent.may_have_two_runs, world.service.created) == (key, True, 2)
    world.service.end(retried.run_id, "Failed")
    replaced = world.begin(SECOND_RETRY)
    assert replaced.intent.previous_run_ids == (retried.run_id, key)
    assert not replaced.intent.may_have_two_runs


def test_lost_start_that_is_sent_again_does_not_ignore_its_own_run() -> None:
    world = World()
    world.service.start_elsewhere(random_key())
    lost_start(world, "dropped")
    key = world.journal.kept["start_key"]
    begun = world.begin(RETRY)
    assert (begun.run_id, begun.adopted) == (key, False)
    assert key not in begun.intent.previous_run_ids


def with_late_run(seconds: float, list_seconds: float) -> World:
    """A task whose first try is killed while its createRun is in flight. The run appears so many seconds later."""
    world = World(late_seconds=seconds, on_create=lambda: "late")
    with pytest.raises(ProcessDied):
        world.begin(FIRST)
    world.service.list_seconds = list_seconds
    world.service.on_create = lambda: "answered"
    return world


@pytest.mark.parametrize("list_seconds", [0, 50, 70])
def test_retry_finds_a_run_that_appears_just_before_the_search_ends(list_seconds: float) -> None:
    world = with_late_run(START_SETTLE_SECONDS - 1, list_seconds)
    assert world.begin(RETRY).adopted
    assert world.service.created == 1


@pytest.mark.parametrize("list_seconds", [0, 50, 70])
def test_clear_ends_a_run_that_appears_just_before_the_search_ends(list_seconds: float) -> None:
    world = with_late_run(START_SETTLE_SECONDS - 1, list_seconds)
    (late,) = world.service.live()
    world.service.now += 5
    begun = world.begin(CLEARED)
    assert world.status(late) == "Cancelled"
    assert world.service.live() == [begun.run_id]


def test_own_runs_that_are_kept_fit_into_an_entry_of_airflow() -> None:
    start = Start(factory=FACTORY, pipeline_name="Load")
    ids = tuple(str(uuid.UUID(int=number)) for number in range(MOST_PREVIOUS_RUNS))
    fresh = start.intent().after(replace(start.intent().started("newest"), previous_run_ids=ids))
    assert fresh.previous_run_ids == (*ids[1:], "newest")
    # Airflow's default of [state_store] max_value_storage_bytes.
    assert len(json.dumps(fresh.to_json())) < 65_535


def test_run_is_known_to_be_active_from_its_answer_on() -> None:
    world = World()
    first = world.begin(FIRST)
    answered_at = first.not_ended_before
    assert answered_at is not None
    world.service.now += 50
    adopted = world.begin(replace(FIRST, try_number=2))
    assert adopted.not_ended_before == answered_at + 50
    world.service.end(first.run_id, "Succeeded")
    assert world.begin(replace(FIRST, try_number=3)).not_ended_before is None


def test_run_with_other_parameters_is_not_adopted() -> None:
    world = World(own_ids=True)
    lost_start(world, "dropped", parameters={"day": "1"})
    world.service.start_foreign(day="2")
    with pytest.raises(AdfAmbiguousStartError) as ambiguous:
        world.begin(RETRY, parameters={"day": "1"})
    assert ambiguous.value.candidates == ()


def test_two_similar_runs_are_listed_and_not_adopted() -> None:
    world = World(own_ids=True)
    lost_start(world, "answered", parameters={"day": "1"})
    world.service.start_foreign(day="1")
    with pytest.raises(AdfAmbiguousStartError, match="2 run") as ambiguous:
        world.begin(RETRY, parameters={"day": "1"})
    assert {run.run_id for run in ambiguous.value.candidates} == set(world.service.runs)


def test_run_that_another_instance_has_claimed_is_not_adopted() -> None:
    world = World(own_ids=True)
    lost_start(world, "answered")
    world.journal.others.add(world.service.start_foreign())
    assert world.begin(RETRY).run_id == "own-1"


def test_run_that_another_instance_claims_at_the_same_time_is_left_to_it() -> None:
    world = World(own_ids=True)
    lost_start(world, "answered")
    world.journal.refuses_claims = True
    with pytest.raises(AdfAmbiguousStartError):
        world.begin(RETRY)


def test_correlation_parameter_distinguishes_similar_runs() -> None:
    world = World(own_ids=True)
    start: dict[str, Any] = {"parameters": {"day": "1"}, "correlation_parameter": "airflow_key"}
    lost_start(world, "answered", **start)
    world.service.start_foreign(day="1", airflow_key="another")
    assert world.begin(RETRY, **start).run_id == "own-1"


@pytest.mark.parametrize("declares", [{}, None], ids=["known name", "unknown name"])
def test_correlation_parameter_finds_a_run_although_the_author_spells_the_name_in_another_case(declares: Any) -> None:
    world = World(own_ids=True, declares=declares, published_name="LOAD")
    start: dict[str, Any] = {"correlation_parameter": "airflow_key"}
    lost_start(world, "answered", **start)
    (run,) = world.service.runs.values()
    run["pipelineName"] = "LOAD"
    assert world.begin(RETRY, **start).run_id == run["runId"]


def test_clear_ends_both_runs_of_a_start_that_was_sent_twice() -> None:
    world = World(own_ids=True)
    start: dict[str, Any] = {"correlation_parameter": "airflow_key"}
    lost_start(world, "answered", **start)
    (first,) = world.service.live()
    parameters = world.service.runs[first]["parameters"]
    second = world.service.start_foreign(**parameters)
    begun = world.begin(CLEARED, **start)
    assert (world.status(first), world.status(second)) == ("Cancelled", "Cancelled")
    assert world.service.live() == [begun.run_id]


def test_clear_cancels_no_rerun_that_has_the_correlation_parameter_of_its_group() -> None:
    world = World(own_ids=True)
    start: dict[str, Any] = {"correlation_parameter": "airflow_key"}
    lost_start(world, "answered", **start)
    (first,) = world.service.live()
    world.service.end(first, "Failed")
    theirs = world.service.start_foreign()
    world.service.join_group(theirs, first)
    world.begin(CLEARED, **start)
    assert world.status(theirs) != "Cancelled"


def test_superseded_lost_start_is_cancelled_if_it_is_certainly_ours() -> None:
    world = World()
    lost_start(world, "answered")
    (older,) = world.service.runs
    begun = world.begin(CLEARED)
    assert world.status(older) == "Cancelled"
    assert world.service.live() == [begun.run_id]


UNAVAILABLE = AdfUnavailableError("the service is down", status=503)
FAILED_SEARCHES = [
    UNAVAILABLE,
    AdfPermissionError("no role to read", status=403),
    AdfNotFoundError("no such factory", status=404, missing="factory"),
    AdfNotFoundError("no such subscription", status=404, missing="subscription"),
    AdfUnavailableError("no run in the answer", status=200, unreadable=True),
]


@pytest.mark.parametrize("own_ids", [False, True])
def test_clear_after_a_lost_start_finds_the_run_once_the_search_works_again(own_ids: bool) -> None:
    world = World(own_ids=own_ids)
    start: dict[str, Any] = {"correlation_parameter": "airflow_key"}
    lost_start(world, "answered", **start)
    (older,) = world.service.runs
    world.service.now += 900
    world.service.faults = iter([UNAVAILABLE] * 4)
    begun = world.begin(CLEARED, **start)
    assert next(world.service.faults, None) is None
    assert world.status(older) == "Cancelled"
    assert world.service.live() == [begun.run_id]


@pytest.mark.parametrize("arrived", ["answered", "dropped"])
@pytest.mark.parametrize("fault", FAILED_SEARCHES, ids=str)
def test_clear_after_a_lost_start_starts_nothing_while_the_search_fails(fault: AdfError, arrived: str) -> None:
    world = World()
    lost_start(world, arrived)
    before, created = world.journal.kept, world.service.created
    world.service.now += 900
    began = world.service.now
    world.service.faults = repeat(fault)
    with pytest.raises(AdfError, match=r"got no answer, and the search for its run failed.*nothing was started") as e:
        world.begin(CLEARED)
    assert all(
        part in str(e.value) for part in (before["start_key"], "'Load'", str(FACTORY), "durable=False", str(fault))
    )
    assert e.value.__cause__ is fault
    assert began + PATIENCE_SECONDS / 2 < world.service.now <= began + PATIENCE_SECONDS
    assert (world.service.created, world.journal.kept) == (created, before)
    # The next clear searches again.
    world.service.faults = iter(())
    begun = world.begin(CLEARED)
    assert world.service.live() == [begun.run_id]
    assert world.service.created == created + 1


@pytest.mark.parametrize("fault", FAILED_SEARCHES, ids=str)
@pytest.mark.parametrize("operation", ["get", "query_by_factory"])
def test_clear_after_a_lost_start_must_search_both_the_key_and_the_list(operation: str, fault: AdfError) -> None:
    world = World(own_ids=True)
    lost_start(world, "dropped")
    world.service.now += 900
    world.service.faulty, world.service.faults = operation, repeat(fault)
    with pytest.raises(AdfError, match="nothing was started"):
        world.begin(CLEARED)
    assert world.service.created == 0


def test_clear_after_a_lost_start_that_is_not_found_starts_a_run() -> None:
    world = World(own_ids=True)
    lost_start(world, "dropped")
    world.service.now += 900
    world.service.faults = iter([UNAVAILABLE] * 2)
    begun = world.begin(CLEARED)
    assert next(world.service.faults, None) is None
    assert list(world.service.runs) == [begun.run_id]


def test_clear_after_a_lost_start_of_another_pipeline_finds_its_run() -> None:
    """Only the key of the lost start is known, and the task starts another pipeline now."""
    world = World()
    lost_start(world, "answered")
    (older,) = world.service.runs
    unreadable = Start(factory=FACTORY, pipeline_name="Other", start_key=older).intent(FIRST)
    world.journal.kept = replace(unreadable, phase=Phase.SENDING).to_json()
    begun = world.begin(CLEARED, pipeline_name="Other")
    assert world.status(older) == "Cancelled"
    assert world.service.live() == [begun.run_id]


def test_run_of_an_unreadable_intent_is_searched_for() -> None:
    world = World()
    first = world.begin(FIRST)
    world.journal.kept = {"version": 99, "run_id": first.run_id, "start_key": first.intent.start_key, "what": "ever"}
    again = world.begin(RETRY)
    assert (again.run_id, again.adopted) == (first.run_id, True)


@pytest.mark.parametrize("kept", ["text", {"version": 1}, {"version": 99, "start_key": "no guid"}, 7])
def test_nonsense_in_the_journal_starts_nothing_and_raises_ambiguous_start(kept: object) -> None:
    world = World()
    world.journal.kept = kept
    with pytest.raises(AdfAmbiguousStartError):
        world.begin(RETRY)
    assert world.service.created == 0
    # The unreadable value was replaced, so the next clear is recognized.
    assert world.begin(CLEARED).run_id in world.service.runs


@given(
    own_ids=st.booleans(),
    how=st.sampled_from(["never", "retry", "always"]),
    lag=st.sampled_from([0.0, 30.0]),
    ahead=st.sampled_from([0.0, 90.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=300)
def test_no_two_runs_overlap_and_none_is_started_without_need(
    own_ids: bool, how: Any, lag: float, ahead: float, seed: int
) -> None:
    """For tries that die at any step, lost answers, runs that end in any way, retries and clears in any order."""
    dice = random.Random(seed)
    world = World(own_ids=own_ids, list_lag=lag, ahead=ahead)
    service = world.service
    service.on_create = lambda: dice.choice(["answered", "answered", "lost", "dropped"])
    task_try = FIRST
    replaceable: set[str] = set()
    """Runs that another run may follow: they failed, were cancelled, or their task was cleared."""
    for _ in range(8):
        lives = iter([False] * dice.randrange(1, 25) + [True])

        def step(lives: Any = lives) -> None:
            assert len(service.live()) <= 1, "two runs of one task at a time"
            if next(lives, False):
                raise ProcessDied

        service.step = step if dice.random() < 0.6 else lambda: None
        outage = dice.choice([0, 0, 0, 1, 4, 1000])
        service.faults = repeat(UNAVAILABLE, outage)
        try:
            begun = world.begin(task_try, retry_from_failure=how)
            assert isinstance(begun, Started)
            assert begun.run_id in service.runs
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
        if dice.random() < 0.25:
            task_try = TaskTry(
                try_number=task_try.try_number + 1,
                max_tries=task_try.max_tries + dice.choice([0, 1]),
                clear_number=task_try.clear_number + 1,
            )
            replaceable |= set(service.runs)
        else:
            task_try = TaskTry(
                try_number=task_try.try_number + 1,
                max_tries=task_try.max_tries,
                clear_number=task_try.clear_number,
            )
