"""One place names the address of the repository. Everything that uses it works with and without an address."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import metadata
from pathlib import Path

import pytest

from tests.conftest import ROOT

ADDRESS = "https://git.example/team/airflow-adf-mi"
README = (ROOT / "README.md").read_text()


@pytest.fixture(autouse=True)
def _ci_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))


def project(folder: Path, line: str) -> Path:
    (folder / "pyproject.toml").write_text(f"[tool.airflow-adf-mi]\n{line}\n")
    return folder


def links(markdown: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", re.sub(r"```.*?```", "", markdown, flags=re.DOTALL))


def test_no_other_file_contains_the_address_of_this_project() -> None:
    from repository import repository

    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not files:
        pytest.skip("not a checkout")
    address = repository(ROOT)
    found = []
    for name in files.split("\0"):
        path = ROOT / name
        if path.suffix in (".md", ".py", ".toml", ".yml", ".yaml", ".json", ".txt") and path.is_file():
            text = path.read_text()
            named = re.findall(r"https?://[^\s\"'`)>]*airflow[-_]adf[-_]mi[^\s\"'`)>]*", text)
            found += [f"{name}: {each}" for each in named if each.rstrip("/") != ADDRESS]
            if address and address in text and name != "pyproject.toml":
                found.append(f"{name}: {address}")
    if address:
        found = [each for each in found if not each.startswith("pyproject.toml: ")]
    assert found == []


def test_address_is_read_from_pyproject(tmp_path: Path) -> None:
    from repository import repository

    assert repository(project(tmp_path, 'repository = ""')) is None
    assert repository(project(tmp_path, f'repository = "{ADDRESS}/"')) == ADDRESS
    for wrong in ("http://git.example/team/x", "git.example/team/x", "https://git.example"):
        with pytest.raises(ValueError, match="must be an address"):
            repository(project(tmp_path, f'repository = "{wrong}"'))


def test_readme_of_a_package_index_has_no_relative_link() -> None:
    from repository import readme_for_index

    relative = [link for link in links(README) if not link.startswith("http")]
    assert len(relative) > 10
    assert [link for link in relative if not (ROOT / link.partition("#")[0]).exists()] == []
    assert links(readme_for_index(README, None)) == [link for link in links(README) if link.startswith("http")]
    with_address = links(readme_for_index(README, ADDRESS))
    assert len(with_address) == len(links(README))
    assert all(link.startswith("https://") for link in with_address)
    assert f"{ADDRESS}/blob/main/docs/starting-once.md" in with_address


def test_pictures_are_left_out_without_an_address() -> None:
    from repository import readme_for_index

    picture = "Before ![a graph](docs/demo.png) after."
    assert readme_for_index(picture, None) == "Before  after."
    assert f"]({ADDRESS}/blob/main/docs/demo.png)" in readme_for_index(picture, ADDRESS)


def test_package_has_urls_only_with_an_address() -> None:
    from repository import urls

    assert urls(None) == {}
    assert all(url.startswith(ADDRESS) for url in urls(ADDRESS).values())
    assert {"Repository", "Documentation", "Changelog", "Issues"} == set(urls(ADDRESS))


def test_installed_package_has_these_urls_and_no_relative_links() -> None:
    """This is what pip and a package index show, so the build uses the address."""
    from repository import repository, urls

    installed = metadata("airflow-adf-mi")
    named = dict(url.split(", ", 1) for url in installed.get_all("Project-URL") or [])
    assert named == urls(repository(ROOT))
    text = str(installed.get_payload() or installed.get("Description"))  # type: ignore[attr-defined]  # a message
    assert "# airflow-adf-mi" in text
    assert [link for link in links(text) if not link.startswith("https://")] == []
