"""Reruns from the failed activities: when they are made, and that no start is lost or made twice by them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from itertools import repeat
from typing import Any

import pytest

from airflow_adf_mi.adf.config.validation import check_retry_from_failure
from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfConfigurationError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfQueueFullError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.starting.intent import Intent, Phase
from airflow_adf_mi.adf.starting.rerun import refuses_rerun
from airflow_adf_mi.adf.starting.start_key import random_key
from tests.support.service import ProcessDied
from tests.support.tries import CLEARED, FIRST, RETRY, RETRY_OF_CLEAR, SECOND_RETRY, World

who_chooses_ids = pytest.mark.parametrize(
    "own_ids", [{}, {"own_rerun_ids": True}, {"own_ids": True}], ids=["keys", "own-rerun-ids", "own-ids"]
)
"""Whether the service chooses the ids of no runs, of reruns, or of all runs."""


def failed_world(**service: Any) -> tuple[World, str]:
    """A task whose first try has failed, and its run."""
    world = World(**service)
    first = world.begin(FIRST, parameters={"day": "x"}).run_id
    world.service.end(first, "Failed")
    world.service.activities[first] = {"Copy": "Succeeded", "Transform": "Failed"}
    return world, first


def again(world: World, task_try: Any = RETRY, how: str = "retry", **start: Any) -> Any:
    return world.begin(task_try, **{"parameters": {"day": "x"}, "retry_from_failure": how, **start})


def group_of(world: World, run_id: str) -> str:
    return str(world.service.runs[run_id]["runGroupId"])


@pytest.mark.parametrize("how", ["retry", "always"])
def test_retry_continues_the_failed_run(how: str, caplog: pytest.LogCaptureFixture) -> None:
    world, first = failed_world()
    with caplog.at_level(logging.INFO):
        begun = again(world, how=how)
    assert group_of(world, begun.run_id) == first
    assert begun.run_id == begun.intent.start_key
    assert not begun.adopted
    assert world.service.sent[-1] == {}
    assert (
        f"Run {begun.run_id} continues run {first} from its failed activities. These activities had succeeded, and do not run "
        "again: 'Copy'." in caplog.messages
    )


def test_retry_starts_from_the_beginning_unless_asked() -> None:
    world, first = failed_world()
    begun = again(world, how="never")
    assert group_of(world, begun.run_id) == begun.run_id != first


def test_second_retry_continues_the_newest_run_of_the_group() -> None:
    world, first = failed_world()
    second = again(world).run_id
    world.service.end(second, "Failed")
    third = again(world, SECOND_RETRY)
    assert third.intent.rerun_of == second
    assert group_of(world, third.run_id) == first
    assert [world.service.runs[run]["isLatest"] for run in (first, second, third.run_id)] == [False, False, True]


@pytest.mark.parametrize("status", ["InProgress", "Succeeded"])
def test_rerun_that_somebody_began_in_studio_is_adopted(status: str) -> None:
    world, first = failed_world()
    theirs = world.service.start_foreign()
    world.service.join_group(theirs, first)
    world.service.end(theirs, status)
    begun = again(world)
    assert (begun.run_id, begun.adopted, begun.is_foreign, world.service.created) == (theirs, True, True, 1)
    assert Intent.from_json(world.journal.kept).run_id == theirs
    again(world, CLEARED)
    assert world.status(theirs) == status


@pytest.mark.parametrize("how", ["retry", "always"])
@pytest.mark.parametrize(("status", "continues"), [("Succeeded", False), ("Failed", True), ("Cancelled", False)])
def test_clear_after_an_adopted_rerun_of_somebody(status: str, continues: bool, how: str) -> None:
    world, first = failed_world()
    theirs = in_group(world, first)
    again(world, how=how)
    world.service.end(theirs, status)
    begun = again(world, CLEARED, how)
    assert begun.adopted is False
    assert begun.intent.rerun_of == (theirs if continues and how == "always" else None)


@pytest.mark.parametrize("how", ["retry", "always"])
def test_adopted_rerun_of_somebody_that_the_service_no_longer_knows_stops_no_clear(how: str) -> None:
    world, first = failed_world()
    theirs = in_group(world, first)
    again(world, how=how)
    del world.service.runs[theirs]
    assert again(world, CLEARED, how).adopted is False


@pytest.mark.parametrize("own_ids", [False, True])
def test_clear_continues_the_failed_run_of_a_lost_answer_only_if_that_run_is_certainly_ours(own_ids: bool) -> None:
    world = World(own_ids=own_ids)
    world.service.dies_after_create = True
    with pytest.raises(ProcessDied):
        world.begin(FIRST, parameters={"day": "x"})
    world.service.dies_after_create = False
    (first,) = world.service.live()
    world.service.end(first, "Failed")
    assert again(world, CLEARED, "always").intent.rerun_of == (None if own_ids else first)


def test_adopted_rerun_of_somebody_is_continued_if_it_fails() -> None:
    world, first = failed_world()
    theirs = in_group(world, first)
    again(world)
    world.service.end(theirs, "Failed")
    begun = again(world, SECOND_RETRY)
    assert (begun.intent.rerun_of, group_of(world, begun.run_id)) == (theirs, first)
    assert begun.is_foreign is False


def test_rerun_of_somebody_that_is_being_cancelled_is_waited_for() -> None:
    world, first = failed_world()
    theirs = world.service.start_foreign()
    world.service.join_group(theirs, first)
    world.service.end(theirs, "Canceling")
    begun = again(world)
    assert begun.run_id != theirs
    assert begun.is_foreign is False


def lost_rerun(world: World, fate: str = "answered", **start: Any) -> None:
    """Kill a retry while its rerun is being sent. The request arrives, or it does not (`fate`)."""

    def die() -> str:
        if fate == "dropped":
            raise ProcessDied
        world.service.dies_after_create = True
        return fate

    world.service.on_create = die
    with pytest.raises(ProcessDied):
        again(world, **start)
    world.service.on_create, world.service.dies_after_create = (lambda: "answered"), False


def in_group(world: World, first: str, status: str = "InProgress") -> str:
    """A rerun that somebody began in ADF Studio."""
    theirs = world.service.start_foreign()
    world.service.join_group(theirs, first)
    world.service.end(theirs, status)
    return theirs


@pytest.mark.parametrize(("own_ids", "end"), [(False, "Cancelled"), (True, "Succeeded")])
def test_clear_ends_a_lost_rerun_and_cancels_it_only_if_it_has_our_key(own_ids: bool, end: str) -> None:
    world, _ = failed_world(own_ids=own_ids)
    lost_rerun(world)
    (rerun,) = world.service.live()
    # `World` ends a run that the task only waits for as Succeeded.
    begun = again(world, CLEARED)
    assert (world.status(rerun), world.service.live()) == (end, [begun.run_id])


@pytest.mark.parametrize("how", ["retry", "always"])
@pytest.mark.parametrize("fate", ["answered", "dropped"])
def test_clear_never_cancels_reruns_of_somebody_after_a_lost_rerun(fate: str, how: str) -> None:
    world, first = failed_world(own_ids=True)
    lost_rerun(world, fate)
    theirs = [in_group(world, first) for _ in range(2)]
    again(world, CLEARED, how)
    assert [world.status(run) for run in theirs] == ["Succeeded", "Succeeded"], "both were waited for"


def test_clear_looks_for_a_late_rerun_of_ours_beside_that_of_somebody() -> None:
    world, first = failed_world()
    world.service.late_seconds = 30.0
    world.service.on_create = lambda: "late"
    with pytest.raises(ProcessDied):
        again(world)
    world.service.on_create = lambda: "answered"
    (ours,) = world.service.live()
    theirs = in_group(world, first, "Succeeded")
    begun = again(world, CLEARED)
    assert (world.status(ours), world.status(theirs)) == ("Cancelled", "Succeeded")
    assert world.service.live() == [begun.run_id]


def test_clear_repeats_a_failed_search_although_the_list_shows_a_rerun_of_somebody() -> None:
    world, first = failed_world(own_ids=True)
    lost_rerun(world, "dropped")
    theirs = in_group(world, first)
    world.service.now += 900
    world.service.faulty, world.service.faults = "get", iter([AdfUnavailableError("503", status=503)] * 2)
    again(world, CLEARED)
    assert world.status(theirs) == "Succeeded"


@pytest.mark.parametrize("how", ["retry", "always"])
def test_clear_waits_for_an_adopted_rerun_that_may_be_ours(how: str) -> None:
    world, _ = failed_world(own_ids=True)
    world.service.on_create = iter(["lost", "answered"]).__next__
    rerun = again(world).run_id
    assert Intent.from_json(world.journal.kept).is_foreign
    begun = again(world, CLEARED, how)
    assert world.status(rerun) == "Succeeded", "waited for, and not cancelled"
    assert world.service.live() == [begun.run_id]


def test_failed_rerun_that_somebody_began_in_studio_is_continued() -> None:
    world, first = failed_world()
    theirs = world.service.start_foreign()
    world.service.join_group(theirs, first)
    world.service.end(theirs, "Failed")
    assert again(world).intent.rerun_of == theirs


def test_rerun_that_somebody_cancelled_is_not_continued() -> None:
    world, first = failed_world()
    theirs = world.service.start_foreign()
    world.service.join_group(theirs, first)
    world.service.end(theirs, "Cancelled")
    begun = again(world)
    assert group_of(world, begun.run_id) == begun.run_id


def test_newer_run_of_the_group_that_cannot_be_read_prevents_a_start() -> None:
    world, first = failed_world(list_lag=10_000.0)
    theirs = world.service.start_foreign()
    world.service.join_group(theirs, first)
    with pytest.raises(AdfError, match=f"the newer run cannot be read.*group {first}"):
        again(world)
    assert world.service.created == 1


HOW = [(RETRY, "retry"), (RETRY, "always"), (CLEARED, "always")]
"""Tries that continue a failed run, and `retry_from_failure`."""


def assert_handled(world: World, begun: Any, newest: str, status: str) -> None:
    """What a try does about the newest run of the group, which somebody has begun."""
    if status in ("InProgress", "Succeeded"):
        assert (begun.run_id, begun.adopted, begun.is_foreign) == (newest, True, True)
    elif status == "Failed":
        assert begun.intent.rerun_of == newest
    else:
        assert (group_of(world, begun.run_id), begun.intent.rerun_of) == (begun.run_id, None)


@pytest.mark.parametrize(("task_try", "how"), HOW)
@pytest.mark.parametrize(
    ("listed", "status"),
    [
        ("InProgress", "Failed"),
        ("InProgress", "Cancelled"),
        ("Failed", "InProgress"),
        ("Failed", "Succeeded"),
        ("Cancelled", "Succeeded"),
    ],
)
def test_newest_run_of_the_group_counts_as_it_is_and_not_as_it_is_listed(
    listed: str, status: str, task_try: Any, how: str
) -> None:
    world, first = failed_world()
    theirs = in_group(world, first, status)
    world.service.listed[theirs] = {"status": listed}
    assert_handled(world, again(world, task_try, how), theirs, status)


def test_newest_run_of_the_group_that_is_not_listed_yet_is_waited_for() -> None:
    world, first = failed_world()
    older = in_group(world, first, "Failed")
    theirs = in_group(world, first)
    at = world.service.now + 20.0
    world.service.runs[theirs]["listed_at"] = at
    world.service.listed[older] = {"isLatest": True}

    def catch_up() -> None:
        if world.service.now >= at:
            world.service.listed.clear()

    world.service.step = catch_up
    assert again(world).run_id == theirs


@pytest.mark.parametrize("outage", [1, 1000])
def test_newest_run_of_the_group_is_read_again_after_an_error(outage: int) -> None:
    world, first = failed_world()
    theirs = in_group(world, first)
    world.service.faulty, world.service.faults = theirs, repeat(AdfUnavailableError("503", status=503), outage)
    if outage == 1:
        assert again(world).run_id == theirs
        return
    with pytest.raises(AdfError, match="the newer run cannot be read"):
        again(world)
    assert world.service.requested == 1


@pytest.mark.parametrize(("task_try", "how"), HOW)
@pytest.mark.parametrize("status", ["InProgress", "Succeeded", "Failed", "Cancelled"])
def test_rerun_that_somebody_begins_between_the_look_and_the_request_counts(
    status: str, task_try: Any, how: str
) -> None:
    world, first = failed_world()
    theirs: list[str] = []

    def meanwhile() -> str:
        world.service.refuses_recovery = None if theirs else AdfRequestError("not the latest run", status=400)
        theirs.extend([] if theirs else [in_group(world, first, status)])
        return "answered"

    world.service.on_create = meanwhile
    assert_handled(world, again(world, task_try, how), theirs[0], status)
    assert len(world.service.live()) == (status != "Succeeded")


def test_refused_rerun_starts_nothing_while_its_group_cannot_be_read() -> None:
    world, first = failed_world(refuses_recovery=AdfRequestError("not the latest run", status=400))

    def outage() -> str:
        world.service.faulty, world.service.faults = first, repeat(AdfUnavailableError("503", status=503))
        return "answered"

    world.service.on_create = outage
    with pytest.raises(AdfError, match="So nothing was started"):
        again(world)
    assert world.service.created == 1


def test_cancelled_run_is_not_continued() -> None:
    world, first = failed_world()
    world.service.end(first, "Cancelled")
    begun = again(world)
    assert group_of(world, begun.run_id) == begun.run_id


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Why everything runs, as the log says."""
    return [line for line in caplog.messages if line.startswith("Starting from the beginning: ")]


