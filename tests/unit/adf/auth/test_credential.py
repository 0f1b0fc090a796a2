"""One credential per identity and process, for threads, event loops and signal handlers."""

from __future__ import annotations

import asyncio
import base64
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import pytest
from azure.core.credentials import AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.identity import CredentialUnavailableError

from airflow_adf_mi.adf.auth.async_credential import AsyncCredential
from airflow_adf_mi.adf.auth.credential import FAILURE_KEPT_SECONDS, ProcessCredential, credential_for
from airflow_adf_mi.adf.auth.token_causes import Answer
from airflow_adf_mi.adf.auth.token_errors import principal
from airflow_adf_mi.adf.config.settings import AdfSettings, Identity, IdentityKind
from airflow_adf_mi.adf.connection_fields import settings_from_connection
from airflow_adf_mi.adf.errors import AdfAuthenticationError, AdfConfigurationError

SCOPE = "https://management.azure.com/.default"
ID = "22222222-2222-4222-8222-222222222222"


class Inner:
    """A fake credential of azure-identity: it gives tokens, counts requests, and can be slow or fail."""

    def __init__(
        self,
        token: str = "opaque",
        *,
        life: float = 3600,
        wait: Callable[[], Any] | None = None,
        last_answer: Answer | None = None,
    ) -> None:
        self.calls = 0
        self.last_answer = last_answer
        self._token = token
        self._life = life
        self._wait = wait

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        self.calls += 1
        if self._wait is not None:
            self._wait()
        return AccessTokenInfo(self._token, int(time.time() + self._life))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...


def credential(inner: Any, identity: Identity | None = None, **arguments: Any) -> ProcessCredential:
    made = inner if callable(inner) else lambda _plan: inner
    return ProcessCredential(identity or Identity(), "login", make=made, environ={}, **arguments)


def failing(error: BaseException, status: int | None = None, **headers: str) -> ProcessCredential:
    def fail() -> None:
        raise error

    return credential(Inner(wait=fail, last_answer=Answer(status, headers) if status else None))


def jwt(**claims: str) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.sig"


def settings(**extra: str) -> AdfSettings:
    extra["subscriptionId"] = ID
    return settings_from_connection(conn_id="x", conn_type="azure_data_factory_mi", extra=json.dumps(extra))


def test_process_has_one_credential_for_each_identity() -> None:
    assert credential_for(settings()) is credential_for(settings(factory_name="other"))
    assert credential_for(settings()) is not credential_for(settings(managed_identity_client_id=ID))


def test_forked_process_gets_its_own_credential() -> None:
    """A child must not wait for a lock that its parent held at the fork."""
    ours = credential_for(settings())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with ours._lock:  # as if another thread of the parent held it at the fork
        child = context.Process(target=lambda: queue.put(credential_for(settings())._lock.locked()))
        child.start()
        assert queue.get(timeout=30) is False
        child.join(30)


