"""CI and the pre-commit hooks use only the project's own commands and tools, and nothing from another host."""

from __future__ import annotations

import re

from tests.conftest import ROOT


def test_workflow_runs_only_our_commands() -> None:
    (workflow,) = (ROOT / ".github" / "workflows").iterdir()
    commands = re.findall(r"^\s*(?:- )?run: (.*)$", workflow.read_text(), re.MULTILINE)
    assert commands
    assert [command for command in commands if not re.fullmatch(r"make [a-z-]+|\.ci/run", command)] == []


def test_hooks_use_only_tools_of_the_checkout() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"- repo: (.*)", text) == ["local"]
    entries = re.findall(r"entry: (.*)", text)
    assert entries
    assert [entry for entry in entries if not entry.startswith(".venv/bin/")] == []
    assert text.count("language: system") == len(entries)


def test_hooks_run_the_same_commands_as_make_check() -> None:
    checks = (ROOT / "Makefile").read_text()
    for entry in re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text()):
        command = entry.replace(" --force-exclude", "").replace(".venv/bin/python", "$(RUN)")
        assert command.replace("ruff format", "ruff format --check") in checks
