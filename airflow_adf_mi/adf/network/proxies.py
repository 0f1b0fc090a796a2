"""The proxy that the environment names for an address. Pure.

requests, aiohttp and azure-identity read proxy variables by different rules. Only requests supports networks (IPv4 only), only
some support ports and ALL_PROXY, and for requests, `example.com` in NO_PROXY matches `badexample.com`. No maintained library
implements all rules. So this module implements curl's rules, except that a proxy without a port gets its scheme's port:

- `https_proxy` (by the address's scheme), `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY`: the first that is not empty is used.
- `no_proxy`, `NO_PROXY`: names (with their subdomains), addresses and networks, with or without a port. `*` means all.

Two kinds of address never use a proxy: loopback and link-local addresses (169.254.0.0/16, fe80::/10), and the managed identity
endpoint that the platform names. A proxy would answer with its own identity, or not at all, and would see the token.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from airflow_adf_mi.adf.errors import AdfConfigurationError

ENDPOINT_VARIABLES = ("IDENTITY_ENDPOINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
"""Variables in which platforms name the managed identity endpoint. `adf/auth/identity_sources` shows which source uses which
variable."""
_PORTS = {"http": 80, "https": 443}
_NAME_AND_PORT = re.compile(r"\[?(?P<name>[^\]]*?)\]?(?::(?P<port>\d+))?")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the variable that names the proxy. `str(proxy)` shows neither user nor password."""

    variable: str
    address: str
    """`http://host:port`, without user and password."""
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    @property
    def authorization(self) -> str | None:
        """The value of the header Proxy-Authorization."""
        if self.user is None:
            return None
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def __str__(self) -> str:
        scheme, _, host = self.address.partition("://")
        return f"{scheme}://{'***@' if self.user is not None else ''}{host} ({self.variable})"


def proxy_for(address: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for requests to `address`; None if such requests use no proxy.

    Raises `AdfConfigurationError` if the variable does not name a usable proxy.
    """
    url = urlsplit(address)
    names = (f"{url.scheme}_proxy", f"{url.scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    variable = next((name for name in names if environ.get(name)), None)
    if variable is None or _never_uses_a_proxy(url, environ):
        return None
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if any(_is_exempt(url, entry) for entry in re.split(r"[,\s]+", exempt) if entry):
        return None
    return _proxy(variable, environ[variable].strip())


def _never_uses_a_proxy(url: SplitResult, environ: Mapping[str, str]) -> bool:
    host = _host(url)
    ip = _ip(host)
    if ip is not None and (ip.is_loopback or ip.is_link_local):
        return True
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return any((host, _port(url)) == _host_and_port(environ.get(name, "")) for name in ENDPOINT_VARIABLES)


def _host_and_port(address: str) -> tuple[str, int | None] | None:
    """Host and port; None if the text is no address. The request for a token then raises the error."""
    try:
        url = urlsplit(address)
        return _host(url), _port(url)
    except ValueError:
        return None


def _is_exempt(url: SplitResult, entry: str) -> bool:
    """Whether an entry of NO_PROXY covers the address."""
    if entry == "*":
        return True
    host = _host(url)
    ip = _ip(host)
    network = _network(entry)
    if network is None:
        parts = _NAME_AND_PORT.fullmatch(entry)
        if parts is None or parts["port"] not in (None, str(_port(url))):
            return False
        entry = parts["name"]
        network = _network(entry)
    if ip is not None or network is not None:
        return ip is not None and network is not None and ip in network
    name = entry.lower().removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _proxy(variable: str, value: str) -> Proxy:
    """Parse a proxy. Errors do not quote the value, because a password that contains `/` or `#` looks like a host or a port."""
    try:
        url = urlsplit(value if "://" in value else f"http://{value}")
        host, port = _host(url), _port(url)
        if url.path not in ("", "/") or url.query or url.fragment or ":" in unquote(url.username or ""):
            host = ""
    except ValueError:
        host, port = "", None
    if host and url.scheme not in _PORTS:
        raise AdfConfigurationError(
            f"{variable} names a proxy of the kind {url.scheme}://, which is not supported. Name an http:// or https:// proxy, "
            "or add the hosts that need no proxy to NO_PROXY."
        )
    if not host:
        raise AdfConfigurationError(
            f"{variable} is not the address of a proxy. The form is http://host:port or http://user:password@host:port; "
            "special characters of user and password are percent-encoded (/ is %2F, # is %23, @ is %40)."
        )
    netloc = f"[{host}]" if ":" in host else host
    return Proxy(
        variable,
        f"{url.scheme}://{netloc}:{port}",
        None if url.username is None else unquote(url.username),
        unquote(url.password or ""),
    )


def _host(url: SplitResult) -> str:
    return (url.hostname or "").rstrip(".")


def _port(url: SplitResult) -> int | None:
    return url.port or _PORTS.get(url.scheme)


def _ip(host: str) -> _Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """A network. A single address becomes a network of one address."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
