"""`python -m tests.support.prose`: finds sentences of the documentation and the code that are hard to read.

It knows long sentences, and words for which the project has a better one (docs/glossary.md). It reads Markdown pages, and the
docstrings and comments of the code. Code, drawings, and texts that are quoted as code, are not read.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = ("README.md", "CHANGELOG.md", ".github/*.md", "docs/**/*.md")
MODULES = ("airflow_adf_mi/**/*.py", "dags/*.py")
MOST_WORDS = 30
_DETERMINER = r"(?:a|an|the|each|every|one|this|that|no|first|last|next|single|failed|failing|our|its|of|by|two|these)"
WORDS = {
    r"\bworker-?less\b|\bwithout workers\b": "triggerer mode",
    rf"\b{_DETERMINER} looks?\b|\blooks (?:that|work|fail|begin|are|at|for)\b": "status check, poll",
    r"\blook(?:s|ed|ing)? (?:at|for) (?:a |the |its |their |each |every |earlier |lost )*runs?\b": "check, search for",
    r"\blooked (?:at|for)\b": "checked, searched for",
    r"\b(?:tell|tells|telling)\b": "report, record, notify",
    r"\bis told\b|\bare told\b|\btold (?:of|that)\b": "is notified, reported",
    r"\bsays? so\b|\bsaid (?:of|so)\b": "records it, reports it",
    r"(?:^|, )since (?:the|it|its|they|a|an|there|this|these|nobody|no|where|all|lists?|filters?|airflow)\b": "because",
    r"\bgo(?:es|ne|ing)? on(?: with)?\b|\bwent on\b": "continue, adopt",
    r"\bse(?:e|es|en) to (?:it|by)\b": "make sure, handle",
    r"\bto be had\b|\bin the midst\b|\banew\b|\bfor ever\b": "available, during, again, for ever",
    r"\bobsolete runs?\b": "superseded run",
    r"\bmend(?:s|ed|ing)?\b": "repair, fix",
    r"^(?:of|as of)\b": "begin with the subject",
}


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph, a list's item or a table's cell."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\**\s+", " ".join(text.split())) if part.strip()]


def complaints(text: str) -> Iterator[str]:
    """What is hard to read in a piece of prose."""
    for sentence in sentences(text):
        words = re.findall(r"[\w'./-]*\w[\w'./-]*", sentence)
        if len(words) > MOST_WORDS:
            yield f"{len(words)} words: {sentence}"
    for pattern, better in WORDS.items():
        for match in re.finditer(pattern, " ".join(text.split()), re.IGNORECASE):
            yield f"{match[0]!r} (rather: {better}): {text.strip()[:100]}"


def prose_of_markdown(text: str) -> Iterator[str]:
    """The pieces of prose of a page: no code, and of links their texts."""
    text = re.sub(r"^(`{3,}).*?^\1$|^<!--.*?-->$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`]+`", "code", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )|\n(?=[|#])", text):
        if block.lstrip().startswith("|"):
            yield from (cell for cell in block.split("|") if cell.strip(" -\n"))
        else:
            yield re.sub(r"^\s*(?:[-*#]+|\d+\.|:)\s+", "", block).replace("*", "")


def prose_of_python(source: str) -> Iterator[str]:
    """The docstrings and comments of a module. Indented blocks of docstrings are drawings, and are not read."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for block in re.split(r"\n\s*\n|\n(?=:\w+ \w+:|- )", inspect.cleandoc(node.value.value)):
                if not all(line.startswith("    ") for line in block.splitlines()):  # a drawing, table or example
                    yield re.sub(r"`+[^`]+`+", "code", re.sub(r"^(?::\w+ \w+:|- )", "", block))
    comments = [
        token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT
    ]
    lines = {token.start[0]: token.string.lstrip("# ") for token in comments}
    for number in sorted(lines):
        if number - 1 not in lines:
            end = next(n for n in range(number, number + len(lines) + 1) if n not in lines)
            yield re.sub(r"`[^`]+`", "code", " ".join(lines[n] for n in range(number, end)))


def main() -> int:
    """Print what is hard to read; 1 if there is anything."""
    found = [
        f"{path.relative_to(ROOT)}: {complaint}"
        for patterns, prose_of in ((PAGES, prose_of_markdown), (MODULES, prose_of_python))
        for pattern in patterns
        for path in sorted(ROOT.glob(pattern))
        if "_build" not in path.parts
        for piece in prose_of(path.read_text())
        for complaint in complaints(piece)
    ]
    print("\n".join(found) or "Prose: nothing to complain of.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
