"""The two clients. Each sends a `Call` through Azure's official client, once, and reads the answer.

The official client repeats requests by rules of its own, and those rules would start a pipeline twice. Three of them are
switched off:

- azure-core's retries. The transport never repeats createRun or cancel, and reads only with `read_retries`. The packages
  `starting` and `waiting` decide on each repetition.
- The policy that registers a missing resource provider, because it re-sends the request under another request id.
- Redirects, because the token must not go to another address.

One repetition is safe and happens here: if the service refused the token, the request did nothing, and is sent again with
another token.

    AdfClient        for code that may block     one client for each thread
    AsyncAdfClient   for the event loop          one client for each loop; long answers are read in a thread

Importing the official client takes up to a second. So it is imported when a client is made, never with this module.
"""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_adf_mi.adf.api import responses
from airflow_adf_mi.adf.api.official_client import has_streams, raw_operations
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
"""The most pages of a list that the official client itself follows."""
TOKEN_RETRIES = 3
"""How many times a call is sent again with another token after the service refused the token.

One repetition is not enough. The official client keeps its last token in one place for all requests, and a request that is
under way at that moment may put the refused token back.
"""


LARGE_ANSWER_BYTES = 64 * 1024
"""Answers up to this size in bytes are read on the event loop. Larger answers are read in a thread."""


class AdfClient:
    """The client for code that may block. Use one for each thread; close it, or use it as a context manager.

    :param settings: the connection's settings.
    :param credential: overrides the process's credential for the identity of these settings.
    :param read_retries: how many times the transport may repeat a read (never a start or a cancel) after 408, 429, 5xx or a
        dropped connection, with growing pauses. Waits use 0, because they have rules of their own.
    :param read_timeout: seconds without data after which an answer counts as lost.
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
        # The type annotations of the official client require the older form of credential, but the client accepts this form.
        self._credential: Any = credential or credential_for(settings)
        self._read_retries = read_retries
        # The route is kept, because the environment may change while the client is open.
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
        """The official client itself, for operations that this package does not wrap."""

    def authenticate(self) -> None:
        """Make sure that a token is available. Raises the errors of `ProcessCredential.get_token_info`."""
        self._credential.get_token_info(self._settings.arm_scope)

    def service_time(self) -> float:
        """Epoch seconds by the service's clock, estimated from its answers. The answers carry no fractions of a second."""
        return self._clock.now()

    def send(self, call: Call[T]) -> T:
        """Send `call` once and read its answer. Raises an `AdfError` if the answer is not a success."""
        answer = self._send_once(call)
        for _ in range(TOKEN_RETRIES):
            # The request did nothing, because its token was refused. So it is safe to send it again with another token.
            if not isinstance(answer, FailedCall) or not responses.forget_token(self._credential, answer):
                break
            answer = self._send_once(call)
        return responses.unwrap(answer)

    def pages(self, call: Call[Page[T]]) -> list[T]:
        """The items of all pages, each once. A list that never ends is cut, with a warning in the log."""
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
        method = method_of(self.official, call)
        retries = self._read_retries if call.repeatable else 0
        try:
            if call.listing:
                body = _listed(method(*call.args, retry_total=retries, **call.arguments).by_page(), call)
            else:
                body = method(*call.args, cls=responses.body_of, retry_total=retries, **call.arguments)
        except Exception as e:  # noqa: BLE001  parse_error raises unknown errors again
            return responses.parse_error(e, call, self._settings, self._route)
        return responses.parse(call, body)


