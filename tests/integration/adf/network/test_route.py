"""Worker, triggerer and sign-in use the same proxies and certificates, with a real proxy and a real TLS server."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import ssl
import subprocess
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import certifi
import pytest
from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import AioHttpTransport, HttpRequest

from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.auth.credential import ProcessCredential, credential_for
from airflow_adf_mi.adf.config.settings import PUBLIC_CLOUD, AdfSettings, Identity, IdentityKind
from airflow_adf_mi.adf.errors import (
    AdfAuthenticationError,
    AdfCertificateError,
    AdfConfigurationError,
    AdfError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.network.loop_session import open_session
from airflow_adf_mi.adf.network.network_errors import was_never_sent
from airflow_adf_mi.adf.network.proxies import Proxy as NamedProxy
from airflow_adf_mi.adf.network.route import Route, route_to_arm
from airflow_adf_mi.adf.network.transport import blocking_transport
from airflow_adf_mi.adf.starting.create_run import Verdict, judge
from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.identity.certificates import make_certificates
from tests.conftest import SAMPLE
from tests.support.clients import create, sender
from tests.support.minors import needs_new_identity
from tests.support.proxy import Proxy, running

HOSTS = ("arm.corp.example", "arm.badcorp.example", "10.1.2.3", "0.0.0.0")  # noqa: S104  leads to this machine
WHO = ("worker", "triggerer", "sign-in")
Ask = Callable[..., None]


@pytest.fixture(scope="module")
def azure() -> Iterator[Emulator]:
    """ARM and the sign-in service, with a certificate for names that only the proxy knows."""
    spec = FactorySpec(source=SAMPLE, factory_name="adf-test", resource_group_name="rg-test")
    with Emulator(spec, hostnames=HOSTS) as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, azure: Emulator) -> None:
    """An environment without proxies and authorities, where *.example has no address."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in azure.identity_environment("imds").items():
        monkeypatch.setenv(name, value)
    _resolve(monkeypatch, None)
    azure.books.requests.clear()


def _resolve(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    """Resolve the names of these tests to `address`, or to nothing."""
    real = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **options: Any) -> Any:
        if str(host).endswith(".example"):
            if address is None:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = address
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture
def proxy(azure: Emulator) -> Iterator[Proxy]:
    with running(Proxy(leads_to=port(azure))) as proxy:
        yield proxy


