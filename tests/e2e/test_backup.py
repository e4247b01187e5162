"""`dra backup` of a cluster that runs and is written to, and `dra restore` of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("backup"), "--nodes", "0", "--fake-nodes", "1")
    cluster.up()
    yield cluster
    cluster.down()


def test_a_running_cluster_is_saved_and_brought_back(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    cluster.kubectl("create", "configmap", "before", "--from-literal=a=1")
    uid = cluster.get("configmap", "before")["metadata"]["uid"]
    assert " objects at revision " in cluster.dra("backup", str(file)).stdout
    cluster.kubectl("create", "configmap", "after", "--from-literal=a=2")
    refused = cluster.dra("restore", str(file), "--force", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "already runs" in refused.stderr
    assert list((cluster.folder / "data").glob(".backup-*")) == []
    cluster.down()
    cluster.dra("restore", str(file), "--force")
    cluster.up()
    assert cluster.get("configmap", "before")["metadata"]["uid"] == uid
    assert 'configmaps "after" not found' in cluster.kubectl("get", "configmap", "after", check=False)
    cluster.kubectl("create", "configmap", "after", "--from-literal=a=3")


def test_backups_are_for_administrators(cluster: Cluster) -> None:
    raw = ["get", "--raw", "/drakit/backup"]
    cluster.kubectl("create", "serviceaccount", "curious")
    token = cluster.kubectl("create", "token", "curious").strip()
    told = cluster.kubectl(*raw, "--token", token, "--kubeconfig", str(_without_user(cluster)), check=False)
    assert "forbidden" in told.lower()
    assert "SQLite" not in told


def _without_user(cluster: Cluster) -> Path:
    """The kubeconfig without the admin's token, which would win over another."""
    view = ["config", "view", "--raw", "-o", "json"]
    config = json.loads(cluster.kubectl(*view))
    config["users"] = [{"name": "admin", "user": {}}]
    path = cluster.folder / "nobody.json"
    path.write_text(json.dumps(config))
    return path
