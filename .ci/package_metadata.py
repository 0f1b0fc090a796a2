"""Completes the package's metadata when hatchling builds it: the URLs, and a README without relative links."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class PackageMetadata(MetadataHookInterface):  # type: ignore[misc]  # hatchling is not there when types are checked
    """What hatchling calls, as `[tool.hatch.metadata.hooks.custom]` of pyproject.toml says."""

    def update(self, metadata: dict[str, Any]) -> None:
        root = Path(self.root)
        # Hatchling runs this file by its path, so an import would not find the one beside it.
        functions = runpy.run_path(str(Path(__file__).with_name("repository.py")))
        address = functions["repository"](root)
        readme = functions["readme_for_index"]((root / "README.md").read_text(), address)
        metadata["urls"] = functions["urls"](address)
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}
