"""Pages and links that concern files outside of docs/.

A page with the line `<!-- file: ../CHANGELOG.md -->` shows that file in place of the line. A link to a file of the project
outside of docs/ leads to the repository, if pyproject.toml names its address (`.ci/repository.py`), and is plain text
otherwise. A link to a file that does not exist is an error.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from repository import repository, with_links
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FILE = re.compile(r"^<!-- file: (\S+) -->$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def target_on_page(target: str, folder: Path, page: Path, address: str | None) -> str | None:
    """Where a link of the Markdown text in `folder` leads, once the text is on `page`; None for plain text."""
    if re.match(r"[a-z]+:|#", target):
        return target
    name, _, anchor = target.partition("#")
    path = Path(os.path.normpath(folder / name))
    if not path.exists():
        raise ExtensionError(f"{page.relative_to(ROOT)}: a link leads to {target}, which does not exist.")
    if path.is_relative_to(DOCS) or path.suffix in (".svg", ".png"):
        return os.path.relpath(path, page.parent) + (f"#{anchor}" if anchor else "")
    return None if address is None else f"{address}/blob/main/{path.relative_to(ROOT)}"


def shown(markdown: str, folder: Path, page: Path, address: str | None) -> str:
    """A Markdown text as `page` has it. Blocks of code stay as they are."""
    parts, end = [], 0
    for block in [*_CODE.finditer(markdown), None]:
        text = markdown[end : block.start() if block else None]
        parts.append(with_links(text, lambda target: target_on_page(target, folder, page, address)))
        if block is not None:
            parts.append(block[0])
            end = block.end()
    return "".join(parts)


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(docname))
    address = repository(ROOT)

    def file(match: re.Match[str]) -> str:
        path = page.parent / match[1]
        app.env.note_dependency(str(path))
        return shown(path.read_text(), path.parent, page, address)

    text = shown(source[0], page.parent, page, address)
    source[0] = _FILE.sub(file, text)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
