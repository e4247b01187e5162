"""Kill -9 and start again: what was acknowledged is there, nothing is held twice, nothing leaks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakit.node.oci import find_programs
from tests.e2e.cluster import Cluster, devices_held, is_alive, wait_for

pytestmark = pytest.mark.e2e

ROUNDS = 4
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: p{index}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: localhost/busybox:latest
    command: ["sh", "-c", "env | grep GPU_DEVICE; sleep 3600"]
    resources: {{claims: [{{name: gpu}}]}}
  resourceClaims: [{{name: gpu, resourceClaimTemplateName: single-gpu}}]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(
        tmp_path_factory.mktemp("restart"), "--runtime", "process", "--driver", f"gpu:count={ROUNDS}"
    )
    cluster.up()
    yield cluster
    cluster.down()


def test_kills_at_any_moment_lose_and_double_nothing(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "gpu/00-class.yaml", "-f", "gpu/01-one-per-pod.yaml")
    cluster.kubectl("delete", "pod", "--all")
    for round_ in range(ROUNDS):
        created = cluster.kubectl("apply", "-f", "-", stdin=POD.format(index=round_))
        assert "created" in created
        if round_ % 2:  # once in the middle of starting, once when it runs
            cluster.wait_ready(f"p{round_}")
        cluster.kill()
        cluster.up()
        pods = {pod["metadata"]["name"] for pod in cluster.items("pods")}
        assert pods == {f"p{index}" for index in range(round_ + 1)}
        held = devices_held(cluster)
        assert len(held) == len(set(held))
    cluster.wait_ready(*[f"p{index}" for index in range(ROUNDS)])
    held = devices_held(cluster)
    assert len(held) == len(set(held)) == ROUNDS

    cluster.kubectl("delete", "pods", "--all", "--timeout=60s")
    wait_for(lambda: not cluster.items("resourceclaims"), "the claims to go")
    assert not [path for path in (cluster.folder / "data").rglob("cdi/*") if path.is_file()]


def test_a_running_claim_stays_allocated_over_a_clean_restart(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "gpu/00-class.yaml", "-f", "gpu/03-shared-by-pods.yaml")
    cluster.wait_ready("share-a", "share-b")
    before = cluster.get("resourceclaim", "team-gpu")["status"]["allocation"]["devices"]
    pid = cluster.pid
    cluster.down()
    assert not is_alive(pid)
    data = cluster.folder / "data"
    assert not (data / "kubeconfig").exists()
    assert not [path for path in data.rglob("*") if path.is_socket()]
    cluster.up()
    assert cluster.get("resourceclaim", "team-gpu")["status"]["allocation"]["devices"] == before
    cluster.wait_ready("share-a", "share-b")


def test_only_one_cluster_runs_in_a_folder(cluster: Cluster) -> None:
    second = cluster.dra("up", "--detach", check=False)
    assert second.returncode == 1
    assert "already runs" in second.stderr
    assert cluster.dra("status").returncode == 0


@pytest.mark.parametrize("runtime", ["oci", "process"])
def test_deleting_after_a_kill_ends_the_containers_first(tmp_path: Path, runtime: str) -> None:
    if runtime == "oci" and (os.geteuid() != 0 or not find_programs()):
        pytest.skip("oci needs root, runc and conmon")
    cluster = Cluster(tmp_path, "--runtime", runtime, "--driver", "gpu:count=2")
    cluster.up()
    cluster.kubectl("apply", "-f", "gpu/00-class.yaml", "-f", "gpu/01-one-per-pod.yaml")
    cluster.wait_ready("one-gpu-a", "one-gpu-b")
    cluster.kill()
    cluster.dra("down", "--delete")
    assert not (tmp_path / "data").exists()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    wait_for(lambda: not _processes_that_name(tmp_path), "the containers to end")


def test_a_folder_that_is_no_clusters_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis").write_text("x")
    refused = Cluster(tmp_path).dra("down", "--delete", check=False)
    assert refused.returncode == 1
    assert "nothing is deleted" in refused.stderr
    assert (tmp_path / "data" / "thesis").read_text() == "x"


def _processes_that_name(folder: Path) -> list[str]:
    """Command lines of processes other than this one in which `folder` occurs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes().decode(errors="replace")
            if str(folder) in line and process.name != str(os.getpid()):
                found.append(line)
    return found
