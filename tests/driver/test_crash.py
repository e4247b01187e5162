"""kill -9 at every step of preparing and unpreparing: nothing is lost, doubled or left behind.

What survives a killed process is what it has on disk. So the files are copied before and after every
rename and removal, and a new driver is started on each of the copies. One test kills a real process.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drakit.apiserver.http import serve
from drakit.apiserver.tls import certificates
from drakit.cluster.kubeconfig import kubeconfig
from drakit.driver import Driver
from drakit.drivers import build
from tests.driver.make import NODE, TOKEN, Cluster, Kubelet, LampDriver, cluster
from tests.drivers.test_cpu import machine

pytestmark = pytest.mark.anyio

Files = dict[str, bytes]

_watched: list[tuple[Path, list[Files]]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event in ("os.rename", "os.remove"):
        root, copies = _watched[-1]
        if str(arguments[0]).startswith(str(root)):
            copies.append(files(root))


sys.addaudithook(_audit)


def files(root: Path) -> Files:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@contextmanager
def every_step(root: Path) -> Iterator[list[Files]]:
    """The files below `root` as they were before each step that changes them, and after the last."""
    copies: list[Files] = []
    _watched.append((root, copies))
    try:
        yield copies
    finally:
        _watched.pop()
        copies.append(files(root))


def restored(lab: Cluster, root: Path, copy: Files) -> Cluster:
    """A node whose files are `copy`, on the same API server."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name, data in copy.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return Cluster(lab.client, root)


def left(lab: Cluster, driver: str) -> tuple[list[str], list[str]]:
    """Claims in the checkpoint, and CDI files."""
    path = lab.plugins / driver / "checkpoint.json"
    claims = json.loads(path.read_bytes())["claims"] if path.exists() else {}
    return sorted(claims), sorted(os.listdir(lab.cdi)) if lab.cdi.exists() else []


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Cluster]:
    root = tmp_path / "a"
    root.mkdir()
    async with cluster(root) as made:
        yield made


async def test_a_claim_survives_a_crash_at_every_step(lab: Cluster, tmp_path: Path) -> None:
    root, name = tmp_path / "a", LampDriver.name
    claim = await lab.claim("c", "lamp-0", "lamp-1")
    async with lab.running(LampDriver()), Kubelet.meet(lab, name) as kubelet:
        with every_step(root) as steps:
            first = await kubelet.prepare(claim)
            prepared = len(steps)
            await kubelet.unprepare(claim)
    assert (prepared, len(steps)) == (3, 6)
    for copy in steps:
        node = restored(lab, tmp_path / "b", copy)
        async with node.running(LampDriver()), Kubelet.meet(node, name) as kubelet:
            assert await kubelet.prepare(claim) == first
            assert left(node, name) == ([claim.uid], [f"k8s.{name}-claim_{claim.uid}.json"])
            assert await kubelet.unprepare(claim) == {"c": ""}
            assert left(node, name) == ([], [])
        node = restored(lab, tmp_path / "b", copy)
        async with node.running(LampDriver()), Kubelet.meet(node, name) as kubelet:
            assert await kubelet.unprepare(claim) == {"c": ""}
            assert left(node, name) == ([], [])


async def test_cpus_are_not_given_twice_after_a_crash_at_any_step(lab: Cluster, tmp_path: Path) -> None:
    sysfs = machine(tmp_path / "machine", cores=4)

    def driver() -> Driver:
        return build("cpu", {"root": str(sysfs), "group-by": "numa"}, NODE)

    def chosen(node: Cluster) -> list[str]:
        claims = json.loads((node.plugins / "dra.cpu/checkpoint.json").read_bytes())["claims"]
        return sorted(device["state"]["cpus"] for claim in claims.values() for device in claim["devices"])

    share = {"driver": "dra.cpu", "consumedCapacity": {"dra.cpu/cpu": "2"}}
    first = await lab.claim("first", "cpudevnuma000", shareID=str(uuid.UUID(int=1)), **share)
    second = await lab.claim("second", "cpudevnuma000", shareID=str(uuid.UUID(int=2)), **share)
    async with lab.running(driver()), Kubelet.meet(lab, "dra.cpu") as kubelet:
        await kubelet.prepare(first)
        with every_step(tmp_path / "a") as steps:
            await kubelet.prepare(second)
    assert len(steps) == 4
    for copy in steps:
        node = restored(lab, tmp_path / "b", copy)
        async with node.running(driver()), Kubelet.meet(node, "dra.cpu") as kubelet:
            answers = await kubelet.prepare(second, first)
            assert [answers[name].error for name in ("first", "second")] == ["", ""]
            assert chosen(node) == ["0-1", "2-3"]


async def test_a_killed_process_starts_again_where_it_was(tmp_path: Path) -> None:
    name = "gpu.example.com"
    async with cluster(tmp_path) as lab:
        assert lab.api is not None
        tls = certificates(tmp_path / "pki")
        server = await serve(lab.api, "127.0.0.1", 0, certfile=tls.certificate, keyfile=tls.key)
        config = tmp_path / "kubeconfig"
        config.write_bytes(kubeconfig(f"https://127.0.0.1:{server.port}", tls.ca.read_bytes(), TOKEN))
        program = [sys.executable, "-m", "drakit", "driver", "run", "gpu", "--node-name", NODE]
        program += ["--kubeconfig", str(config), "--cdi-dir", str(lab.cdi), "--option", "count=2"]
        program += ["--plugins-dir", str(lab.plugins), "--registry-dir", str(lab.registry)]
        claim = await lab.claim("c", "gpu-0", driver=name)
        socket = lab.registry / f"{name}-reg.sock"
        answers, inode = [], 0
        for end in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
            process = await asyncio.create_subprocess_exec(*program, stderr=asyncio.subprocess.DEVNULL)
            while not socket.exists() or socket.stat().st_ino == inode or not await lab.slices(name):
                assert process.returncode is None
                await asyncio.sleep(0.01)
            inode = socket.stat().st_ino
            async with Kubelet.meet(lab, name) as kubelet:
                answers.append(await kubelet.prepare(claim))
            process.send_signal(end)
            await process.wait()
        assert answers[0]["c"].error == ""
        assert answers == [answers[0]] * 3
        assert len(await lab.slices(name)) == 1
        assert (process.returncode, list(lab.registry.iterdir())) == (0, [])
        await server.stop()
