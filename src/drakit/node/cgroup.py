"""Reading and removing cgroups, in both of the kernel's versions."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path


@functools.cache
def _hierarchies() -> dict[str, str]:
    """The mount point of each v1 controller; of v2 the one called ""."""
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            before, _, after = line.partition(" - ")
            kind, _, options = after.split()[:3]
            place = before.split()[4]
            if kind == "cgroup2":
                found.setdefault("", place)
            elif kind == "cgroup":
                found |= dict.fromkeys(options.split(","), place)
    return found


def limits_huge_pages() -> bool:
    """Whether this machine has the controller for it, in the version that runtimes use: the first where there
    is any of it."""
    if "memory" in _hierarchies():
        return "hugetlb" in _hierarchies()
    with contextlib.suppress(OSError, KeyError):
        return "hugetlb" in Path(_hierarchies()[""], "cgroup.controllers").read_text().split()
    return False


def _folder(controller: str, cgroup: str) -> Path | None:
    place = _hierarchies().get(controller)
    return Path(place, cgroup.lstrip("/")) if place else None


def _number(folder: Path | None, name: str, key: str = "") -> int | None:
    """The number in the file `name`, or behind `key` in it."""
    if folder is None:
        return None
    with contextlib.suppress(OSError, ValueError):
        text = (folder / name).read_text()
        if not key:
            return int(text)
        return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(key + " ")), None)
    return None


class CgroupUsage:
    """What the cgroup at the path `cgroup` (below every hierarchy's root) uses."""

    def __init__(self, cgroup: str) -> None:
        self._cgroup = cgroup

    def cpu_seconds(self) -> float:
        nanoseconds = _number(_folder("cpuacct", self._cgroup), "cpuacct.usage")
        if nanoseconds is not None:
            return nanoseconds / 1e9
        return (_number(_folder("", self._cgroup), "cpu.stat", "usage_usec") or 0) / 1e6

    def memory_bytes(self) -> int:
        used = _number(_folder("memory", self._cgroup), "memory.usage_in_bytes")
        return used if used is not None else _number(_folder("", self._cgroup), "memory.current") or 0


def is_oom_killed(cgroup: str) -> bool:
    """Whether the kernel killed something in it for want of memory."""
    kills = _number(_folder("memory", cgroup), "memory.oom_control", "oom_kill")
    if kills is None:
        kills = _number(_folder("", cgroup), "memory.events", "oom_kill")
    return bool(kills)


def remove_cgroups(cgroup: str) -> bool:
    """Remove the cgroup and those below it from every hierarchy, as far as they are empty; whether all are
    gone."""
    roots = [Path(place, cgroup.lstrip("/")) for place in set(_hierarchies().values())]
    for root in roots:
        for folder, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    return not any(root.exists() for root in roots)
