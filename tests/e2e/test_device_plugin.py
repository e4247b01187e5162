"""A device plugin as vendors write them, the bridge, and containers that get its devices."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import ROOT, Cluster, need, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.needs_root]

PROGRAM = ROOT / "tests" / "drivers" / "plugin_program.py"
RESOURCE = "example.com/widget"
EXTRA = {
    "cdiVersion": "0.5.0",
    "kind": "widget.example.com/extra",
    "devices": [{"name": f"w{n}", "containerEdits": {"env": [f"EXTRA_{n}=yes"]}} for n in range(3)],
}


class Widgets:
    """The plugin as a process; `cluster` runs the bridge."""

    def __init__(self, cluster: Cluster) -> None:
        folder = cluster.folder / "data/nodes/node-0/plugins/dra.device-plugin/plugins"
        wait_for((folder / "kubelet.sock").exists, "the bridge")
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), RESOURCE, "widget.sock"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert json.loads(self._process.stdout.readline() or "null") == {"registered": RESOURCE}

    def report(self, **health: str) -> None:
        """Say how each widget is; all are at NUMA node 0."""
        devices = [{"id": name, "health": value, "numa": [0]} for name, value in health.items()]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(devices) + "\n")
        self._process.stdin.flush()

    def leave(self) -> None:
        with self._process:
            self._process.kill()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    for tool in ("runc", "conmon"):
        need(tool)
    # Plugins put their sockets below it: pytest's own folders leave no room for a socket's path (107 bytes).
    folder = Path(tempfile.mkdtemp(prefix="dk-", dir="/tmp"))
    cluster = Cluster(folder, "--runtime", "oci", "--driver", "device-plugin")
    cluster.up()
    yield cluster
    cluster.down()
    shutil.rmtree(folder, ignore_errors=True)


def taints(cluster: Cluster) -> dict[str, list[str]]:
    """The taints of each device that is published."""
    found: dict[str, list[str]] = {}
    for item in cluster.items("resourceslices"):
        for device in item["spec"].get("devices") or ():
            found[device["name"]] = [taint["key"] for taint in device.get("taints") or ()]
    return found


def inside(cluster: Cluster, pod: str) -> str:
    return cluster.kubectl("exec", pod, "--", "sh", "-c", "env; test -c /dev/widget && ls /opt/widget")


def test_widgets_of_a_plugin_in_containers(cluster: Cluster) -> None:
    cdi: Path = cluster.folder / "data/nodes/node-0/cdi"
    cdi.mkdir(parents=True, exist_ok=True)
    (cdi / "widget.json").write_text(json.dumps(EXTRA))
    plugin = Widgets(cluster)
    try:
        plugin.report(w0="Healthy", w1="Healthy", w2="Healthy")
        wait_for(lambda: len(taints(cluster)) == 3, "three widgets")
        for file in ("1-class", "2-as-before", "3-claim"):
            cluster.kubectl("apply", "-f", f"device-plugin/{file}.yaml")
        cluster.wait_ready("widget-as-before", "two-near-widgets")
        one, two = (inside(cluster, pod) for pod in ("widget-as-before", "two-near-widgets"))
        assert widgets(one) | widgets(two) == {"w0", "w1", "w2"}
        for text in (one, two):
            assert "bin" in text.split()
            assert all(f"EXTRA_{name[1:]}=yes" in text for name in widgets(text))

        plugin.report(w0="Unhealthy", w1="Healthy", w2="Healthy")
        wait_for(lambda: taints(cluster).get("w0") == ["dra.device-plugin/unhealthy"], "the taint")
    finally:
        plugin.leave()
    wait_for(lambda: set(map(tuple, taints(cluster).values())) == {GONE}, "taints of all")
    again = Widgets(cluster)
    try:
        again.report(w0="Healthy", w1="Healthy", w2="Healthy")
        wait_for(lambda: not any(taints(cluster).values()), "the plugin to be back")
    finally:
        again.leave()


GONE = ("dra.device-plugin/disconnected",)


def widgets(text: str) -> set[str]:
    """Those that a container was given."""
    (line,) = (line for line in text.splitlines() if line.startswith("WIDGETS="))
    found: Any = line.removeprefix("WIDGETS=").split(",")
    return set(found)
