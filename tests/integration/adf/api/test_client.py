"""Both clients over the official one, with real tokens, real TLS and real faults."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import LARGE_ANSWER_BYTES, AdfClient, AsyncAdfClient
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.api.shared_client import shared_client
from airflow_adf_mi.adf.auth.credential import FRESH_TOKEN_INTERVAL_SECONDS, ProcessCredential, credential_for
from airflow_adf_mi.adf.cancelling import Cancel, cancelling
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfAuthenticationError,
    AdfCertificateError,
    AdfConfigurationError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.routines import run_routine
from airflow_adf_mi.adf.starting.create_run import Verdict, create_run_once, judge
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED, USER_ASSIGNED
from airflow_adf_mi.emulator.pipelines.script import Script
from tests.conftest import SAMPLE_SCRIPT
from tests.support.clients import Send, create, sender
from tests.support.waiting import until

DAY = timedelta(days=1)


@pytest.fixture(params=["sync", "async"])
def send(request: pytest.FixtureRequest, settings: AdfSettings) -> Send:
    """Sends a call with each of the two clients in turn."""
    return sender(request.param, settings)


def test_each_call_works(send: Send, settings: AdfSettings, emulator: Emulator) -> None:
    factory = settings.factory()
    run_id = send(create(settings, "Slow"))
    assert send(operations.get_run(factory, run_id)).pipeline_name == "Slow"
    assert send(operations.cancel_run(factory, run_id)) is True
    assert send(operations.get_factory(factory))["name"] == "adf-test"
    assert send(operations.get_pipeline(factory, "Load"))["properties"]["parameters"]["day"]["type"] == "string"
    assert send(operations.list_factories(settings.subscription_id)) == [factory.resource_id]
    assert "Load" in send(operations.list_pipelines(factory))
    now = datetime.now(UTC)
    assert [r.run_id for r in send(operations.query_runs(factory, now - DAY, now + DAY)).items] == [run_id]
    assert send(operations.query_activity_runs(factory, "nope", now - DAY, now + DAY)).items == []
    assert {r.client_id for r in emulator.books.requests} == {SYSTEM_ASSIGNED.client_id}
    assert emulator.books.requests[0].user_agent is not None
    assert emulator.books.requests[0].user_agent.startswith("airflow-adf-mi/")


def test_request_id_and_recovery_arguments_reach_the_wire(
    send: Send, settings: AdfSettings, emulator: Emulator
) -> None:
    factory = settings.factory()
    first = send(create(settings, "Broken"))
    key = str(uuid.uuid4())
    recovery = Recovery(reference_pipeline_run_id=first, is_recovery=True, start_from_failure=True)
    assert send(operations.create_run(factory, "Broken", None, request_id=key, recovery=recovery)) == key
    assert send(operations.get_run(factory, key)).run_group_id == first
    assert emulator.books.requests[1].client_request_id == key


def test_pages_are_followed_to_the_end(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.state().switches.page_size = 2
    now = datetime.now(UTC)

    async def on_loop() -> list[str]:
        async with shared_client(settings) as client:
            return [
                r.run_id for r in await client.pages(operations.query_runs(settings.factory(), now - DAY, now + DAY))
            ]

    with AdfClient(settings) as client:
        started = {client.send(create(settings)) for _ in range(5)}
        found = [r.run_id for r in client.pages(operations.query_runs(settings.factory(), now - DAY, now + DAY))]
    assert (set(found), len(found)) == (started, 5)
    assert asyncio.run(on_loop()) == found
    assert emulator.books.count("queryRuns") == 6


FAULTS: list[tuple[dict[str, Any], type[AdfError]]] = [
    ({"status": 500}, AdfUnavailableError),
    ({"status": 503, "headers": {"Retry-After": "1"}}, AdfUnavailableError),
    ({"status": 504}, AdfUnavailableError),
    ({"status": 408}, AdfUnavailableError),
    ({"status": 429, "headers": {"Retry-After": "1"}}, AdfThrottledError),
    (
        {
            "status": 409,
            "code": "MissingSubscriptionRegistration",
            "message": "The subscription is not registered to use namespace 'Microsoft.DataFactory'.",
        },
        AdfRequestError,
    ),
    ({"drop": True}, AdfUnavailableError),
]


@pytest.mark.parametrize(("fault", "error"), FAULTS, ids=str)
@pytest.mark.parametrize("effect", ["before", "after"])
def test_transport_never_sends_createrun_again(
    fault: dict[str, Any], error: type[AdfError], effect: str, send: Send, settings: AdfSettings, emulator: Emulator
) -> None:
    emulator.add_fault("createRun", effect=effect, **fault)
    with pytest.raises(error):
        send(create(settings))
    # Not even another request on its account, such as one that registers the resource provider.
    assert [record.operation for record in emulator.books.requests] == ["createRun"]
    assert len(emulator.state().runs) == (1 if effect == "after" else 0)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0.5", 0.5), ("-1", 0.0), ("soon", None), (None, None)])
def test_retry_after_is_read(
    header: str | None, seconds: float | None, status: int, send: Send, settings: AdfSettings, emulator: Emulator
) -> None:
    emulator.add_fault("getRun", status=status, headers={} if header is None else {"Retry-After": header})
    with pytest.raises((AdfThrottledError, AdfUnavailableError)) as later:
        send(operations.get_run(settings.factory(), "r1"))
    assert later.value.retry_after == seconds  # type: ignore[attr-defined]  # both have it
    if status == 429 and seconds:
        assert f"The service asked to wait {seconds:g} s." in str(later.value)


@pytest.mark.parametrize(("fault", "error"), FAULTS, ids=str)
def test_transport_never_sends_a_cancel_again(
    fault: dict[str, Any], error: type[AdfError], send: Send, settings: AdfSettings, emulator: Emulator
) -> None:
    emulator.add_fault("cancelRun", **fault)
    with pytest.raises(error):
        send(operations.cancel_run(settings.factory(), "r1"))
    assert emulator.books.count("cancelRun") == 1


def test_reads_of_hooks_are_repeated(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.add_fault("getFactory", status=503)
    with AdfClient(settings, read_retries=1) as client:
        assert client.send(operations.get_factory(settings.factory()))["name"] == "adf-test"
    assert emulator.books.count("getFactory") == 2


def test_refused_connection_proves_that_nothing_was_sent(send: Send, settings: AdfSettings, emulator: Emulator) -> None:
    send(operations.get_factory(settings.factory()))
    emulator.refuse_connections(120)
    with pytest.raises(AdfUnavailableError) as refused:
        send(create(settings))
    assert refused.value.never_sent
    assert "the connection could not be made" in str(refused.value)


def test_dropped_answer_does_not_prove_that_nothing_was_sent(
    send: Send, settings: AdfSettings, emulator: Emulator
) -> None:
    emulator.add_fault("createRun", drop=True, effect="after")
    with pytest.raises(AdfUnavailableError) as dropped:
        send(create(settings))
    assert not dropped.value.never_sent


def test_silence_of_the_service_ends_in_seconds(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.add_fault("getRun", hang_seconds=5)
    # A client that waited for the answer would get another error: 404.
    with AdfClient(settings, read_timeout=0.5) as client, pytest.raises(AdfUnavailableError):
        client.send(operations.get_run(settings.factory(), "r1"))


def test_unknown_host_proves_that_nothing_was_sent(make_settings: Callable[..., AdfSettings]) -> None:
    settings = make_settings(arm_endpoint="https://no-such-host.invalid")
    with AdfClient(settings) as client, pytest.raises(AdfUnavailableError) as refused:
        client.send(operations.get_run(settings.factory(), "r1"))
    assert refused.value.never_sent
    assert "no-such-host.invalid" in str(refused.value)


def test_revoked_token_is_replaced_once(send: Send, settings: AdfSettings, emulator: Emulator) -> None:
    send(operations.get_factory(settings.factory()))
    emulator.call(emulator.tokens.revoke)
    assert send(create(settings))
    assert len(emulator.state().runs) == 1
    assert [r.status for r in emulator.books.of("createRun")] == [401, 200]


def test_second_refused_token_is_an_error(send: Send, settings: AdfSettings, emulator: Emulator) -> None:
    emulator.add_fault("getFactory", status=401, times=2, code="InvalidAuthenticationToken")
    with pytest.raises(AdfAuthenticationError, match="refused the token") as refused:
        send(operations.get_factory(settings.factory()))
    assert refused.value.refused_token
    assert emulator.books.count("getFactory") == 2


async def test_simultaneous_requests_with_a_refused_token_share_one_new_token(
    settings: AdfSettings, emulator: Emulator
) -> None:
    async with shared_client(settings) as client:
        run_ids = [await client.send(create(settings, "Slow")) for _ in range(5)]
        emulator.call(emulator.tokens.revoke)
        accepted = await asyncio.gather(
            *(client.send(operations.cancel_run(settings.factory(), run_id)) for run_id in run_ids)
        )
    assert accepted == [True] * 5
    assert len(emulator.books.tokens) == 2


def until_reachable(emulator: Emulator) -> None:
    host, port = emulator.arm_endpoint.removeprefix("https://").split(":")
    for _ in range(1000):
        with suppress(ConnectionError), socket.create_connection((host, int(port))):
            return
        time.sleep(0.03)
    pytest.fail("the emulator still refuses connections")


async def test_refused_token_that_another_request_put_back_is_replaced(
    settings: AdfSettings, emulator: Emulator
) -> None:
    """The official client keeps one token for all requests, and drops it only if an answer refuses it."""
    call = operations.get_factory(settings.factory())
    async with shared_client(settings) as client:
        await client.send(call)
        emulator.call(emulator.tokens.revoke)
        with credential_for(settings)._lock:  # so that the refused token is not replaced yet
            sending = asyncio.create_task(client.send(call))
            await until(lambda: emulator.books.count("getFactory", status=401))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(emulator.refuse_connections, 30)
            with pytest.raises(AdfUnavailableError):
                await client.send(call)
            await asyncio.to_thread(emulator.refuse_connections, 0.01)
            await asyncio.to_thread(until_reachable, emulator)
        assert (await sending)["name"] == "adf-test"
    assert emulator.books.count("getFactory", status=401) == 2
    assert len(emulator.books.tokens) == 2


def test_cancel_continues_after_a_replaced_token_is_refused_too(settings: AdfSettings, emulator: Emulator) -> None:
    """The next fresh token is available after half a minute, before a cancel gives up."""
    now = [1000.0]

    def pause(seconds: float) -> None:
        now[0] += seconds

    identity = ProcessCredential(settings.identity, settings.cloud.authority_host, clock=lambda: now[0])
    with AdfClient(settings, credential=identity) as client:
        run_id = client.send(create(settings, "Slow"))
        emulator.call(emulator.tokens.revoke)
        client.send(operations.get_run(settings.factory(), run_id))
        emulator.call(emulator.tokens.revoke)
        cancel = cancelling(settings.factory(), run_id, timing=Timing(clock=lambda: now[0], jitter=lambda: 0.5))
        assert run_routine(cancel, client, pause) is Cancel.ACCEPTED
    assert now[0] >= 1000 + FRESH_TOKEN_INTERVAL_SECONDS


NEEDED: list[tuple[str, Callable[[FactoryRef], operations.Call[Any]]]] = [
    ("pipelines/createrun/action", lambda f: operations.create_run(f, "Load", None, request_id=str(uuid.uuid4()))),
    ("pipelineruns/read", lambda f: operations.get_run(f, "r1")),
    ("pipelineruns/cancel/action", lambda f: operations.cancel_run(f, "r1")),
    ("querypipelineruns/action", lambda f: operations.query_runs(f, datetime.now(UTC), datetime.now(UTC))),
    (
        "pipelineruns/queryactivityruns/action",
        lambda f: operations.query_activity_runs(f, "r1", datetime.now(UTC), datetime.now(UTC)),
    ),
    ("read", operations.get_factory),
    ("pipelines/read", lambda f: operations.get_pipeline(f, "Load")),
]


@pytest.mark.parametrize(("action", "call"), NEEDED, ids=[action for action, _ in NEEDED])
def test_error_of_a_missing_role_names_identity_action_scope_and_command(
    action: str,
    call: Callable[[FactoryRef], operations.Call[Any]],
    send: Send,
    settings: AdfSettings,
    emulator: Emulator,
) -> None:
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {action}}
    with pytest.raises(AdfPermissionError) as denied:
        send(call(settings.factory()))
    text = str(denied.value)
    scope = settings.factory().resource_id
    who = f"(client id {SYSTEM_ASSIGNED.client_id}, object id {SYSTEM_ASSIGNED.object_id})"
    assert f"the system-assigned managed identity {who} has no permission" in text
    assert f"for Microsoft.DataFactory/factories/{action} on {scope}." in text
    assert (
        f'\n  az role assignment create --role "ADF Pipeline Runner" --assignee-object-id {SYSTEM_ASSIGNED.object_id} '
        f"--assignee-principal-type ServicePrincipal --scope {scope}\n"
    ) in text
    assert denied.value.status == 403


def test_missing_role_on_a_subscription_suggests_to_name_the_factory(
    send: Send, settings: AdfSettings, emulator: Emulator
) -> None:
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {"read"}}
    with pytest.raises(
        AdfPermissionError, match="Set resource_group_name and factory_name in the connection"
    ) as denied:
        send(operations.list_factories(settings.subscription_id))
    assert "az role" not in str(denied.value)


def test_each_missing_object_is_named(send: Send, settings: AdfSettings) -> None:
    factory = settings.factory()
    for call, message in (
        (create(settings, "Lod"), "no published pipeline 'Lod'"),
        (operations.get_run(factory, "nope"), "the factory has no run nope"),
        (operations.cancel_run(factory, "nope"), "the factory has no run nope"),
        (operations.get_run(settings.factory(factory_name="adf-other"), "nope"), "there is no such factory"),
        (operations.get_factory(settings.factory(resource_group_name="rg-other")), "has no resource group 'rg-other'"),
    ):
        with pytest.raises(AdfNotFoundError, match=message):
            send(call)


def test_cancel_of_a_finished_run_returns_false(send: Send, settings: AdfSettings, emulator: Emulator) -> None:
    run_id = send(create(settings))
    emulator.clock.advance(60)
    assert send(operations.cancel_run(settings.factory(), run_id)) is False


NO_ANSWERS = ("<html>proxy</html>", "", "[]", "null", "{}", '{"runId": null}', '{"runId": ""}', '{"runId": 7}')


@pytest.mark.parametrize("text", NO_ANSWERS)
@pytest.mark.parametrize("operation", ["createRun", "getRun", "queryRuns", "listFactories"])
def test_unreadable_answer_is_ambiguous_for_a_start(
    operation: str, text: str, send: Send, settings: AdfSettings, emulator: Emulator
) -> None:
    """A proxy may answer in place of the service, and an id in an answer may be invalid."""
    now = datetime.now(UTC)
    by_operation: dict[str, operations.Call[Any]] = {
        "createRun": create(settings),
        "getRun": operations.get_run(settings.factory(), "r1"),
        "queryRuns": operations.query_runs(settings.factory(), now - DAY, now + DAY),
        "listFactories": operations.list_factories(settings.subscription_id),
    }
    call = by_operation[operation]
    emulator.add_fault(operation, status=200, text=text)
    if operation == "listFactories" and text.startswith("{"):
        # The official client reads a missing list as an empty one.
        assert send(call) == []
        return
    with pytest.raises(AdfUnavailableError, match="could not be read") as unreadable:
        send(call)
    assert not unreadable.value.never_sent
    assert judge(unreadable.value) is Verdict.AMBIGUOUS


def test_page_of_a_proxy_does_not_count_as_an_accepted_cancel(
    send: Send, settings: AdfSettings, emulator: Emulator
) -> None:
    emulator.add_fault("cancelRun", status=200, text="<html>proxy</html>")
    with pytest.raises(AdfUnavailableError, match="could not be read"):
        send(operations.cancel_run(settings.factory(), "r1"))


def test_environment_without_the_identity_is_a_configuration_error(
    send: Send, monkeypatch: pytest.MonkeyPatch, settings: AdfSettings
) -> None:
    """The official client raises ValueErrors for both."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(AdfConfigurationError, match="IDENTITY_ENDPOINT is set"):
        send(create(settings))


