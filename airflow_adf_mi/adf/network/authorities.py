"""Which certificate authorities are trusted, and the TLS context that trusts them.

The first of these settings that is set counts: `ca_bundle` in the connection, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_FILE
together with SSL_CERT_DIR, the system's authorities, certifi's authorities. For token requests, `ca_bundle` is only added to the
others.

The package truststore, which trusts the system's authorities, is not used. On Linux it reads the system's files at each
handshake, and so would block the event loop.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from airflow_adf_mi.adf.errors import AdfConfigurationError

_BUILT_IN = ssl.get_default_verify_paths()
SYSTEM_PATHS = (
    # First the paths that Python was built with. Then the paths of Linux distributions and macOS, for a Python built elsewhere.
    _BUILT_IN.openssl_cafile,
    _BUILT_IN.openssl_capath,
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
# OpenSSL finds a certificate in a directory by the hash of its subject.
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")


@dataclass(frozen=True)
class Authority:
    """A file or directory of certificates to trust, and the setting that names it."""

    named_by: str
    path: str

    def __str__(self) -> str:
        return f"{self.named_by} ({self.path})"


def authorities_in(environ: Mapping[str, str], system_paths: Sequence[str] = SYSTEM_PATHS) -> tuple[Authority, ...]:
    """The authorities that an environment trusts, all together."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if environ.get(name):
            return (Authority(name, environ[name]),)
    named = tuple(Authority(name, environ[name]) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environ.get(name))
    return named or (_of_the_system(system_paths),)


def tls_context(authorities: Sequence[Authority]) -> ssl.SSLContext:
    """A client's TLS context that trusts only these authorities. Reading the files takes about 20 ms: call it in a thread.

    Raises `AdfConfigurationError`, which names the variable or field, if there are no certificates.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in authorities:
        # Many images set SSL_CERT_DIR to an empty directory. That is no error if SSL_CERT_FILE is set as well.
        may_be_empty = authority.named_by == "SSL_CERT_DIR" and len(authorities) > 1
        _trust(context, authority, may_be_empty=may_be_empty)
    return context


def _trust(context: ssl.SSLContext, authority: Authority, *, may_be_empty: bool) -> None:
    # SSL_CERT_DIR is a list of directories, as for OpenSSL. The other variables name one path.
    paths = authority.path.split(os.pathsep) if authority.named_by == "SSL_CERT_DIR" else [authority.path]
    what = f"{authority.named_by} is {authority.path!r}"
    try:
        is_there = any(Path(path).exists() for path in paths)
        read = sum(_load(context, path) for path in paths)
    except OSError as e:
        raise AdfConfigurationError(
            f"{what}, but no certificates could be read from it ({e}). It must be a PEM file of certificate authorities, "
            "readable by Airflow."
        ) from None
    if not is_there and not may_be_empty:
        raise AdfConfigurationError(
            f"{what}, but there is no such file on this machine. The file must exist on workers and on triggerers."
        )
    if not read and not may_be_empty:
        raise AdfConfigurationError(
            f"{what}, but it holds no certificates. It must be a PEM file of certificate authorities, or a directory of them "
            "that `openssl rehash` has prepared."
        )


def _load(context: ssl.SSLContext, path: str) -> int:
    """Trust the certificates in a file or directory. Returns how many there are (for a directory: 1)."""
    if _hashed_in(path):
        context.load_verify_locations(capath=path)
        return 1
    if not Path(path).is_file():
        return 0
    before = context.cert_store_stats()["x509"]
    context.load_verify_locations(cafile=path)
    return context.cert_store_stats()["x509"] - before


def _hashed_in(path: str) -> bool:
    return Path(path).is_dir() and any(_HASHED.fullmatch(entry.name) for entry in Path(path).iterdir())


def _of_the_system(paths: Sequence[str]) -> Authority:
    for path in paths:
        # A path without read permission is treated like a missing path.
        with suppress(OSError):
            if _hashed_in(path) or (Path(path).is_file() and Path(path).stat().st_size > 0):
                return Authority("the system's", path)
    import certifi

    return Authority("certifi's", certifi.where())
