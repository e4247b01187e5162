"""`dra driver` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from drakit.cli.driver import command
from drakit.drivers import NAMES
from drakit.errors import UsageError


def test_list() -> None:
    done = CliRunner().invoke(command, ["list"])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.output.splitlines()] == list(NAMES)


def test_help() -> None:
    done = CliRunner().invoke(command, ["run", "--help"])
    options = "--node-name --plugins-dir --registry-dir --cdi-dir --option --kubeconfig --metrics-address"
    assert all(option in done.output for option in options.split())


WRONG = [
    (["gpu", "--option", "count"], "--option 'count' is not KEY=VALUE"),
    (["gpu", "--option", "count=x"], "driver gpu, option count: 'x' is not a whole number"),
    (["pizza", "--metrics-address", "9400"], "--metrics-address '9400' is not HOST:PORT"),
]


@pytest.mark.parametrize(("arguments", "text"), WRONG)
def test_wrong(arguments: list[str], text: str, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: c, user: {token: x}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: c}}]\n"
    )
    folders = [f"--{name}-dir={tmp_path}" for name in ("plugins", "registry", "cdi")]
    done = CliRunner().invoke(command, ["run", *arguments, f"--kubeconfig={config}", *folders])
    assert isinstance(done.exception, UsageError)
    assert text in str(done.exception)


def test_unknown_driver() -> None:
    done = CliRunner().invoke(command, ["run", "fpga"])
    assert done.exit_code == 2
    assert (
        "'fpga' is not one of 'blockdev', 'cpu', 'device-plugin', 'gpu', 'memory', 'net', 'nvidia', 'pizza'"
        in done.output
    )