@pytest.fixture
def ask(azure: Emulator, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Sends a request to ARM or the sign-in service at `host`. `trusts` is the connection's `ca_bundle`."""

    def ask(who: str, host: str = HOSTS[0], trusts: Path | None = None) -> None:
        if who != "sign-in":
            there = settings(azure, host, trusts)
            answer = sender("sync" if who == "worker" else "async", there)(operations.get_factory(there.factory()))
            assert answer["name"] == "adf-test"
            return
        with monkeypatch.context() as patch:
            for name, value in azure.identity_environment("workload_identity").items():
                patch.setenv(name, value)
            patch.setenv("AZURE_AUTHORITY_HOST", f"https://{host}:{port(azure)}")
            assert sign_in(str(trusts) if trusts else None).get_token_info(PUBLIC_CLOUD.arm_scope).token

    return ask


def sign_in(ca_bundle: str | None = None) -> ProcessCredential:
    identity = Identity(kind=IdentityKind.WORKLOAD_IDENTITY)
    return ProcessCredential(identity, PUBLIC_CLOUD.authority_host, ca_bundle=ca_bundle)


def settings(azure: Emulator, host: str = HOSTS[0], trusts: Path | None = None) -> AdfSettings:
    extra = azure.connection_extra()
    return AdfSettings(
        subscription_id=extra["subscriptionId"],
        resource_group_name=extra["resource_group_name"],
        factory_name=extra["factory_name"],
        arm_endpoint=f"https://{host}:{port(azure)}",
        ca_bundle=str(trusts) if trusts else None,
    )


def port(azure: Emulator) -> int:
    return int(azure.arm_endpoint.rpartition(":")[2])


CORP, BAD_CORP, NETWORKED, HERE = HOSTS


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(
    ("environ", "host", "is_proxied"),
    [
        ({"HTTPS_PROXY": "http://{proxy}"}, CORP, True),
        ({"HTTPS_PROXY": "{proxy}"}, CORP, True),
        ({"https_proxy": "http://{proxy}", "HTTPS_PROXY": "http://127.0.0.1:9"}, CORP, True),
        ({"ALL_PROXY": "http://{proxy}"}, CORP, True),
        ({"all_proxy": "{proxy}"}, CORP, True),
        ({"HTTP_PROXY": "http://{proxy}"}, CORP, False),
        ({"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": "corp.example"}, CORP, False),
        ({"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": ".corp.example"}, CORP, False),
        ({"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": "*.corp.example"}, CORP, False),
        ({"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": "arm.corp.example"}, CORP, False),
        ({"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": "*"}, CORP, False),
        ({"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": "corp.example"}, BAD_CORP, True),
        ({"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": "corp.example:{port}"}, CORP, False),
        ({"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": "corp.example:443"}, CORP, True),
        ({"HTTPS_PROXY": "http://{proxy}", "no_proxy": "other", "NO_PROXY": "corp.example"}, CORP, True),
        ({"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": "192.168.0.0/16,0.0.0.0/8"}, NETWORKED, True),
        ({"HTTPS_PROXY": "http://{proxy}", "NO_PROXY": "192.168.0.0/16,0.0.0.0/8"}, HERE, False),
        ({"ALL_PROXY": "http://{proxy}"}, "127.0.0.1", False),
    ],
    ids=str,
)
def test_worker_triggerer_and_sign_in_use_the_same_proxy(
    who: str,
    environ: Mapping[str, str],
    host: str,
    is_proxied: bool,
    ask: Ask,
    proxy: Proxy,
    azure: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value.format(proxy=f"127.0.0.1:{proxy.port}", port=port(azure)))
    if not is_proxied:
        _resolve(monkeypatch, "127.0.0.1")
    ask(who, host, trusts=azure.ca_bundle)
    assert proxy.connects == ([f"{host}:{port(azure)}"] if is_proxied else [])


@pytest.mark.parametrize("who", WHO)
def test_proxy_gets_the_decoded_user_and_password(
    who: str, ask: Ask, azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Proxy(port(azure), user_password="me:pä:ss/w#rd")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%C3%A4%3Ass%2Fw%23rd@127.0.0.1:{proxy.port}")
        ask(who, trusts=azure.ca_bundle)
        assert len(proxy.connects) == 1


@pytest.mark.parametrize("who", WHO)
def test_proxy_may_speak_tls_itself(who: str, ask: Ask, azure: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(azure.directory / "server.pem")
    with running(Proxy(port(azure)), tls) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy.port}")
        ask(who, trusts=azure.ca_bundle)
        assert len(proxy.connects) == 1


REFUSALS = {
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    "403": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    "hangs up": b"",
    "speaks no HTTP": b"220 mail.example ESMTP\r\n\r\n",
}


@pytest.mark.parametrize("who", ["sync", "async"])
@pytest.mark.parametrize("how", REFUSALS)
def test_refusal_of_a_proxy_proves_that_nothing_was_sent(
    how: str, who: str, azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = settings(azure, trusts=azure.ca_bundle)
    with running(Proxy(port(azure), answer=REFUSALS[how])) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:HUSHHUSH@127.0.0.1:{proxy.port}")
        with pytest.raises(AdfUnavailableError) as refused:
            sender(who, there)(create(there))
        assert len(proxy.connects) == 1
    assert refused.value.never_sent
    assert judge(refused.value) is Verdict.NOT_STARTED
    assert azure.books.requests == []
    text = str(refused.value)
    assert f"the proxy http://***@127.0.0.1:{proxy.port} (HTTPS_PROXY)" in text
    if how.isdigit():
        assert f"refused to connect to {CORP}:{port(azure)} ({how}), so nothing was sent" in text
        assert f"Or add {CORP} to NO_PROXY" in text
        assert ("requires a user and a password: put them into HTTPS_PROXY" in text) is (how == "407")
    assert "HUSHHUSH" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("who", ["sync", "async"])
@pytest.mark.usefixtures("proxy")
def test_answer_that_is_lost_behind_a_proxy_is_ambiguous(
    who: str, proxy: Proxy, azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the proxy forwarded the request, and the run was started."""
    there = settings(azure, trusts=azure.ca_bundle)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    fault = azure.add_fault("createRun", effect="after", drop=True)
    with pytest.raises(AdfUnavailableError) as lost:
        sender(who, there)(create(there))
    assert fault.consumed == 1
    assert not lost.value.never_sent
    assert judge(lost.value) is Verdict.AMBIGUOUS
    assert f"through the proxy http://127.0.0.1:{proxy.port} (HTTPS_PROXY)" in str(lost.value)


@pytest.mark.parametrize("status", ["407", "403"])
def test_sign_in_error_names_the_proxy_that_refused(
    status: str, ask: Ask, azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Proxy(port(azure), answer=REFUSALS[status])) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:HUSHHUSH@127.0.0.1:{proxy.port}")
        with pytest.raises(AdfAuthenticationError) as refused:
            ask("sign-in", trusts=azure.ca_bundle)
    assert f"The proxy http://***@127.0.0.1:{proxy.port} (HTTPS_PROXY) refused to connect" in str(refused.value)
    assert "to NO_PROXY" in str(refused.value)
    assert refused.value.transient
    assert "HUSHHUSH" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("who", ["sync", "async"])
def test_silent_proxy_times_out_and_proves_that_nothing_was_sent(who: str, azure: Emulator) -> None:
    """By default, aiohttp waits for such a proxy without end."""

    async def on_loop() -> None:
        async with open_session(route, ssl.create_default_context()) as session:
            transport = AioHttpTransport(session=session, session_owner=False, connection_timeout=0.1, read_timeout=30)
            await transport.send(HttpRequest("POST", route.address))

    def blocking() -> None:
        with blocking_transport(route, connect_timeout=0.1, read_timeout=30) as transport:
            transport.send(HttpRequest("POST", route.address))

    with running(Proxy(port(azure), is_silent=True)) as proxy:
        route = Route("https://arm.corp.example", NamedProxy("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}"))
        with pytest.raises(AzureError) as silent:
            blocking() if who == "sync" else asyncio.run(asyncio.wait_for(on_loop(), 20))
        assert len(proxy.connects) == 1
    assert was_never_sent(silent.value)


@pytest.mark.parametrize("source", ["imds", "app_service", "azure_ml", "cloud_shell"])
def test_token_request_never_goes_through_a_proxy(
    source: str, azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would see the token, and proxies answer with 403 for a link-local address."""
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    # Some platforms use a name: the rule is not only about loopback addresses.
    _resolve(monkeypatch, "127.0.0.1")
    for name, value in azure.identity_environment(source).items():
        monkeypatch.setenv(name, value.replace("127.0.0.1", "msi.example"))
    with running(Proxy(port(azure), answer=REFUSALS["403"])) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert ProcessCredential(Identity(), PUBLIC_CLOUD.authority_host).get_token_info(PUBLIC_CLOUD.arm_scope).token
        assert proxy.connects == []


@pytest.fixture
def directory_of_certificates(azure: Emulator, tmp_path: Path) -> Path:
    """A directory as `openssl rehash` makes it."""
    directory = tmp_path / "certs"
    directory.mkdir()
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(azure.ca_bundle)]
    hashed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (directory / f"{hashed}.0").symlink_to(azure.ca_bundle)
    return directory


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(
    ("environ", "is_trusted"),
    [
        ({}, False),
        ({"REQUESTS_CA_BUNDLE": "{right}"}, True),
        ({"REQUESTS_CA_BUNDLE": "{directory}"}, True),
        ({"CURL_CA_BUNDLE": "{right}"}, True),
        ({"SSL_CERT_FILE": "{right}"}, True),
        ({"SSL_CERT_DIR": "{directory}"}, True),
        ({"SSL_CERT_DIR": "/none:{directory}"}, True),
        ({"SSL_CERT_FILE": "{public}", "SSL_CERT_DIR": "{directory}"}, True),
        ({"REQUESTS_CA_BUNDLE": "{wrong}", "CURL_CA_BUNDLE": "{right}", "SSL_CERT_FILE": "{right}"}, False),
        ({"CURL_CA_BUNDLE": "{wrong}", "SSL_CERT_FILE": "{right}"}, False),
        ({"SSL_CERT_FILE": "{wrong}"}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("through", ["a proxy", "nothing"])
def test_worker_triggerer_and_sign_in_trust_the_same_authorities(
    through: str,
    who: str,
    environ: Mapping[str, str],
    is_trusted: bool,
    ask: Ask,
    proxy: Proxy,
    azure: Emulator,
    directory_of_certificates: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong, _ = make_certificates(tmp_path)
    if through == "a proxy":
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    else:
        _resolve(monkeypatch, "127.0.0.1")
    for name, value in environ.items():
        paths = {
            "right": azure.ca_bundle,
            "wrong": wrong,
            "public": certifi.where(),
            "directory": directory_of_certificates,
        }
        monkeypatch.setenv(name, value.format_map(paths))
    if is_trusted:
        ask(who)
        return
    with pytest.raises(AdfCertificateError, match="is not trusted, so nothing was sent") as untrusted:
        ask(who)
    assert azure.books.requests == []
    assert re.search(rf"{next(iter(environ), '(the system|certifi).s')} \(.+\)", str(untrusted.value))
    assert ("through the proxy" in str(untrusted.value)) is (through == "a proxy")


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_missing_authorities_are_named_before_anything_is_sent(
    name: str, who: str, ask: Ask, proxy: Proxy, azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv(name, "/no/such/path")
    with pytest.raises(AdfConfigurationError, match=f"{name} is '/no/such/path', but there is no such file"):
        ask(who)
    assert proxy.connects == []


@pytest.mark.parametrize("who", WHO)
def test_unsupported_proxy_is_refused_before_anything_is_sent(
    who: str, ask: Ask, azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(AdfConfigurationError, match="ALL_PROXY names a proxy of the kind socks5://"):
        ask(who, trusts=azure.ca_bundle)


def test_ca_bundle_adds_authorities_for_sign_in_and_replaces_them_for_arm(
    ask: Ask, azure: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, _ = make_certificates(tmp_path)
    _resolve(monkeypatch, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(azure.ca_bundle))
    ask("sign-in", trusts=wrong)
    for who in ("worker", "triggerer"):
        with pytest.raises(AdfCertificateError, match=rf"Trusted authorities: ca_bundle \({re.escape(str(wrong))}\)\."):
            ask(who, trusts=wrong)


def test_credential_uses_the_ca_bundle_of_its_connection(azure: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections with different authorities have different credentials."""
    for name, value in azure.identity_environment("workload_identity").items():
        monkeypatch.setenv(name, value)
    extra = settings(azure, "127.0.0.1", trusts=azure.ca_bundle)
    signs_in = AdfSettings(
        subscription_id=extra.subscription_id,
        identity=Identity(kind=IdentityKind.WORKLOAD_IDENTITY),
        ca_bundle=extra.ca_bundle,
    )
    without = AdfSettings(subscription_id=extra.subscription_id, identity=signs_in.identity)
    assert credential_for(signs_in) is not credential_for(without)
    assert credential_for(signs_in).get_token_info(PUBLIC_CLOUD.arm_scope).token
    with pytest.raises(AdfError, match="is not trusted"):
        credential_for(without).get_token_info(PUBLIC_CLOUD.arm_scope)


@needs_new_identity
def test_certificate_of_service_fabric_is_pinned_despite_trusted_authorities(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    for name, value in azure.identity_environment("service_fabric").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/path")
    assert ProcessCredential(Identity(), PUBLIC_CLOUD.authority_host).get_token_info(PUBLIC_CLOUD.arm_scope).token
    monkeypatch.setenv("IDENTITY_SERVER_THUMBPRINT", "0" * 40)
    with pytest.raises(AdfCertificateError, match="Check this variable") as untrusted:
        ProcessCredential(Identity(), PUBLIC_CLOUD.authority_host).get_token_info(PUBLIC_CLOUD.arm_scope)
    assert "IDENTITY_SERVER_THUMBPRINT" in str(untrusted.value)


def test_both_clients_have_the_same_authorities(azure: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authorities that requests adds by itself, those of certifi, are not among them."""
    monkeypatch.setenv("SSL_CERT_FILE", str(azure.ca_bundle))
    _resolve(monkeypatch, "127.0.0.1")
    route = route_to_arm(settings(azure), {"SSL_CERT_FILE": str(azure.ca_bundle)})
    with blocking_transport(route, read_timeout=5) as transport:
        transport.send(HttpRequest("GET", route.address))
        pool = transport.session.get_adapter("https://").poolmanager.connection_from_url(route.address)
        held = pool.conn_kw["ssl_context"].get_ca_certs(binary_form=True)
    context = route.tls_context()
    assert context is not None
    wanted = context.get_ca_certs(binary_form=True)
    assert [hashlib.sha256(c).digest() for c in held] == [hashlib.sha256(c).digest() for c in wanted]
    assert len(held) == 1