class AsyncAdfClient:
    """The client for the triggerer's event loop, which it never blocks. Use it only in the loop that made it.

    Make it with `await AsyncAdfClient.open(settings)`; close it, or use it as a context manager. Reads are not repeated,
    because each wait decides when to poll again.
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
        self._streams = has_streams()
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
        """Make a client with a session of its own."""
        route = await asyncio.to_thread(route_to_arm, settings, os.environ)
        # Importing the official client and reading certificates take up to a second, so a thread does both.
        context = await asyncio.to_thread(tls_context, route.authorities)
        await asyncio.to_thread(import_async_client)
        from airflow_adf_mi.adf.network.loop_session import open_session

        return cls(settings, open_session(route, context), route)

    async def authenticate(self) -> None:
        """Like `AdfClient.authenticate`."""
        await self._credential.get_token_info(self._settings.arm_scope)

    def service_time(self) -> float:
        """Like `AdfClient.service_time`."""
        return self._clock.now()

    def knows_service_time(self) -> bool:
        """Whether an answer has already carried the service's time."""
        return self._clock.is_known

    def remaining_reads(self) -> int | None:
        """How many reads the last answer reported as left in the service's limit. None before the first such answer."""
        return self._clock.remaining_reads

    async def send(self, call: Call[T]) -> T:
        """Send `call` once and read its answer. Raises an `AdfError` if the answer is not a success."""
        answer = await self._send_once(call)
        for _ in range(TOKEN_RETRIES):
            # As in AdfClient.send. In a thread, because another thread may hold the token's lock for seconds.
            if not isinstance(answer, FailedCall) or not await asyncio.to_thread(
                responses.forget_token, self._credential, answer
            ):
                break
            answer = await self._send_once(call)
        return responses.unwrap(answer)

    async def pages(self, call: Call[Page[T]]) -> list[T]:
        """Like `AdfClient.pages`."""
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
        method = method_of(self.official, call)
        # Sending blocks the event loop for about a millisecond. When a list query shows hundreds of ends, hundreds of requests
        # follow at once. They go one by one, so that the event loop can run other tasks in between.
        async with self._turn:
            await asyncio.sleep(0)
        statuses: list[int] = []
        try:
            if call.listing:
                return responses.parse(
                    call, await _listed_async(method(*call.args, retry_total=0, **call.arguments).by_page(), call)
                )
            if not call.repeatable:
                return responses.parse(
                    call, await method(*call.args, cls=responses.body_of, retry_total=0, **call.arguments)
                )
            content = await self._content(method, call, statuses)
            if len(content) <= LARGE_ANSWER_BYTES:
                return responses.read_content(call, content)
            return await asyncio.to_thread(responses.read_content, call, content)
        except Exception as e:  # noqa: BLE001  parse_error raises unknown errors again
            return responses.parse_error(e, call, self._settings, self._route, next(iter(statuses), None))

    async def _content(self, method: Any, call: Call[Any], statuses: list[int]) -> bytes:
        """The content of an answer. Its HTTP status goes to `statuses`, because unpacking the content may fail.

        Without this method, the official client would parse the JSON three times, all on the event loop.
        """

        def saw(answer: Any) -> None:
            self._clock.saw(answer)
            statuses.append(answer.http_response.status_code)

        how = {"stream": True} if self._streams else {}
        response = await method(
            *call.args, cls=responses.response_of, retry_total=0, raw_response_hook=saw, **how, **call.arguments
        )
        if not self._streams:
            return response.content  # type: ignore[no-any-return]  # the official client's types know its models only
        async with response:
            return await response.read()  # type: ignore[no-any-return]  # the same


def method_of(official: Any, call: Call[Any]) -> Any:
    """The official client's method for a call."""
    return getattr(raw_operations(getattr(official, call.group)), call.method)


def _listed(pages: Any, call: Call[Any]) -> list[Any]:
    """The first `MOST_LISTED` items of a list whose pages the official client follows."""
    follow, items = Follow(f"{call.doing} in {call.target}", MOST_PAGES_LISTED), list[Any]()
    for page in pages:
        items += page
        if len(items) >= MOST_LISTED or not follow.on(pages.continuation_token):
            break
    return items[:MOST_LISTED]


async def _listed_async(pages: Any, call: Call[Any]) -> list[Any]:
    """Like `_listed`."""
    follow, items = Follow(f"{call.doing} in {call.target}", MOST_PAGES_LISTED), list[Any]()
    async for page in pages:
        items += [item async for item in page]
        if len(items) >= MOST_LISTED or not follow.on(pages.continuation_token):
            break
    return items[:MOST_LISTED]
