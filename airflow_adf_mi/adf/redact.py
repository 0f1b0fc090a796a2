"""Masks credentials in text that comes from a service, before it reaches a log, an exception or an XCom.

Messages of failed activities quote what the activity's own target answered, and that may include a SAS URL or a
connection string.
"""

from __future__ import annotations

import re

_MASK = "***"
_PATTERNS = (
    # SAS signatures, keys and passwords of URLs and connection strings.
    re.compile(
        r"(?i)\b(sig|AccountKey|SharedAccessKey|SharedAccessSignature|Password|Pwd|client_secret|access_token)"
        r"(\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s;&\"']+)"
    ),
    # The same as JSON members.
    re.compile(
        r"(?i)(\"(?:sig|accountKey|sharedAccessKey|password|pwd|client_secret|clientSecret|access_token)\")(\s*:\s*)(\"[^\"]*\")"
    ),
    re.compile(r"(?i)\b(Bearer)(\s+)([A-Za-z0-9._~+/-]{8,}=*)"),
)
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*")


def redact(text: str) -> str:
    """`text` with the values of anything that looks like a credential replaced by `***`."""
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1\2{_MASK}", text)
    return _JWT.sub(_MASK, text)


def cap(text: str, limit: int = 2000) -> str:
    """`text`, cut to `limit` characters with a note of how much is missing: foreign text must not flood a log."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit} more characters)"