def test_concurrent_callers_take_turns() -> None:
    """So the token of the first caller is in azure-identity's cache when the others request one."""
    inside = 0
    most = 0

    def enter() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        os.sched_yield()
        inside -= 1

    shared = credential(Inner(wait=enter))
    threads = [threading.Thread(target=shared.get_token_info, args=(SCOPE,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_last_token_is_available_while_another_thread_requests_one() -> None:
    release = threading.Event()
    inner = Inner("first")
    shared = credential(inner)
    shared.get_token_info(SCOPE)
    inner._wait = release.wait
    asking = threading.Thread(target=shared.get_token_info, args=(SCOPE,))
    asking.start()
    try:
        last = shared.last_token(SCOPE)
        assert last is not None
        assert last.token == "first"
    finally:
        release.set()
        asking.join()


def test_expired_token_is_not_the_last_token() -> None:
    shared = credential(Inner(life=-1))
    shared.get_token_info(SCOPE)
    assert shared.last_token(SCOPE) is None
    assert shared.last_token("another scope") is None


def test_forgotten_token_is_replaced_at_most_every_half_minute() -> None:
    made: list[Inner] = []
    now = [1000.0]

    def make(_plan: Any) -> Inner:
        made.append(Inner(f"token {len(made)}"))
        return made[-1]

    shared = credential(make, clock=lambda: now[0])
    assert shared.get_token_info(SCOPE).token == "token 0"
    assert shared.forget_token("token 0")
    assert shared.last_token(SCOPE) is None
    assert shared.get_token_info(SCOPE).token == "token 1"
    # Requests that still carried the first token get the second one.
    assert shared.forget_token("token 0")
    assert shared.get_token_info(SCOPE).token == "token 1"
    assert not shared.forget_token("token 1")
    assert shared.get_token_info(SCOPE).token == "token 1"
    now[0] += 30
    assert shared.forget_token("token 1")
    assert shared.get_token_info(SCOPE).token == "token 2"


def test_get_token_returns_the_same_token() -> None:
    assert credential(Inner("x")).get_token(SCOPE).token == "x"


@pytest.mark.parametrize(
    ("identity", "claims"),
    [
        (Identity(client_id=ID), {"appid": "33333333-3333-4333-8333-333333333333"}),
        (Identity(object_id=ID), {"oid": "33333333-3333-4333-8333-333333333333"}),
    ],
)
def test_token_of_another_identity_is_refused(identity: Identity, claims: dict[str, str]) -> None:
    with pytest.raises(AdfAuthenticationError, match="token of another identity") as refused:
        credential(Inner(jwt(**claims)), identity).get_token_info(SCOPE)
    assert "33333333-3333-4333-8333-333333333333" in str(refused.value)
    assert jwt(**claims) not in str(refused.value)


@pytest.mark.parametrize("token", [jwt(appid=ID.upper()), jwt(), "opaque", "a.b.c"])
def test_token_of_the_named_identity_or_an_unreadable_token_is_accepted(token: str) -> None:
    assert credential(Inner(token), Identity(client_id=ID)).get_token_info(SCOPE).token == token


def test_principal_of_an_unreadable_token_is_empty() -> None:
    assert principal("opaque") == {}
    assert principal(jwt(oid="x")) == {"oid": "x"}


@pytest.mark.parametrize(
    ("status", "error", "expected", "transient"),
    [
        (
            400,
            CredentialUnavailableError("(invalid_request) Identity not found"),
            "is not assigned to the machine",
            False,
        ),
        (
            400,
            CredentialUnavailableError("Multiple user assigned identities exist, please specify"),
            "the connection names none",
            False,
        ),
        (
            400,
            CredentialUnavailableError(
                "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."
            ),
            "is not assigned to the app",
            False,
        ),
        (None, ServiceRequestError("connection refused"), "could not be reached", True),
        # The last answer may be older than the failure.
        (400, ServiceRequestError("connection refused"), "could not be reached", True),
        (200, FileNotFoundError("token"), "Check that the identity exists", False),
        (
            400,
            CredentialUnavailableError("no response from the IMDS endpoint. Token request error: (invalid_resource) x"),
            "Check that the identity exists",
            False,
        ),
        (429, CredentialUnavailableError("(invalid_scope) None, None"), "This may pass soon", True),
        (410, CredentialUnavailableError("(gone) updating"), "This may pass soon", True),
        (404, CredentialUnavailableError("(not_found) x"), "This may pass soon", True),
        (200, CredentialUnavailableError("no JSON"), "This may pass soon", True),
        (401, ClientAuthenticationError("AADSTS70021: no match"), "no federated credential that matches", False),
        (None, ClientAuthenticationError("timed out, try again"), "Check that the identity exists", False),
    ],
)
def test_error_of_a_token_request_names_identity_endpoint_and_next_step(
    status: int | None, error: BaseException, expected: str, transient: bool
) -> None:
    with pytest.raises(AdfAuthenticationError) as refused:
        failing(error, status).get_token_info(SCOPE)
    text = str(refused.value)
    assert "No token for the system-assigned managed identity" in text
    assert "169.254.169.254" in text
    assert expected in text
    assert refused.value.transient is transient


def test_unreadable_federated_token_file_is_named() -> None:
    environ = {"AZURE_CLIENT_ID": ID, "AZURE_TENANT_ID": ID, "AZURE_FEDERATED_TOKEN_FILE": "/no/such/file"}
    shared = ProcessCredential(Identity(kind=IdentityKind.WORKLOAD_IDENTITY), "login.example", environ=environ)
    with pytest.raises(AdfAuthenticationError, match="/no/such/file could not be read"):
        shared.get_token_info(SCOPE)


def test_error_of_a_developer_who_is_not_signed_in_names_az_login() -> None:
    def fail() -> None:
        raise CredentialUnavailableError("Azure CLI not found on path")

    shared = credential(Inner(wait=fail), Identity(kind=IdentityKind.DEVELOPER))
    with pytest.raises(AdfAuthenticationError, match="az login"):
        shared.get_token_info(SCOPE)


def test_identity_that_this_environment_cannot_give_is_refused_without_a_request() -> None:
    inner = Inner()
    shared = ProcessCredential(
        Identity(client_id=ID), "login", make=lambda _plan: inner, environ={"MSI_ENDPOINT": "http://x"}
    )
    with pytest.raises(AdfConfigurationError, match="Cloud Shell cannot use"):
        shared.get_token_info(SCOPE)
    assert inner.calls == 0


async def test_token_request_does_not_block_the_event_loop() -> None:
    release = threading.Event()
    shared = AsyncCredential(credential(Inner(wait=release.wait)))
    asking = asyncio.create_task(shared.get_token_info(SCOPE))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not asking.done()
    release.set()
    assert (await asking).token == "opaque"


async def test_valid_token_is_returned_on_the_loop_without_a_request() -> None:
    inner = Inner()
    shared = AsyncCredential(credential(inner))
    async with shared:
        await shared.get_token_info(SCOPE)
        await shared.get_token_info(SCOPE)
        assert inner.calls == 1
        # A claims challenge must reach azure-identity.
        await shared.get_token_info(SCOPE, options={"claims": "x"})
        assert inner.calls == 2
        assert (await shared.get_token(SCOPE)).token == "opaque"
        await shared.get_token(SCOPE, claims="x")
    assert inner.calls == 3


def failing_slowly() -> None:
    time.sleep(0.05)
    raise ServiceRequestError("connection refused")


def test_failure_is_raised_for_all_waiting_callers_and_for_a_while_after() -> None:
    inner = Inner(wait=failing_slowly)
    now = [1000.0]
    shared = credential(inner, clock=lambda: now[0])
    errors: list[AdfAuthenticationError] = []

    def ask() -> None:
        with pytest.raises(AdfAuthenticationError, match="could not be reached") as refused:
            shared.get_token_info(SCOPE)
        errors.append(refused.value)

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inner.calls == 1
    assert all(error.transient for error in errors)
    assert len({id(error) for error in errors}) == 50
    # Another request is not answered with that failure.
    with pytest.raises(AdfAuthenticationError):
        shared.get_token_info(SCOPE, options={"claims": "x"})
    assert inner.calls == 2
    now[0] += FAILURE_KEPT_SECONDS
    inner._wait = None
    assert shared.get_token_info(SCOPE).token == "opaque"


async def test_callers_on_a_loop_share_one_request_in_one_thread() -> None:
    inner = Inner(wait=failing_slowly)
    shared = AsyncCredential(credential(inner))
    errors = await asyncio.gather(*(shared.get_token_info(SCOPE) for _ in range(50)), return_exceptions=True)
    assert inner.calls == 1
    assert {type(error) for error in errors} == {AdfAuthenticationError}
    assert len({id(error) for error in errors}) == 50


async def test_wait_for_a_token_on_the_loop_is_short_and_the_request_continues() -> None:
    release = threading.Event()
    inner = Inner(wait=lambda: release.wait(5))
    shared = AsyncCredential(credential(inner), patience=0.1)
    for _ in range(2):
        with pytest.raises(AdfAuthenticationError, match="The request for it continues") as slow:
            await shared.get_token_info(SCOPE)
        assert slow.value.transient
    release.set()
    for _ in range(200):
        await asyncio.sleep(0.01)
        if not shared._asking:  # a later request gets its token
            break
    assert (await shared.get_token_info(SCOPE)).token == "opaque"
    assert inner.calls == 1


async def test_token_that_is_about_to_expire_is_requested_again_on_the_loop() -> None:
    inner = Inner(life=300)
    shared = AsyncCredential(credential(inner))
    await shared.get_token_info(SCOPE)
    await shared.get_token_info(SCOPE)
    assert inner.calls == 2
