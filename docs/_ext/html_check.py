"""Checks the pages that were built: what they load, and where their links lead.

A page may load nothing from another host. A link within the site must lead to a file and, if it names one, to an anchor in
it. Links to other hosts are not followed. They are listed in `external-links.txt` beside the pages, with the pages that have
them.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

LIST = "external-links.txt"
_LOADED_BY_CSS = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])(?=https?:|//)")
# What a browser does not load, though it has an address.
_ONLY_NAMED = {"canonical", "license", "author", "next", "prev", "index", "search"}


class Page(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.styles: set[str] = set()
        """Styles that load from another host."""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        elif tag == "link" and not {*given.get("rel", "").split()} & _ONLY_NAMED:
            self.loaded.add(given.get("href", ""))
        elif tag != "a":
            self.loaded |= {given[name] for name in ("src", "srcset", "data", "poster") if name in given}
        if _LOADED_BY_CSS.search(given.get("style", "")):
            self.styles.add(given["style"])


def is_elsewhere(address: str) -> bool:
    """Whether an address names another host."""
    return bool(urlsplit(address).netloc) or address.startswith("//")


def check(folder: Path) -> tuple[list[str], dict[str, set[str]]]:
    """What is wrong with the site in `folder`; and the links to other hosts, each with its pages."""
    pages = {path: Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    problems: list[str] = []
    elsewhere: dict[str, set[str]] = defaultdict(set)
    for path, page in pages.items():
        name = str(path.relative_to(folder))
        problems += [f"{name} loads {address}" for address in sorted(page.loaded) if is_elsewhere(address)]
        problems += [f"{name} loads by its style {style}" for style in sorted(page.styles)]
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                elsewhere[link].add(name)
                continue
            target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            if not target.is_file():
                problems.append(f"{name} has a link to {link}, which does not exist")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                problems.append(f"{name} has a link to {link}, and there is no such anchor")
    for path in sorted(folder.rglob("*.css")):
        if _LOADED_BY_CSS.search(path.read_text()):
            problems.append(f"{path.relative_to(folder)} loads from another host")
    return problems, elsewhere


def _check(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    problems, elsewhere = check(folder)
    lines = [f"{link}  ({', '.join(sorted(pages))})" for link, pages in sorted(elsewhere.items())]
    (folder / LIST).write_text("\n".join(lines) + "\n")
    if problems:
        raise ExtensionError("\n".join(problems))
    print(f"{len(lines)} links to other hosts, which are not followed: {folder / LIST}")  # noqa: T201  it is a report


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
