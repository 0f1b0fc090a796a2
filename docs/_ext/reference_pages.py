"""What the reference needs beside autodoc.

- `command-help` shows the help of a command.
- A reference to a public name without its module, as docstrings have it, leads to that name.
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import airflow_adf_mi

COMMANDS = {
    "airflow-adf-mi": ("airflow_adf_mi.cli", "_cli"),
    "adf-emulator": ("airflow_adf_mi.emulator.__main__", "main"),
}


def help_of(words: list[str]) -> str:
    """What `words --help` prints."""
    module, name = COMMANDS[words[0]]
    command: Any = getattr(importlib.import_module(module), name)
    context = click.Context(command, info_name=words[0], max_content_width=100, terminal_width=100)
    for word in words[1:]:
        command = command.commands[word]
        context = click.Context(command, info_name=word, parent=context)
    return str(command.get_help(context))


class CommandHelp(SphinxDirective):
    """Shows a command and its help."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        text = help_of(self.arguments[0].split())
        return [nodes.literal_block(text, text, language="text")]


def _public_name(app: Sphinx, env: Any, node: Any, contents: Any) -> Any:
    target = node.get("reftarget", "")
    name = target.partition(".")[0]
    if node.get("refdomain") != "py" or name not in airflow_adf_mi.__all__:
        return None
    full = f"{getattr(airflow_adf_mi, name).__module__}.{target}"
    python = env.domains["py"]
    return python.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], full, node, contents)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("missing-reference", _public_name)
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
