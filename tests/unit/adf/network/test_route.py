"""Which proxy and certificate authorities an address gets: a pure decision."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed omits it

import certifi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.network.authorities import Authority, authorities_in, tls_context
from airflow_adf_mi.adf.network.proxies import Proxy, proxy_for
from airflow_adf_mi.adf.network.route import route_to_arm, route_to_tokens

ARM = "https://management.azure.com"
P = "http://p:3128"
Q = "http://q:3128"


@pytest.mark.parametrize(
    ("environ", "address", "proxy"),
    [
        ({}, ARM, None),
        ({"HTTPS_PROXY": P}, ARM, P),
        ({"https_proxy": P, "HTTPS_PROXY": Q}, ARM, P),
        ({"https_proxy": "", "HTTPS_PROXY": P}, ARM, P),
        ({"HTTP_PROXY": P, "http_proxy": P}, ARM, None),
        ({"ALL_PROXY": P}, ARM, P),
        ({"all_proxy": P, "ALL_PROXY": Q}, ARM, P),
        ({"ALL_PROXY": Q, "HTTPS_PROXY": P}, ARM, P),
        ({"HTTPS_PROXY": "p:3128"}, ARM, P),
        ({"HTTPS_PROXY": " http://p:3128/ "}, ARM, P),
        ({"HTTPS_PROXY": "http://p"}, ARM, "http://p:80"),
        ({"HTTPS_PROXY": "https://p"}, ARM, "https://p:443"),
        ({"HTTPS_PROXY": "http://[fd00::1]:3128"}, ARM, "http://[fd00::1]:3128"),
        # Names.
        ({"HTTPS_PROXY": P, "NO_PROXY": "*"}, ARM, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "a,management.azure.com"}, ARM, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "azure.com"}, ARM, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": " .Azure.com "}, ARM, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "*.azure.com"}, ARM, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "a azure.com"}, ARM, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "azure.com"}, "https://badazure.com", P),
        ({"HTTPS_PROXY": P, "NO_PROXY": "x.management.azure.com"}, ARM, P),
        ({"HTTPS_PROXY": P, "NO_PROXY": "azure.com"}, f"{ARM}.", None),
        ({"HTTPS_PROXY": P, "NO_PROXY": ",, .,:443"}, ARM, P),
        ({"HTTPS_PROXY": P, "no_proxy": "a", "NO_PROXY": "azure.com"}, ARM, P),
        ({"HTTPS_PROXY": P, "no_proxy": "", "NO_PROXY": "azure.com"}, ARM, None),
        # Ports.
        ({"HTTPS_PROXY": P, "NO_PROXY": "azure.com:443"}, ARM, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "azure.com:8443"}, ARM, P),
        ({"HTTPS_PROXY": P, "NO_PROXY": "azure.com:8443"}, f"{ARM}:8443", None),
        # Addresses and networks.
        ({"HTTPS_PROXY": P, "NO_PROXY": "10.0.0.0/8"}, "https://10.1.2.3", None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "10.0.0.0/8"}, "https://11.1.2.3", P),
        ({"HTTPS_PROXY": P, "NO_PROXY": "10.0.0.0/8"}, ARM, P),
        ({"HTTPS_PROXY": P, "NO_PROXY": "10.1.2.3"}, "https://10.1.2.3", None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "2.3"}, "https://10.1.2.3", P),
        ({"HTTPS_PROXY": P, "NO_PROXY": "10.1.2.3:443"}, "https://10.1.2.3", None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "10.1.2.3:444"}, "https://10.1.2.3", P),
        ({"HTTPS_PROXY": P, "NO_PROXY": "fd00::/8"}, "https://[fd00::1]", None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "[fd00::1]:443"}, "https://[fd00::1]", None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "fd00::/8"}, "https://10.1.2.3", P),
        ({"HTTPS_PROXY": P, "NO_PROXY": "10.0.0.0/8"}, "https://[::ffff:10.1.2.3]", None),
        # This machine and its link.
        ({"HTTPS_PROXY": P}, "https://127.0.0.1:1", None),
        ({"HTTPS_PROXY": P}, "https://[::1]:1", None),
        ({"HTTPS_PROXY": P}, "https://localhost:1", None),
        ({"HTTP_PROXY": P}, "http://169.254.169.254", None),
        ({"ALL_PROXY": P}, "http://169.254.169.254/metadata", None),
        ({"HTTP_PROXY": P}, "http://10.0.0.1", P),
        # The managed identity endpoint that the platform names.
        ({"HTTP_PROXY": P, "IDENTITY_ENDPOINT": "http://10.0.0.1:42356/msi/token"}, "http://10.0.0.1:42356/msi/token", None),
        ({"HTTP_PROXY": P, "IDENTITY_ENDPOINT": "http://10.0.0.1:42356/msi/token"}, "http://10.0.0.1:80", P),
        ({"HTTP_PROXY": P, "MSI_ENDPOINT": "http://msi.example/token"}, "http://msi.example/token", None),
        ({"HTTP_PROXY": P, "AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://nmi"}, "http://nmi/metadata", None),
    ],
    ids=str,
)  # fmt: skip
def test_proxy_for_an_address(environ: Mapping[str, str], address: str, proxy: str | None) -> None:
    found = proxy_for(address, environ)
    assert (found and found.address) == proxy
    # ARM and sign-in use the same proxy.
    if address.startswith("https"):
        settings = AdfSettings(subscription_id="11111111-1111-4111-8111-111111111111", arm_endpoint=address)
        assert route_to_arm(settings, environ).proxy == route_to_tokens(address, environ, None).proxy == found


@given(
    st.from_regex(r"[a-z]{1,3}(\.[a-z]{1,3}){0,3}", fullmatch=True),
    st.lists(st.from_regex(r"\.?[a-z]{1,3}(\.[a-z]{1,3}){0,2}", fullmatch=True), max_size=3),
)
def test_names_are_exempt_as_in_pythons_library(host: str, names: list[str]) -> None:
    """That library knows names and suffixes, but no networks."""
    environ = {"HTTPS_PROXY": P, "NO_PROXY": ",".join(names)}
    assert (proxy_for(f"https://{host}", environ) is None) == proxy_bypass_environment(host, {"no": ",".join(names)})


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 32))
def test_only_addresses_in_a_network_are_exempt(host: object, base: object, bits: int) -> None:
    network = ipaddress.ip_network(f"{base}/{bits}", strict=False)
    address = ipaddress.ip_address(str(host))
    found = proxy_for(f"https://[{host}]" if address.version == 6 else f"https://{host}", {"HTTPS_PROXY": P})
    exempt = proxy_for(
        f"https://[{host}]" if address.version == 6 else f"https://{host}", {"HTTPS_PROXY": P, "NO_PROXY": str(network)}
    )
    if getattr(address, "ipv4_mapped", None) is None:
        assert (exempt is None) == (found is None or address in network)


def test_user_and_password_are_decoded_and_hidden_in_texts() -> None:
    proxy = proxy_for(ARM, {"HTTPS_PROXY": "http://me:p%C3%A4%3Ass%2Fw%23@p:3128"})
    assert proxy is not None
    assert (proxy.address, proxy.user, proxy.password) == (P, "me", "pä:ss/w#")
    assert proxy.authorization == "Basic bWU6cMOkOnNzL3cj"
    assert str(proxy) == "http://***@p:3128 (HTTPS_PROXY)"
    assert "ss/w" not in repr(proxy)
    assert Proxy("x", P).authorization is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("socks5h://p:1080", "HTTPS_PROXY names a proxy of the kind socks5h://"),
        ("http://", "HTTPS_PROXY is not the address of a proxy"),
        ("http://p:x", "HTTPS_PROXY is not the address of a proxy"),
        ("http://p:70000", "HTTPS_PROXY is not the address of a proxy"),
        ("http://me:HUSH/HUSH@p:1", "HTTPS_PROXY is not the address of a proxy"),
        ("http://me:HUSH#HUSH@p:1", "HTTPS_PROXY is not the address of a proxy"),
        ("http://HUSH/HUSH@p:1", "HTTPS_PROXY is not the address of a proxy"),
        ("http://a%3Ab:HUSH@p:1", "HTTPS_PROXY is not the address of a proxy"),
        ("http://[HUSH", "HTTPS_PROXY is not the address of a proxy"),
    ],
)
def test_invalid_proxy_is_refused_without_quoting_it(value: str, expected: str) -> None:
    with pytest.raises(AdfConfigurationError, match=expected) as refused:
        proxy_for(ARM, {"HTTPS_PROXY": value})
    assert "HUSH" not in str(refused.value)
    # The wrong value does not matter for an exempt host.
    assert proxy_for(ARM, {"HTTPS_PROXY": value, "NO_PROXY": "azure.com"}) is None


ALL = {"REQUESTS_CA_BUNDLE": "/r", "CURL_CA_BUNDLE": "/c", "SSL_CERT_FILE": "/f", "SSL_CERT_DIR": "/d"}


@pytest.mark.parametrize(
    ("missing", "found"),
    [
        ([], ["/r"]),
        (["REQUESTS_CA_BUNDLE"], ["/c"]),
        (["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"], ["/f", "/d"]),
        (["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"], ["/f"]),
        (["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"], ["/d"]),
    ],
)
def test_order_of_authorities(missing: list[str], found: list[str]) -> None:
    environ = {name: "" if name in missing else value for name, value in ALL.items()}
    settings = AdfSettings(subscription_id="11111111-1111-4111-8111-111111111111", ca_bundle="/b")
    assert [a.path for a in authorities_in(environ)] == found
    # It replaces them for ARM, and adds to them for the sign-in service.
    assert [str(a) for a in route_to_arm(settings, environ).authorities] == ["ca_bundle (/b)"]
    assert [a.path for a in route_to_tokens("https://login", environ, "/b").authorities] == [*found, "/b"]
    assert route_to_tokens("http://169.254.169.254", environ, "/b").authorities == ()


def test_default_authorities_are_the_systems_or_certifis(tmp_path: Path) -> None:
    empty, file = tmp_path / "empty.pem", tmp_path / "ca.pem"
    empty.touch()
    file.write_bytes(Path(certifi.where()).read_bytes())
    paths = [str(tmp_path / "none"), str(empty), str(tmp_path), str(file)]
    assert authorities_in({}, paths) == (Authority("the system's", str(file)),)
    assert authorities_in({}, paths[:3]) == (Authority("certifi's", certifi.where()),)
    assert tls_context(authorities_in({}, [])).cert_store_stats()["x509_ca"] > 50
    # A directory is used only after it was prepared for OpenSSL.
    (tmp_path / "0a1b2c3d.0").symlink_to(file)
    assert authorities_in({}, paths) == (Authority("the system's", str(tmp_path)),)


@pytest.mark.parametrize("name", ["ca_bundle", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_path_without_certificates_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    (tmp_path / "empty").mkdir()
    for path, expected in (
        (tmp_path / "none", "but there is no such file on this machine"),
        (tmp_path / "empty", "but it holds no certificates"),
    ):
        with pytest.raises(AdfConfigurationError, match=f"{name} is '{path}', {expected}"):
            tls_context([Authority(name, str(path))])
    with pytest.raises(AdfConfigurationError, match=f"{name} is '.*ca.pem', but no certificates could be read from it"):
        tls_context([Authority(name, str(tmp_path / "ca.pem"))])


def test_directory_may_be_empty_beside_a_file_but_the_file_must_exist(tmp_path: Path) -> None:
    """Container images set both, with or without certificates in the directory."""
    directory = Authority("SSL_CERT_DIR", f"{tmp_path}:{tmp_path / 'none'}")
    context = tls_context([Authority("SSL_CERT_FILE", certifi.where()), directory])
    assert context.cert_store_stats()["x509"] > 50
    with pytest.raises(AdfConfigurationError, match="SSL_CERT_FILE is '/none', but there is no such file"):
        tls_context([Authority("SSL_CERT_FILE", "/none"), directory])


def test_client_module_imports_no_heavy_library() -> None:
    """Every Dag file imports it."""
    heavy = "('requests', 'urllib3', 'aiohttp', 'certifi')"
    code = f"import sys, airflow_adf_mi.adf.api.client; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
