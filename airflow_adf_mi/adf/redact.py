"""Masks credentials in text that comes from a service, before it reaches a log, an exception or an XCom.

Messages of failed activities quote what the activity's own target answered, and that may include a SAS URL or a
connection string, often as JSON within JSON or encoded for a URL.
"""

from __future__ import annotations

import re

_MASK = "***"

NAMES = (
    r"password|passwd|(?<![A-Za-z])pwd|client[_-]?secret|(?:access|refresh|id|sas)[_-]?token|"
    r"(?:secret[_-]?access|shared[_-]?access|account|access|api|private|function)[_-]?key|shared[_-]?access[_-]?signature"
)
"""What names a secret wherever it stands, also as the end of a longer name."""
WORDS = r"(?<![A-Za-z])(?:sig|secret|token)"
"""Words that name one only where something is assigned to them."""

_VALUE = (
    # Quoted within quoted text: to the next quote with as many backslashes.
    r"(?P<quote>\\+[\"']).*?(?:(?<!\\)(?P=quote)|$)"
    r"|\"(?:\\.|[^\"\\])*(?:\"|$)|'(?:\\.|[^'\\])*(?:'|$)"
    # Of ODBC, and JSON that holds the secret deeper.
    r"|\{[^}]*(?:\}|$)"
    # Bare; in an encoded URL, %26 is the next parameter's &.
    r"|(?:(?!%26)[^\s;&\"'\\])+"
)
_ASSIGNED = re.compile(
    rf"(?P<head>(?:(?:{NAMES})\\*[\"']?[ \t]*(?:=|:|%3D)|{WORDS}(?:\\*[\"'][ \t]*:|[ \t]*(?:=|%3D)))[ \t]*)(?P<value>{_VALUE})",
    re.IGNORECASE | re.DOTALL,
)
_PATTERNS = (
    # The key of a function app. Other codes are shorter, or words.
    re.compile(r"(?i)(?P<head>[?&]code=|(?<![A-Za-z])code=(?=[^\s&;\"']*\d)(?=[^\s&;\"']{16}))[^\s&;\"'\\]+"),
    re.compile(
        r"(?i)(?P<head>authorization\\*[\"']?\s*[:=]\s*\\*[\"']?(?:basic|digest|negotiate|sharedkey)\s+)[^\s\"',\\]+"
    ),
    re.compile(r"(?i)(?P<head>\bBearer\s+)[A-Za-z0-9._~+/-]{8,}=*"),
    # A password in an address, between the user's name and the host.
    re.compile(r"(?P<head>://[^\s/:@\"']*:)[^\s/@\"']+(?=@)"),
)
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*")


def redact(text: str) -> str:
    """`text` with the values of anything that looks like a credential replaced by `***`."""
    text = _ASSIGNED.sub(rf"\g<head>{_MASK}", text)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<head>{_MASK}", text)
    return _JWT.sub(_MASK, text)


def cap(text: str, limit: int = 2000) -> str:
    """`text`, cut to `limit` characters with a note of how much is missing: foreign text must not flood a log."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit} more characters)"
