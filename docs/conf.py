"""How Sphinx builds the documentation site: `make docs`, into docs/_build/html.

The site is built offline. A request to another host during the build is an error, and so is a page that loads anything
from another host (`_ext/html_check.py`). Warnings are errors.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "_ext"), str(ROOT / ".ci")]
# Airflow writes a configuration file there when it is imported.
os.environ.setdefault("AIRFLOW_HOME", str(ROOT / ".airflow"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")


def _no_network(_socket: socket.socket, address: object) -> None:
    raise OSError(f"The documentation is built offline, but something connects to {address!r}.")


socket.socket.connect = _no_network  # type: ignore[assignment, method-assign]

import airflow_adf_mi  # noqa: E402  after the path is set

project = "airflow-adf-mi"
author = "the authors of airflow-adf-mi"
copyright = author  # noqa: A001  Sphinx's name
version = release = airflow_adf_mi.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "golden_errors", "outside_files", "reference_pages", "html_check"]
exclude_patterns = ["_build", "_ext"]
myst_heading_anchors = 4
myst_enable_extensions = ["deflist", "fieldlist"]
suppress_warnings: list[str] = []

html_theme = "furo"
html_title = f"airflow-adf-mi {version}"
html_copy_source = False
html_show_sourcelink = False
pygments_style = "default"

# Docstrings mark code by single backticks.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# Defaults as the code has them, rather than their values on the machine that builds the site.
autodoc_preserve_defaults = True
# A reference to a public name of ours must lead somewhere. Internals have no page here, nor have Airflow, Azure and Python.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!airflow_adf_mi).*|airflow_adf_mi\.adf\..*")]
