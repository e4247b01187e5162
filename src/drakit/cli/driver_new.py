"""`dra driver new`: the files of a new driver."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

import click

import drakit
from drakit.errors import UsageError

_NAME = re.compile(r"([a-z]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+")
_MAX_NAME = 63
_MAX_LABEL = 40
_FILES = (
    "driver.py",
    "test_driver.py",
    "example.yaml",
    "Containerfile",
    "README.md",
    "chart/Chart.yaml",
    "chart/values.yaml",
    "chart/templates/_helpers.tpl",
    "chart/templates/admissionpolicy.yaml",
    "chart/templates/daemonset.yaml",
    "chart/templates/deviceclass.yaml",
    "chart/templates/rbac.yaml",
)


@click.command("new")
@click.argument("name", metavar="NAME")
@click.option("--folder", type=click.Path(path_type=Path), help="Default: the first word of the name.")
def command(name: str, folder: Path | None) -> None:
    """Write a new driver called NAME, a domain: code, tests, an example, Containerfile and Helm chart.

    It runs at once, and passes `dra driver test`.

    \b
    dra driver new lamp.example.com
    """
    label = name.partition(".")[0]
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME or len(label) > _MAX_LABEL:
        raise UsageError(
            f"{name!r} cannot be the name of a driver: take a domain like lamp.example.com, of at most"
            f" {_MAX_NAME} characters, {_MAX_LABEL} of them before the first dot"
        )
    target = folder or Path(label)
    if target.exists():
        raise UsageError(f"{target} exists already: choose another --folder")
    words = {
        "name": name,
        "label": label,
        "class_name": "".join(part.capitalize() for part in label.split("-")) + "Driver",
        "variable": label.replace("-", "_").upper(),
        "drakit": drakit.__version__,
    }
    templates = resources.files("drakit.cli") / "project"
    contents = {
        file: Template(templates.joinpath(f"{file}.txt").read_text()).substitute(words) for file in _FILES
    }
    try:
        target.mkdir(parents=True)
        for file, text in contents.items():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            (target / file).write_text(text)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}") from None
    click.echo(f"{target} has the driver {name}: start with {target / 'README.md'}")
