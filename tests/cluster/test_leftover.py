"""What killed clusters leave in the temporary folder."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from drakit.cluster.leftover import remove_leftovers, sweep
from drakit.cluster.place import Place
from drakit.drivers.net import plan
from drakit.drivers.net.config import NetworkConfig
from drakit.drivers.net.driver import NetDriver
from drakit.drivers.net.give_back import notes_of, owner_of
from drakit.netlink import Netlink
from drakit.node.holder import hold
from drakit.node.paths import NodePaths
from drakit.node.pod_network import PodNetwork

pytestmark = pytest.mark.anyio


def _aged(path: Path) -> Path:
    os.utime(path, (1, 1), follow_symlinks=False)
    return path


async def test_only_what_nobody_needs_is_swept_away(tmp_path: Path) -> None:
    user = os.geteuid()
    dead, young, held = (tmp_path / f"drakit-{name}" for name in ("deadbeef", "youngone", "heldheld"))
    for path in (dead, young, held):
        Place(path).create()
        (path / "nodes" / "node-0").mkdir(parents=True)
    keeper = Place(held)
    keeper.hold()
    links, stale, strange = (tmp_path / f"drakit-{user}-{digit * 8}" for digit in "123")
    for path in (links, stale, strange):
        path.mkdir()
    (links / "p").symlink_to(held)
    (stale / "p").symlink_to(tmp_path / "gone")
    (strange / "p").mkdir()
    other = tmp_path / "drakit-notours"
    other.mkdir()
    for path in (dead, held, links, stale, strange, other):
        _aged(path)
    await sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {young.name, held.name, links.name, other.name}
    keeper.release()


@pytest.mark.needs_root
async def test_networks_and_interfaces_of_a_killed_cluster_go(tmp_path: Path) -> None:
    place = Place(tmp_path / "data")
    paths = NodePaths(place.nodes / "node-0")
    paths.create()
    network = PodNetwork(place.network)
    folder = paths.real_plugins / NetDriver.name
    notes_of(folder).mkdir(parents=True)
    pod = await hold("pod", ["net"])
    try:
        await network.of_node(0).join(pod.pid, ())
        holder = json.loads(place.network.read_text())["pid"]
        driver = plan.Place(owner_of(folder), "", str(notes_of(folder)))
        made = plan.for_veth(driver, "uid.0", "drkbrtest", ["192.0.2.1/24"], NetworkConfig())
        state = json.dumps({"pid": pod.pid})
        subprocess.run(made.hook(plan.own_program()).args, input=state, text=True, check=True)
        with Netlink() as host:
            assert {"drkbrtest", made.end} <= {link.name for link in host.links()}
            await remove_leftovers(place)
            assert not {"drkbrtest", made.end} & {link.name for link in host.links()}
        assert not Path(f"/proc/{holder}/ns/net").exists()
    finally:
        pod.kill()
        await pod.wait()
        await network.remove()
