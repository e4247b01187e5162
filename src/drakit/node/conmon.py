"""conmon: the process beside each real container that keeps its log and its exit code.

It is told to create the container with runc, says on a pipe how that went, and then lives on as a daemon
until the container has ended. Its log has the kubelet's format; its exit file holds the code.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

from drakit.node.child import spawn
from drakit.node.runtime import ContainerSpec, RuntimeFailed

LOG_SIZE_LIMIT = 16 << 20
"""Bytes after which conmon begins a log anew."""

_SYNC = 3
_SAID = re.compile(r'msg="((?:[^"\\]|\\.)*)"')


class Conmon:
    """The program `conmon`, for containers that `runc` makes with its state below `root`."""

    def __init__(self, conmon: str, runc: str, root: Path) -> None:
        self._conmon = conmon
        self._runc = runc
        self._root = root

    async def create(self, cid: str, folder: Path, spec: ContainerSpec) -> int:
        """Create the container whose bundle is `folder`; the pid of its first process, which waits to be
        started. Raises RuntimeFailed with what runc said."""
        Path(spec.log_path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        sync_reader, sync_writer = os.pipe()
        error_reader, error_writer = os.pipe()
        env = {"PATH": os.environ.get("PATH", os.defpath), "_OCI_SYNCPIPE": str(_SYNC)}
        try:
            child = spawn(
                self._argv(cid, folder, spec),
                env=env,
                descriptors={2: error_writer, _SYNC: sync_writer},
                new_session=True,
            )
        except BaseException:
            os.close(sync_reader)
            os.close(error_reader)
            raise
        finally:
            os.close(sync_writer)
            os.close(error_writer)
        with os.fdopen(sync_reader, "rb") as sync, os.fdopen(error_reader, "rb") as errors:
            line = await asyncio.to_thread(sync.readline)
            await child.wait()  # conmon's first process; the one that stays is a grandchild
            os.set_blocking(errors.fileno(), False)
            said = (errors.read() or b"").decode(errors="replace").strip()
        answer = json.loads(line) if line.strip() else {}
        pid = int(answer.get("data", -1))
        if pid <= 0:
            reason = str(answer.get("message") or said or "conmon said nothing").strip()
            raise RuntimeFailed(f"cannot create the container: {last_words(reason)}")
        return pid

    def _argv(self, cid: str, folder: Path, spec: ContainerSpec) -> list[str]:
        # conmon leaves a file in its working directory when the kernel kills for want of memory.
        argv = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(folder)]
        argv += [self._conmon, "--api-version", "1", "-c", cid, "-u", cid, "-n", cid, "-r", self._runc]
        argv += ["--runtime-arg", "--root", "--runtime-arg", str(self._root / "state")]
        argv += ["-b", str(folder), "-p", str(folder / "pid"), "--persist-dir", str(folder)]
        argv += ["--exit-dir", str(self._root / "exits"), "--socket-dir-path", str(self._root / "sockets")]
        argv += [
            "-l",
            f"k8s-file:{spec.log_path}",
            "--log-size-max",
            str(LOG_SIZE_LIMIT),
            "--log-level",
            "error",
        ]
        argv += ["-t"] if spec.has_terminal else []
        argv += ["-i"] if spec.has_stdin else []
        # Without it stdin ends with the first client that leaves, as stdinOnce asks.
        return [*argv, *(["--leave-stdin-open"] if spec.has_stdin and not spec.is_stdin_once else [])]


def last_words(text: str) -> str:
    """The part of a runtime's chatter that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in reversed(lines):
        if said := _SAID.search(line):
            return said.group(1).replace('\\"', '"')[-1000:]
        if "level=error" in line or len(lines) == 1 or "fail" in line or "unable" in line:
            return line[-1000:]
    return lines[-1][-1000:] if lines else ""
