"""The error texts of the troubleshooting page, inserted when the site is built.

`tests/golden/*.txt` holds the exact texts that tests compare with what a user sees. The page names a text by a block with
`{golden}` and the file's name without its suffix, and explains it in the lines after that. So a text is never copied by
hand. It is an error if the page names a file that does not exist, and if a file is on no page.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
COLUMNS = 110
"""Columns of the block on the page. The texts themselves have long lines."""


def wrapped(text: str) -> str:
    """A text with its long lines broken, so that a page shows all of it. Addresses and commands stay whole."""
    lines = []
    for line in text.rstrip("\n").split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        is_command = line.lstrip().startswith("az ")
        lines += (
            [line]
            if is_command
            else textwrap.wrap(line, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        )
    return "\n".join(lines)


def problems(named: list[str], there: list[str]) -> list[str]:
    """What is wrong with the page, one sentence each."""
    return [
        *(f"The page shows {name!r}, but tests/golden has no {name}.txt." for name in sorted({*named} - {*there})),
        *(
            f"tests/golden/{name}.txt has no entry. Add one to troubleshooting.md."
            for name in sorted({*there} - {*named})
        ),
        *(f"The page shows {name!r} twice." for name in sorted({n for n in named if named.count(n) > 1})),
    ]


class Golden(SphinxDirective):
    """Shows the golden text that its argument names."""

    required_arguments = 1
    has_content = False
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        path = GOLDEN / f"{self.arguments[0]}.txt"
        if not path.is_file():
            raise self.error(f"There is no {path}.")
        self.env.note_dependency(str(path))
        text = wrapped(path.read_text())
        block = nodes.literal_block(text, text, language="text")
        block["golden"] = self.arguments[0]
        return [block]


def _check(_app: Sphinx, env: Any) -> None:
    named = [
        block["golden"]
        for page in env.found_docs
        for block in env.get_doctree(page).findall(nodes.literal_block)
        if "golden" in block
    ]
    found = problems(named, [path.stem for path in GOLDEN.glob("*.txt")])
    if found:
        raise ExtensionError("\n".join(found))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("golden", Golden)
    app.connect("env-check-consistency", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