def test_changed_parameters_start_from_the_beginning(caplog: pytest.LogCaptureFixture) -> None:
    world, _ = failed_world()
    with caplog.at_level(logging.INFO):
        begun = again(world, how="always", parameters={"day": "y"})
    assert group_of(world, begun.run_id) == begun.run_id
    assert world.service.sent[-1] == {"day": "y"}
    assert reasons(caplog) == ["Starting from the beginning: the parameters, the pipeline or the factory have changed."]


def test_clear_starts_from_the_beginning_unless_the_author_says_always(caplog: pytest.LogCaptureFixture) -> None:
    world, _ = failed_world()
    with caplog.at_level(logging.INFO):
        begun = again(world, CLEARED)
    assert group_of(world, begun.run_id) == begun.run_id
    assert reasons(caplog) == ["Starting from the beginning: the task was cleared, and retry_from_failure is 'retry'."]
    world, first = failed_world()
    assert group_of(world, again(world, CLEARED, "always").run_id) == first


def test_clear_after_a_success_starts_from_the_beginning(caplog: pytest.LogCaptureFixture) -> None:
    world, first = failed_world()
    world.service.end(first, "Succeeded")
    with caplog.at_level(logging.INFO):
        begun = again(world, CLEARED, "always")
    assert group_of(world, begun.run_id) == begun.run_id
    assert reasons(caplog) == [f"Starting from the beginning: run {first} succeeded."]


