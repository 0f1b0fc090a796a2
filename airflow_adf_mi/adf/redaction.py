"""Masks credentials in text that comes from a service, before it reaches a log, an exception or an XCom.

The message of a failed activity quotes the answer of the system that the activity used. The answer may include a SAS URL or a
connection string, often as JSON within JSON or URL-encoded.

This code runs on the triggerer's event loop, and a text of the service may be very long. So `shown` cuts a text before it
searches, and the time of the search is proportional to the length of any text. No pattern may begin in many places and
read from each of them to the same far end. So the repeats of each pattern are possessive (`++`), are bounded, or cannot contain
the pattern's own beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

_MASK = "***"
MASKING_OVERLAP_CHARACTERS = 2048
"""Characters that `shown` searches behind its cut. Some patterns recognize a credential by the text that follows it."""

# A hyphen stands for a hyphen, an underscore or nothing. A space stands for the same, or for a space.
_NAMES = (
    *("password", "passwd", "passphrase", "pwd", "client secret", "encrypted-credential", "shared-access-signature"),
    *("access-token", "refresh-token", "id-token", "sas-token"),
)
_KEYS = (
    *(
        "secret-key",
        "secret-access-key",
        "shared-access-key",
        "api-key",
        "private-key",
        "function-key",
        "functions-key",
    ),
    *("storage-key", "primary-key", "secondary-key", "master-key", "subscription-key", "service-principal-key"),
    *("host-key", "encryption-key", "signing-key", "account key", "access key"),
)
_SECRET_WORDS = ("sig", "secret", "token")
"""Words that name a secret only if a value is assigned to them."""


def _pattern(names: tuple[str, ...]) -> str:
    return "|".join(name.replace("-", "[_-]?").replace(" ", "[ _-]?") for name in names)


NAMES = f"{_pattern(_NAMES)}|(?:{_pattern(_KEYS)})(?:content)?"
"""Names of secrets, anywhere in a text, also as the end of a longer name."""

# Quotes as in JSON within JSON, as .NET writes them, and URL-encoded.
_ENCODED_QUOTE = r"\\+u002[27]|%(?:25)*2[27]"
_QUOTE = rf"(?:\\*[\"']|{_ENCODED_QUOTE})"
_COLON = r"(?::|%(?:25)*3A|\\+u003a)"
_EQUALS = r"(?:=|%(?:25)*3D|\\+u003d)"
_VALUE = (
    # Quoted text within quoted text: up to the next quote with as many backslashes.
    r"(?:(?P<quote>\\+[\"']).*?(?:(?<!\\)(?P=quote)|$)"
    rf"|(?P<encoded>{_ENCODED_QUOTE}).*?(?:(?<!\\)(?P=encoded)|$)"
    # Connection strings double a quote that belongs to the value.
    r"|\"[^\"\\]*+(?:(?:\\.|\"\")[^\"\\]*+)*+(?:\"|\\?$)|'[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*+(?:'|\\?$)"
    # A JSON object that holds the secret deeper, and ODBC's braces.
    r"|\{(?=\s*\\*[\"'])[^}]*+(?:\}|$)|\{[^}]*+(?:\}\}[^}]*+)*+(?:\}|$)|\[[^\]]*+(?:\]|$)"
    # A value without quotes. The next parameter of a URL begins with &, which may be encoded.
    r"|(?:[^\s;&\"'\\%]++|%(?!(?:25)*26)|\\+u00(?!2[267])[0-9a-f]{2}|\\(?![\"'nrtu\\]|$))++)"
)

# The last two letters of a possible name, and the assignment. A pattern that begins with a set of letters is
# found much faster than a pattern that ignores case throughout.
_ASSIGNED = re.compile(
    r"[detnlygDETNLYG](?=[\\\"'%=: \t])(?i:(?<=[rw]d|se|et|en|al|re|ey|nt|ig)"
    rf"(?P<quote>{_QUOTE})?[ \t]*(?:(?P<equals>{_EQUALS})|{_COLON})[ \t]*)"
)
_LONGEST_NAME = 40
_SECRET_NAMES = tuple(
    name.replace("-", "").replace(" ", space)
    for space in ("", " ")
    for name in (*_NAMES, *_KEYS, *(f"{key}content" for key in _KEYS))
)
"""`NAMES`, without their hyphens and underscores."""
_LAST_SYLLABLES = tuple({name[-3:] for name in (*_SECRET_NAMES, *_SECRET_WORDS)})
# Letters that match i and s in a pattern that ignores case, but that `lower` does not turn into i and s.
_ALIKE = str.maketrans("\u0130\u0131\u017f", "iis")
_ASSIGNED_VALUE = re.compile(_VALUE, re.IGNORECASE | re.DOTALL)
# A value in a connection string: all characters up to the semicolon.
_CONNECTION_VALUE = re.compile(r"(?![\"'{\\\s])[^;\r\n\"=]{1,1900}+={0,2}(?=;)")

_PATTERNS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?P<secret>.*?(?=-----END|$))", re.DOTALL),
    # A pair of a name and a value, as in lists of headers and parameters.
    re.compile(
        rf"name{_QUOTE}\s*{_COLON}\s*{_QUOTE}[\w.-]*(?:{NAMES}|secret|token|authorization){_QUOTE}\s*,"
        rf"\s*{_QUOTE}value{_QUOTE}\s*{_COLON}\s*(?P<secret>{_VALUE})",
        re.IGNORECASE | re.DOTALL,
    ),
    re.compile(rf"<[\w:]*(?:{NAMES})>(?P<secret>[^<]+)", re.IGNORECASE),
    # The key of a function app is the parameter `code` of a URL. Elsewhere, `code=` may stand before the code of an error. So a
    # value there is not masked if it has fewer than 16 characters, or no digit and fewer than 128 characters.
    re.compile(
        r"[cC](?i:ode=)(?:(?<=[?&].{5})|(?<![A-Za-z].{5})(?=[^\s&;\"'\d]{0,127}+[^\s&;\"'])(?=[^\s&;\"']{16}))"
        r"(?P<secret>[^\s&;\"'\\]++)"
    ),
    re.compile(
        r"[aA](?i:uthorization\\*[\"']?\s*[:=]\s*\\*[\"']?"
        r"(?:(?:basic|digest|negotiate|sharedkey)\s+|[a-z][\w-]*\s+(?=[^\s\"',;\\]*\d|[^\s\"',;\\]{16})))"
        r"(?P<secret>[^\s\"',;\\]+)"
    ),
    re.compile(r"[bB](?<!\w.)(?i:earer(?:\s|\+|%(?:25)*20)+)(?P<secret>[A-Za-z0-9._~+/-]{8,}+=*)"),
    # A password in an address, between user and host. The password may contain an @. Digits before a path are a port.
    re.compile(
        r"://[^\s/:@\"']*+:(?!\d+[/?#])(?P<secret>[^\s\"'@]{0,500}+(?:@[^\s\"'@]{0,500}+)*(?=@))",
    ),
)
# JSON web tokens: three parts with dots between them. The first part, and often the second, begins with an encoded brace.
# At the end of a text, which may have been cut, a part of a token is enough. "eyJ" may stand in a run of letters many times, so
# each run of letters is first checked for the form of a token.
_TOKENS = (
    r"(?=[\w-]*+\.[\w-]{5,}+(?:\.|\Z))(?:[\w-]*?[_-])??(?P<secret>eyJ[\w-]{5,}+\.[\w-]{5,}+(?:\.[\w-]*+|\Z))",
    r"(?=[\w-]*+\.eyJ[\w-]{2,}+(?:\.|\Z))[\w-]*?(?P<secret>eyJ[\w-]{5,}+\.[\w-]++(?:\.[\w-]*+|\Z))",
    r"(?=[\w-]{19,}+(?:\.[\w-]{0,4})?\Z)[\w-]*?(?P<secret>eyJ[\w-]{16,}+(?:\.[\w-]{0,4})?\Z)",
)
_TOKEN_PATTERNS = tuple(re.compile(rf"(?<![\w-]){token}", re.ASCII) for token in _TOKENS)

_Span = tuple[int, int]


def redact(text: str) -> str:
    """`text`, with the values of everything that resembles a credential replaced by `***`."""
    return _masked(text, len(text))


def shown(text: str, limit: int = 2000) -> str:
    """The first `limit` characters of `text`, masked, and the number of missing characters. For foreign text of any length."""
    if len(text) <= limit:
        return redact(text)
    return _masked(text[: limit + MASKING_OVERLAP_CHARACTERS], limit) + _missing(len(text) - limit)


def cap(text: str, limit: int = 2000) -> str:
    """`text`, cut to `limit` characters, and the number of missing characters. Foreign text must not flood a log.

    This function masks nothing. Use `shown` for foreign text that is not masked yet.
    """
    return text if len(text) <= limit else text[:limit] + _missing(len(text) - limit)


@lru_cache(maxsize=1000)
def names_secret(name: str) -> bool:
    """Whether a member of this name holds a credential."""
    member = f'"{name}": "x"'
    return redact(member) != member


def _missing(number: int) -> str:
    return f"… ({number} more characters)"


def _masked(text: str, end: int) -> str:
    """`text` up to `end`, with the credentials masked that begin before `end`."""
    parts: list[str] = []
    at = 0
    for begin, until in sorted(span for span in _secrets(text) if span[0] < span[1]):
        if begin >= end:
            break
        if begin > at or not parts:
            parts += text[at:begin], _MASK
        at = max(at, until)
    return "".join([*parts, text[at:end]])


def _secrets(text: str) -> Iterator[_Span]:
    """The positions of credentials."""
    yield from _assigned(text)
    for pattern in _PATTERNS:
        yield from (match.span("secret") for match in pattern.finditer(text))
    if "eyJ" in text:
        for pattern in _TOKEN_PATTERNS:
            yield from (match.span("secret") for match in pattern.finditer(text))


def _assigned(text: str) -> Iterator[_Span]:
    """The positions of values that are assigned to the name of a credential."""
    found = _ASSIGNED.search(text)
    while found is not None:
        value = _value_of(text, found)
        at = found.end()
        if value is not None:
            yield value.span()
            at = value.end()
            # A value may contain the name of another credential. In a connection string, the value of that credential may end
            # behind the first value.
            # Each name is checked once. Searching the value again for each name would take quadratic time.
            found = _ASSIGNED.search(text, found.end())
            while found is not None and found.start() < at:
                # A value without quotes ends at a quote or a space. If it ends with a name, the value of that name may follow.
                later = _value_of(text, found) if found.end() >= at else _connection_of(text, found)
                if later is not None and later.end() > at:
                    yield later.span()
                    at = later.end()
                found = _ASSIGNED.search(text, found.end())
        else:
            found = _ASSIGNED.search(text, at)


def _name_of(text: str, assigned: re.Match[str]) -> str:
    end = assigned.start() + 1
    return text[max(0, end - _LONGEST_NAME) : end].translate(_ALIKE).lower()


def _is_secret_name(name: str) -> bool:
    return name.replace("_", "").replace("-", "").endswith(_SECRET_NAMES)


def _connection_of(text: str, assigned: re.Match[str]) -> re.Match[str] | None:
    """The value that a connection string assigns to the name of a credential."""
    is_plain = assigned["quote"] is None and assigned["equals"] == "="
    if not is_plain or not _is_secret_name(_name_of(text, assigned)):
        return None
    return _CONNECTION_VALUE.match(text, assigned.end())


def _value_of(text: str, assigned: re.Match[str]) -> re.Match[str] | None:
    name = _name_of(text, assigned)
    if not name.endswith(_LAST_SYLLABLES):
        return None
    if _is_secret_name(name):
        return _connection_of(text, assigned) or _ASSIGNED_VALUE.match(text, assigned.end())
    word = next((word for word in _SECRET_WORDS if name.endswith(word)), None)
    # JSON quotes its names and uses a colon. Other formats use an equals sign.
    if word is None or (assigned["quote"] is None) is (assigned["equals"] is None):
        return None
    before = name[: -len(word)]
    is_word = before.endswith("3f") or not (before[-1:].isascii() and before[-1:].isalpha())
    return _ASSIGNED_VALUE.match(text, assigned.end()) if is_word else None
