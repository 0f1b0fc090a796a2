"""Whose certificates are trusted, and the TLS context that trusts them.

The first of these that is set counts: `ca_bundle` in the connection, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_FILE together
with SSL_CERT_DIR, the system's, certifi's.

truststore, which trusts what the system trusts, is not used: on Linux it reads the system's files anew at each handshake,
which would be on the event loop.
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
    # What Python was built for; then where Linux distributions and macOS keep theirs, for a Python that was built elsewhere.
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
    """A file, or a directory, of certificates to trust, and what names it."""

    named_by: str
    path: str

    def __str__(self) -> str:
        return f"{self.named_by} ({self.path})"


def authorities_in(environ: Mapping[str, str], system_paths: Sequence[str] = SYSTEM_PATHS) -> tuple[Authority, ...]:
    """What an environment trusts: all of these together."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if environ.get(name):
            return (Authority(name, environ[name]),)
    named = tuple(Authority(name, environ[name]) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environ.get(name))
    return named or (_of_the_system(system_paths),)


def tls_context(authorities: Sequence[Authority]) -> ssl.SSLContext:
    """A client's context that trusts these and no others. Reads files for some 20 ms: not for an event loop.

    Raises `AdfConfigurationError`, which names the variable or field, where there are no certificates.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in authorities:
        # SSL_CERT_DIR is set in many images, with or without certificates in it: where there is a file as well, it may be empty.
        may_be_empty = authority.named_by == "SSL_CERT_DIR" and len(authorities) > 1
        _trust(context, authority, may_be_empty=may_be_empty)
    return context


def _trust(context: ssl.SSLContext, authority: Authority, *, may_be_empty: bool) -> None:
    # A list of directories, as OpenSSL reads it; the other variables name one path.
    paths = authority.path.split(os.pathsep) if authority.named_by == "SSL_CERT_DIR" else [authority.path]
    what = f"{authority.named_by} is {authority.path!r}"
    try:
        is_there = any(Path(path).exists() for path in paths)
        read = sum(_load(context, path) for path in paths)
    except OSError as e:
        raise AdfConfigurationError(
            f"{what}, from which no certificates could be read ({e}). It must be a PEM file of certificate authorities, "
            "readable for Airflow."
        ) from None
    if not is_there and not may_be_empty:
        raise AdfConfigurationError(
            f"{what}, and there is no such file on this machine. It must exist on workers and on the triggerer."
        )
    if not read and not may_be_empty:
        raise AdfConfigurationError(
            f"{what}, which holds no certificates. It must be a PEM file of certificate authorities, or a directory of them "
            "that `openssl rehash` has prepared."
        )


def _load(context: ssl.SSLContext, path: str) -> int:
    """Trust what is in a file or directory; how many certificates that is."""
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
        # What may not be read is as good as not there.
        with suppress(OSError):
            if _hashed_in(path) or (Path(path).is_file() and Path(path).stat().st_size > 0):
                return Authority("the system's", path)
    import certifi

    return Authority("certifi's", certifi.where())