def test_clear_that_cancels_an_active_run_starts_from_the_beginning() -> None:
    world = World()
    first = again(world, FIRST, "always").run_id
    begun = again(world, CLEARED, "always")
    assert world.status(first) == "Cancelled"
    assert group_of(world, begun.run_id) == begun.run_id


def test_clear_of_a_failed_run_that_the_service_has_forgotten_starts_from_the_beginning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world, first = failed_world()
    del world.service.runs[first]
    begun = again(world, CLEARED, "always")
    assert group_of(world, begun.run_id) == begun.run_id
    assert reasons(caplog) == [f"Starting from the beginning: the service no longer knows run {first}. 404"]


def full_queue(world: World) -> None:
    """A rerun that was not sent, because the queue of the pipeline was full."""
    world.service.on_create = lambda: "full"
    with pytest.raises(AdfQueueFullError):
        again(world)
    world.service.on_create = lambda: "answered"


def dropped_rerun(world: World) -> None:
    """A rerun that certainly did not arrive."""
    show_that_reruns_have_our_keys(world)
    lost_rerun(world, "dropped")


NOT_SENT = [(full_queue, RETRY, "retry"), (full_queue, RETRY_OF_CLEAR, "always"), (dropped_rerun, RETRY, "retry")]


@pytest.mark.parametrize(("before", "task_try", "how"), NOT_SENT)
def test_failed_status_check_does_not_make_everything_run(before: Any, task_try: Any, how: str) -> None:
    world, first = failed_world()
    before(world)
    world.service.faulty, world.service.faults = first, iter([AdfUnavailableError("503", status=503)])
    begun = again(world, task_try, how)
    assert next(world.service.faults, None) is None
    assert begun.intent.rerun_of == first


