"""A real `dra up` in a process of its own, and the real kubectl pointed at it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def need(tool: str) -> str:
    """The path of a tool the test wants; without it the test is skipped."""
    path = shutil.which(tool)
    if path is None and tool == "kubectl":
        path = next((str(p) for p in sorted(ROOT.glob(".tools/*/kubectl"), reverse=True)), None)
    if path is None:
        pytest.skip(f"{tool} is not installed (scripts/ci-tools.sh installs it)")
    return path


class Cluster:
    """`dra up` with its data in `folder`; `kubectl(...)` returns what kubectl printed."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.arguments = arguments
        self._kubectl = need("kubectl")
        self.environment = os.environ | {
            "DRAKIT_DATA_DIR": str(folder / "data"),
            "KUBECONFIG": str(folder / "data" / "kubeconfig"),
            "HOME": str(folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def dra(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "drakit", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert not check or done.returncode == 0, f"dra {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    def up(self) -> None:
        self.dra("up", "--detach", *self.arguments)

    def down(self) -> None:
        self.dra("down", check=False)

    @property
    def pid(self) -> int:
        return int(json.loads(self.dra("status", "-o", "json").stdout)["pid"])

    def kill(self) -> None:
        """kill -9, and wait until the process is gone."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(pid), "the killed process to go")

    def kubectl(self, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
        done = subprocess.run(
            [self._kubectl, *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            cwd=EXAMPLES,
        )
        assert not check or done.returncode == 0, (
            f"kubectl {' '.join(arguments)}: {done.stderr}\n{self.log()}"
        )
        return done.stdout if check else done.stdout + done.stderr

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get(*arguments)["items"]
        return items

    def wait_ready(self, *pods: str) -> None:
        names = [f"pod/{pod}" for pod in pods]
        self.kubectl("wait", "--for=condition=Ready", *names, "--timeout=40s")

    def log(self) -> str:
        path = self.folder / "data" / "drakit.log"
        return path.read_text()[-3000:] if path.exists() else "(no log)"


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Poll until `condition()` is true and return it; the deadline only bounds a failure."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
    return value


def devices_held(cluster: Cluster) -> list[tuple[str, str, str]]:
    """Every device that some claim holds alone, once for each claim that does."""
    return [
        (result["driver"], result["pool"], result["device"])
        for claim in cluster.items("resourceclaims", "-A")
        for result in claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", [])
        if not result.get("adminAccess") and not result.get("shareID")
    ]


def is_alive(pid: int) -> bool:
    """Whether the process has not ended; one that nobody has waited for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
