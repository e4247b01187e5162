"""The volumes of a pod as folders of the host.

What comes from the API (configMap, secret, projected, downwardAPI) is written as a whole (see
`written_folder`); a refresh is another `prepare`."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from pathlib import Path
from typing import Any

from drakit.client.api import SERVICE_ACCOUNTS, Client
from drakit.client.clock import Clock
from drakit.errors import APIError, DRAError
from drakit.model.quantity import Quantity
from drakit.node.account import ACCOUNT_PATH, ACCOUNT_VOLUME, lacks_account, wants_account
from drakit.node.env import ConfigFailed, Facts, expand, fetch_data, pod_field, resource_field
from drakit.node.paths import NodePaths
from drakit.node.pod_spec import all_containers
from drakit.node.runtime import Mount
from drakit.node.written_folder import File, write_folder
from drakit.transport import Document

_WRITTEN = ("configMap", "secret", "projected", "downwardAPI")
_SUPPORTED = ("emptyDir", "hostPath", *_WRITTEN)
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)
_Files = dict[str, File]
"""By path inside of the volume."""


class Volumes:
    """The volumes of one pod below `folder`."""

    def __init__(self, client: Client, folder: Path, paths: NodePaths, clock: Clock) -> None:
        self._client = client
        self._folder = folder
        self._node_paths = paths
        self._clock = clock
        self._paths: dict[str, Path] = {}
        self._contents: dict[str, _Files] = {}
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}

    async def prepare(self, pod: Document, facts: Facts) -> None:
        """Make every volume, or bring it up to date. Raises ConfigFailed naming the volume."""
        volumes: list[Document] = (pod.get("spec") or {}).get("volumes") or []
        if await wants_account(self._client, pod, facts):
            volumes = [*volumes, ACCOUNT_VOLUME]
        for volume in volumes:
            name = volume["name"]
            try:
                self._paths[name] = await self._prepare_one(pod, volume, facts)
            except OSError as error:
                raise ConfigFailed(f'MountVolume.SetUp failed for volume "{name}" : {error}') from None
            except ConfigFailed as error:
                raise ConfigFailed(f'MountVolume.SetUp failed for volume "{name}" : {error}') from None

    def is_refreshed(self, pod: Document) -> bool:
        """Whether any volume has content that may change."""
        return ACCOUNT_VOLUME["name"] in self._paths or any(
            kind in v for v in (pod.get("spec") or {}).get("volumes") or [] for kind in _WRITTEN
        )

    def mounts(self, container: Document, env: dict[str, str]) -> list[Mount]:
        """The mounts of `container`. Raises ConfigFailed for one that cannot be."""
        mounts: list[Mount] = []
        for entry in container.get("volumeMounts") or []:
            name = entry["name"]
            if name not in self._paths:
                raise ConfigFailed(f'volume "{name}" of mount {entry["mountPath"]} does not exist')
            source = self._paths[name]
            sub_path = entry.get("subPath") or expand(entry.get("subPathExpr") or "", env)
            if sub_path:
                source = _inside(source, sub_path)
            target = entry["mountPath"] if entry["mountPath"].startswith("/") else f"/{entry['mountPath']}"
            mounts.append(
                Mount(
                    source=str(source),
                    target=target,
                    is_read_only=bool(entry.get("readOnly")),
                    propagation=entry.get("mountPropagation") or "None",
                )
            )
        account = self._paths.get(ACCOUNT_VOLUME["name"])
        if account is not None and lacks_account(container):
            mounts.append(Mount(source=str(account), target=ACCOUNT_PATH, is_read_only=True))
        return mounts

    def remove(self) -> None:
        """Delete everything the pod had; what hostPath names stays."""
        remove_volumes(self._folder)
        self._paths.clear()
        self._contents.clear()

    async def _prepare_one(self, pod: Document, volume: Document, facts: Facts) -> Path:
        kind = next((kind for kind in _SUPPORTED if kind in volume), None)
        if kind is None:
            others = ", ".join(key for key in volume if key != "name") or "nothing"
            raise ConfigFailed(f"volumes of kind {others} are not supported, only {', '.join(_SUPPORTED)}")
        source: dict[str, Any] = volume[kind] or {}
        if kind == "hostPath":
            return _host_path(self._node_paths.of_kubelet(source["path"]), source.get("type") or "")
        path: Path = self._folder / "volumes" / volume["name"]
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        if kind == "emptyDir":
            _empty_dir(path, source, (pod.get("spec") or {}).get("securityContext") or {})
            return path
        files = await self._files(pod, kind, source, facts)
        if self._contents.get(volume["name"]) != files:
            group = ((pod.get("spec") or {}).get("securityContext") or {}).get("fsGroup")
            write_folder(path, files, self._clock.now(), group)
            self._contents[volume["name"]] = files
        return path

    async def _files(self, pod: Document, kind: str, source: Document, facts: Facts) -> _Files:
        mode = int(source.get("defaultMode") or 0o644)
        if kind == "downwardAPI":
            return _downward(pod, source, mode, facts)
        if kind in ("configMap", "secret"):
            return await self._data_files(pod, kind, source, mode)
        files: _Files = {}
        for part in source.get("sources") or []:
            if token := part.get("serviceAccountToken"):
                files[token["path"]] = await self._token_file(pod, token, mode)
            if "downwardAPI" in part:
                files |= _downward(pod, part["downwardAPI"] or {}, mode, facts)
            for inner in ("configMap", "secret"):
                if inner in part:
                    files |= await self._data_files(pod, inner, part[inner], mode)
            known = {"serviceAccountToken", "downwardAPI", "configMap", "secret"}
            if not known & set(part):
                raise ConfigFailed(f"projected source {', '.join(part)} is not supported")
        return files

    async def _data_files(self, pod: Document, kind: str, source: Document, mode: int) -> _Files:
        data = await fetch_data(self._client, kind, pod["metadata"]["namespace"], source)
        items = source.get("items")
        if not items:
            return {key: File(value, mode) for key, value in data.items()}
        files: _Files = {}
        for item in items:
            if item["key"] in data:
                files[item["path"]] = File(data[item["key"]], int(item.get("mode") or mode))
            elif not source.get("optional"):
                raise ConfigFailed(f"references non-existent config key: {item['key']}")
        return files

    async def _token_file(self, pod: Document, source: Document, mode: int) -> File:
        """A token belongs to the user that all containers run as, else to the pod's group, else to
        everybody."""
        spec = pod.get("spec") or {}
        shared = spec.get("securityContext") or {}
        users = {
            (container.get("securityContext") or {}).get("runAsUser", shared.get("runAsUser"))
            for container in all_containers(spec)
        }
        owner = users.pop() if len(users) == 1 else None
        if owner is not None or shared.get("fsGroup") is not None:
            mode = 0o600
        token = await self._token(pod, source)
        return File(token.encode(), mode, -1 if owner is None else int(owner))

    async def _token(self, pod: Document, source: Document) -> str:
        """A token of the pod's service account, asked for again when four fifths of its time have passed."""
        seconds = int(source.get("expirationSeconds") or 3600)
        audience = source.get("audience", "")
        now = self._clock.now()
        known = self._tokens.get((audience, source["path"]))
        if known is not None and now < known[1]:
            return known[0]
        meta, spec = pod["metadata"], pod.get("spec") or {}
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        request: Document = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": seconds,
                "boundObjectRef": bound,
                "audiences": [audience] if audience else [],
            },
        }
        account = spec.get("serviceAccountName") or "default"
        try:
            answer = await self._client.create(
                SERVICE_ACCOUNTS, request, meta["namespace"], name=account, subresource="token"
            )
            token = str(answer["status"]["token"])
        except (APIError, KeyError) as error:
            raise ConfigFailed(f"failed to fetch token of service account {account}: {error}") from None
        self._tokens[audience, source["path"]] = (token, now + 0.8 * seconds)
        return token


