"""The address of the project's repository: the build of the package and the documentation site read it here.

The one place that names it is `repository` in `[tool.airflow-adf-mi]` of pyproject.toml. It is empty until the project has a
public address. Until then the package has no URLs, and a link to a file of the project is plain text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")


def repository(root: Path) -> str | None:
    """The address without a slash at its end; None while there is none. Raises `ValueError` for what is no address."""
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["airflow-adf-mi"]
    address = str(settings["repository"]).rstrip("/")
    if not address:
        return None
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.netloc or not parts.path:
        raise ValueError(f"repository is {address!r}; it must be an address such as https://HOST/OWNER/NAME.")
    return address


def urls(address: str | None) -> dict[str, str]:
    """The package's URLs, as `[project.urls]` would have them."""
    if address is None:
        return {}
    return {
        "Repository": address,
        "Documentation": f"{address}/tree/main/docs",
        "Changelog": f"{address}/blob/main/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }


def with_links(markdown: str, target: Callable[[str], str | None]) -> str:
    """A Markdown text with other targets of its links and pictures.

    :param target: the new target; None leaves the text of a link without a link, and leaves a picture out.
    """

    def replaced(match: re.Match[str]) -> str:
        is_picture, text, old = match.groups()
        new = target(old)
        if new is None:
            return "" if is_picture else text
        return f"{is_picture}[{text}]({new})"

    return _LINK.sub(replaced, markdown)


def readme_for_index(markdown: str, address: str | None) -> str:
    """The README as a package index shows it: there, a relative link would lead nowhere."""

    def absolute(target: str) -> str | None:
        if target.startswith(("https://", "http://", "#")):
            return target
        return None if address is None else f"{address}/blob/main/{target}"

    return with_links(markdown, absolute)
