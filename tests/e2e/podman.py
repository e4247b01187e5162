"""podman 4.3 with everything of its own below one folder: a second reader of CDI files.

Where CDI files lie cannot be told to it: a file to be read is put into the machine's folder for a moment. Its
storage is named on the command line, since the process that cleans up after a container reads no environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cluster import ROOT, need

FOLDER = ROOT / ".tools" / "podman" / "usr"
MACHINE_CDI = Path("/var/run/cdi")
CONFIG = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
static_dir = "{root}/static"
tmp_dir = "{root}/tmp"
volume_path = "{root}/volumes"
[engine.runtimes]
runc = ["{runc}"]
"""


class Podman:
    def __init__(self, root: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("this podman needs root")
        if not (FOLDER / "bin" / "podman").exists():
            pytest.skip("there is no podman in .tools (scripts/ci-tools.sh fetches it)")
        need("conmon")
        self.root = root
        (root / "containers.conf").write_text(CONFIG.format(root=root, runc=shutil.which("runc")))
        bin_folder = root / "rootfs" / "bin"
        bin_folder.mkdir(parents=True, exist_ok=True)
        for name in ("proc", "sys", "dev", "tmp", "etc"):
            (root / "rootfs" / name).mkdir(exist_ok=True)
        shutil.copy(need("busybox"), bin_folder / "busybox")
        for name in ("sh", "env", "cat", "id", "ls"):
            (bin_folder / name).symlink_to("busybox")

    def run(self, device: str, cdi: Path, script: str) -> str:
        """What `script` prints in a container with the `device` of the file `cdi`, or podman's error."""
        MACHINE_CDI.mkdir(mode=0o755, parents=True, exist_ok=True)
        place = MACHINE_CDI / f"drakit-test-{os.getpid()}.json"
        shutil.copy(cdi, place)
        command = ["run", "--rm", "--network", "none", "--device", device]
        command += ["--rootfs", f"{self.root}/rootfs", "sh", "-c", script]
        try:
            return self._podman(*command)
        finally:
            place.unlink()

    def images(self, archive: Path) -> str:
        """What `podman image ls` shows once the OCI `archive` is taken in."""
        policy = self.root / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        said = self._podman("pull", "--signature-policy", str(policy), f"oci-archive:{archive}")
        return self._podman("image", "ls") or said

    def _podman(self, *arguments: str) -> str:
        command = [str(FOLDER / "bin" / "podman"), "--root", f"{self.root}/graph"]
        command += ["--runroot", f"{self.root}/run", "--storage-driver", "vfs", *arguments]
        libraries = next((FOLDER / "lib").glob("*-linux-gnu"))
        environment = os.environ | {
            "CONTAINERS_CONF": f"{self.root}/containers.conf",
            "LD_LIBRARY_PATH": str(libraries),
        }
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        return done.stdout if done.returncode == 0 else done.stderr