@pytest.mark.parametrize(("before", "task_try", "how"), NOT_SENT)
def test_failed_run_that_cannot_be_read_prevents_a_start(before: Any, task_try: Any, how: str) -> None:
    world, first = failed_world()
    before(world)
    sent = world.service.requested
    world.service.faulty, world.service.faults = first, repeat(AdfUnavailableError("503", status=503))
    with pytest.raises(AdfError, match=f"Run {first} of pipeline 'Load'.* could not be read. So nothing was started"):
        again(world, task_try, how)
    assert world.service.requested == sent


@pytest.mark.parametrize(
    "refusal",
    [
        AdfRequestError("not a valid run id", status=400, code="ReferencedPipelineRunNotValid"),
        AdfRequestError("older than 45 days", status=404),
    ],
    ids=str,
)
def test_refused_rerun_starts_from_the_beginning(refusal: AdfError, caplog: pytest.LogCaptureFixture) -> None:
    world, first = failed_world(refuses_recovery=refusal)
    begun = again(world)
    assert group_of(world, begun.run_id) == begun.run_id
    assert world.service.sent[-1] == {"day": "x"}
    assert begun.intent.rerun_of is None
    assert f"Starting from the beginning: run {first} cannot be continued. {refusal}" in caplog.messages


REFUSES_EVERY_START = [
    AdfPermissionError("403", status=403, code="RequestDisallowedByPolicy"),
    AdfThrottledError("429", status=429),
    AdfQueueFullError("full", status=400),
    AdfRequestError("a lock", status=409, code="ScopeLocked"),
    AdfRequestError("the front door", status=400, code="New", failure_cause="gateway"),
    AdfRequestError("no subscription", status=400, code="InvalidSubscriptionId"),
    AdfRequestError("a policy", status=400, code="RequestDisallowedByPolicy"),
    AdfNotFoundError("no factory", status=404, missing="factory"),
    AdfNotFoundError("no subscription", status=404, missing="subscription"),
    AdfNotFoundError("something", status=404),
    AdfNotFoundError("the front door", status=404, missing="pipeline", failure_cause="gateway"),
    AdfRequestError("another method", status=405),
    AdfRequestError("too large", status=413),
]


