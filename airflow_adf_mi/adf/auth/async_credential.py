"""The process's credential on an event loop. One request in a thread serves all waiting callers, and no caller waits long."""

from __future__ import annotations

import asyncio
import copy
import time
from typing import TYPE_CHECKING, Any, Self

from airflow_adf_mi.adf.auth.credential import ProcessCredential
from airflow_adf_mi.adf.errors import AdfAuthenticationError
from airflow_adf_mi.adf.event_loop import mark_seen, start_detached

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions

TOKEN_PATIENCE_SECONDS = 5.0
"""Longest wait for a token on an event loop, in seconds. Without this limit, a status check could miss the deadline of its wait.
The token request itself continues, for the next status check."""
_FAST_PATH_LIFE = 600.0
"""A token that is valid for more than this many seconds is used on an event loop without a call of azure-identity."""


class AsyncCredential:
    """A process's credential, for the official clients on an event loop."""

    def __init__(self, credential: ProcessCredential, *, patience: float = TOKEN_PATIENCE_SECONDS) -> None:
        self._credential = credential
        self._patience = patience
        self._asking: dict[object, asyncio.Task[AccessTokenInfo]] = {}

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Like `ProcessCredential.get_token_info`, without blocking the loop, and within `patience` seconds."""
        claims = (options or {}).get("claims")
        if not claims:
            last = self._credential.last_token(*scopes)
            if last is not None and last.expires_on - time.time() > _FAST_PATH_LIFE:
                return last
        asking = self._asking.get((scopes, claims))
        if asking is None:
            asking = self._ask(scopes, options)
            self._asking[scopes, claims] = asking
            asking.add_done_callback(lambda _: self._asking.pop((scopes, claims)))
        done, _ = await asyncio.wait([asking], timeout=self._patience)
        if not done:
            raise AdfAuthenticationError(
                f"No token for the {self._credential.identity} within {self._patience:g} s. The request for it continues.",
                transient=True,
            )
        error = asking.exception()
        if error is not None:
            # A copy, because each caller that raises it adds to its traceback.
            raise copy.copy(error)
        return asking.result()

    def _ask(self, scopes: tuple[str, ...], options: TokenRequestOptions | None) -> asyncio.Task[AccessTokenInfo]:
        """Send one token request in a thread, for all callers. One request for each caller would fill the loop's thread pool.

        The thread is one of the loop's pool. A call that hangs in asgiref's single thread would block all other calls. The
        asyncio task is detached, so that it outlives the first caller.
        """
        asking = asyncio.to_thread(self._credential.get_token_info, *scopes, options=options)
        task = start_detached(asking)
        # All callers may be cancelled before the request fails.
        task.add_done_callback(mark_seen)
        return task

    async def get_token(self, *scopes: str, claims: str | None = None, **options: Any) -> AccessToken:
        """The older form of `get_token_info`."""
        from azure.core.credentials import AccessToken

        token = await self.get_token_info(*scopes, options={"claims": claims} if claims else None)
        return AccessToken(token.token, token.expires_on)

    def forget_token(self, refused: str) -> bool:
        """Like `ProcessCredential.forget_token`. May block while another thread gets a token, so call it in a thread."""
        return self._credential.forget_token(refused)

    async def close(self) -> None:
        """Do nothing: the credential belongs to the process, not to one client."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
