"""The real helm, 3 and 4, and our chart: its DaemonSet runs the driver from a local image."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from drakit.drivers import NAMES
from tests.e2e.cluster import ROOT, Cluster, need, wait_for
from tests.e2e.podman import Podman
from tests.e2e.test_network import has_bridge, ready

pytestmark = [pytest.mark.e2e, pytest.mark.needs_root]

VENDOR = Path(__file__).parent / "charts" / "vendor-driver"
CHART = ROOT / "deploy" / "helm" / "drakit-driver"
NAME = "gpus-drakit-driver"
MINE = "app.kubernetes.io/instance=gpus"


class Helm:
    def __init__(self, binary: Path, cluster: Cluster) -> None:
        self._binary = binary
        self._cluster = cluster

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._binary), *arguments],
            env=self._cluster.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def __call__(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}\n{self._what_went_on()}"
        return done.stdout

    def _what_went_on(self) -> str:
        pods = ["logs", "-l", MINE, "--tail=20"]
        return "\n".join(self._cluster.kubectl(*what, check=False) for what in (["get", "events"], pods))

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json"))

    def change(self, verb: str, *arguments: str) -> None:
        self(verb, *arguments, "--wait", "--timeout", "60s")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    for tool in ("runc", "conmon"):
        need(tool)
    folder = tmp_path_factory.mktemp("helm")
    cluster = Cluster(folder, "--runtime", "oci")
    cluster.dra("image", "build", str(folder / "drakit.tar"))
    cluster.dra("image", "add", str(folder / "drakit.tar"))
    podman = Podman(folder)
    assert "localhost/drakit" in podman.images(folder / "drakit.tar"), "builders and runtimes take it too"
    shutil.rmtree(folder / "graph")
    (folder / "drakit.tar").unlink()
    cluster.up()
    yield cluster
    cluster.down()
    shutil.rmtree(folder / "data" / "images", ignore_errors=True)


def need_helm(version: str) -> Path:
    """The helm of that Kubernetes; without it the test is skipped."""
    binary = ROOT / ".tools" / version / "helm"
    if not binary.exists():
        pytest.skip(f"{binary} is missing: run scripts/ci-tools.sh")
    return binary


@pytest.fixture(params=["1.32", "1.37"], ids=["helm-3.17", "helm-4.3"])
def helm(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Helm]:
    helm = Helm(need_helm(request.param), cluster)
    yield helm
    helm.run("uninstall", "gpus", "--no-hooks")  # left where a test failed


def published(cluster: Cluster) -> list[str]:
    """The devices in slices of the driver."""
    slices = cluster.items("resourceslices", "--field-selector=spec.driver=gpu.example.com")
    return [device["name"] for entry in slices for device in entry["spec"]["devices"]]


def await_gpus(cluster: Cluster, count: int) -> None:
    wait_for(lambda: len(published(cluster)) == count, f"{count} GPUs")


def test_a_driver_comes_changes_and_goes(helm: Helm, cluster: Cluster) -> None:
    helm.change("install", "gpus", str(CHART))
    await_gpus(cluster, 4)
    text = cluster.kubectl("get", "deviceclass", "gpu.example.com", "-o", "yaml")
    assert "app.kubernetes.io/managed-by: Helm" in text
    assert "meta.helm.sh/release-name: gpus" in text
    assert "meta.helm.sh/release-namespace: default" in text
    assert cluster.get("validatingadmissionpolicy", f"{NAME}-slices")["spec"]["failurePolicy"] == "Fail"
    # helm 3 waits for none of a single pod: a rolling update may have one unavailable.
    wait_for(lambda: cluster.get("daemonset", NAME)["status"]["numberReady"] == 1, "the driver's pod")

    helm.change("upgrade", "gpus", str(CHART), "--set", "options.count=6")
    await_gpus(cluster, 6)
    helm.change("rollback", "gpus", "1")
    await_gpus(cluster, 4)
    assert [entry["status"] for entry in helm.json("history", "gpus")] == [
        "superseded",
        "superseded",
        "deployed",
    ]
    assert [(entry["name"], entry["revision"]) for entry in helm.json("list")] == [("gpus", "3")]

    helm.change("uninstall", "gpus")
    assert helm.json("list") == []
    kinds = "daemonsets,deviceclasses,serviceaccounts,clusterroles,validatingadmissionpolicies,jobs"
    assert cluster.items(kinds, "-l", MINE) == []
    wait_for(lambda: not cluster.items("pods", "-l", MINE), "the driver's pods to go")
    cluster.kubectl("delete", "resourceslices", "--all")  # the node would do it after half a minute


def test_the_chart_of_a_new_driver(helm: Helm, cluster: Cluster, tmp_path: Path) -> None:
    cluster.dra("driver", "new", "desk-lamp.example.com", "--folder", str(tmp_path / "lamp"))
    chart = str(tmp_path / "lamp" / "chart")
    assert "0 chart(s) failed" in helm("lint", chart)
    rendered = helm("template", "lamp", chart, "--set", "rollingUpdate=true", "--kube-version", "1.37")
    (tmp_path / "all.yaml").write_text(rendered)
    made = cluster.kubectl("apply", "--dry-run=server", "-f", str(tmp_path / "all.yaml"))
    assert made.count("created (server dry run)") == 7


def test_the_chart_has_our_drivers() -> None:
    """Each with what it needs to see of the machine: its mounts, and the networks of its pods."""
    binary, shown = need_helm("1.37"), "templates/daemonset.yaml"
    for driver in NAMES:
        command = [str(binary), "template", "t", str(CHART), "--set", f"driver={driver}", "-s", shown]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        pod = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["command"] == ["dra", "driver", "run", driver]
        name = NAMES[driver].rpartition("(")[2].rstrip(")")
        assert container["startupProbe"]["exec"]["command"][-1] == name
        needs = (pod.get("hostPID"), container.get("securityContext"))
        assert needs == ((True, {"privileged": True}) if driver in ("blockdev", "net") else (None, None))
        assert ("--option=install-hook=yes" in container["args"]) == (driver == "net")


NET = """
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: nic}
spec: {devices: {requests: [{name: nic, exactly: {deviceClassName: dra.net}}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: wired}
spec:
  terminationGracePeriodSeconds: 0
  resourceClaims: [{name: nic, resourceClaimName: nic}]
  containers:
  - name: ctr
    image: localhost/busybox:latest
    command: [sh, -c, "ip address show net1; cat /var/run/kubernetes.io/*/*/nic/nic/*; sleep 1000"]
    resources: {claims: [{name: nic}]}
"""


@pytest.mark.parametrize("helm", ["1.37"], indirect=True)
def test_interfaces_by_a_driver_in_a_pod(helm: Helm, cluster: Cluster) -> None:
    """The host runs a hook that came with the image, wherever the driver's folder is on it."""
    options = "driver=net,options.interfaces=drkit-none,options.veth=10.214.7.0/24"
    helm.change("install", "gpus", str(CHART), "--set", options)
    cluster.kubectl("apply", "-f", "-", stdin=NET)
    cluster.wait_ready("wired")
    folder = cluster.folder / "data" / "nodes" / "node-0"
    (written,) = (folder / "cdi").glob("*dra.net*")
    (hook,) = json.loads(written.read_text())["devices"][0]["containerEdits"]["hooks"]
    assert Path(hook["path"]).is_relative_to(folder / "plugins" / "dra.net")
    assert ready(cluster, "nic")["ips"] == ["10.214.7.2/24"]
    said = wait_for(lambda: cluster.kubectl("logs", "wired"), "the log")
    assert "inet 10.214.7.2/24" in said
    assert '"kind": "DeviceMetadata"' in said
    assert has_bridge("10.214.7.0/24")
    cluster.kubectl("delete", "pod/wired", "resourceclaim/nic", "--timeout=30s")
    wait_for(lambda: not has_bridge("10.214.7.0/24"), "the bridge to go")
    helm.change("uninstall", "gpus")
    wait_for(lambda: not cluster.items("pods", "-l", MINE), "the driver's pods to go")
    assert not any((folder / "plugins" / "dra.net").glob("*hook-*"))
    cluster.kubectl("delete", "resourceslices", "--all")


@pytest.mark.parametrize("helm", ["1.37"], indirect=True)
def test_a_driver_whose_devices_are_in_use_stays(helm: Helm, cluster: Cluster) -> None:
    helm.change("install", "gpus", str(CHART))
    cluster.kubectl("apply", "-f", "gpu/01-one-per-pod.yaml")
    cluster.wait_ready("one-gpu-a", "one-gpu-b")
    assert "GPU_DEVICE_" in wait_for(lambda: cluster.kubectl("logs", "one-gpu-a"), "the log")
    assert helm.run("uninstall", "gpus", "--wait", "--timeout", "20s").returncode != 0
    told = cluster.kubectl("logs", f"job/{NAME}-idle")
    assert "devices of gpu.example.com are held by claims: default/one-gpu-a-gpu" in told
    assert cluster.get("daemonset", NAME)["status"]["numberReady"] == 1
    cluster.kubectl("delete", "-f", "gpu/01-one-per-pod.yaml", "--timeout=30s")
    helm.change("uninstall", "gpus")


@pytest.mark.parametrize("helm", ["1.37"], indirect=True)
def test_a_chart_as_vendors_write_them(helm: Helm, cluster: Cluster) -> None:
    """CustomResourceDefinition, policy and webhook do what they do elsewhere."""
    python = f"python=/opt/drakit/python/bin/{Path(sys.executable).resolve().name}"
    image = f"image=localhost/drakit:{version('drakit')},{python}"
    helm.change("install", "vendor", str(VENDOR), "--set", image)
    await_gpus(cluster, 2)

    def refused(document: dict[str, Any], *arguments: str) -> str:
        return cluster.kubectl("create", *arguments, "-f", "-", check=False, stdin=json.dumps(document))

    # The rules of its custom resources.
    part = {"apiVersion": "vendor.example.com/v1beta1", "kind": "Partition", "metadata": {"name": "p"}}
    assert "spec: Invalid value: a single device has no 2 parts" in refused(part | {"spec": {"parts": 2}})
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(part | {"spec": {"parts": 2, "mode": "Shared"}}))
    told = cluster.kubectl(
        "patch", "partition", "p", "--type=merge", "-p", '{"spec":{"parts":3}}', check=False
    )
    assert "spec cannot be changed" in told
    # Its policy: the plugin's account writes only from within its pod.
    token = cluster.kubectl("create", "token", "vendor-plugin").strip()
    pool = {"name": "x", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.example.com", "nodeName": "x", "pool": pool, "devices": [{"name": "d"}]}
    head = {"apiVersion": "resource.k8s.io/v1", "metadata": {"name": "stray"}}
    told = refused(head | {"kind": "ResourceSlice", "spec": spec}, f"--token={token}")
    assert (
        "ValidatingAdmissionPolicy 'vendor-own-slices' with binding 'vendor-own-slices' denied request: "
        "the plugin must run in a pod, whose token names the node" in told
    )
    # Its webhook: parameters it does not know.
    opaque = {"driver": "gpu.example.com", "parameters": {"kind": "Typo"}}
    requests = [{"name": "gpu", "exactly": {"deviceClassName": "vendor-gpu"}}]
    claim = head | {
        "kind": "ResourceClaim",
        "spec": {"devices": {"requests": requests, "config": [{"opaque": opaque}]}},
    }
    told = refused(claim)
    assert 'admission webhook "claims.vendor.example.com" denied the request: unknown parameters Typo' in told
    opaque["parameters"]["kind"] = "PartConfig"
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(claim))

    helm.change("upgrade", "vendor", str(VENDOR), "--set", image, "--set", "devices=3")
    await_gpus(cluster, 3)
    helm.change("rollback", "vendor", "1")
    cluster.kubectl("delete", "resourceclaim/stray", "partition/p")
    helm.change("uninstall", "vendor")
    cluster.kubectl("delete", "crd", "partitions.vendor.example.com")
    wait_for(lambda: not cluster.items("pods", "-l", "app.kubernetes.io/instance=vendor"), "its pods to go")
    cluster.kubectl("delete", "resourceslices", "--all")
