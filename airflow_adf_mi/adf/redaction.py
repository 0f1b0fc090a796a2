"""Masks credentials in text that comes from a service, before it reaches a log, an exception or an XCom.

Messages of failed activities quote what the activity's own target answered, and that may include a SAS URL or a
connection string, often as JSON within JSON or encoded for a URL.

This runs on the triggerer's event loop, and the service decides how long a text is. So `shown` cuts a text before it
searches, and the search itself takes time in proportion to the text, whatever is in it. No pattern may begin in many places and
read on from each of them to the same far end: its repeats are possessive (`++`), bounded, or cannot contain its own beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

_MASK = "***"
OVERLAP = 2048
"""Characters that `shown` searches behind its cut: more than any pattern needs to recognize a credential by what follows it."""

# A hyphen stands where a name may have a hyphen, an underscore or nothing; a space, where it may have a space, too.
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
"""Words that name a secret only where something is assigned to them."""


def _pattern(names: tuple[str, ...]) -> str:
    return "|".join(name.replace("-", "[_-]?").replace(" ", "[ _-]?") for name in names)


NAMES = f"{_pattern(_NAMES)}|(?:{_pattern(_KEYS)})(?:content)?"
"""What names a secret wherever it stands, also as the end of a longer name."""

# As JSON within JSON writes it, as .NET does, and as an encoded URL.
_ENCODED_QUOTE = r"\\+u002[27]|%(?:25)*2[27]"
_QUOTE = rf"(?:\\*[\"']|{_ENCODED_QUOTE})"
_COLON = r"(?::|%(?:25)*3A|\\+u003a)"
_EQUALS = r"(?:=|%(?:25)*3D|\\+u003d)"
_VALUE = (
    # Quoted within quoted text: to the next quote with as many backslashes.
    r"(?:(?P<quote>\\+[\"']).*?(?:(?<!\\)(?P=quote)|$)"
    rf"|(?P<encoded>{_ENCODED_QUOTE}).*?(?:(?<!\\)(?P=encoded)|$)"
    # Connection strings double a quote that belongs to the value.
    r"|\"[^\"\\]*+(?:(?:\\.|\"\")[^\"\\]*+)*+(?:\"|\\?$)|'[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*+(?:'|\\?$)"
    # JSON that holds the secret deeper; and ODBC.
    r"|\{(?=\s*\\*[\"'])[^}]*+(?:\}|$)|\{[^}]*+(?:\}\}[^}]*+)*+(?:\}|$)|\[[^\]]*+(?:\]|$)"
    # Bare; the next parameter of a URL begins with &, which may be encoded.
    r"|(?:[^\s;&\"'\\%]++|%(?!(?:25)*26)|\\+u00(?!2[267])[0-9a-f]{2}|\\(?![\"'nrtu\\]|$))++)"
)

# The last two letters of what may be a name below, and what assigns to it. A pattern that begins with a set of letters is
# searched for much faster than one that ignores case throughout.
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
# Letters that a pattern takes for i and s where it ignores case, and `lower` does not.
_ALIKE = str.maketrans("\u0130\u0131\u017f", "iis")
_ASSIGNED_VALUE = re.compile(_VALUE, re.IGNORECASE | re.DOTALL)
# Of a connection string all up to its semicolon, whatever is in it.
_CONNECTION_VALUE = re.compile(r"(?![\"'{\\\s])[^;\r\n\"=]{1,1900}+={0,2}(?=;)")

_PATTERNS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?P<secret>.*?(?=-----END|$))", re.DOTALL),
    # A pair of a name and a value, as headers and parameters are written.
    re.compile(
        rf"name{_QUOTE}\s*{_COLON}\s*{_QUOTE}[\w.-]*(?:{NAMES}|secret|token|authorization){_QUOTE}\s*,"
        rf"\s*{_QUOTE}value{_QUOTE}\s*{_COLON}\s*(?P<secret>{_VALUE})",
        re.IGNORECASE | re.DOTALL,
    ),
    re.compile(rf"<[\w:]*(?:{NAMES})>(?P<secret>[^<]+)", re.IGNORECASE),
    # The key of a function app. Other codes are shorter, or words: without a digit in 128 characters, if they have as many.
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
    # A password in an address, between the user's name and the host, which may hold an @ itself. Digits before a path are a port.
    re.compile(
        r"://[^\s/:@\"']*+:(?!\d+[/?#])(?P<secret>[^\s\"'@]{0,500}+(?:@[^\s\"'@]{0,500}+)*(?=@))",
    ),
)
# JSON web tokens: three parts with dots between them. The first part, and often the second, begins with the code of a brace.
# At the end of a text, which may have been cut, a part of a token is enough. "eyJ" may stand in a run of letters many times, so
# each run is first checked for what makes it a token.
_TOKENS = (
    r"(?=[\w-]*+\.[\w-]{5,}+(?:\.|\Z))(?:[\w-]*?[_-])??(?P<secret>eyJ[\w-]{5,}+\.[\w-]{5,}+(?:\.[\w-]*+|\Z))",
    r"(?=[\w-]*+\.eyJ[\w-]{2,}+(?:\.|\Z))[\w-]*?(?P<secret>eyJ[\w-]{5,}+\.[\w-]++(?:\.[\w-]*+|\Z))",
    r"(?=[\w-]{19,}+(?:\.[\w-]{0,4})?\Z)[\w-]*?(?P<secret>eyJ[\w-]{16,}+(?:\.[\w-]{0,4})?\Z)",
)
_TOKEN_PATTERNS = tuple(re.compile(rf"(?<![\w-]){token}", re.ASCII) for token in _TOKENS)

_Span = tuple[int, int]


def redact(text: str) -> str:
    """`text` with the values of anything that looks like a credential replaced by `***`."""
    return _masked(text, len(text))


def shown(text: str, limit: int = 2000) -> str:
    """The first `limit` characters of `text` without credentials, and how many are missing: for foreign text of any length."""
    if len(text) <= limit:
        return redact(text)
    return _masked(text[: limit + OVERLAP], limit) + _missing(len(text) - limit)


def cap(text: str, limit: int = 2000) -> str:
    """`text`, cut to `limit` characters with a note of how much is missing: foreign text must not flood a log."""
    return text if len(text) <= limit else text[:limit] + _missing(len(text) - limit)


@lru_cache(maxsize=1000)
def names_secret(name: str) -> bool:
    """Whether a member of this name holds a credential."""
    member = f'"{name}": "x"'
    return redact(member) != member


def _missing(number: int) -> str:
    return f"… ({number} more characters)"


def _masked(text: str, end: int) -> str:
    """`text` up to `end`, without the credentials that begin there."""
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
    """Where credentials stand."""
    yield from _assigned(text)
    for pattern in _PATTERNS:
        yield from (match.span("secret") for match in pattern.finditer(text))
    if "eyJ" in text:
        for pattern in _TOKEN_PATTERNS:
            yield from (match.span("secret") for match in pattern.finditer(text))


def _assigned(text: str) -> Iterator[_Span]:
    """The values that are assigned to a name of a credential."""
    found = _ASSIGNED.search(text)
    while found is not None:
        value = _value_of(text, found)
        at = found.end()
        if value is not None:
            yield value.span()
            at = value.end()
            # A value may hold another name, to which a connection string assigns a value that ends behind the first one. Each
            # name is looked at once: to search the value again and again would take the square of its length.
            found = _ASSIGNED.search(text, found.end())
            while found is not None and found.start() < at:
                # A bare value ends at a quote or a space, which may belong to what the last name in it assigns.
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
    """The value that a connection string assigns to a name of a credential."""
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
    # JSON quotes its names and writes a colon; elsewhere it is an equals sign.
    if word is None or (assigned["quote"] is None) is (assigned["equals"] is None):
        return None
    before = name[: -len(word)]
    is_word = before.endswith("3f") or not (before[-1:].isascii() and before[-1:].isalpha())
    return _ASSIGNED_VALUE.match(text, assigned.end()) if is_word else None
