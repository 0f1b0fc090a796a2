"""Masks credentials in text that comes from a service, before it reaches a log, an exception or an XCom.

Messages of failed activities quote what the activity's own target answered, and that may include a SAS URL or a
connection string, often as JSON within JSON or encoded for a URL.
"""

from __future__ import annotations

import re

_MASK = "***"

_KEYS = (
    r"(?:secret|secret[_-]?access|shared[_-]?access|api|private|functions?|storage|primary|secondary|master|subscription|"
    r"service[_-]?principal|host|encryption|signing)[_-]?key|(?:account|access)[ _-]?key"
)
NAMES = (
    rf"pass(?:word|wd|phrase)|pwd|client[ _-]?secret|(?:access|refresh|id|sas)[_-]?token|encrypted[_-]?credential|"
    rf"shared[_-]?access[_-]?signature|(?:{_KEYS})(?:content)?"
)
"""What names a secret wherever it stands, also as the end of a longer name."""
# What an encoded URL has before a query is no letter of the word.
WORDS = r"(?:(?<![A-Za-z])|(?<=3F))(?:sig|secret|token)"
"""Words that name one only where something is assigned to them."""

# As JSON within JSON writes it, as .NET does, and as an encoded URL.
_ENCODED_QUOTE = r"\\+u002[27]|%(?:25)*2[27]"
_QUOTE = rf"(?:\\*[\"']|{_ENCODED_QUOTE})"
_COLON = r"(?::|%(?:25)*3A|\\+u003a)"
_EQUALS = r"(?:=|%(?:25)*3D|\\+u003d)"
_VALUE = (
    # Quoted within quoted text: to the next quote with as many backslashes.
    r"(?P<quote>\\+[\"']).*?(?:(?<!\\)(?P=quote)|$)"
    rf"|(?P<encoded>{_ENCODED_QUOTE}).*?(?:(?P=encoded)|$)"
    # Connection strings double a quote that belongs to the value.
    r"|\"(?:\\.|\"\"|[^\"\\])*(?:\"|\\?$)|'(?:\\.|''|[^'\\])*(?:'|\\?$)"
    # JSON that holds the secret deeper; and ODBC.
    r"|\{(?=\s*\\*[\"'])[^}]*(?:\}|$)|\{(?:\}\}|[^}])*(?:\}|$)|\[[^\]]*(?:\]|$)"
    # Bare; the next parameter of a URL begins with &, which may be encoded.
    r"|(?:(?!%(?:25)*26)(?:\\+u00(?!2[267])[0-9a-f]{2}|\\(?![\"'nrtu\\]|$)|[^\s;&\"'\\]))+"
)
_PATTERNS = (
    re.compile(r"(?P<head>-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END|$)", re.DOTALL),
    # Of a connection string all up to its semicolon, whatever is in it.
    re.compile(rf"(?P<head>(?:{NAMES})[ \t]*=[ \t]*)(?![\"'{{\\\s])[^;\r\n\"=]+={{0,2}}(?=;)", re.IGNORECASE),
    re.compile(
        rf"(?P<head>(?:(?:{NAMES}){_QUOTE}?[ \t]*(?:{_EQUALS}|{_COLON})"
        rf"|{WORDS}(?:{_QUOTE}[ \t]*{_COLON}|[ \t]*{_EQUALS}))[ \t]*)(?:{_VALUE})",
        re.IGNORECASE | re.DOTALL,
    ),
    # A pair of a name and a value, as headers and parameters are written.
    re.compile(
        rf"(?P<head>name{_QUOTE}\s*{_COLON}\s*{_QUOTE}[\w.-]*(?:{NAMES}|secret|token|authorization){_QUOTE}\s*,"
        rf"\s*{_QUOTE}value{_QUOTE}\s*{_COLON}\s*)(?:{_VALUE})",
        re.IGNORECASE | re.DOTALL,
    ),
    re.compile(rf"(?P<head><[\w:]*(?:{NAMES})>)[^<]+", re.IGNORECASE),
    # The key of a function app. Other codes are shorter, or words.
    re.compile(r"(?i)(?P<head>[?&]code=|(?<![A-Za-z])code=(?=[^\s&;\"']*\d)(?=[^\s&;\"']{16}))[^\s&;\"'\\]+"),
    re.compile(
        r"(?i)(?P<head>authorization\\*[\"']?\s*[:=]\s*\\*[\"']?"
        r"(?:(?:basic|digest|negotiate|sharedkey)\s+|[a-z][\w-]*\s+(?=[^\s\"',;\\]*\d|[^\s\"',;\\]{16})))[^\s\"',;\\]+"
    ),
    re.compile(r"(?i)(?P<head>\bBearer(?:\s|\+|%(?:25)*20)+)[A-Za-z0-9._~+/-]{8,}=*"),
    # A password in an address, between the user's name and the host. Digits before a path are a port.
    re.compile(r"(?P<head>://[^\s/:@\"']*:)(?!\d+[/?#])[^\s\"']{1,500}(?=@)"),
)
_JWT = re.compile(r"(?:(?<![A-Za-z0-9])eyJ[\w-]{5,}\.|eyJ[\w-]{5,}\.(?=eyJ))[\w-]{5,}\.[\w-]*", re.ASCII)


def redact(text: str) -> str:
    """`text` with the values of anything that looks like a credential replaced by `***`."""
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<head>{_MASK}", text)
    return _JWT.sub(_MASK, text)


def names_secret(name: str) -> bool:
    """Whether a member of this name holds a credential."""
    member = f'"{name}": "x"'
    return redact(member) != member


def cap(text: str, limit: int = 2000) -> str:
    """`text`, cut to `limit` characters with a note of how much is missing: foreign text must not flood a log."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit} more characters)"
