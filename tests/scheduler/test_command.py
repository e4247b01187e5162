"""`dra scheduler`: bad input gives one line, and the cluster's version decides the features."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from drakit.cli.scheduler import _server_version, command
from drakit.client.api import Client
from drakit.errors import DRAError, ServiceUnavailable, UsageError
from drakit.profile import VERSIONS
from drakit.transport import Request, Response
from tests.scheduler.cluster import Wire, cluster

pytestmark = pytest.mark.anyio

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: c
"""


class Version(Wire):
    """A server of some version."""

    def __init__(self, major: str, minor: str) -> None:
        self.answer = {"major": major, "minor": minor}

    async def send(self, request: Request) -> Response:
        assert request.path == "/version"
        return Response(status=200, document=self.answer)


@pytest.mark.parametrize(
    ("major", "minor", "version"),
    [("1", "34", "1.34"), ("1", "36+", "1.36"), ("1", "99", VERSIONS[-1]), ("1", "20", "1.20")],
)
async def test_the_version_comes_from_the_cluster(major: str, minor: str, version: str) -> None:
    assert await _server_version(Client(Version(major, minor))) == version


async def test_a_cluster_without_a_version_asks_for_the_option() -> None:
    with pytest.raises(UsageError, match="--kubernetes-version"):
        await _server_version(Client(Version("", "")))


async def test_the_embedded_server_has_a_version() -> None:
    async with cluster(version="1.35", start=False) as it:
        assert await _server_version(it.client) == "1.35"


def test_a_gate_needs_a_value(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--gate", "DRAExtendedResource"])
    assert result.exit_code == 2
    assert "is not NAME=true or NAME=false" in result.output


@pytest.mark.parametrize("options", [[], ["--kubernetes-version", "1.37"]])
def test_a_cluster_that_does_not_answer_is_one_error(tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG)
    result = CliRunner().invoke(command, ["--kubeconfig", str(path), *options])
    assert isinstance(result.exception, ServiceUnavailable), result.exception


def test_an_unknown_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG)
    result = CliRunner().invoke(command, ["--kubeconfig", str(path), "--kubernetes-version", "1.12"])
    assert isinstance(result.exception, DRAError)
    assert "1.12" in str(result.exception)
