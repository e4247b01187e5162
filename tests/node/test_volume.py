"""Volumes as folders of the host."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from drakit.apiserver.app import API
from drakit.client.api import CONFIG_MAPS, PODS, SERVICE_ACCOUNTS, Client
from drakit.node.env import ConfigFailed, Facts
from drakit.node.paths import NodePaths
from drakit.node.volume import Volumes
from drakit.profile import profile_for
from drakit.store import Store
from drakit.transport import Document
from tests.client.fake_clock import FakeClock
from tests.node.make import ADMIN, NS

pytestmark = pytest.mark.anyio

FACTS = Facts(node_name="node-1", host_ip="192.0.2.1", pod_ip="", allocatable={})


class Here:
    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self.clock = FakeClock()
        self.uid = "u"
        self.paths = NodePaths(folder.parent / "node")
        self.volumes = Volumes(client, folder, self.paths, self.clock)

    async def prepare(self, *volumes: Document) -> None:
        pod = {
            "metadata": {"name": "p", "namespace": NS, "uid": self.uid, "labels": {"a": "b"}},
            "spec": {"volumes": list(volumes)},
        }
        await self.volumes.prepare(pod, FACTS)

    async def store_pod(self, spec: Document) -> Document:
        """The pod as the API has it: tokens are given to pods that exist."""
        spec = {"containers": [{"name": "c", "image": "x"}], **spec}
        pod = await self.client.create(PODS, {"metadata": {"name": "p", "namespace": NS}, "spec": spec})
        self.uid = pod["metadata"]["uid"]
        return pod

    def source(self, name: str, **more: Any) -> Path:
        mount = {"name": name, "mountPath": "/m", **more}
        (found,) = self.volumes.mounts({"volumeMounts": [mount]}, {"POD": "p"})
        return Path(found.source)

    async def config_map(self, **data: str) -> None:
        meta = {"name": "settings", "namespace": NS}
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
        await self.client.create(CONFIG_MAPS, document)


@asynccontextmanager
async def here(root: Path) -> AsyncIterator[Here]:
    api = API.open(Store(), profile_for())
    await api.start()
    made = Here(Client(api.transport(ADMIN), field_manager="test"), root / "pod")
    try:
        yield made
    finally:
        made.volumes.remove()
        assert not (root / "pod").exists()
        await api.close()


async def test_config_maps_and_their_updates(tmp_path: Path) -> None:
    volume = {"name": "v", "configMap": {"name": "settings", "defaultMode": 0o600}}
    async with here(tmp_path) as node:
        await node.config_map(one="1", two="2")
        await node.prepare(volume)
        folder = node.source("v")
        assert {path.name: path.read_text() for path in folder.iterdir() if path.is_file()} == {
            "one": "1",
            "two": "2",
        }
        assert (folder / "one").stat().st_mode & 0o777 == 0o600
        first = os.readlink(folder / "..data")
        await node.prepare(volume)
        assert os.readlink(folder / "..data") == first, "the same content is not written again"
        await node.client.patch(CONFIG_MAPS, "settings", {"data": {"one": None, "three": "3"}}, NS)
        await node.prepare(volume)
        names = {path.name for path in folder.iterdir() if not path.name.startswith("..")}
        assert names == {"two", "three"}
        assert len([path for path in folder.iterdir() if path.name.startswith("..")]) == 2


async def test_items_choose_files(tmp_path: Path) -> None:
    items = [{"key": "one", "path": "deep/er/file", "mode": 0o400}]
    async with here(tmp_path) as node:
        await node.config_map(one="1", two="2")
        await node.prepare({"name": "v", "configMap": {"name": "settings", "items": items}})
        path = node.source("v") / "deep" / "er" / "file"
        assert (path.read_text(), path.stat().st_mode & 0o777) == ("1", 0o400)
        missing = {"name": "settings", "items": [{"key": "no", "path": "x"}]}
        with pytest.raises(ConfigFailed, match="references non-existent config key: no"):
            await node.prepare({"name": "v", "configMap": missing})
        await node.prepare({"name": "v", "configMap": missing | {"optional": True}})


async def test_projected_service_account(tmp_path: Path) -> None:
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "settings", "items": [{"key": "ca", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        {"configMap": {"name": "other", "optional": True}},
    ]
    volume = {"name": "v", "projected": {"sources": sources}}
    async with here(tmp_path) as node:
        await node.config_map(ca="a certificate")
        await node.client.create(
            SERVICE_ACCOUNTS,
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NS}},
        )
        await node.store_pod({})
        await node.prepare(volume)
        folder = node.source("v")
        assert (folder / "ca.crt").read_text() == "a certificate"
        assert (folder / "namespace").read_text() == NS
        token = (folder / "token").read_text()
        assert token
        await node.clock.advance(1000)
        await node.prepare(volume)
        assert (folder / "token").read_text() == token, "not asked for again while it is young"


OWNERS = {
    "everybody's": ({}, (0, 0, 0o644), 0o644),
    "the group's": ({"securityContext": {"fsGroup": 2000}}, (0, 2000, 0o640), 0o644),
    "the one user's": ({"securityContext": {"runAsUser": 1000}}, (1000, 0, 0o600), 0o644),
    "two users'": (
        {
            "securityContext": {"runAsUser": 1000},
            "containers": [
                {"name": "a", "image": "x"},
                {"name": "b", "image": "x", "securityContext": {"runAsUser": 7}},
            ],
        },
        (0, 0, 0o644),
        0o644,
    ),
}


@pytest.mark.parametrize("name", OWNERS)
async def test_whose_files_are(tmp_path: Path, name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving files away needs root")
    spec, of_token, of_data = OWNERS[name]
    sources = [
        {"serviceAccountToken": {"path": "token"}},
        {"downwardAPI": {"items": [{"path": "sub/name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    async with here(tmp_path) as node:
        await node.client.create(
            SERVICE_ACCOUNTS,
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NS}},
        )
        pod = await node.store_pod(spec)
        pod["spec"]["volumes"] = [{"name": "v", "projected": {"sources": sources}}]
        await node.volumes.prepare(pod, FACTS)
        token, data = (node.source("v") / name for name in ("token", "sub/name"))
        found = token.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == of_token
        assert (data.stat().st_gid, data.stat().st_mode & 0o777) == (of_token[1], of_data)
        assert data.parent.stat().st_gid == of_token[1]


async def test_empty_dirs_and_sub_paths(tmp_path: Path) -> None:
    async with here(tmp_path) as node:
        await node.prepare({"name": "v", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}})
        assert node.source("v").stat().st_mode & 0o777 == 0o777
        assert node.source("v", subPath="a/b").is_dir()
        assert node.source("v", subPathExpr="$(POD)").name == "p"
        (node.source("v") / "out").symlink_to("/etc")
        with pytest.raises(ConfigFailed, match="leads out of its volume"):
            node.source("v", subPath="out/x")
        with pytest.raises(ConfigFailed, match="leads out of its volume"):
            node.source("v", subPath="../../x")
        assert os.path.ismount(node.source("m")) == (os.geteuid() == 0)


async def test_host_paths(tmp_path: Path) -> None:
    async with here(tmp_path) as node:
        made = tmp_path / "made"
        await node.prepare({"name": "v", "hostPath": {"path": str(made), "type": "DirectoryOrCreate"}})
        assert made.is_dir()
        for kind in ("File", "Socket"):
            with pytest.raises(ConfigFailed, match=f"is not a {kind}"):
                await node.prepare({"name": "v", "hostPath": {"path": str(made), "type": kind}})
        with pytest.raises(ConfigFailed, match="is not there"):
            await node.prepare({"name": "v", "hostPath": {"path": f"{made}/no", "type": "Directory"}})


async def test_the_kubelets_folders_are_those_of_this_node(tmp_path: Path) -> None:
    async with here(tmp_path) as node:
        for name, path in (("r", "/var/lib/kubelet/plugins_registry"), ("c", "/var/run/cdi")):
            await node.prepare({"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}})
        assert node.source("r") == node.paths.plugins_registry
        assert node.source("c") == node.paths.cdi
        assert (
            node.paths.of_kubelet("/var/lib/kubelet/plugins/d/dra.sock") == node.paths.plugins / "d/dra.sock"
        )
        assert node.paths.of_kubelet("/var/lib/kubelet/plugins2") == Path("/var/lib/kubelet/plugins2")
        node.paths.remove_sockets()


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (
            {"name": "v", "persistentVolumeClaim": {"claimName": "x"}},
            "persistentVolumeClaim are not supported",
        ),
        ({"name": "v", "secret": {"secretName": "none"}}, 'volume "v" : secret "none" not found'),
        ({"name": "v", "configMap": {"name": "none"}}, 'configmap "none" not found'),
    ],
)
async def test_what_cannot_be_made_is_told(tmp_path: Path, volume: Document, words: str) -> None:
    async with here(tmp_path) as node:
        with pytest.raises(ConfigFailed, match=words):
            await node.prepare(volume)


ROOT_CA = {"metadata": {"name": "kube-root-ca.crt", "namespace": NS}, "data": {"ca.crt": "CA"}}
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
REACHES = structs.replace(FACTS, api_address="127.0.0.1:6443")


@pytest.mark.parametrize(
    ("spec", "account", "facts", "is_mounted"),
    [
        ({"hostNetwork": True}, {}, REACHES, True),
        ({}, {}, REACHES, False),
        ({}, {}, structs.replace(REACHES, has_account=True), True),
        ({"hostNetwork": True}, {}, FACTS, False),
        ({"hostNetwork": True, "automountServiceAccountToken": False}, {}, REACHES, False),
        ({"hostNetwork": True}, {"automountServiceAccountToken": False}, REACHES, False),
        ({"hostNetwork": True, "automountServiceAccountToken": True}, {"automountServiceAccountToken": False},
         REACHES, True),
    ],
)  # fmt: skip
async def test_the_service_account_is_where_clients_look(
    tmp_path: Path, spec: Document, account: Document, facts: Facts, is_mounted: bool
) -> None:
    async with here(tmp_path) as h:
        await h.client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": NS}} | account)
        await h.client.create(CONFIG_MAPS, ROOT_CA)
        pod = await h.store_pod(spec)
        await h.volumes.prepare(pod, facts)
        mounts = h.volumes.mounts({"name": "c"}, {})
        assert [mount.target for mount in mounts] == ([ACCOUNT] if is_mounted else [])
        assert h.volumes.is_refreshed(pod) is is_mounted
        for mount in mounts:
            folder = Path(mount.source)
            assert (folder / "ca.crt").read_text() == "CA"
            assert (folder / "namespace").read_text() == NS
            assert (folder / "token").read_text().count(".") == 2
        own = {"name": "c", "volumeMounts": [{"name": "kube-api-access", "mountPath": ACCOUNT + "/"}]}
        assert len(h.volumes.mounts(own, {}) if is_mounted else [1]) == 1


async def test_a_pod_of_a_missing_service_account_waits(tmp_path: Path) -> None:
    async with here(tmp_path) as h:
        spec = {"hostNetwork": True, "serviceAccountName": "nobody"}
        pod = {"metadata": {"name": "p", "namespace": NS, "uid": "u"}, "spec": spec}
        with pytest.raises(ConfigFailed, match=r'service account nobody: .*"nobody" not found'):
            await h.volumes.prepare(pod, REACHES)