@pytest.mark.parametrize(
    ("refusal", "refuses"),
    [
        *((refusal, False) for refusal in REFUSES_EVERY_START),
        # Not refused before the search for the run of a lost start.
        (AdfRequestError("a conflict", status=409, code="PipelineConflict"), False),
        (AdfRequestError("not a valid run id", status=400), True),
        (AdfRequestError("gone", status=410), True),
        (AdfNotFoundError("no run", status=404, missing="run"), True),
        (AdfNotFoundError("no pipeline, or no run", status=404, missing="pipeline"), True),
    ],
    ids=str,
)
def test_only_data_factory_refuses_a_rerun(refusal: AdfRequestError, refuses: bool) -> None:
    assert refuses_rerun(refusal) is refuses


@pytest.mark.parametrize("refusal", REFUSES_EVERY_START, ids=str)
def test_refusal_that_is_not_about_the_rerun_is_raised(refusal: AdfError) -> None:
    world, _ = failed_world(refuses_recovery=refusal)
    with pytest.raises(type(refusal)) as refused:
        again(world)
    assert str(refusal) in str(refused.value)
    assert world.service.created == 1


@who_chooses_ids
def test_lost_answer_of_a_rerun_is_found_in_the_group(own_ids: dict[str, bool]) -> None:
    world, first = failed_world(**own_ids)
    world.service.on_create = iter(["lost"]).__next__
    begun = again(world)
    assert begun.adopted
    assert group_of(world, begun.run_id) == first
    assert world.service.created == 2
    # Without our key, it may be somebody else's.
    assert begun.is_foreign is bool(own_ids)


