"""Masking cuts a text before it searches it, shows no part of a secret at the cut, and is fast for hostile texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_adf_mi.adf.models import ActivityRun
from airflow_adf_mi.adf.redaction import MASKING_OVERLAP_CHARACTERS, cap, names_secret, redact, shown
from tests.support.planted_secrets import SECRETS

FRAGMENTS = [
    # The parts of the patterns, alone and as the beginning of a match.
    *(
        "code=",
        "&code=",
        "code=1",
        "eyJ",
        "-eyJ",
        "eyJ.",
        "eyJaaaaa.",
        "a.eyJ",
        "eyJaaaaaaaaaaaaaaaaaaaaaa",
        "Bearer ",
        "Bearer+",
    ),
    *(
        "authorization:",
        "authorization: a ",
        "authorization=b",
        "basic ",
        "://",
        "://:",
        "://a:",
        "://1:1",
        "://a:b@",
        "@",
    ),
    *(
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "<",
        "<a:",
        "<Password>",
        'name":"',
        'name":"password",',
        '"value":',
    ),
    *(
        "pwd",
        "pwd ",
        "pwd=",
        "pwd=a",
        "pwd=a;",
        'pwd:"',
        "pwd='",
        'pwd="\\',
        "pwd={ ",
        "pwd={}",
        "pwd=[",
        "pwd=\\",
        "pwd=%25",
    ),
    *(
        "client secret=",
        "x-functions-key:",
        "token=\\u00",
        "secret ",
        '\\"pwd=',
        'pwd=\\\\"a\\',
        "\\",
        "\\u003d",
        "%25",
        "%2526",
    ),
    *(
        "pass",
        "key",
        "content",
        "sig",
        "tokentoken",
        "'",
        '"',
        "''",
        " ",
        "\n",
        "=",
        ":",
        "a",
        "A ",
        "1",
        "{",
        "[",
        ";",
    ),
]


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_hostile_text_is_masked_in_linear_time(fragment: str) -> None:
    """This takes about 0.1 s. A pattern whose time grows with the square of the length would exceed the timeout of all tests."""
    text = fragment * (300_000 // len(fragment))
    assert len(redact(text)) <= 2 * len(text)


@pytest.mark.parametrize("end", ["u0022", "u0027", '"', "'"])
def test_hostile_quotes_are_masked_in_linear_time(end: str) -> None:
    """A quote in JSON within JSON has more backslashes at each level."""
    text = "password:" + "\\" * 100_000 + end + "\\" * 100_000
    assert len(redact(text)) <= 2 * len(text)


@given(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=3).map("".join), st.integers(1, 200))
def test_hostile_text_is_cut_before_it_is_searched(fragment: str, limit: int) -> None:
    """The shown text depends only on the text up to shortly behind the cut."""
    text = fragment * (20_000 // len(fragment)) + " !"
    seen = text[: limit + MASKING_OVERLAP_CHARACTERS]
    assert shown(text, limit).partition("… (")[0] == shown(seen, limit).partition("… (")[0]
    assert shown(text, limit).endswith(f"… ({len(text) - limit} more characters)")


class Whole(str):
    """A text that must be cut before it is searched. Its slices are ordinary texts."""

    __slots__ = ()

    def __contains__(self, part: object) -> bool:
        raise AssertionError(f"the whole text was searched for {part!r}")


def test_long_text_is_not_searched_as_a_whole() -> None:
    assert shown(Whole("password=a; " * 10_000), 20).startswith("password=***; ")


def test_message_of_a_megabyte_is_cut_when_it_is_read() -> None:
    row = ActivityRun.from_wire({"error": {"message": "password=a;" * 100_000}})
    assert row.error_message is not None
    assert row.error_message.startswith("password=***;password=***;")
    assert len(row.error_message) < 3000


@pytest.mark.parametrize(("text", "secret"), SECRETS)
@pytest.mark.parametrize("times", [1, 20, 500, 2000])
def test_no_part_of_a_secret_at_the_cut_is_shown(text: str, secret: str, times: int) -> None:
    # The search for the end of a password in a connection string, or in an address, is bounded.
    is_bounded = "=" in text or "://" in text
    long = text.replace(secret, secret * (min(times, 60) if is_bounded else times))
    begin = long.index("HUSH") if secret != "eyJhdWQiOiJ" else long.index("eyJ")
    for limit in {1, begin + 1, begin + 4, begin + 9, begin + 2000, len(long) - 1}:
        if limit < len(long):
            visible = shown(long, limit)
            assert "HU" not in visible
            assert "eyJ" not in visible


@given(st.text(max_size=60), st.integers(0, 60))
def test_text_without_a_secret_is_only_cut(text: str, limit: int) -> None:
    if redact(text) == text:
        assert shown(text, limit) == cap(text, limit)


# Simple patterns, whose time grows with the square of a text's length.
SIMPLE_TOKEN = re.compile(r"(?:(?<![A-Za-z0-9])eyJ[\w-]{5,}\.|eyJ[\w-]{5,}\.(?=eyJ))[\w-]{5,}\.[\w-]*", re.ASCII)
SIMPLE_CODE = re.compile(r"(?i)(?P<head>[?&]code=|(?<![A-Za-z])code=(?=[^\s&;\"']*\d)(?=[^\s&;\"']{16}))[^\s&;\"'\\]+")
SIMPLE_ADDRESS = re.compile(r"(?P<head>://[^\s/:@\"']*:)(?!\d+[/?#])[^\s\"']{1,500}(?=@)")


@given(st.lists(st.sampled_from(["eyJ", "eyJhbGciOi", "abcde", "a", "1", ".", "-", "_", "é", " ", "\n"]), max_size=30))
def test_tokens_are_masked_as_by_a_simple_pattern(pieces: list[str]) -> None:
    # A text that ends in a token may have been cut there.
    text = "".join(pieces) + " !"
    assert redact(text) == SIMPLE_TOKEN.sub("***", text)


@given(
    st.lists(st.sampled_from(["code=", "Code=", "&", "?", "a", "abcdefgh", "1", ";", "'", "\\", "x", " "]), max_size=30)
)
def test_keys_of_functions_are_masked_as_by_a_simple_pattern(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert redact(text) == SIMPLE_CODE.sub(r"\g<head>***", text)


@given(st.lists(st.sampled_from(["://", "user", ":", "@", "p", "8080", "/", "?", " ", "host"]), max_size=30))
def test_passwords_of_addresses_are_masked_as_by_a_simple_pattern(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert redact(text) == SIMPLE_ADDRESS.sub(r"\g<head>***", text)


@pytest.mark.parametrize(
    "text",
    [
        "no token eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3",
        "no token eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.",
        "no token eyJhbGciOiJIUzI1NiIsInR5",
    ],
)
def test_token_that_was_cut_by_the_service_is_masked(text: str) -> None:
    assert redact(text) == "no token ***"


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        *(
            (name, True)
            for name in ("password", "DbPassword", "client_secret", "accessToken", "x-functions-key", "secret", "token")
        ),
        *(
            (name, True)
            for name in ("api-key", "privateKeyContent", "sharedAccessSignature", "sig", "sasToken", "my_token")
        ),
        *(
            (name, False)
            for name in ("primaryKeys", "partitionKey", "foreign key", "tokens", "Mytoken", "design", "secretary", "")
        ),
    ],
)
def test_name_of_a_member_names_a_secret(name: str, is_secret: bool) -> None:
    assert names_secret(name) is is_secret


VALUES = st.text(st.sampled_from("abc,|} .-_/"), min_size=1, max_size=30)
ASSIGNMENTS = st.lists(
    st.tuples(
        st.sampled_from(("AccountKey", "clientSecret", "Password", "sig", "secret", "Server", "x")),
        st.sampled_from(("=", " = ", "= ")),
        VALUES,
        st.sampled_from((";", "&", ",", " ")),
    ),
    min_size=1,
    max_size=4,
)
CONNECTION = re.compile(
    r"(?i:AccountKey|clientSecret|Password)[ \t]*=[ \t]*(?![\"'{\\\s])(?P<value>[^;\r\n\"=]+={0,2})(?=;)"
)
"""A name in a connection string, and everything up to the semicolon."""


@given(ASSIGNMENTS)
@example([("AccountKey", "=", "abc", ","), ("clientSecret", " = ", "topsecret", ";")])
@example([("sig", "=", "abc", ","), ("AccountKey", " = ", "xyz==", ";")])
@example([("secret", "=", "abc", ","), ("Password", "=", "my pass word", ";")])
def test_value_of_a_connection_string_is_masked_wherever_its_name_is(
    assignments: list[tuple[str, str, str, str]],
) -> None:
    """The name may also seem to be inside of another value."""
    text = "".join(f"{name}{equals}{value}{end}" for name, equals, value, end in assignments)
    marked = text
    for match in reversed(list(CONNECTION.finditer(text))):
        # The letters of a value are replaced by a letter that occurs nowhere else.
        begin, end = match.span("value")
        marked = marked[:begin] + re.sub(r"[a-z]", "Z", marked[begin:end]) + marked[end:]
    assert "Z" not in redact(marked)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("AccountKey=abc,clientSecret='top secret' x", "AccountKey=*** x"),
        ('sig=abc,Password="top secret" x', "sig=*** x"),
        ("sig=abc,AccountKey = xyz x", "sig=*** = *** x"),
        ("pwd=a,pwd=b,pwd='c d' x", "pwd=*** x"),
    ],
)
def test_quoted_value_behind_a_bare_value_is_masked(text: str, masked: str) -> None:
    assert redact(text) == masked


def test_long_value_of_a_connection_string_is_masked_to_its_end() -> None:
    assert redact("pwd=" + "a b" * 600 + ";x") == "pwd=***;x"


@pytest.mark.parametrize("second", range(12))
def test_token_that_is_cut_in_its_second_part_is_masked(second: int) -> None:
    text = "x " * 750 + "eyJ" + "a" * (2048 + 2000 - 1500 - 3 - 1 - second) + ".bbbbbbbbbbbb.cccccccc"
    assert "eyJ" not in shown(text)


@pytest.mark.parametrize("text", ["pa\u017f\u017fword=hush1", "pr\u0130vate_key=hush1"])
def test_similar_letters_name_a_secret_too(text: str) -> None:
    assert "hush1" not in redact(text)


def test_codes_of_an_activitys_error_are_masked() -> None:
    error = {
        "errorCode": "password=hush1",
        "failureType": "token=hush2",
        "message": "m",
        "details": [{"code": "pwd=hush3", "message": "n"}],
    }
    run = ActivityRun.from_wire({"activityName": "A", "status": "Failed", "error": error})
    assert "hush" not in f"{run.error_code} {run.failure_type} {run.error_message}"
