"""The documentation is true: every command is in it, every README block runs, every link leads somewhere."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.cluster import Cluster, wait_for

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "examples").glob("*.md"),
    ]
)


def test_the_list_of_commands_is_what_the_commands_say() -> None:
    # In a process of its own: click remembers a command's help from how other tests called it.
    script = [sys.executable, str(ROOT / "scripts" / "commands.py")]
    page = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    written = (ROOT / "docs" / "commands.md").read_text()
    assert written == page, "run: .venv/bin/python scripts/commands.py > docs/commands.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def console_blocks(page: Path) -> Iterator[list[str]]:
    """The commands of each `console` block."""
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        yield [line[2:].split("  #")[0].strip() for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.e2e
@pytest.mark.parametrize("page", ["README.md", "docs/admin.md"])
def test_blocks_run_as_they_are_printed(page: str, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    ran = 0
    try:
        for commands in console_blocks(ROOT / page):
            for command in commands:
                words = shlex.split(command)
                if words[0] == "make":  # this test is part of one of them
                    continue
                if words[0] == "export":
                    assert words[1].endswith("/.local/state/drakit/kubeconfig")
                elif words[0] == "dra":
                    cluster.dra(*words[1:])
                else:
                    assert words[0] == "kubectl"
                    arguments = [word.replace("examples/", "") for word in words[1:]]
                    printed = cluster.kubectl(*arguments)
                    if words[1] == "logs":
                        wait_for(lambda arguments=arguments: cluster.kubectl(*arguments), "output")
                    elif words[1] == "get":
                        assert printed
                ran += 1
    finally:
        cluster.down()
    assert ran > 3


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_manifests_with_a_first_line_that_says_what_for(path: Path) -> None:
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    assert all({"apiVersion", "kind", "metadata"} <= document.keys() for document in documents)
    assert path.read_text().startswith("# ") or path.name == "00-class.yaml"


def test_the_data_flow_page_names_modules_that_exist() -> None:
    page = (ROOT / "docs" / "dataflow.md").read_text()
    rooms = "apiserver|allocator|client|controllers|scheduler|node|driver|drivers|store"
    named = set(re.findall(rf"(?<![\w./])(?:{rooms})\.(\w+)(?:\.(\w+))?(?:\.(\w+))?", page))
    assert len(named) > 20
    for match in re.finditer(rf"(?<![\w./])((?:{rooms})(?:\.\w+)+)", page):
        _resolve(match[1])


def _resolve(dotted: str) -> None:
    """Import the module part of `drakit.DOTTED` and find the rest as attributes."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module("drakit." + ".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return
    raise AssertionError(f"there is no drakit.{dotted}")