def unmount_volumes(folder: Path) -> None:
    """Unmount what is mounted below the `folder` of a pod; its content in memory is lost."""
    for path in folder.glob("volumes/*"):
        while os.path.ismount(path):
            if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
                break


def remove_volumes(folder: Path) -> None:
    """Delete the `folder` of a pod with all its volumes."""
    unmount_volumes(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _downward(pod: Document, source: Document, mode: int, facts: Facts) -> _Files:
    files: _Files = {}
    for item in source.get("items") or []:
        if ref := item.get("fieldRef"):
            text = pod_field(pod, ref["fieldPath"], facts)
        else:
            ref = item.get("resourceFieldRef") or {}
            text = resource_field(pod, {"name": ref.get("containerName", "")}, ref, facts)
        files[item["path"]] = File(text.encode(), int(item.get("mode") or mode))
    return files


def _host_path(path: Path, kind: str) -> Path:
    if kind == "DirectoryOrCreate":
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch(0o644)
    try:
        found = stat.S_IFMT(path.stat().st_mode)
    except OSError:
        if kind:
            raise ConfigFailed(f"hostPath type check failed: {path} is not there") from None
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return path
    wanted = {
        "Directory": stat.S_IFDIR,
        "DirectoryOrCreate": stat.S_IFDIR,
        "File": stat.S_IFREG,
        "FileOrCreate": stat.S_IFREG,
        "Socket": stat.S_IFSOCK,
        "CharDevice": stat.S_IFCHR,
        "BlockDevice": stat.S_IFBLK,
    }.get(kind, found)
    if wanted != found:
        raise ConfigFailed(f"hostPath type check failed: {path} is not a {kind}")
    return path


def _empty_dir(path: Path, source: Document, security: Document) -> None:
    medium = str(source.get("medium") or "")
    if medium and os.geteuid() == 0 and not os.path.ismount(path):
        try:
            size = Quantity.of(source["sizeLimit"]).value() if source.get("sizeLimit") else 0
            page = Quantity.of(medium.partition("-")[2]).value() if "-" in medium else 0
        except (ValueError, DRAError) as error:
            raise ConfigFailed(f"emptyDir: {error}") from None
        kind = b"hugetlbfs" if medium.startswith("HugePages") else b"tmpfs"
        options = b"mode=0777" + (b",size=%d" % size if size else b"")
        options += b",pagesize=%d" % page if page else b""
        if _libc.mount(kind, os.fsencode(path), kind, 0, options) != 0:
            why = os.strerror(ctypes.get_errno())
            raise ConfigFailed(f"cannot mount a {kind.decode()} for medium {medium}: {why}")
    path.chmod(0o777)
    group = security.get("fsGroup")
    if group is not None and os.geteuid() == 0:
        os.chown(path, -1, int(group))
        path.chmod(0o2777)


def _inside(root: Path, sub_path: str) -> Path:
    """`sub_path` of a volume, made if it is not there, and never outside of the volume."""
    real_root = os.path.realpath(root)
    path = os.path.realpath(os.path.join(real_root, sub_path.lstrip("/")))
    if os.path.commonpath([path, real_root]) != real_root:
        raise ConfigFailed(f"subPath {sub_path} leads out of its volume")
    if not os.path.exists(path):
        os.makedirs(path, mode=0o755)
    return Path(path)
