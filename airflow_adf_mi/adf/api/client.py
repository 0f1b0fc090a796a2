"""The two clients: they send a `Call` through the official client, once, and read the answer.

The official client is imported when a client is made, never with this module. It is built without its policy that
registers a resource provider and re-sends the request under another id, and without redirects; whether a request is
repeated is decided by our own rules (`starting`, `waiting`), because azure-core's would send createRun twice.
"""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_adf_mi.adf.api import responses
from airflow_adf_mi.adf.api.operations import MOST_LISTED, Call, Page
from airflow_adf_mi.adf.api.paging import Follow, Pages
from airflow_adf_mi.adf.api.responses import FailedCall
from airflow_adf_mi.adf.auth.async_credential import AsyncCredential
from airflow_adf_mi.adf.auth.credential import credential_for
from airflow_adf_mi.adf.network.authorities import tls_context
from airflow_adf_mi.adf.network.route import Route, route_to_arm
from airflow_adf_mi.adf.network.transport import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    ServiceClock,
    blocking_transport,
    import_async_client,
    policies,
)

if TYPE_CHECKING:
    import aiohttp

    from airflow_adf_mi.adf.config.settings import AdfSettings

T = TypeVar("T")

MOST_PAGES_LISTED = 100
"""Pages of a list that the official client follows itself, at most."""
OTHER_TOKENS = 3
"""How often a call whose token was refused is sent with another one. The official client keeps the last token that it was given
in one place for all requests, where one that is sent at that moment may put the refused one back."""


LARGE = 64 * 1024
"""Bytes of an answer that are read on the event loop; more, in a thread."""