def test_run_of_another_group_is_not_taken_for_a_lost_rerun() -> None:
    world, first = failed_world(own_ids=True)

    def lost() -> str:
        world.service.start_foreign(day="x")
        return "lost"

    world.service.on_create = lost
    assert group_of(world, again(world).run_id) == first


def test_earlier_run_of_the_group_is_not_taken_for_a_lost_rerun() -> None:
    world, first = failed_world(own_ids=True)
    for _ in range(2):
        theirs = world.service.start_foreign()
        world.service.join_group(theirs, first)
        world.service.end(theirs, "Failed")
    world.service.now += 3600
    for run in world.service.runs.values():
        run["lastUpdated"] = datetime.fromtimestamp(world.service.now, UTC).isoformat()
    world.service.on_create = iter(["dropped"]).__next__
    with pytest.raises(AdfAmbiguousStartError):
        again(world)


def show_that_reruns_have_our_keys(world: World) -> None:
    """Another task's rerun whose id is a start key."""
    keys = [world.service.start_elsewhere(random_key()) for _ in range(2)]
    world.service.join_group(keys[1], keys[0])


def test_lost_rerun_is_not_sent_again_if_no_rerun_shows_that_it_would_have_our_key() -> None:
    world, _ = failed_world()
    world.service.on_create = iter(["dropped"]).__next__
    with pytest.raises(AdfAmbiguousStartError):
        again(world)
    assert world.service.created == 1


def test_lost_rerun_that_reached_nobody_is_sent_again_as_a_rerun() -> None:
    world, first = failed_world()
    show_that_reruns_have_our_keys(world)
    world.service.on_create = iter(["dropped", "answered"]).__next__
    begun = again(world)
    assert (group_of(world, begun.run_id), begun.intent.rerun_of) == (first, first)


def test_lost_rerun_without_proof_is_ambiguous() -> None:
    world, _ = failed_world(own_ids=True)
    world.service.on_create = iter(["dropped"]).__next__
    with pytest.raises(AdfAmbiguousStartError):
        again(world)
    assert world.service.created == 1


def test_rerun_that_is_sent_again_without_proof_keeps_the_record_of_the_first() -> None:
    world, first = failed_world(own_ids=True)
    lost_rerun(world, "dropped")
    sent_at = world.service.now
    world.service.on_create = lambda: "full"
    with pytest.raises(AdfAmbiguousStartError, match="sent again without proof, and the pipeline's queue was full"):
        again(world, SECOND_RETRY, on_ambiguous="start")
    kept = Intent.from_json(world.journal.kept)
    assert (kept.phase, kept.sent_at, kept.rerun_of) == (Phase.SENDING, sent_at, first)


def test_clear_continues_a_run_that_fails_between_the_look_and_its_cancel() -> None:
    world = World()
    first = world.begin(FIRST, parameters={"day": "x"}).run_id
    cancel = world.service._cancel

    def fails_first(call: Any) -> bool:
        world.service.end(first, "Failed")
        return cancel(call)

    world.service._cancel = fails_first  # type: ignore[method-assign]  # of our fake service
    begun = again(world, CLEARED, "always")
    assert (begun.intent.rerun_of, group_of(world, begun.run_id)) == (first, first)


@pytest.mark.parametrize("own_ids", [False, True])
def test_clear_counts_a_lost_rerun_as_its_own_only_if_that_is_certain(own_ids: bool) -> None:
    """Policies about runs that are already there ignore the task's own earlier runs."""
    world, first = failed_world(own_ids=own_ids)
    lost_rerun(world)
    (rerun,) = set(world.service.runs) - {first}
    world.service.end(rerun, "Succeeded")
    world.service.now += 900
    begun = again(world, CLEARED)
    assert first in begun.intent.previous_run_ids
    assert (rerun in begun.intent.previous_run_ids) is not own_ids


