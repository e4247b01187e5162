"""What a plugin's sockets are called, as in Go's helper, so that probes and both kinds of drivers agree.

The path of a unix socket is short. With a pod's UID in its name it may be too long: then a hash stands for
the UID, and at last for the driver's name too. The kubelet does not mind: it asks whoever answers who it is.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from drakit.errors import UsageError

MAX_SOCKET_PATH = 100
"""Bytes of a socket's path; the kernel stops at 107."""


def check_socket_path(path: Path) -> None:
    """Raises UsageError if `path` is too long for a unix socket."""
    if len(os.fsencode(os.path.abspath(path))) > MAX_SOCKET_PATH:
        raise UsageError(
            f"socket path {path} is longer than {MAX_SOCKET_PATH} bytes: choose a shorter folder"
        )


def plugin_socket(driver: str, plugins_dir: Path, pod_uid: str = "") -> Path:
    """Where `driver` answers the kubelet's calls. Raises UsageError where no name is short enough."""
    names = [f"dra-{pod_uid}.sock", f"dra-{_hash(pod_uid, 8)}.sock"] if pod_uid else ["dra.sock"]
    return _fitting(plugins_dir.absolute() / driver, names)


def registry_socket(driver: str, registry_dir: Path, pod_uid: str = "") -> Path:
    """Where `driver` tells the kubelet about itself. Raises UsageError where no name is short enough."""
    names = [f"{driver}-reg.sock"]
    if pod_uid:
        both = _hash(f"{driver}\0{pod_uid}", 16)
        names = [
            f"{driver}-{pod_uid}-reg.sock",
            f"{driver}-{_hash(pod_uid, 8)}-reg.sock",
            f"dra-{both}-reg.sock",
        ]
    return _fitting(registry_dir.absolute(), names)


def _fitting(folder: Path, names: Sequence[str]) -> Path:
    """The first of `names` that is not too long in `folder`."""
    for name in names[:-1]:
        with contextlib.suppress(UsageError):
            check_socket_path(folder / name)
            return folder / name
    check_socket_path(folder / names[-1])
    return folder / names[-1]


def _hash(text: str, size: int) -> str:
    digest = hashlib.sha256(text.encode()).digest()[:size]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
