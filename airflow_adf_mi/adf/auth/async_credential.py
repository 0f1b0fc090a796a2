"""The process's credential on an event loop: asked in a thread, once for all who wait, and not waited for long."""

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

TOKEN_PATIENCE = 5.0
"""Seconds that anybody on an event loop waits for a token: a look must not be late for its wait's deadline because of it.
The request itself goes on, for the next look."""
_FAST_PATH_LIFE = 600.0
"""A token with more than this many seconds left is handed out on an event loop without asking azure-identity."""


class AsyncCredential:
    """A process's credential, for the official clients on an event loop."""

    def __init__(self, credential: ProcessCredential, *, patience: float = TOKEN_PATIENCE) -> None:
        self._credential = credential
        self._patience = patience
        self._asking: dict[object, asyncio.Task[AccessTokenInfo]] = {}

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """As of `ProcessCredential`, without blocking the loop, and within `TOKEN_PATIENCE`."""
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
                f"No token for the {self._credential.identity} within {self._patience:g} s. It is still being asked for.",
                transient=True,
            )
        error = asking.exception()
        if error is not None:
            # A copy: each who is told adds to its traceback.
            raise copy.copy(error)
        return asking.result()

    def _ask(self, scopes: tuple[str, ...], options: TokenRequestOptions | None) -> asyncio.Task[AccessTokenInfo]:
        """One request for all who wait for it, in one thread: as many as they are would fill the loop's pool.

        A thread, unlike asgiref's one for all, which anything that hangs there would stop. Detached: it outlives who came
        first.
        """
        asking = asyncio.to_thread(self._credential.get_token_info, *scopes, options=options)
        task = start_detached(asking)
        # All who waited may have gone.
        task.add_done_callback(mark_seen)
        return task

    async def get_token(self, *scopes: str, claims: str | None = None, **options: Any) -> AccessToken:
        """The older form of `get_token_info`."""
        from azure.core.credentials import AccessToken

        token = await self.get_token_info(*scopes, options={"claims": claims} if claims else None)
        return AccessToken(token.token, token.expires_on)

    def forget_token(self, refused: str) -> bool:
        """As of `ProcessCredential`. May block while another thread asks for a token: not for an event loop's own thread."""
        return self._credential.forget_token(refused)

    async def close(self) -> None:
        """Nothing to close: the credential is the process's, not this client's."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
