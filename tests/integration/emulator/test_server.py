"""The emulator over its real sockets: every operation, headers, errors, tokens, faults and limits."""

from __future__ import annotations

import base64
import json
import logging
import socket
import ssl
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.client import EmulatorClient
from airflow_adf_mi.emulator.clock import ManualClock
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED, USER_ASSIGNED
from tests.conftest import activity, factory_of

PIPELINES: dict[str, list[dict[str, Any]] | dict[str, Any]] = {
    "Load": {"activities": [activity("Copy")], "parameters": {"day": {"type": "string", "defaultValue": "x"}}},
    "pipe one": [activity("Copy")],
    "Other": [activity("Copy")],
}
DEFINITION = factory_of(**PIPELINES)
WINDOW = {"lastUpdatedAfter": "2000-01-01T00:00:00Z", "lastUpdatedBefore": "2100-01-01T00:00:00Z"}
VERSION = {"api-version": "2018-06-01"}
UNKNOWN = "00000000-0000-4000-8000-000000000404"


class Azure:
    """A plain HTTP client of the emulated ARM. It sends exactly the requests of the tests."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.factory = emulator.state().resource_id
        tls = ssl.create_default_context(cafile=str(emulator.ca_bundle))
        limits = httpx.Limits(max_connections=None)
        self.http = httpx.Client(
            base_url=emulator.arm_endpoint, verify=tls, trust_env=False, timeout=20, params=VERSION, limits=limits
        )
        self.token = self.new_token()

    def new_token(self, resource: str = "https://management.azure.com", **names: str) -> str:
        answer = httpx.get(
            f"{self.emulator.identity_endpoint}/metadata/identity/oauth2/token",
            params={"api-version": "2018-02-01", "resource": resource, **names},
            headers={"Metadata": "true"},
            trust_env=False,
        )
        return str(answer.raise_for_status().json()["access_token"])

    def ask(self, method: str, path: str = "", **request: Any) -> httpx.Response:
        """Send a request below the factory, or to an absolute path; with the token unless `headers` contain another."""
        headers = {"Authorization": f"Bearer {self.token}", **request.pop("headers", {})}
        url = path if path.startswith("/subscriptions") else f"{self.factory}{path}"
        return self.http.request(method, url, headers=headers, **request)

    def create(self, pipeline: str = "Load", **request: Any) -> str:
        return str(self.ask("POST", f"/pipelines/{pipeline}/createRun", **request).raise_for_status().json()["runId"])


@pytest.fixture
def azure() -> Iterator[Azure]:
    spec = FactorySpec(source=DEFINITION, factory_name="adf-test", resource_group_name="rg-test")
    with Emulator(spec, clock=ManualClock()) as emulator:
        client = Azure(emulator)
        yield client
        client.http.close()


@pytest.fixture
def control(azure: Azure) -> Iterator[EmulatorClient]:
    with EmulatorClient(azure.emulator.identity_endpoint) as client:
        yield client


def error(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()["error"]
    return answer.status_code, body["code"], body["message"]


def test_run_from_start_to_end(azure: Azure) -> None:
    key = str(uuid.uuid4())
    created = azure.ask(
        "POST", "/pipelines/Load/createRun", json={"day": "y", "undeclared": 1}, headers={"x-ms-client-request-id": key}
    )
    assert (created.status_code, created.json()) == (200, {"runId": key})
    assert azure.ask("GET", f"/pipelineruns/{key}").json()["status"] == "Queued"
    azure.emulator.clock.advance(60)
    run = azure.ask("GET", f"/pipelineruns/{key}").json()
    assert (run["status"], run["parameters"], run["message"]) == ("Succeeded", {"day": "y"}, "")
    (listed,) = azure.ask("POST", "/queryPipelineRuns", json=WINDOW).json()["value"]
    assert listed == run
    (ran,) = azure.ask("POST", f"/pipelineruns/{key}/queryActivityruns", json=WINDOW).json()["value"]
    assert (ran["activityName"], ran["status"]) == ("Copy", "Succeeded")


def test_cancel_is_accepted_without_a_body_and_ends_later(azure: Azure) -> None:
    run_id = azure.create()
    answer = azure.ask("POST", f"/pipelineruns/{run_id}/cancel", params={**VERSION, "isRecursive": "true"})
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", "0")
    assert "Content-Type" not in answer.headers
    assert azure.ask("GET", f"/pipelineruns/{run_id}").json()["status"] == "Canceling"
    azure.emulator.clock.advance(10)
    assert azure.ask("GET", f"/pipelineruns/{run_id}").json()["status"] == "Cancelled"
    again = error(azure.ask("POST", f"/pipelineruns/{run_id}/cancel"))
    assert again == (
        400,
        "PipelineRunNotRunning",
        "Pipeline run has already completed with status 'Cancelled'.Only pipeline runs that are in progress or queued can "
        "be canceled.",
    )


def test_factories_and_pipelines_are_shown(azure: Azure) -> None:
    factory = azure.ask("GET").json()
    assert (factory["name"], factory["id"]) == ("adf-test", azure.factory)
    group, _, _ = azure.factory.rpartition("/")
    subscription = azure.factory.split("/resourceGroups")[0]
    everywhere = f"{subscription}/providers/Microsoft.DataFactory/factories"
    assert azure.ask("GET", group).json()["value"] == [factory]
    assert azure.ask("GET", everywhere).json()["value"] == [factory]
    names = [pipeline["name"] for pipeline in azure.ask("GET", "/pipelines").json()["value"]]
    assert names == ["Load", "pipe one", "Other"]
    pipeline = azure.ask("GET", "/pipelines/Load").json()
    assert pipeline["properties"]["parameters"] == {"day": {"type": "string", "defaultValue": "x"}}


def test_pipeline_can_be_published_replaced_and_run(azure: Azure) -> None:
    """A client needs the current tag to replace it, and may write its name in any case. It is a write with its own permission."""
    body: dict[str, Any] = {"properties": {"activities": [activity("First")], "annotations": []}}
    new = azure.ask("PUT", "/pipelines/New", json=body)
    assert (new.status_code, new.json()["properties"]) == (200, body["properties"])
    assert "x-ms-ratelimit-remaining-subscription-writes" in new.headers
    shown = azure.ask("GET", "/pipelines/New").json()
    assert shown.pop("properties") == {**body["properties"], "lastPublishTime": "2023-11-14T22:13:20Z"}
    assert shown.items() <= new.json().items()
    azure.emulator.clock.advance(60)
    first = azure.create("New")
    body = {"properties": {"activities": [activity("Second")], "lastPublishTime": "2023-11-14T22:13:20Z"}}
    tag = {"If-Match": shown["etag"]}
    replaced = azure.ask("PUT", "/pipelines/NEW", json=body, headers=tag).json()
    assert (replaced["name"], replaced["properties"]) == ("New", {"activities": [activity("Second")]})
    assert error(azure.ask("PUT", "/pipelines/New", json=body, headers=tag))[:2] == (412, "PreconditionFailed")
    assert azure.ask("GET", "/pipelines/new").json()["properties"]["lastPublishTime"] == "2023-11-14T22:14:20Z"
    second = azure.create("New")
    azure.emulator.clock.advance(60)
    ran = [
        azure.ask("POST", f"/pipelineruns/{run_id}/queryActivityruns", json=WINDOW).json()["value"][0]["activityName"]
        for run_id in (first, second)
    ]
    assert ran == ["First", "Second"]
    names = [pipeline["name"] for pipeline in azure.ask("GET", "/pipelines").json()["value"]]
    assert names == ["Load", "pipe one", "Other", "New"]
    azure.emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {"pipelines/write"}}
    status, _, message = error(azure.ask("PUT", "/pipelines/New", json=body))
    assert (status, "'Microsoft.DataFactory/factories/pipelines/write' over scope" in message) == (403, True)


def test_list_of_trigger_runs_is_empty(azure: Azure) -> None:
    answer = azure.ask("POST", "/queryTriggerRuns", json=WINDOW)
    assert (answer.status_code, answer.json()) == (200, {"value": []})
    assert "x-ms-ratelimit-remaining-subscription-reads" in answer.headers
    azure.emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {"querytriggerruns/action"}}
    status, _, message = error(azure.ask("POST", "/queryTriggerRuns", json=WINDOW))
    assert status == 403
    assert f"'Microsoft.DataFactory/factories/querytriggerruns/action' over scope '{azure.factory}'" in message


def test_unchanged_object_is_not_sent_again(azure: Azure) -> None:
    for path, tag in (("", "eTag"), ("/pipelines/Load", "etag")):
        held = azure.ask("GET", path).json()[tag]
        unchanged = azure.ask("GET", path, headers={"If-None-Match": held})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert azure.ask("GET", path, headers={"If-None-Match": "another"}).status_code == 200


def test_paths_are_decoded_and_compared_without_case(azure: Azure) -> None:
    assert azure.ask("GET", azure.factory.upper().replace("/SUBSCRIPTIONS", "/subscriptions")).is_success
    assert azure.create("PIPE%20one")
    assert azure.emulator.books.requests[-1].pipeline == "PIPE one"
    assert error(azure.ask("GET", "/pipelines/a%2FcreateRun"))[1] == "NotFound"


def test_page_size_is_set_by_the_switch(azure: Azure, control: EmulatorClient) -> None:
    control.set_switches(page_size=2)
    started = {azure.create() for _ in range(5)}
    found: list[str] = []
    token = None
    while True:
        body = {**WINDOW, **({"continuationToken": token} if token else {})}
        page = azure.ask("POST", "/queryPipelineRuns", json=body).json()
        assert len(page["value"]) <= 2
        found += [run["runId"] for run in page["value"]]
        token = page.get("continuationToken")
        if token is None:
            break
    assert (len(found), set(found)) == (5, started)


@pytest.mark.parametrize(("status", "code"), [(400, "BadRequest"), (429, "TooManyRequests")])
def test_refusal_by_a_full_queue_is_answered_and_counted(
    azure: Azure, control: EmulatorClient, status: int, code: str
) -> None:
    control.set_switches(most_queued=1, full_queue_status=status)
    queue = {"properties": {"activities": [activity("Copy")], "concurrency": 1}}
    azure.ask("PUT", "/pipelines/Queue", json=queue).raise_for_status()
    for _ in range(2):
        azure.create("Queue")
    full = azure.ask("POST", "/pipelines/Queue/createRun")
    assert error(full)[:2] == (status, code)
    assert error(full)[2].startswith("Pipeline execution throttled. If the concurrency value is set for a pipeline, a ")
    assert "Retry-After" not in full.headers
    azure.ask("POST", "/pipelines/Queue/createRun", content=b"no JSON")
    azure.emulator.add_fault("createRun", effect="after", drop=True)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        azure.ask("POST", "/pipelines/Queue/createRun")
    assert control.count("createRun", full_queue=True) == azure.emulator.books.count("createRun", full_queue=True) == 2
    assert control.count("createRun", full_queue=True, status=status, pipeline="Queue") == 1


def test_recovery_arguments_are_read_from_the_query(azure: Azure) -> None:
    first = azure.create(json={"day": "first"})
    params = {**VERSION, "referencePipelineRunId": first, "isRecovery": "true", "startFromFailure": "true"}
    second = azure.create(params=params, json={})
    run = azure.ask("GET", f"/pipelineruns/{second}").json()
    assert (run["runGroupId"], run["parameters"], run["isLatest"]) == (first, {"day": "first"}, True)
    assert azure.ask("GET", f"/pipelineruns/{first}").json()["isLatest"] is False
    refused = error(
        azure.ask("POST", "/pipelines/Load/createRun", params={**params, "referencePipelineRunId": UNKNOWN})
    )
    assert refused == (
        400,
        "ReferencedPipelineRunNotValid",
        f"Referenced pipeline run id {UNKNOWN} is not a valid run id.",
    )


def test_answers_have_the_recorded_headers(azure: Azure) -> None:
    read = azure.ask("POST", "/queryPipelineRuns", json=WINDOW).headers
    assert read["Cache-Control"] == read["Pragma"] == "no-cache"
    assert (read["Expires"], read["X-Content-Type-Options"], read["Server"]) == ("-1", "nosniff", "Kestrel")
    assert read["Content-Type"] == "application/json; charset=utf-8"
    assert read["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert read["x-ms-request-id"] == read["x-ms-correlation-request-id"]
    assert read["x-ms-routing-request-id"] == f"WESTEUROPE:20231114T221320Z:{read['x-ms-request-id']}"
    assert "x-ms-ratelimit-remaining-subscription-reads" in read
    write = azure.ask("POST", "/pipelines/Load/createRun").headers
    assert "x-ms-ratelimit-remaining-subscription-writes" in write
    assert "x-ms-ratelimit-remaining-subscription-reads" not in write
    assert write["Date"] == "Tue, 14 Nov 2023 22:13:20 GMT"


NOT_THERE = [
    ("GET", "/pipelineruns/nope", 404, "NotFound"),
    ("POST", "/pipelineruns/nope/cancel", 400, "ReferencedPipelineRunNotFound"),
    ("GET", "/pipelines/nope", 404, "NotFound"),
    ("POST", "/pipelines/nope/createRun", 404, "NotFound"),
]


@pytest.mark.parametrize(("method", "path", "status", "code"), NOT_THERE)
def test_missing_objects_get_the_status_and_code_of_the_service(
    azure: Azure, method: str, path: str, status: int, code: str
) -> None:
    assert error(azure.ask(method, path))[:2] == (status, code)


def test_missing_factory_is_answered_by_the_gateway(azure: Azure) -> None:
    subscription = azure.factory.split("/")[2]
    for path, code in (
        (azure.factory + "x", "ResourceNotFound"),
        (azure.factory.replace("rg-test", "rg-x"), "ResourceGroupNotFound"),
        (azure.factory.replace(subscription, str(uuid.uuid4())), "SubscriptionNotFound"),
    ):
        for method, of_factory in (
            ("GET", ""),
            ("POST", "/pipelines/Load/createRun"),
            ("POST", "/pipelineruns/r/cancel"),
        ):
            answer = azure.ask(method, path + of_factory)
            assert error(answer)[:2] == (404, code)
            assert answer.headers["x-ms-failure-cause"] == "gateway"


def test_missing_permission_hides_everything_but_an_unknown_subscription(azure: Azure) -> None:
    azure.emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {"pipelines/createrun/action"}}
    start = "/pipelines/Load/createRun"
    assert error(azure.ask("POST", azure.factory.replace("rg-test", "rg-x") + start))[1] == "AuthorizationFailed"
    unknown = azure.factory.replace(azure.factory.split("/")[2], str(uuid.uuid4()))
    assert error(azure.ask("POST", unknown + start))[1] == "SubscriptionNotFound"


@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b'"x"', b"null", b"\xff"])
def test_body_of_the_wrong_shape_is_refused(azure: Azure, body: bytes) -> None:
    assert error(azure.ask("POST", "/pipelines/Load/createRun", content=body)) == (400, "BadRequest", "null")
    assert azure.emulator.state().runs == {}


def test_defect_of_the_emulator_is_answered_with_500_and_logged(azure: Azure, caplog: pytest.LogCaptureFixture) -> None:
    """The defect is a script that was not checked."""
    azure.emulator.state().script = object()  # type: ignore[assignment]
    answer = azure.ask("POST", "/pipelines/Load/createRun")
    assert error(answer) == (500, "InternalServerError", "Internal error has occurred")
    assert azure.emulator.books.count("createRun", status=500) == 1
    assert "Traceback" in caplog.text
    assert "Failed at POST" in caplog.text


@pytest.mark.parametrize(
    ("params", "code"), [({}, "MissingApiVersionParameter"), ({"api-version": "1"}, "InvalidApiVersionParameter")]
)
def test_api_version_is_required(azure: Azure, params: dict[str, str], code: str) -> None:
    azure.http.params = httpx.QueryParams()
    assert error(azure.ask("GET", params=params))[:2] == (400, code)


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/pipelines/Load"), ("PUT", "/triggers/Daily"), ("GET", "/triggers")]
)
def test_request_that_is_not_emulated_is_refused_and_logged(
    azure: Azure, method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        status, code, message = error(azure.ask(method, path))
    assert (status, code) == (501, "NotEmulated")
    assert f"{method} {azure.factory}{path}" in message
    assert f"Not emulated: {method} {azure.factory}{path}" in caplog.text
    assert azure.emulator.books.count("unknown", status=501) == 1


def tampered(token: str) -> str:
    head, _, signature = token.split(".")
    claims = base64.urlsafe_b64encode(json.dumps({"aud": "https://management.azure.com"}).encode()).decode().rstrip("=")
    return f"{head}.{claims}.{signature}"


def test_token_is_checked_before_everything_else(azure: Azure) -> None:
    missing_factory = azure.factory + "x"
    for header, code in (
        ("", "AuthenticationFailed"),
        ("Bearer", "AuthenticationFailed"),
        ("Basic abc", "AuthenticationFailed"),
        ("Bearer garbage", "InvalidAuthenticationToken"),
        ("Bearer a.W10.b", "InvalidAuthenticationToken"),
        (f"Bearer {tampered(azure.token)}", "InvalidAuthenticationToken"),
        (f"Bearer {azure.new_token('https://vault.azure.net')}", "InvalidAuthenticationTokenAudience"),
    ):
        for path in ("", missing_factory):
            answer = azure.ask("GET", path, headers={"Authorization": header})
            assert error(answer)[:2] == (401, code), header
            assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert {record.client_id for record in azure.emulator.books.requests} == {None}


def test_signature_that_is_not_ascii_is_refused(azure: Azure) -> None:
    header = azure.token.encode() + "\u00e9".encode()
    answer = azure.http.get(azure.factory, headers=[(b"Authorization", b"Bearer " + header)])
    assert error(answer)[:2] == (401, "InvalidAuthenticationToken")


def test_token_expires_by_the_emulators_clock(azure: Azure) -> None:
    azure.emulator.clock.advance(86_401)
    assert error(azure.ask("GET"))[:2] == (401, "ExpiredAuthenticationToken")
    azure.token = azure.new_token()
    assert azure.ask("GET").is_success


def test_token_for_the_endpoint_itself_is_accepted(azure: Azure) -> None:
    azure.token = azure.new_token(azure.emulator.arm_endpoint + "/")
    assert azure.ask("GET").is_success


def test_revoked_tokens_are_refused_and_new_ones_accepted(azure: Azure, control: EmulatorClient) -> None:
    control.revoke_tokens()
    assert error(azure.ask("GET"))[:2] == (401, "InvalidAuthenticationToken")
    azure.token = azure.new_token()
    assert azure.ask("GET").is_success


def test_claims_challenge_requires_a_newer_token(azure: Azure, control: EmulatorClient) -> None:
    control.revoke_tokens(challenge=True)
    challenge = azure.ask("GET").headers["WWW-Authenticate"]
    assert 'error="insufficient_claims"' in challenge
    claims = json.loads(base64.b64decode(challenge.split('claims="')[1].rstrip('"')))
    assert claims == {"access_token": {"nbf": {"essential": True, "value": "1700000000"}}}
    azure.token = azure.new_token()
    assert azure.ask("GET").is_success


def test_missing_role_is_refused_with_the_text_of_the_service(azure: Azure, control: EmulatorClient) -> None:
    control.deny({SYSTEM_ASSIGNED.client_id: ["pipelineruns/cancel/action"]})
    run_id = azure.create()
    assert error(azure.ask("POST", f"/pipelineruns/{run_id}/cancel")) == (
        403,
        "AuthorizationFailed",
        f"The client '{SYSTEM_ASSIGNED.client_id}' with object id '{SYSTEM_ASSIGNED.object_id}' does not have authorization "
        f"to perform action 'Microsoft.DataFactory/factories/pipelineruns/cancel/action' over scope "
        f"'{azure.factory}/pipelineruns/{run_id}' or the scope is invalid. If access was recently granted, please refresh "
        "your credentials.",
    )
    assert azure.ask("GET", f"/pipelineruns/{run_id}").is_success
    azure.token = azure.new_token(client_id=USER_ASSIGNED.client_id)
    assert azure.ask("POST", f"/pipelineruns/{run_id}/cancel").is_success
    assert [r.client_id for r in azure.emulator.books.of("cancelRun")] == [
        SYSTEM_ASSIGNED.client_id,
        USER_ASSIGNED.client_id,
    ]


def test_missing_permission_to_read_hides_whether_a_factory_exists(azure: Azure, control: EmulatorClient) -> None:
    control.deny({SYSTEM_ASSIGNED.client_id: ["read"]})
    assert azure.ask("GET", azure.factory + "x").status_code == 403


def test_fault_before_an_operation_prevents_it(azure: Azure) -> None:
    azure.emulator.add_fault("createRun", status=503, code="Busy", message="later", headers={"Retry-After": "7"})
    answer = azure.ask("POST", "/pipelines/Load/createRun")
    assert error(answer) == (503, "Busy", "later")
    assert answer.headers["Retry-After"] == "7"
    assert answer.headers["x-ms-request-id"]
    assert azure.emulator.state().runs == {}
    assert azure.create()


def test_fault_after_an_operation_is_recorded_with_its_run(azure: Azure) -> None:
    fault = azure.emulator.add_fault("createRun", effect="after", status=500)
    assert azure.ask("POST", "/pipelines/Load/createRun").status_code == 500
    (run_id,) = azure.emulator.state().runs
    (record,) = azure.emulator.books.of("createRun")
    assert (record.run_id, record.status, record.fault) == (run_id, 500, fault.id)
    assert record.client_id == SYSTEM_ASSIGNED.client_id


@pytest.mark.parametrize(("effect", "runs"), [("before", 0), ("after", 1)])
def test_dropped_connection_has_no_answer(
    azure: Azure, effect: str, runs: int, caplog: pytest.LogCaptureFixture
) -> None:
    azure.emulator.add_fault("createRun", drop=True, effect=effect)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        azure.ask("POST", "/pipelines/Load/createRun")
    assert len(azure.emulator.state().runs) == runs
    assert azure.create()
    assert [record.status for record in azure.emulator.books.of("createRun")] == [0, 200]
    assert caplog.records == [r for r in caplog.records if r.levelno < logging.WARNING]


@pytest.mark.parametrize("lost", [{}, {"effect": "after", "drop": True}, {"effect": "after", "status": 503}], ids=str)
def test_unlisted_run_is_hidden_by_the_list_only(azure: Azure, control: EmulatorClient, lost: dict[str, Any]) -> None:
    listed = [azure.create()]
    fault = control.add_fault("createRun", unlisted=True, pipeline="Load", **lost)
    listed.append(azure.create("Other"))
    try:
        assert azure.ask("POST", "/pipelines/Load/createRun").status_code == lost.get("status", 200)
    except (httpx.RemoteProtocolError, httpx.ReadError):
        assert lost["drop"]
    listed.append(azure.create())
    (record,) = azure.emulator.books.of("createRun", fault=fault)
    control.advance(3600)
    runs = azure.ask("POST", "/queryPipelineRuns", json=WINDOW).json()["value"]
    assert [run["runId"] for run in runs] == listed
    assert azure.ask("GET", f"/pipelineruns/{record.run_id}").json()["status"] == "Succeeded"
    activities = azure.ask("POST", f"/pipelineruns/{record.run_id}/queryActivityruns", json=WINDOW).json()
    assert len(activities["value"]) == 1
    again = azure.create(params={"referencePipelineRunId": record.run_id, "isRecovery": "true"})
    runs = azure.ask("POST", "/queryPipelineRuns", json=WINDOW).json()["value"]
    assert [run["runId"] for run in runs] == [*listed, again]


def test_refused_start_hides_no_run(azure: Azure) -> None:
    azure.emulator.add_fault("createRun", unlisted=True)
    assert azure.ask("POST", "/pipelines/Load/createRun", content=b"no JSON").status_code == 400
    assert azure.ask("POST", "/queryPipelineRuns", json=WINDOW).json()["value"] == []
    azure.create()
    assert len(azure.ask("POST", "/queryPipelineRuns", json=WINDOW).json()["value"]) == 1


def test_hanging_answer_comes_late_and_is_the_real_one(azure: Azure) -> None:
    run_id = azure.create()
    azure.emulator.add_fault("getRun", hang_seconds=0.3)
    with pytest.raises(httpx.ReadTimeout):
        azure.ask("GET", f"/pipelineruns/{run_id}", timeout=0.05)
    azure.emulator.add_fault("getRun", hang_seconds=0.3)
    assert azure.ask("GET", f"/pipelineruns/{run_id}").json()["runId"] == run_id


def test_page_of_a_gateway_is_sent_unchanged(azure: Azure) -> None:
    azure.emulator.add_fault("getFactory", status=502, text="<html>Bad Gateway</html>")
    answer = azure.ask("GET")
    assert (answer.status_code, answer.text) == (502, "<html>Bad Gateway</html>")
    assert answer.headers["Content-Type"].startswith("text/html")


def test_faults_apply_only_to_matching_requests(azure: Azure) -> None:
    mine, others = azure.create(), azure.create("Other")
    key = str(uuid.uuid4())
    add = azure.emulator.add_fault
    faults = [
        add("getRun", run_id=mine, status=500),
        add("cancelRun", pipeline="Load", status=500),
        add("createRun", client_request_id=key, status=500),
    ]
    assert azure.ask("GET", f"/pipelineruns/{others}").is_success
    assert azure.ask("POST", f"/pipelineruns/{others}/cancel").is_success
    assert azure.create()
    assert azure.emulator.faults.unconsumed() == faults
    assert azure.ask("GET", f"/pipelineruns/{mine}").status_code == 500
    assert azure.ask("POST", f"/pipelineruns/{mine}/cancel").status_code == 500
    answer = azure.ask("POST", "/pipelines/Other/createRun", headers={"x-ms-client-request-id": key})
    assert answer.status_code == 500
    assert azure.emulator.faults.unconsumed() == []


def test_request_without_a_valid_token_uses_up_no_fault(azure: Azure) -> None:
    fault = azure.emulator.add_fault("createRun", status=500)
    azure.ask("POST", "/pipelines/Load/createRun", headers={"Authorization": "Bearer garbage"})
    assert fault.consumed == 0


def test_faults_can_be_controlled_from_another_process(azure: Azure, control: EmulatorClient) -> None:
    number = control.add_fault("getFactory", times=2, status=500)
    assert azure.ask("GET").status_code == 500
    assert [(f.id, f.consumed) for f in control.faults()] == [(number, 1)]
    assert [f.id for f in control.unconsumed_faults()] == [number]
    assert azure.ask("GET").status_code == 500
    assert control.unconsumed_faults() == []
    assert control.count("getFactory", fault=number) == 2
    control.clear_faults()
    assert control.faults() == []


@pytest.mark.parametrize(
    "members",
    [
        {"operation": "getRuns", "status": 500},
        {"operation": "getRun"},
        {"operation": "getRun", "status": 500, "effect": "during"},
        {"operation": "getRun", "status": 500, "identity": "x"},
        {"operation": "getRun", "unlisted": True},
        {"operation": "*", "status": 500, "effect": "after", "unlisted": True},
        {"operation": "createRun", "status": 500, "unlisted": True},
        {"operation": "createRun", "drop": True, "unlisted": True},
    ],
    ids=str,
)
def test_fault_that_could_never_apply_is_refused(control: EmulatorClient, members: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no operation|does nothing|no effect|(token|createRun) only"):
        control.add_fault(**members)
    assert control.faults() == []


def test_control_interface_explains_why_it_refuses_a_request(azure: Azure, control: EmulatorClient) -> None:
    with pytest.raises(ValueError, match=r"no switch 'page_sise'\. Did you mean 'page_size'"):
        control.set_switches(page_sise=1)
    with pytest.raises(ValueError, match="'page_size' cannot be '10'; it takes int"):
        control.set_switches(page_size="10")
    with pytest.raises(ValueError, match="'missing_parameter' cannot be 'refused'; it takes 'refuse' or 'fail_run'"):
        control.set_switches(missing_parameter="refused")
    with pytest.raises(ValueError, match="'list_frozen_at' cannot be True; it takes float or null"):
        control.set_switches(list_frozen_at=True)
    with pytest.raises(ValueError, match="no operation needs pipelineruns/reed"):
        control.deny({SYSTEM_ASSIGNED.client_id: ["pipelineruns/reed"]})
    with pytest.raises(ValueError, match="unknown member"):
        control.set_script({"activites": {}})
    with pytest.raises(ValueError, match=r"no activity 'Cpy'\. Did you mean 'Copy'"):
        control.set_script({"activities": {"Load/Cpy": {"outcome": "Failed"}}})
    with pytest.raises(ValueError, match=r"runs\[0\] needs a pipeline"):
        control.set_script({"runs": [{}]})
    with pytest.raises(ValueError, match="no identity of this machine has client id"):
        control.deny({"00000000-0000-4000-8000-0000000000ff": ["pipelineruns/read"]})
    with pytest.raises(ValueError, match="backwards"):
        control.advance(-1)
    bad = httpx.post(f"{azure.emulator.identity_endpoint}/_emulator/clock", content=b"{", trust_env=False)
    assert bad.status_code == 400


def test_control_interface_advances_the_clock_and_shows_runs(azure: Azure, control: EmulatorClient) -> None:
    assert control.is_healthy()
    control.set_script({"activities": {"Load/Copy": {"outcome": "Failed", "error": {"message": "no table"}}}})
    run_id = azure.create(headers={"x-ms-client-request-id": "not a guid"})
    control.advance(60)
    (run,) = control.runs("Load", day="x")
    assert (run["runId"], run["status"], run["clientRequestId"]) == (run_id, "Failed", "not a guid")
    assert [entry["activityName"] for entry in run["activities"]] == ["Copy"]
    assert run["guesses"] == control.guesses("Load") == []
    assert control.runs("Load", day="y") == []
    assert [record["run_id"] for record in control.requests("createRun")] == [run_id]


def test_missing_emulator_is_not_healthy() -> None:
    with EmulatorClient("http://127.0.0.1:9") as client:
        assert not client.is_healthy()


def test_connections_are_refused_for_a_time_except_to_the_control_interface(
    azure: Azure, control: EmulatorClient
) -> None:
    assert azure.ask("GET").is_success
    control.refuse_connections(30)
    with pytest.raises(httpx.ConnectError):
        azure.ask("GET")
    assert control.is_healthy()
    assert azure.new_token()
    # A second call while the port is closed replaces the time of the first one.
    azure.emulator.refuse_connections(0.05)
    for _ in range(1500):
        time.sleep(0.02)
        try:
            answer = azure.ask("GET")
        except httpx.ConnectError:
            continue
        break
    assert answer.is_success
    # Refused connections are not in the books.
    assert azure.emulator.books.count("getFactory") == 2


def test_open_connections_are_closed_when_refusing_begins(azure: Azure, control: EmulatorClient) -> None:
    """Otherwise, a client would send a request on an open connection, and could not know whether it arrived."""
    host, port = "127.0.0.1", int(azure.emulator.arm_endpoint.rpartition(":")[2])
    tls = ssl.create_default_context(cafile=str(azure.emulator.ca_bundle))
    connections = [tls.wrap_socket(socket.create_connection((host, port)), server_hostname=host) for _ in range(50)]
    control.refuse_connections(30)
    still_open = 0
    for connection in connections:
        connection.setblocking(False)
        try:
            while connection.recv(4096):
                continue  # what TLS sends with its handshake
        except (ssl.SSLWantReadError, BlockingIOError):
            still_open += 1
        except OSError:
            pass  # reset, which is closed
        connection.close()
    assert still_open == 0


def test_hanging_request_delays_neither_refusing_nor_stopping(azure: Azure) -> None:
    fault = azure.emulator.add_fault("getFactory", hang_seconds=600)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(azure.ask, "GET")
        while not fault.consumed:
            time.sleep(0.01)
        azure.emulator.refuse_connections(0.05)
        assert isinstance(hanging.exception(60), httpx.TransportError)
        azure.emulator.stop()


def test_port_that_refuses_connections_stays_the_emulators(azure: Azure) -> None:
    """Another program that searches for a free port must not get it, because it would answer in place of the emulator."""
    port = int(azure.emulator.arm_endpoint.rpartition(":")[2])
    azure.emulator.refuse_connections(30)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with pytest.raises(httpx.ConnectError):
        azure.ask("GET")


def test_second_call_of_refuse_connections_sets_a_new_time(azure: Azure) -> None:
    azure.emulator.refuse_connections(0.1)
    azure.emulator.refuse_connections(30)
    time.sleep(0.3)
    with pytest.raises(httpx.ConnectError):
        azure.ask("GET")


def test_limits_are_enforced_on_request_and_for_each_identity(azure: Azure, control: EmulatorClient) -> None:
    control.enforce_limits()
    left = [int(azure.ask("GET").headers["x-ms-ratelimit-remaining-subscription-reads"]) for _ in range(2)]
    assert left == [249, 248]
    with ThreadPoolExecutor(8) as pool:
        assert all(answer.is_success for answer in pool.map(lambda _: azure.ask("GET"), range(248)))
    throttled = azure.ask("GET")
    assert error(throttled)[:2] == (429, "TooManyRequests")
    assert throttled.headers["Retry-After"] == "1"
    assert azure.create(), "writes have their own limit"
    other = {"Authorization": f"Bearer {azure.new_token(client_id=USER_ASSIGNED.client_id)}"}
    assert azure.ask("GET", headers=other).is_success
    azure.emulator.clock.advance(1)
    assert int(azure.ask("GET").headers["x-ms-ratelimit-remaining-subscription-reads"]) == 24
    control.enforce_limits(enforced=False)
    assert azure.ask("GET").is_success


def test_identity_endpoint_has_a_limit_too(azure: Azure, control: EmulatorClient) -> None:
    control.enforce_limits()
    for _ in range(20):
        azure.new_token()
    with pytest.raises(httpx.HTTPStatusError, match="429"):
        azure.new_token()


def test_tokens_are_never_in_books_or_logs(
    azure: Azure, control: EmulatorClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        azure.create()
        azure.ask("DELETE")
        azure.ask("GET", headers={"Authorization": f"Bearer {azure.token}x"})
    recorded = json.dumps(control.books()) + " ".join(r.getMessage() for r in caplog.records if "emulator" in r.name)
    assert azure.token not in recorded
    assert azure.token.rpartition(".")[2] not in recorded


def test_emulator_listens_on_the_loopback_interface_only(azure: Azure) -> None:
    ports = [int(url.rpartition(":")[2]) for url in (azure.emulator.arm_endpoint, azure.emulator.identity_endpoint)]
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others or {"127.0.0.2"}:
        for port in ports:
            with socket.socket() as s:
                s.settimeout(2)
                assert s.connect_ex((str(address), port)) != 0


def test_keys_are_readable_by_their_owner_only_and_removed_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "server.pem").touch(mode=0o644)
    with Emulator(FactorySpec(source=DEFINITION), directory=tmp_path):
        assert (tmp_path / "server.pem").stat().st_mode & 0o777 == 0o600
        assert "PRIVATE" not in (tmp_path / "ca.pem").read_text()
    assert tmp_path.exists(), "a given directory is kept"
    with Emulator(FactorySpec(source=DEFINITION)) as emulator:
        directory = emulator.directory
        assert directory.stat().st_mode & 0o077 == 0
    assert not directory.exists()


def test_port_in_use_is_an_error_and_the_emulator_is_not_started(azure: Azure) -> None:
    taken = int(azure.emulator.identity_endpoint.rpartition(":")[2])
    second = Emulator(FactorySpec(source=DEFINITION), identity_port=taken)
    with pytest.raises(OSError, match="address already in use"):
        second.start()
    with pytest.raises(RuntimeError, match="not been started"):
        _ = second.directory


def test_emulator_can_be_started_again() -> None:
    emulator = Emulator(FactorySpec(source=DEFINITION))
    with emulator:
        first = emulator.arm_endpoint
        with pytest.raises(RuntimeError, match="already"):
            emulator.start()
    with emulator:
        assert emulator.arm_endpoint == first
        client = Azure(emulator)
        assert client.ask("GET").is_success
        client.http.close()


def test_factories_with_the_same_address_are_refused() -> None:
    with pytest.raises(ValueError, match="same address"):
        Emulator(FactorySpec(source=DEFINITION), FactorySpec(source=DEFINITION))


def test_each_factory_has_its_own_runs() -> None:
    specs = [FactorySpec(source=DEFINITION, factory_name=name) for name in ("adf-one", "adf-two")]
    with Emulator(*specs) as emulator:
        client = Azure(emulator)
        client.create()
        other = emulator.state("adf-two").resource_id
        assert client.ask("POST", f"{other}/queryPipelineRuns", json=WINDOW).json()["value"] == []
        client.http.close()
        with pytest.raises(LookupError, match="adf-three"):
            emulator.state("adf-three")


def test_two_thousand_simultaneous_polls_are_answered(azure: Azure) -> None:
    """This measures nothing. All requests are in flight together, with as many connections as in a triggerer."""
    import asyncio

    import aiohttp

    run_ids = [azure.create() for _ in range(10)]
    tls = ssl.create_default_context(cafile=str(azure.emulator.ca_bundle))

    async def poll() -> list[int]:
        connector = aiohttp.TCPConnector(ssl=tls, limit=200)
        headers = {"Authorization": f"Bearer {azure.token}"}
        async with aiohttp.ClientSession(azure.emulator.arm_endpoint, connector=connector, headers=headers) as session:

            async def poll_one(number: int) -> int:
                path = f"{azure.factory}/pipelineruns/{run_ids[number % 10]}"
                async with session.get(path, params=VERSION) as answer:
                    await answer.read()
                    return answer.status

            statuses = await asyncio.gather(*(poll_one(number) for number in range(2000)))
        await asyncio.sleep(0.5)  # aiohttp closes 200 TLS connections a moment later
        return statuses

    assert set(asyncio.run(poll())) == {200}
    assert azure.emulator.books.count("getRun") == 2000