def test_fresh_list_is_no_evidence_about_a_rerun() -> None:
    """A rerun has the correlation parameter of the run that it continues."""
    world, _ = failed_world(own_ids=True)
    lost_rerun(world, "dropped")
    world.service.now += 60
    world.service.start_foreign("Another")
    arguments = {"correlation_parameter": "key", "on_ambiguous": "start_if_list_is_fresh"}
    requested = world.service.requested
    with pytest.raises(AdfAmbiguousStartError):
        again(world, SECOND_RETRY, **arguments)
    assert world.service.requested == requested


@pytest.mark.parametrize("dies", ["before", "after"])
@who_chooses_ids
def test_process_killed_around_the_request_of_a_rerun(own_ids: dict[str, bool], dies: str) -> None:
    world, first = failed_world(**own_ids)

    def die() -> str:
        if dies == "before":
            raise ProcessDied
        world.service.dies_after_create = True
        return "answered"

    world.service.on_create = die
    with pytest.raises(ProcessDied):
        again(world)
    world.service.on_create, world.service.dies_after_create = (lambda: "answered"), False
    if not own_ids:
        show_that_reruns_have_our_keys(world)
    if own_ids and dies == "before":
        with pytest.raises(AdfAmbiguousStartError):
            again(world, SECOND_RETRY)
        assert world.service.created == 1
        return
    begun = again(world, SECOND_RETRY)
    assert group_of(world, begun.run_id) == first
    assert world.service.created == 2


def test_process_killed_while_a_rerun_is_active() -> None:
    world, _ = failed_world()
    second = again(world).run_id
    begun = again(world, SECOND_RETRY)
    assert (begun.run_id, begun.adopted) == (second, True)
    assert world.service.created == 2


def test_clear_of_an_active_rerun_ends_it_and_starts_from_the_beginning() -> None:
    world, _ = failed_world()
    second = again(world).run_id
    begun = again(world, RETRY_OF_CLEAR)
    assert world.status(second) == "Cancelled"
    assert group_of(world, begun.run_id) == begun.run_id


def test_rerun_ignores_the_check_of_parameters_and_the_correlation_parameter() -> None:
    world = World(declares={"key": {"type": "String"}})
    first = world.begin(FIRST, correlation_parameter="key", check_parameters=True).run_id
    world.service.end(first, "Failed")
    world.service.declares = {}
    world.service.on_create = iter(["lost"]).__next__
    begun = world.begin(RETRY, correlation_parameter="key", check_parameters=True, retry_from_failure="retry")
    assert (group_of(world, begun.run_id), begun.adopted) == (first, True)


def test_activities_that_cannot_be_listed_do_not_prevent_a_rerun() -> None:
    world, first = failed_world()
    world.service.faulty = "query_by_pipeline_run"
    world.service.faults = iter([AdfUnavailableError("503", status=503)])
    assert group_of(world, again(world).run_id) == first


def test_intent_of_a_rerun_keeps_what_it_continues() -> None:
    world, first = failed_world()
    again(world)
    kept = Intent.from_json(world.journal.kept)
    assert (kept.phase, kept.rerun_of, kept.run_group_id) == (Phase.STARTED, first, first)
    assert first in kept.previous_run_ids


@pytest.mark.parametrize(
    ("given", "meaning"),
    [
        (True, "retry"),
        (False, "never"),
        (None, "never"),
        ("None", "never"),
        ("True", "retry"),
        (" always ", "always"),
        ("Retry", "retry"),
    ],
)
def test_flag_and_rendered_text_mean_the_same(given: object, meaning: str) -> None:
    assert check_retry_from_failure(given) == meaning


@pytest.mark.parametrize("given", ["yes", 7, ["retry"]])
def test_another_value_is_refused(given: object) -> None:
    with pytest.raises(AdfConfigurationError, match="it must be 'never', 'retry' or 'always'"):
        check_retry_from_failure(given)
