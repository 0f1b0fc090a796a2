"""The rules of createRun: what a failure means, and how a lost start is settled."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.api.operations import Call, Page
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.api.refusal import FRONT_DOOR
from airflow_adf_mi.adf.api.shown_runs import remembered
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfAuthenticationError,
    AdfConfigurationError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfQueueFullError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.starting.create_run import Verdict, create_run_once, judge
from airflow_adf_mi.adf.starting.find_run import LIST_SEARCH_SECONDS
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.timing import Timing
from tests.support.routines import Clock, answer_of, play

FACTORY = FactoryRef(subscription_id="s", resource_group_name="rg", factory_name="adf")
KEY = "0cc3f4c2-0000-4000-8000-000000000001"

NOT_STARTED = [
    AdfThrottledError("429", status=429),
    AdfUnavailableError("refused", never_sent=True),
    AdfAuthenticationError("no endpoint", transient=True),
    AdfAuthenticationError("401", refused_token=True),
    AdfUnavailableError("a gateway's 401", status=401, is_foreign=True),
]
REFUSED = [
    AdfRequestError("400", status=400),
    AdfPermissionError("403", status=403),
    AdfNotFoundError("404", status=404),
    AdfAuthenticationError("the endpoint refuses"),
    AdfConfigurationError("no identity"),
    AdfRequestError("by the header", status=409, code="New", failure_cause="Gateway"),
    *(AdfRequestError(code, status=409, code=code) for code in sorted(FRONT_DOOR)),
    *(AdfUnavailableError(f"redirect {status}", status=status) for status in (307, 308)),
    *(AdfUnavailableError(f"a proxy's {status}", status=status, is_foreign=True) for status in (407, 413, 511)),
]
LOST = [
    AdfUnavailableError("dropped"),
    AdfUnavailableError("408", status=408),
    AdfUnavailableError("500", status=500),
    AdfUnavailableError("503", status=503, retry_after=1),
    AdfRequestError("409", status=409),
    AdfRequestError("by Data Factory", status=409, code="PipelineConflict", failure_cause="service"),
    # A web filter may have replaced the answer that contains the new run id by its page.
    *(AdfUnavailableError(f"a page, {n}", status=n, is_foreign=True) for n in (200, 302, 303, 400, 403, 404, 408, 502)),
    # The front door got no answer from Data Factory in time.
    AdfUnavailableError("504", status=504),
    AdfError("what is this"),
]


NOTHING_LISTED: Page[PipelineRun] = Page(items=[], continuation_token=None)


def run(pipeline: str = "Load") -> PipelineRun:
    return PipelineRun.from_wire({"runId": KEY, "pipelineName": pipeline, "status": "InProgress"})


ORDER = Start(factory=FACTORY, pipeline_name="Load")


def start(answers: list[Any]) -> tuple[Any, list[str]]:
    """The run id, and the requests that were made."""
    clock = Clock()
    routine = create_run_once(
        ORDER, replace(ORDER, start_key=KEY).intent(), timing=Timing(clock=clock, jitter=lambda: 0.5)
    )
    started, asked = play(routine, clock, iter(answers))
    return started.run_id, asked


@pytest.mark.parametrize(
    ("errors", "verdict"), [(NOT_STARTED, Verdict.NOT_STARTED), (REFUSED, Verdict.REFUSED), (LOST, Verdict.AMBIGUOUS)]
)
def test_each_error_has_its_verdict(errors: list[AdfError], verdict: Verdict) -> None:
    assert [judge(error) for error in errors] == [verdict] * len(errors)


def test_answered_start_is_one_request() -> None:
    assert start(["r1"]) == ("r1", ["create_run"])


@pytest.mark.parametrize("error", NOT_STARTED, ids=str)
def test_start_that_started_nothing_is_sent_again(error: AdfError) -> None:
    assert start([error, error, "r1"]) == ("r1", ["create_run"] * 3)


@pytest.mark.parametrize("error", NOT_STARTED, ids=str)
def test_start_that_never_gets_through_raises_its_error(error: AdfError) -> None:
    with pytest.raises(type(error)):
        start([error] * 100)


@pytest.mark.parametrize("error", REFUSED, ids=str)
def test_refused_start_fails_at_once(error: AdfError) -> None:
    with pytest.raises(type(error)):
        start([error])


@pytest.mark.parametrize("error", LOST, ids=str)
def test_lost_answer_is_settled_by_a_search(error: AdfError) -> None:
    asked = ["create_run", "get", "query_by_factory", "get"]
    assert start([error, AdfNotFoundError("404", status=404), NOTHING_LISTED, run()]) == (KEY, asked)


def test_full_queue_after_a_start_without_proof_keeps_the_key_of_the_first_request() -> None:
    """Otherwise the try would wait for its turn, and send a third request."""
    order = replace(ORDER, on_ambiguous="start", settle=0.0)
    full = AdfQueueFullError("full", status=400)
    clock = Clock()
    routine = create_run_once(
        order, replace(order, start_key=KEY).intent(), timing=Timing(clock=clock, jitter=lambda: 0.5)
    )
    with pytest.raises(
        AdfAmbiguousStartError, match="sent again without proof, and the pipeline's queue was full"
    ) as ambiguous:
        play(routine, clock, iter([LOST[0], UNKNOWN, NOTHING_LISTED, NOTHING_LISTED, NOTHING_LISTED, full]))
    assert ambiguous.value.request_id == KEY


def later(began: float, run_id: str = "later") -> Page[PipelineRun]:
    """A list with one run of another pipeline, which began at that moment."""
    moment = datetime.fromtimestamp(began, UTC).isoformat()
    row = {"runId": run_id, "pipelineName": "Other", "status": "InProgress", "runStart": moment, "lastUpdated": moment}
    return Page(items=[PipelineRun.from_wire(row)], continuation_token=None)


FRESH = replace(ORDER, correlation_parameter="key", on_ambiguous="start_if_list_is_fresh", settle=0.0)
UNKNOWN = AdfNotFoundError("404", status=404, missing="run")


def start_fresh(answers: list[Any]) -> list[str]:
    clock = Clock()
    routine = create_run_once(
        FRESH, replace(FRESH, start_key=KEY).intent(), timing=Timing(clock=clock, jitter=lambda: 0.5)
    )
    return play(routine, clock, iter(answers))[1]


# createRun, GET of the key, the list, and the two queries for start keys.
SEARCHED = [LOST[0], UNKNOWN, NOTHING_LISTED, NOTHING_LISTED, NOTHING_LISTED]


def test_lost_start_is_sent_again_if_the_list_shows_a_later_run() -> None:
    assert start_fresh([*SEARCHED, later(1020.0), UNKNOWN, NOTHING_LISTED, "r1"])[-1] == "create_run"


def test_run_that_the_list_shows_at_last_is_adopted() -> None:
    """The list has caught up between the search and the query for a later run."""
    assert start_fresh([*SEARCHED, later(1020.0), run()])[-1] == "get"


@pytest.mark.parametrize(
    ("parameters", "is_evidence"), [({"key": "another"}, True), ({"key": KEY}, False), ({}, False)], ids=str
)
def test_later_run_of_the_pipeline_must_be_of_another_start(parameters: dict[str, str], is_evidence: bool) -> None:
    listed = later(1020.0)
    listed.items[0] = replace(listed.items[0], pipeline_name="Load", parameters=parameters)
    answers = [*SEARCHED, listed, UNKNOWN, NOTHING_LISTED, "r1"]
    if is_evidence:
        assert start_fresh(answers)[-1] == "create_run"
    else:
        with pytest.raises(AdfAmbiguousStartError):
            start_fresh(answers)


@pytest.mark.parametrize(
    "listed",
    [NOTHING_LISTED, later(990.0), later(1004.0), AdfUnavailableError("503", status=503)],
    ids=["none", "earlier", "within the slack", "unreadable"],
)
def test_lost_start_is_not_sent_again_if_the_list_may_lag(listed: Any) -> None:
    with pytest.raises(AdfAmbiguousStartError, match="The run list does not show that it is up to date"):
        start_fresh([*SEARCHED, listed])


@pytest.mark.parametrize(
    ("run_id", "began", "is_fresh"), [("hidden", 1020.0, False), ("hidden", 1004.0, True), ("later", 1020.0, True)]
)
def test_list_lags_if_it_leaves_out_a_run_that_was_shown_by_its_id(run_id: str, began: float, is_fresh: bool) -> None:
    remembered(FACTORY, later(began, run_id).items[0])
    answers = [*SEARCHED, later(1020.0), UNKNOWN, NOTHING_LISTED, "r1"]
    if is_fresh:
        assert start_fresh(answers)[-1] == "create_run"
    else:
        with pytest.raises(AdfAmbiguousStartError):
            start_fresh(answers)


def test_later_run_of_a_list_that_cannot_be_read_to_its_end_proves_nothing() -> None:
    first = replace(later(1020.0), continuation_token="more")
    with pytest.raises(AdfAmbiguousStartError):
        start_fresh([*SEARCHED, first, AdfUnavailableError("503", status=503)])


def test_lost_start_is_sent_again_by_a_fresh_list_only_once() -> None:
    with pytest.raises(AdfAmbiguousStartError):
        start_fresh([*SEARCHED, later(1020.0), UNKNOWN, NOTHING_LISTED, *SEARCHED, later(1040.0)])


@pytest.mark.parametrize("name", ["key", "KEY"])
def test_correlation_parameter_must_not_be_a_parameter_in_whatever_case(name: str) -> None:
    with pytest.raises(AdfConfigurationError, match="correlation_parameter 'key' is also in parameters"):
        replace(ORDER, correlation_parameter="key", parameters={name: "x"})


def test_fresh_list_needs_a_correlation_parameter() -> None:
    with pytest.raises(AdfConfigurationError, match="needs correlation_parameter"):
        replace(ORDER, on_ambiguous="start_if_list_is_fresh")


@pytest.mark.parametrize(
    ("chosen", "advice"),
    [
        ({}, "set correlation_parameter to a parameter that the pipeline declares"),
        ({"correlation_parameter": "key"}, "set on_ambiguous_start='start_if_list_is_fresh'"),
    ],
    ids=str,
)
def test_advice_of_an_ambiguous_start_depends_on_what_is_set(chosen: dict[str, Any], advice: str) -> None:
    clock, order = Clock(), replace(ORDER, settle=0.0, **chosen)
    routine = create_run_once(order, order.intent(), timing=Timing(clock=clock, jitter=lambda: 0.5))
    with pytest.raises(AdfAmbiguousStartError, match=advice):
        play(routine, clock, iter(SEARCHED))


@pytest.mark.parametrize("seen", [AdfNotFoundError("404", status=404), AdfUnavailableError("503"), run("Other")])
def test_lost_start_that_cannot_be_settled_raises_an_error_with_its_request_id(seen: Any) -> None:
    with pytest.raises(AdfAmbiguousStartError) as ambiguous:
        start([LOST[0]] + [seen, NOTHING_LISTED] * 100)
    assert ambiguous.value.request_id == KEY
    assert "the task does not start another" in str(ambiguous.value)


errors = st.sampled_from([*NOT_STARTED, *REFUSED, *LOST])


@given(st.lists(errors, max_size=8), st.lists(st.one_of(errors, st.just(run()), st.just(run("Other"))), max_size=40))
def test_createrun_is_never_sent_after_one_that_may_have_worked(before: list[AdfError], after: list[Any]) -> None:
    """For any answers, at most one createRun may have had an effect."""
    sent: list[Any] = []
    creates, checks = iter([*before, "r1"]), iter(after)
    clock = Clock()
    routine = create_run_once(
        ORDER, replace(ORDER, start_key=KEY).intent(), timing=Timing(clock=clock, jitter=lambda: 0.5)
    )
    answer: Any = None
    try:
        while True:
            step = routine.send(answer)
            if not isinstance(step, Call):
                answer = answer_of(step, clock)
            elif step.method == "create_run":
                answer = next(creates)
                sent.append(answer)
            elif step.method == "get":
                answer = next(checks, AdfNotFoundError("404", status=404))
            else:
                answer = NOTHING_LISTED
    except (StopIteration, AdfError):
        pass
    may_have_worked = [a for a in sent if not isinstance(a, AdfError) or judge(a) is Verdict.AMBIGUOUS]
    assert len(may_have_worked) <= 1
    assert may_have_worked in ([], sent[-1:])


@pytest.mark.parametrize("parameters", ["day=1", ["day"], 7])
def test_parameters_that_are_not_a_mapping_are_refused(parameters: Any) -> None:
    with pytest.raises(AdfConfigurationError, match="must be a mapping"):
        Start(factory=FACTORY, pipeline_name="Load", parameters=parameters)


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
UNSENDABLE = [
    object(),
    uuid.UUID(int=1),
    {1, 2},
    float("nan"),
    Decimal("NaN"),
    Decimal("1e999"),
    CIRCLE,
    {"x": {1: "a", "b": 2}},
    datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
]


@pytest.mark.parametrize("value", UNSENDABLE, ids=lambda value: type(value).__name__)
def test_parameters_that_are_not_json_are_refused_by_name_and_without_the_value(value: Any) -> None:
    with pytest.raises(AdfConfigurationError, match="parameter 'day' cannot be sent as JSON"):
        Start(factory=FACTORY, pipeline_name="Load", parameters={"day": value})


def test_dates_become_text_in_requests_searches_and_fingerprints() -> None:
    """A stored fingerprint must stay the same for parameters that are sent as the same text."""
    moments = [datetime(2026, 1, 31, 7, tzinfo=timezone(timedelta(hours=1))), datetime(2026, 1, 31, 6)]  # noqa: DTZ001
    starts = [
        Start(factory=FACTORY, pipeline_name="Load", parameters={"at": moment})
        for moment in (*moments, "2026-01-31T06:00:00Z")
    ]
    assert [start.parameters for start in starts] == [{"at": "2026-01-31T06:00:00Z"}] * 3
    assert {start.criteria().parameters["at"] for start in starts} == {"2026-01-31T06:00:00Z"}
    assert {start.call(start.intent()).kwargs["parameters"]["at"] for start in starts} == {"2026-01-31T06:00:00Z"}
    assert len({start.intent().fingerprint for start in starts}) == 1


def test_fingerprint_of_plain_json_is_the_same_as_in_earlier_versions() -> None:
    parameters = {"b": [1, {"c": None, "a": 2.5}], "a": "x", "t": (1, 2), "n": {10: "x", 9: "y"}}
    text = json.dumps(
        [
            [FACTORY.subscription_id, FACTORY.resource_group_name, FACTORY.factory_name, "load"],
            parameters,
            asdict(Recovery()),
        ],
        sort_keys=True,
    )
    stored = hashlib.sha256(text.encode()).hexdigest()
    assert Start(factory=FACTORY, pipeline_name="Load", parameters=parameters).intent().fingerprint == stored


def test_parameter_names_must_be_text() -> None:
    with pytest.raises(AdfConfigurationError, match="name 7"):
        Start(factory=FACTORY, pipeline_name="Load", parameters={7: "x"})  # type: ignore[dict-item]


def test_parameters_and_a_reference_contradict() -> None:
    with pytest.raises(AdfConfigurationError, match="both set"):
        Start(
            factory=FACTORY,
            pipeline_name="Load",
            parameters={"day": "x"},
            recovery=Recovery(reference_pipeline_run_id="r0"),
        )


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a?b", "a%b", "x" * 261, None, 7])
def test_pipeline_names_that_data_factory_does_not_allow_are_refused(name: Any) -> None:
    with pytest.raises(AdfConfigurationError, match="pipeline_name"):
        Start(factory=FACTORY, pipeline_name=name)


@pytest.mark.parametrize("name", ["Load", "_x", "Databricks - Run Serverless Notebook", "x" * 260])
def test_pipeline_names_that_data_factory_allows_are_accepted(name: str) -> None:
    assert Start(factory=FACTORY, pipeline_name=name).pipeline_name == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"is_recovery": True}, "without reference_pipeline_run_id"),
        ({"start_activity_name": "Copy"}, "works only with is_recovery"),
        ({"reference_pipeline_run_id": "r0", "start_from_failure": True}, "works only with is_recovery"),
        (
            {
                "reference_pipeline_run_id": "r0",
                "is_recovery": True,
                "start_activity_name": "Copy",
                "start_from_failure": True,
            },
            "Keep one of them",
        ),
        ({"reference_pipeline_run_id": "r0", "is_recovery": "perhaps"}, "it must be true or false"),
        ({"reference_pipeline_run_id": ["r0"]}, "it must be text"),
    ],
)
def test_contradicting_recovery_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AdfConfigurationError, match=message):
        Recovery.from_arguments(**arguments)


def test_recovery_arguments_accept_the_text_of_rendered_templates() -> None:
    recovery = Recovery.from_arguments(
        reference_pipeline_run_id=" r0 ", is_recovery="True", start_activity_name="None", start_from_failure="true"
    )
    assert recovery.arguments() == {
        "reference_pipeline_run_id": "r0",
        "is_recovery": True,
        "start_from_failure": True,
    }
    assert Recovery.from_arguments(reference_pipeline_run_id="", is_recovery="").arguments() == {}


def listed(*run_ids: str, more: str | None = None, invoked_by: Any = None) -> Page[PipelineRun]:
    """A page of runs that are similar to the run of a start that was just sent."""
    rows = [
        {"runId": run_id, "pipelineName": "Load", "status": "InProgress", "runStart": "1970-01-01T00:16:41Z"}
        for run_id in run_ids
    ]
    return Page(
        items=[PipelineRun.from_wire({**row, "invokedBy": invoked_by}) for row in rows], continuation_token=more
    )


NOT_KNOWN = AdfNotFoundError("404", status=404, missing="run")


def search(pages: list[Any], *, seconds_each: float = 0.0, order: Start = ORDER) -> tuple[Any, list[Any]]:
    """The outcome of a lost start if each query of the run list gets these pages, and the requests that were sent."""
    clock, number = Clock(), 0
    sent: list[str] = []
    routine = create_run_once(
        order, replace(order, start_key=KEY).intent(), timing=Timing(clock=clock, jitter=lambda: 0.5)
    )
    answer: Any = None
    while True:
        try:
            step = routine.send(answer)
        except StopIteration as end:
            return end.value, sent
        except AdfError as e:
            return e, sent
        if not isinstance(step, Call):
            answer = answer_of(step, clock)
            continue
        sent.append(step.method)
        if step.method == "query_by_factory":
            clock.now += seconds_each
            number = number + 1 if "continuationToken" in step.args[-1] else 0
            answer = pages[number]
        else:
            number, answer = 0, LOST[0] if step.method == "create_run" else NOT_KNOWN


def test_run_on_two_pages_of_the_list_is_one_run() -> None:
    found, _ = search([listed("r1", more="more"), listed("r1")])
    assert (found.run_id, found.adopted) == ("r1", True)


@pytest.mark.parametrize("odd", ["Manual", 7, [], ["x"], {"invokedByType": "Manual"}, None], ids=str)
def test_odd_origin_of_a_run_does_not_end_the_search(odd: Any) -> None:
    found, _ = search([listed("r1", invoked_by=odd)])
    assert found.run_id == "r1"


def test_search_through_an_endless_list_is_bounded_in_time_and_adopts_nothing() -> None:
    endless = [Page(items=listed("r1").items, continuation_token=str(number)) for number in range(1000)]
    ended, sent = search(endless, seconds_each=1.0)
    assert isinstance(ended, AdfAmbiguousStartError)
    assert "1 run may be the run of this start: r1 (InProgress" in str(ended)
    assert "and perhaps more. A run may" in str(ended)
    assert "The search failed with: The list of runs of pipeline 'Load' is too long to read in 60 s." in str(ended)
    assert sent.count("create_run") == 1
    assert len(sent) < ORDER.settle + 2 * LIST_SEARCH_SECONDS


def test_search_through_a_list_that_repeats_itself_adopts_no_similar_run() -> None:
    ended, sent = search([listed("r1", more="same"), listed("r1", more="same")])
    assert isinstance(ended, AdfAmbiguousStartError)
    assert sent.count("create_run") == 1
    # But a run that carries the key is ours.
    found, _ = search([listed("r1", more="same"), listed(KEY, more="same")])
    assert found.run_id == KEY


def test_start_without_proof_logs_why_the_search_failed(caplog: pytest.LogCaptureFixture) -> None:
    unreadable = replace(listed("r1"), unreadable=("status is None",))
    _, sent = search([unreadable], order=replace(ORDER, on_ambiguous="start"))
    assert sent.count("create_run") == 2
    (line,) = [line for line in caplog.messages if line.startswith("Sending createRun again, because")]
    assert KEY in line
    assert line.endswith("The list of runs of pipeline 'Load' has 1 row(s) that could not be read.")
    assert "does not start another" not in line


def test_search_that_meets_an_unreadable_row_adopts_no_similar_run() -> None:
    """The unreadable row may be the lost run, and the similar run somebody else's."""
    ended, sent = search([replace(listed("r1"), unreadable=("status is None",))])
    assert isinstance(ended, AdfAmbiguousStartError)
    assert "has 1 row(s) that could not be read." in str(ended)
    assert sent.count("create_run") == 1
    found, _ = search([replace(listed(KEY), unreadable=("status is None",))])
    assert found.run_id == KEY