SECRET = "https://x.blob.core.windows.net/c?sv=2022&sig=HUSHHUSH Authorization: Bearer HUSHHUSH.HUSHHUSH"


@pytest.mark.parametrize(
    "fault",
    [
        *({"status": status, "code": "BadRequest", "message": SECRET} for status in (400, 401, 403, 404, 429, 500)),
        # No JSON, and JSON of another form.
        {"status": 502, "text": SECRET},
        {"status": 200, "text": json.dumps({"runId": SECRET, "status": "Succeeded"})},
    ],
    ids=str,
)
def test_secret_in_an_answer_is_in_no_error_text_and_no_traceback(
    fault: dict[str, Any],
    send: Send,
    settings: AdfSettings,
    emulator: Emulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Airflow logs the whole traceback of a task: all errors in the chain, and their contexts."""
    emulator.add_fault("getRun", times=2 if fault["status"] == 401 else 1, **fault)
    with pytest.raises(AdfError) as error:
        send(operations.get_run(settings.factory(), "r1"))
    assert "***" in str(error.value)
    assert "HUSHHUSH" not in "".join(traceback.format_exception(error.value))
    assert error.value.__context__ is None
    assert "HUSHHUSH" not in caplog.text


def test_missing_ca_bundle_is_named(make_settings: Callable[..., AdfSettings]) -> None:
    settings = make_settings(ca_bundle="/no/such/ca.pem")
    with pytest.raises(AdfConfigurationError, match=r"/no/such/ca\.pem', but there is no such file"):
        AdfClient(settings)
    with pytest.raises(AdfConfigurationError, match=r"/no/such/ca\.pem', but there is no such file"):
        asyncio.run(AsyncAdfClient.open(settings))


def test_ca_bundle_without_certificates_is_named(make_settings: Callable[..., AdfSettings], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    settings = make_settings(ca_bundle=str(tmp_path / "ca.pem"))
    with pytest.raises(AdfConfigurationError, match=r"ca\.pem', but no certificates could be read from it"):
        AdfClient(settings)
    with pytest.raises(AdfConfigurationError, match=r"ca\.pem', but no certificates could be read from it"):
        asyncio.run(AsyncAdfClient.open(settings))


@pytest.mark.parametrize("client", ["sync", "async"])
def test_endpoint_with_an_untrusted_certificate_gets_no_request(
    client: str, make_settings: Callable[..., AdfSettings], emulator: Emulator, tmp_path: Path
) -> None:
    from airflow_adf_mi.emulator.identity.certificates import make_certificates

    other, _ = make_certificates(tmp_path)
    settings = make_settings(ca_bundle=str(other))
    with pytest.raises(AdfCertificateError, match="is not trusted, so nothing was sent") as untrusted:
        sender(client, settings)(create(settings))
    assert f"ca_bundle ({other})" in str(untrusted.value)
    assert judge(untrusted.value) is Verdict.REFUSED
    assert emulator.books.requests == []


async def test_broken_handshake_proves_that_nothing_was_sent(make_settings: Callable[..., AdfSettings]) -> None:
    async def speak_no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(speak_no_tls, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = make_settings(arm_endpoint=f"https://127.0.0.1:{port}")
        async with shared_client(settings) as client:
            with pytest.raises(AdfUnavailableError) as broken:
                await client.send(create(settings))
    assert broken.value.never_sent


def test_named_identity_sends_the_requests(make_settings: Callable[..., AdfSettings], emulator: Emulator) -> None:
    settings = make_settings(managed_identity_client_id=USER_ASSIGNED.client_id)
    with AdfClient(settings) as client:
        client.send(create(settings))
    assert {r.client_id for r in emulator.books.requests} == {USER_ASSIGNED.client_id}


def start(settings: AdfSettings) -> str:
    order = Start(factory=settings.factory(), pipeline_name="Load")
    with AdfClient(settings, read_timeout=1) as client:
        # Pauses take a tenth of a second. The routine's clock counts the seconds that it asked for.
        now = [0.0]

        def pause(seconds: float) -> None:
            now[0] += seconds
            time.sleep(0.1)

        routine = create_run_once(order, order.intent(), timing=Timing(clock=lambda: now[0], jitter=lambda: 0.5))
        return run_routine(routine, client, pause).run_id


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503},
        {"status": 504},
        {"status": 408},
        {"drop": True},
        {"status": 200},
        {"status": 200, "text": "<html>proxy</html>"},
        {"status": 200, "text": ""},
        {"hang_seconds": 2, "drop": True},
    ],
    ids=str,
)
def test_run_of_a_lost_start_is_found_and_not_started_again(
    fault: dict[str, Any], settings: AdfSettings, emulator: Emulator
) -> None:
    emulator.add_fault("createRun", effect="after", **fault)
    run_id = start(settings)
    assert list(emulator.state().runs) == [run_id]


def test_run_of_a_lost_start_is_found_in_the_list_if_the_service_makes_its_own_ids(
    settings: AdfSettings, emulator: Emulator
) -> None:
    emulator.state().switches.run_id_from_request_id = False
    emulator.add_fault("createRun", effect="after", drop=True)
    run_id = start(settings)
    assert list(emulator.state().runs) == [run_id]


def test_lost_start_that_is_not_found_is_ambiguous_and_not_repeated(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.state().switches.run_id_from_request_id = False
    emulator.state().switches.list_lag_seconds = 600
    emulator.add_fault("createRun", effect="after", drop=True)
    with pytest.raises(AdfAmbiguousStartError):
        start(settings)
    assert emulator.books.count("createRun") == 1


def test_throttled_start_is_sent_again_after_retry_after(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.add_fault("createRun", status=429, times=2, headers={"Retry-After": "1"})
    start(settings)
    assert [r.status for r in emulator.books.of("createRun")] == [429, 429, 200]


def test_start_that_stays_throttled_raises_the_throttling_error(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.add_fault("createRun", status=429, times=None, headers={"Retry-After": "100"})
    with pytest.raises(AdfThrottledError, match="too many requests"):
        start(settings)
    assert emulator.state().runs == {}


def test_start_waits_for_an_endpoint_that_refuses_connections(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.refuse_connections(0.5)
    start(settings)
    assert emulator.books.count("createRun") == 1


def test_start_waits_for_an_identity_endpoint_that_is_down(settings: AdfSettings, emulator: Emulator) -> None:
    # As often as azure-identity itself repeats the request. After that, msal answers from its cache of errors for 5 s.
    emulator.add_fault("token", status=500, times=2)
    start(settings)
    assert emulator.books.count("createRun") == 1


def is_closed(client: AsyncAdfClient) -> bool:
    return client._session.closed


class Recorded(tuple[Any, ...]):  # noqa: SLOT001  it has an attribute of its own
    """Arguments of a call that record when they are unpacked for sending."""

    note: Callable[[], None]

    def __iter__(self) -> Any:
        self.note()
        return super().__iter__()


async def test_many_requests_at_once_do_not_block_the_event_loop(settings: AdfSettings) -> None:
    turn = 0
    sent_in: list[int] = []

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def recorded() -> operations.Call[Any]:
        call = operations.get_factory(settings.factory())
        arguments = Recorded(call.args)
        arguments.note = lambda: sent_in.append(turn)
        return replace(call, args=arguments)

    async with shared_client(settings) as client:
        counting = asyncio.create_task(count_turns())
        await asyncio.gather(*(client.send(recorded()) for _ in range(100)))
        counting.cancel()
    assert len(set(sent_in)) == len(sent_in) == 100


@pytest.mark.parametrize("size", [LARGE_ANSWER_BYTES // 2, 2 * LARGE_ANSWER_BYTES])
async def test_large_answer_is_read_in_a_thread(size: int, settings: AdfSettings, emulator: Emulator) -> None:
    """It is read in a thread. For example, a loop whose iterations failed with long messages has a large page."""
    read_in: list[int] = []

    def read(body: Any) -> Any:
        read_in.append(threading.get_ident())
        return body["value"][0]["output"]["text"]

    script = {**SAMPLE_SCRIPT, "activities": {"Load/Copy": {"output": {"text": "x" * size}}}}
    emulator.call(lambda: setattr(emulator.state(), "script", Script.from_json(script)))
    async with shared_client(settings) as client:
        factory = settings.factory()
        run_id = await client.send(operations.create_run(factory, "Load", None, request_id=str(uuid.uuid4())))
        emulator.clock.advance(10)
        now = datetime.now(UTC)
        query: operations.Call[Any] = operations.query_activity_runs(factory, run_id, now - DAY, now + DAY)
        assert await client.send(replace(query, read=read)) == "x" * size
    assert (read_in == [threading.get_ident()]) is (size < LARGE_ANSWER_BYTES)


async def test_answer_that_nests_without_end_is_unreadable(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.add_fault("getFactory", times=1, status=200, text="[" * 100_000)
    async with shared_client(settings) as client:
        with pytest.raises(AdfUnavailableError, match="could not be read"):
            await client.send(operations.get_factory(settings.factory()))


async def test_clients_are_shared_and_closed_after_the_last_user(settings: AdfSettings) -> None:
    async with shared_client(settings) as first:
        async with shared_client(settings) as second:
            assert first is second
        assert not is_closed(first)
    async with shared_client(settings) as third:
        assert third is not first
    for _ in range(100):
        await asyncio.sleep(0.01)
        if is_closed(first) and is_closed(third):
            break
    assert is_closed(first)
    assert is_closed(third)


async def test_task_cancelled_while_the_client_opens_does_not_disturb_others(settings: AdfSettings) -> None:
    async def use() -> str:
        async with shared_client(settings) as client:
            return (await client.send(operations.get_factory(settings.factory())))["name"]  # type: ignore[no-any-return]

    first, second = asyncio.create_task(use()), asyncio.create_task(use())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "adf-test"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_refused_token_does_not_block_the_loop_while_another_thread_requests_one(
    settings: AdfSettings, emulator: Emulator
) -> None:
    """The token lock is held until the identity endpoint answers."""
    async with shared_client(settings) as client:
        await client.send(operations.get_factory(settings.factory()))
        emulator.call(emulator.tokens.revoke)
        with credential_for(settings)._lock:  # as if another thread waited for a token
            sending = asyncio.create_task(client.send(operations.get_factory(settings.factory())))
            for _ in range(50):
                await asyncio.sleep(0.01)
            assert not sending.done()
        assert (await sending)["name"] == "adf-test"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "IDENTITY_ENDPOINT"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_lost_answer_stays_ambiguous_although_the_environment_has_changed(
    variable: str, kind: str, settings: AdfSettings, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error's text must not be made by reading the environment again. An error of that would replace the lost answer."""

    def break_environment() -> None:
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.delenv("no_proxy")
        monkeypatch.setenv(variable, "socks5://h:x")

    def blocking() -> str:
        with AdfClient(settings) as client:
            client.authenticate()
            break_environment()
            return client.send(create(settings))

    async def on_loop() -> str:
        async with await AsyncAdfClient.open(settings) as client:
            await client.authenticate()
            break_environment()
            return await client.send(create(settings))

    emulator.add_fault("createRun", drop=True, effect="after")
    with pytest.raises(AdfUnavailableError) as dropped:
        blocking() if kind == "sync" else asyncio.run(on_loop())
    assert not dropped.value.never_sent
