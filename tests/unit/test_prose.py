"""The check of prose reports sentences that are hard to read, and reports nothing on our pages and in our modules."""

from __future__ import annotations

import pytest

from tests.support.prose import MODULES, MOST_WORDS, PAGES, ROOT, complaints, main, prose_of_markdown, prose_of_python


def test_our_pages_and_modules_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0, capsys.readouterr().out


def test_each_pattern_finds_files() -> None:
    assert [pattern for pattern in (*PAGES, *MODULES) if not list(ROOT.glob(pattern))] == []


@pytest.mark.parametrize(
    "text",
    [
        "The task is worker-less.",
        "Tasks without workers cannot do that.",
        "A look that fails says nothing about a run.",
        "Seconds between looks at the run.",
        "The run is looked for.",
        "It looks at a run.",
        "Airflow tells nobody.",
        "A trigger is told whether its try follows on a clear.",
        "The task fails, and says so.",
        "It fails, since its connection is wrong.",
        "Since the list lags, it is not believed.",
        "A retry goes on with the run.",
        "The run went on.",
        "See to it that an obsolete run ends.",
        "In place of the moment of a missed end: the list cannot be had, or is not to be had.",
        "The task starts anew.",
        "It mends what the linter can mend.",
        "Of these, what a template may use.",
        "As of the operator.",
        " ".join(["word"] * (MOST_WORDS + 1)) + ".",
    ],
)
def test_bad_prose_is_reported(text: str) -> None:
    assert list(complaints(text))


@pytest.mark.parametrize(
    "text",
    [
        "A failed status check gives no information about the run.",
        "The run continues, because its list lags.",
        "This has been so since 3.1.",
        "Look up the caller in the activity log.",
        "Wait for it as of now.",
        " ".join(["word"] * MOST_WORDS) + ".",
        "It has three parts: " + "one, " * 20 + "and this. " + "Two, " * 20 + "and that.",
    ],
)
def test_plain_prose_is_not_reported(text: str) -> None:
    assert list(complaints(text)) == []


def test_markdown_is_read_in_pieces_without_its_code() -> None:
    page = "# Head\n\nA `look` at it.\n\n```text\nthe look failed\n```\n\n- [one](a.md)\n- two\n\n"
    page += "| a | b |\n|---|---|\n| c | the look |\n"
    pieces = [piece.strip() for piece in prose_of_markdown(page) if piece.strip()]
    assert pieces == ["Head", "A code at it.", "one", "two", "a", "b", "c", "the look"]


def test_docstrings_and_comments_of_python_are_read() -> None:
    source = '"""Of a module."""\n\nx = 1  # since it is so\n# A comment\n# in two lines.\ny = "the look"\n'
    assert list(prose_of_python(source)) == ["Of a module.", "since it is so A comment in two lines."]


def test_drawings_of_docstrings_are_not_read_and_items_are_read_one_by_one() -> None:
    source = '"""Head.\n\n    the look --->  end\n\n- One item\n  in two lines.\n- Another.\n\n:param x: text.\n"""\n'
    assert list(prose_of_python(source)) == ["Head.", "One item\n  in two lines.", "Another.", " text."]
