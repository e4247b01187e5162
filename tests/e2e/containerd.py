"""A containerd of our own: its files, sockets, cgroups and network below one folder, images from this
machine.

Its pods get a network namespace with loopback from a plugin of a few lines, which tells of an address that
leads nowhere: enough for what is tested here, and the host's interfaces and firewall are left alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import ROOT, need

BINARIES = Path(os.environ.get("DRAKIT_CONTAINERD") or ROOT / ".tools" / "containerd" / "usr" / "bin")
"""DRAKIT_CONTAINERD names another folder with containerd, ctr and the shim: those of containerd 2 do too."""
IMAGE = "localhost/busybox:1"
CONFIG = """
version = 2
root = "{root}/lib"
state = "{root}/run"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
address = "{root}/c.sock"
[ttrpc]
address = "{root}/t.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"
[plugins."io.containerd.grpc.v1.cri"]
enable_cdi = {cdi}
cdi_spec_dirs = ["{root}/cdi"]
restrict_oom_score_adj = true
sandbox_image = "{image}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{root}/cni"
conf_dir = "{root}/cni.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""
PLUGIN = """#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"0.4.0","supportedVersions":["0.4.0"]}' ;;
ADD)
  nsenter --net="$CNI_NETNS" ip link set lo up
  echo '{"cniVersion":"0.4.0","interfaces":[{"name":"'$CNI_IFNAME'","sandbox":"'$CNI_NETNS'"}],' \\
    '"ips":[{"version":"4","interface":0,"address":"192.0.2.9/24"}]}' ;;
esac
"""
NETWORK = {"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "test"}]}


class Containerd:
    """The daemon, between `start` and `stop`. `socket` is where it speaks CRI, `cdi` the folder it reads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = str(root / "c.sock")
        self.cdi = root / "cdi"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._environment = os.environ | {"PATH": f"{BINARIES}:/usr/sbin:{os.environ['PATH']}"}

    def start(self, *, cdi: bool = True) -> None:
        for name in ("cdi", "cni", "cni.d"):
            (self.root / name).mkdir(exist_ok=True)
        for name in ("test", "loopback"):
            (self.root / "cni" / name).write_text(PLUGIN)
            (self.root / "cni" / name).chmod(0o755)
        (self.root / "cni.d" / "test.conflist").write_text(json.dumps(NETWORK))
        text = CONFIG.format(root=self.root, image=IMAGE, runc=shutil.which("runc"), cdi=str(cdi).lower())
        (self.root / "config.toml").write_text(text)
        with (self.root / "containerd.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [BINARIES / "containerd", "--config", self.root / "config.toml"],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while self._daemon.poll() is None and self._ctr("version").returncode:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        assert self._daemon.poll() is None, self.log()

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.send_signal(signal.SIGTERM)
            self._daemon.wait(20)
            self._daemon = None

    @property
    def version(self) -> str:
        """Of the daemon: "1.7"."""
        said = subprocess.run(
            [BINARIES / "containerd", "--version"], capture_output=True, text=True, check=True
        )
        return ".".join(said.stdout.split()[2].removeprefix("v").split(".")[:2])

    def import_image(self, archive: Path) -> None:
        done = self._ctr("images", "import", str(archive))
        assert done.returncode == 0, done.stderr

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(BINARIES / "ctr"), "-a", self.socket, "-n", "k8s.io", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60)

    def log(self) -> str:
        return (self.root / "containerd.log").read_text()[-3000:]


def need_containerd() -> None:
    """Skip where the test cannot run."""
    for tool in ("runc", "busybox", "ip", "nsenter"):
        need(tool)
    if not (BINARIES / "containerd").exists():
        pytest.skip("there is no containerd in .tools (scripts/ci-tools.sh fetches it)")


def write_image(path: Path, name: str = IMAGE) -> None:
    """An OCI archive with one static busybox, which sleeps unless it is told to do something else."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        busybox = Path(need("busybox")).read_bytes()
        for folder in ("bin", "tmp", "etc"):
            _add(tar, folder, None, 0o1777 if folder == "tmp" else 0o755)
        _add(tar, "bin/busybox", busybox, 0o755)
        _add(tar, "etc/passwd", b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
        _add(tar, "etc/group", b"root:x:0:\nuser:x:1000:\n")
        for applet in (
            "sh",
            "sleep",
            "cat",
            "id",
            "env",
            "ls",
            "nc",
            "hostname",
            "stty",
            "ps",
            "touch",
            "grep",
        ):
            info = tarfile.TarInfo(f"bin/{applet}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(info)
    data = layer.getvalue()
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "OF_IMAGE=yes"], "Cmd": ["sleep", "2147483647"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}"]},
    }
    kind = "application/vnd.oci.image"
    with tarfile.open(path, "w") as tar:
        layers = [_blob(tar, f"{kind}.layer.v1.tar", data)]
        packed = _blob(tar, f"{kind}.config.v1+json", json.dumps(config).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": packed,
            "layers": layers,
        }
        entry = _blob(tar, f"{kind}.manifest.v1+json", json.dumps(manifest).encode())
        entry["annotations"] = {"io.containerd.image.name": name}
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def _blob(tar: tarfile.TarFile, kind: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    _add(tar, f"blobs/sha256/{digest}", data)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def _add(tar: tarfile.TarFile, name: str, data: bytes | None, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.mode, info.size = mode, len(data or b"")
    info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
    tar.addfile(info, io.BytesIO(data or b""))
