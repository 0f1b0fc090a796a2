"""The credential: one for each identity and process, for threads and for event loops.

azure-identity has two implementations of managed identity. The one for asyncio has three faults. It sends a resource
id under a name that the endpoints do not know. It fails after half of a token's life while the endpoint is down. And it
sends one request for each concurrent caller. So this module always uses the blocking implementation, behind one lock. Event loops
call it in a thread. Azure's packages are imported for the first token.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_adf_mi.adf.auth.azure_credentials import make_credential
from airflow_adf_mi.adf.auth.identity_sources import CredentialPlan, plan, where_tokens_come_from
from airflow_adf_mi.adf.auth.token_errors import check_principal, token_error
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError
from airflow_adf_mi.adf.redaction import shown

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, AccessTokenInfo, SupportsTokenInfo, TokenRequestOptions

    from airflow_adf_mi.adf.config.settings import AdfSettings, Identity

FRESH_TOKEN_INTERVAL_SECONDS = 30.0
"""Shortest time between two fresh tokens after refusals. If the service refuses every token, the identity endpoint must not be
flooded with requests."""
FAILURE_KEPT_SECONDS = 3.0
"""Seconds for which a failure answers all callers. Callers that waited for it must not repeat the request one after another."""


class ProcessCredential:
    """A credential for the official clients. Safe to use from many threads.

    :param identity: the identity to get tokens for.
    :param authority_host: the cloud's sign-in service.
    :param ca_bundle: path of additional certificate authorities to trust for the sign-in service.
    :param make: makes the credential from a plan. The credential may have an attribute `last_answer`: the `Answer` to the last
        token request.
    :param environ: the environment variables, which describe the platform and the network.
    """

    def __init__(
        self,
        identity: Identity,
        authority_host: str,
        *,
        ca_bundle: str | None = None,
        make: Callable[[CredentialPlan], SupportsTokenInfo] | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.identity = identity
        self._authority_host = authority_host
        self._ca_bundle = ca_bundle
        self._make = make or make_credential
        self._environ = environ
        self._clock = clock
        self._lock = threading.Lock()
        self._inner: SupportsTokenInfo | None = None
        self._plan: CredentialPlan | None = None
        self._failed: dict[object, tuple[float, AdfError]] = {}
        # Read without the lock: replacing an entry is atomic.
        self._last: dict[tuple[str, ...], AccessTokenInfo] = {}
        self._given_up: dict[tuple[str, ...], AccessTokenInfo] = {}
        self._fresh_at = float("-inf")

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Return a token, from azure-identity's cache if the cached token is valid for some time.

        Raises `AdfConfigurationError` if this environment cannot give tokens of the identity, and `AdfAuthenticationError`
        if it gave no token.
        """
        asked = (scopes, (options or {}).get("claims"))
        # One caller at a time. The next callers then find its token in the cache, or its failure, and send no request.
        with self._lock:
            failure = self._kept_failure(asked)
            if failure is None:
                token = self._ask(scopes, options or {})
                if not isinstance(token, AdfError):
                    self._last[scopes] = token
                    return token
                failure = token
                self._failed[asked] = self._clock(), failure
        # A copy, because each caller that raises it adds to its traceback.
        raise copy.copy(failure)

    def _kept_failure(self, asked: object) -> AdfError | None:
        at, failure = self._failed.pop(asked, (float("-inf"), None))
        if failure is None or not 0 <= self._clock() - at < FAILURE_KEPT_SECONDS:
            return None
        self._failed[asked] = at, failure
        return failure

    def _ask(self, scopes: tuple[str, ...], options: TokenRequestOptions) -> AccessTokenInfo | AdfError:
        if self._inner is None:
            how = plan(self.identity, self._environ, self._authority_host, ca_bundle=self._ca_bundle)
            try:
                self._plan, self._inner = how, self._make(how)
            except ValueError as e:
                if isinstance(e, AdfError):
                    raise
                # azure-identity raises a ValueError for wrong environment variables.
                raise AdfConfigurationError(
                    f"The {self.identity} cannot be used: {shown(str(e), 300)} Check AZURE_AUTHORITY_HOST, AZURE_TENANT_ID and "
                    "AZURE_CLIENT_ID."
                ) from None
        assert self._plan is not None  # noqa: S101  set together with the credential
        try:
            token = self._inner.get_token_info(*scopes, options=options)
            check_principal(token.token, self.identity, self._plan)
        except Exception as e:  # noqa: BLE001  azure-identity passes on errors of many libraries; each means that there is no token
            return token_error(e, self.identity, self._plan, getattr(self._inner, "last_answer", None))
        return token

    def get_token(self, *scopes: str, claims: str | None = None, **options: Any) -> AccessToken:
        """The older form of `get_token_info`, for the provider's hook and other clients that use it."""
        from azure.core.credentials import AccessToken

        token = self.get_token_info(*scopes, options={"claims": claims} if claims else None)
        return AccessToken(token.token, token.expires_on)

    def last_token(self, *scopes: str) -> AccessTokenInfo | None:
        """The last token, if it has not expired. Takes no lock, so it may be called while another thread waits for a token."""
        token = self._last.get(scopes)
        return token if token is not None and token.expires_on > self._clock() else None

    def given_up_token(self, *scopes: str) -> AccessTokenInfo | None:
        """The token that was replaced last, for callers that cannot wait for a new token. Takes no lock."""
        return self._given_up.get(scopes)

    def forget_token(self, refused: str) -> bool:
        """Forget a token that the service refused. Returns whether the next token will be another one.

        If `refused` is the current token, the next call gets a fresh token, unless a token was replaced a moment ago.
        azure-identity's cache cannot be bypassed, so its credential is replaced. The platform's own cache, which keeps tokens for
        up to a day, cannot be bypassed.
        """
        with self._lock:
            if all(token.token != refused for token in self._last.values()):
                # Another caller has already replaced this token.
                return True
            if self._clock() - self._fresh_at < FRESH_TOKEN_INTERVAL_SECONDS:
                return False
            self._fresh_at = self._clock()
            self._inner = None
            self._given_up = self._last
            self._last = {}
            return True


_credentials: dict[tuple[object, ...], ProcessCredential] = {}


def credential_for(settings: AdfSettings) -> ProcessCredential:
    """This process's credential for the identity and `ca_bundle` of `settings`, and for the source of tokens.

    Airflow forks. The process id is part of the key, so a child never waits for a lock that its parent held at the fork.
    """
    place = where_tokens_come_from(os.environ)
    key = (os.getpid(), settings.identity, settings.cloud.authority_host, settings.ca_bundle, place)
    credential = ProcessCredential(settings.identity, settings.cloud.authority_host, ca_bundle=settings.ca_bundle)
    # setdefault is atomic, so no lock is needed. The code that a signal handler interrupts could hold such a lock.
    return _credentials.setdefault(key, credential)


def forget_credentials() -> None:
    """Forget the tokens and credentials of this process. The next call to Azure gets a new token.

    For tests that run several emulators in one process, at the same address: each emulator refuses the tokens of another one. An
    emulator at another address needs no call, because its tokens come from another source.
    """
    _credentials.clear()