class AdfClient:
    """For code that may block. One per thread; close it, or use it as a context manager.

    :param settings: the connection's settings.
    :param credential: instead of the process's credential for these settings' identity.
    :param read_retries: how often the transport may repeat a read (never a start or a cancel) after 408, 429, 5xx or a
        dropped connection, backing off from 1 s. Waits use 0 and repeat by their own rules.
    :param read_timeout: seconds of silence while waiting for an answer.
    """

    def __init__(
        self,
        settings: AdfSettings,
        *,
        credential: Any = None,
        read_retries: int = 0,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        from azure.core.pipeline.policies import RetryPolicy
        from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy
        from azure.mgmt.datafactory import DataFactoryManagementClient

        self._settings = settings
        # The official client's own types ask for the older form of credential; it calls this one.
        self._credential: Any = credential or credential_for(settings)
        self._read_retries = read_retries
        # Kept, because the environment may change while the client is open.
        self._route = route_to_arm(settings, os.environ)
        self._clock = ServiceClock()
        self.official = DataFactoryManagementClient(
            self._credential,
            settings.subscription_id,
            base_url=settings.arm_endpoint,
            credential_scopes=[settings.arm_scope],
            policies=policies(
                RetryPolicy(), ARMChallengeAuthenticationPolicy(self._credential, settings.arm_scope), self._clock
            ),
            transport=blocking_transport(self._route, read_timeout=read_timeout),
        )
        """The official client itself, for everything that this package does not wrap."""

    def authenticate(self) -> None:
        """Have a token at hand. Raises what `ProcessCredential.get_token_info` raises."""
        self._credential.get_token_info(self._settings.arm_scope)

    def service_time(self) -> float:
        """Epoch seconds by the service's clock, as far as its answers have told; they have no fractions."""
        return self._clock.now()

    def send(self, call: Call[T]) -> T:
        """Send `call` once and read its answer. Raises an `AdfError` for anything else than success."""
        answer = self._send_once(call)
        for _ in range(OTHER_TOKENS):
            # A token that is refused does nothing: safe to repeat, with another one.
            if not isinstance(answer, FailedCall) or not responses.forget_token(self._credential, answer):
                break
            answer = self._send_once(call)
        return responses.unwrap(answer)

    def pages(self, call: Call[Page[T]]) -> list[T]:
        """The items of all pages, each once; a list that never ends is cut, with a warning."""
        pages = Pages(call)
        while (following := pages.next()) is not None:
            pages.take(self.send(following))
        return pages.rows

    def close(self) -> None:
        self.official.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _send_once(self, call: Call[T]) -> T | FailedCall:
        method = getattr(getattr(self.official, call.group), call.method)
        retries = self._read_retries if call.repeatable else 0
        try:
            if call.listing:
                body = _listed(method(*call.args, retry_total=retries, **call.kwargs).by_page(), call)
            else:
                body = method(*call.args, cls=responses.body_of, retry_total=retries, **call.kwargs)
        except Exception as e:  # noqa: BLE001  what is of no known kind is raised again
            return responses.parse_error(e, call, self._settings, self._route)
        return responses.parse(call, body)


class AsyncAdfClient:
    """For the triggerer's event loop, which it never blocks. Used within the loop that made it.

    Make it by `await AsyncAdfClient.open(settings)`; close it, or use it as a context manager. Reads are not repeated:
    the wait that asks decides when to look again.
    """

    def __init__(self, settings: AdfSettings, session: aiohttp.ClientSession, route: Route) -> None:
        from azure.core.pipeline.policies import AsyncRetryPolicy
        from azure.core.pipeline.transport import AioHttpTransport
        from azure.mgmt.core.policies import AsyncARMChallengeAuthenticationPolicy
        from azure.mgmt.datafactory.aio import DataFactoryManagementClient

        self._settings = settings
        self._session = session
        self._route = route
        self._credential: Any = AsyncCredential(credential_for(settings))
        self._clock = ServiceClock()
        self._turn = asyncio.Lock()
        self.official = DataFactoryManagementClient(
            self._credential,
            settings.subscription_id,
            base_url=settings.arm_endpoint,
            credential_scopes=[settings.arm_scope],
            policies=policies(
                AsyncRetryPolicy(),
                AsyncARMChallengeAuthenticationPolicy(self._credential, settings.arm_scope),
                self._clock,
            ),
            transport=AioHttpTransport(
                session=session,
                session_owner=False,
                connection_timeout=CONNECT_TIMEOUT,
                read_timeout=READ_TIMEOUT,
            ),
        )

    @classmethod
    async def open(cls, settings: AdfSettings) -> Self:
        """A client with a session of its own."""
        route = await asyncio.to_thread(route_to_arm, settings, os.environ)
        # Importing the official client and reading certificates take up to a second: not on the event loop.
        context = await asyncio.to_thread(tls_context, route.authorities)
        await asyncio.to_thread(import_async_client)
        from airflow_adf_mi.adf.network.loop_session import open_session

        return cls(settings, open_session(route, context), route)

    async def authenticate(self) -> None:
        """As of `AdfClient`."""
        await self._credential.get_token_info(self._settings.arm_scope)

    def service_time(self) -> float:
        """As of `AdfClient`."""
        return self._clock.now()

    def knows_service_time(self) -> bool:
        """Whether an answer has told the service's time yet."""
        return self._clock.is_known

    def remaining_reads(self) -> int | None:
        """How many reads the service's last answer said are left in its limit; None before any did."""
        return self._clock.remaining_reads

    async def send(self, call: Call[T]) -> T:
        """Send `call` once and read its answer. Raises an `AdfError` for anything else than success."""
        answer = await self._send_once(call)
        for _ in range(OTHER_TOKENS):
            # As in AdfClient.send; in a thread, since another thread may hold the token lock for seconds.
            if not isinstance(answer, FailedCall) or not await asyncio.to_thread(
                responses.forget_token, self._credential, answer
            ):
                break
            answer = await self._send_once(call)
        return responses.unwrap(answer)

    async def pages(self, call: Call[Page[T]]) -> list[T]:
        """As of `AdfClient`."""
        pages = Pages(call)
        while (following := pages.next()) is not None:
            pages.take(await self.send(following))
        return pages.rows

    async def close(self) -> None:
        await self.official.close()
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def _send_once(self, call: Call[T]) -> T | FailedCall:
        method = getattr(getattr(self.official, call.group), call.method)
        # To send takes about a millisecond. Hundreds that would at once, when a look at the list has shown as many ends, go one
        # by one, and the event loop turns in between.
        async with self._turn:
            await asyncio.sleep(0)
        statuses: list[int] = []
        try:
            if call.listing:
                return responses.parse(
                    call, await _listed_async(method(*call.args, retry_total=0, **call.kwargs).by_page(), call)
                )
            if not call.repeatable:
                return responses.parse(
                    call, await method(*call.args, cls=responses.body_of, retry_total=0, **call.kwargs)
                )
            content = await self._content(method, call, statuses)
            if len(content) <= LARGE:
                return responses.read_content(call, content)
            return await asyncio.to_thread(responses.read_content, call, content)
        except Exception as e:  # noqa: BLE001  what is of no known kind is raised again
            return responses.parse_error(e, call, self._settings, self._route, next(iter(statuses), None))

    async def _content(self, method: Any, call: Call[Any], statuses: list[int]) -> bytes:
        """The content of an answer; its HTTP status goes to `statuses`, because the content may be impossible to unpack.

        Left to itself, the official client reads JSON three times over, and all on the event loop.
        """

        def saw(answer: Any) -> None:
            self._clock.saw(answer)
            statuses.append(answer.http_response.status_code)

        response = await method(
            *call.args, cls=responses.response_of, stream=True, retry_total=0, raw_response_hook=saw, **call.kwargs
        )
        async with response:
            return await response.read()  # type: ignore[no-any-return]  # the official client's types know its models only


def _listed(pages: Any, call: Call[Any]) -> list[Any]:
    """The first `MOST_LISTED` items that the official client's pager gives."""
    follow, items = Follow(f"{call.doing} in {call.target}", MOST_PAGES_LISTED), list[Any]()
    for page in pages:
        items += page
        if len(items) >= MOST_LISTED or not follow.on(pages.continuation_token):
            break
    return items[:MOST_LISTED]


async def _listed_async(pages: Any, call: Call[Any]) -> list[Any]:
    """As `_listed`."""
    follow, items = Follow(f"{call.doing} in {call.target}", MOST_PAGES_LISTED), list[Any]()
    async for page in pages:
        items += [item async for item in page]
        if len(items) >= MOST_LISTED or not follow.on(pages.continuation_token):
            break
    return items[:MOST_LISTED]
