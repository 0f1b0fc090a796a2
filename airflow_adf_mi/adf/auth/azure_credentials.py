"""Makes the credentials of azure-identity, so that they fail within seconds and keep the last answer.

azure-identity's errors do not hold the answer. An endpoint that fails and an endpoint that refuses lead to the same error, in
words that differ from source to source. Azure's packages are imported when a credential is made.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from airflow_adf_mi.adf.auth.identity_sources import CredentialPlan, Source
from airflow_adf_mi.adf.auth.token_causes import Answer
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.network.transport import blocking_transport

if TYPE_CHECKING:
    from azure.core.credentials import AccessTokenInfo, SupportsTokenInfo, TokenRequestOptions
    from azure.core.pipeline.transport import RequestsTransport


TOKEN_CONNECT_TIMEOUT = 2.0
"""Seconds to connect to an identity endpoint. Most endpoints are on the same machine."""
TOKEN_READ_TIMEOUT = 10.0
"""Seconds without data from an identity endpoint. azure-core would wait 300 s, and with it every caller that needs a token."""


class ObservedCredential:
    """A credential, and the last answer of its source.

    :param inner: azure-identity's credential.
    :param answers: the transport appends every answer here.
    """

    def __init__(self, inner: SupportsTokenInfo, answers: deque[Answer]) -> None:
        self.inner = inner
        self._answers = answers

    @property
    def last_answer(self) -> Answer | None:
        """The last answer; None before the first. If msal repeats an error without a new request, the answer of that error."""
        return self._answers[-1] if self._answers else None

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        return self.inner.get_token_info(*scopes, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.inner.close()


def make_credential(how: CredentialPlan, *, read_timeout: float = TOKEN_READ_TIMEOUT) -> SupportsTokenInfo:
    """azure-identity's credential for a plan.

    Raises `AdfConfigurationError` if the certificates that the plan's route trusts cannot be read, or if the installed
    azure-identity would not check a certificate.
    """
    _quieten()
    if how.route is None:
        return _developer()
    answers: deque[Answer] = deque(maxlen=1)

    def keep(status: int, headers: Mapping[str, str]) -> None:
        answers.append(Answer(status, dict(headers)))

    transport = blocking_transport(
        how.route, connect_timeout=TOKEN_CONNECT_TIMEOUT, read_timeout=read_timeout, on_answer=keep
    )
    return ObservedCredential(_from_source(how, transport), answers)


def _developer() -> SupportsTokenInfo:
    from azure.identity import (
        AzureCliCredential,
        AzureDeveloperCliCredential,
        AzurePowerShellCredential,
        ChainedTokenCredential,
    )

    return ChainedTokenCredential(AzureCliCredential(), AzurePowerShellCredential(), AzureDeveloperCliCredential())


def _from_source(how: CredentialPlan, transport: RequestsTransport) -> SupportsTokenInfo:
    # On a machine without the endpoint, azure-identity's back-off for IMDS takes about a minute. Our loops repeat instead, and
    # log each failure. A request without an answer is not repeated here.
    quick: dict[str, Any] = {"retry_total": 2, "retry_status": 2, "retry_connect": 1, "retry_read": 0}
    quick["transport"] = transport
    if how.source is Source.WORKLOAD_IDENTITY:
        from azure.identity import WorkloadIdentityCredential

        return WorkloadIdentityCredential(
            tenant_id=how.tenant_id,
            client_id=how.client_id,
            token_file_path=how.token_file,
            authority=how.authority_host,
            **quick,
        )
    from azure.identity import ManagedIdentityCredential

    if how.source is Source.SERVICE_FABRIC and not pins_certificates():
        raise AdfConfigurationError(
            "This process runs on Service Fabric, and the installed azure-identity does not check the certificate of its "
            "identity endpoint (IDENTITY_SERVER_THUMBPRINT). So no token is requested. Install azure-identity 1.27 or newer."
        )
    named = {name: getattr(how, name) for name in ("object_id", "resource_id") if getattr(how, name)}
    return ManagedIdentityCredential(client_id=how.client_id, identity_config=named or None, **quick)


def pins_certificates() -> bool:
    """Whether azure-identity checks the certificate of Service Fabric. Older versions accept any certificate."""
    from azure.identity._credentials.service_fabric import ServiceFabricCredential

    return hasattr(ServiceFabricCredential, "_create_http_client")


def _quieten() -> None:
    """Keep Azure's packages out of task logs, unless their log levels are configured.

    They log twelve lines for each token, a traceback for each answer that is not JSON, and warnings that quote answers
    unmasked. Our errors quote the same answers with secrets masked.
    """
    for name, level in (
        ("azure.core.pipeline.policies.http_logging_policy", logging.WARNING),
        ("azure.identity", logging.ERROR),
        ("azure.mgmt.datafactory", logging.ERROR),
    ):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
