"""The createRuntime hook that pins a container: `python -I -S pin.py FOLDER CPUS`, OCI state on stdin.

A container may have several CPU devices, and each brings this hook. So what earlier hooks of the same
container gave is kept in a file of FOLDER, and each pins to all of it. The container's own cpuset cgroup is
used where it has one that may be written, which also holds what is started in it later; otherwise the CPU
affinity of its process, which its children inherit.

Run as a program of its own with nothing but the standard library: it starts with every container.
"""

import contextlib
import json
import os
import sys


def parse(text: str) -> set[int]:
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def ticks(pid: str) -> str:
    """When the process was started, "" if it does not live: together with its pid no other is the same."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def remember(folder: str, pid: int, cpus: set[int]) -> set[int]:
    """All CPUs that hooks of this container have brought, these included; files of dead processes go."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for name in os.listdir(folder):
        other, _, started = name.partition("-")
        if ticks(other) != started:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))
    path = os.path.join(folder, f"{pid}-{ticks(str(pid))}")
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        cpus = cpus | parse(file.read())
    with open(path, "w") as file:
        file.write(",".join(map(str, sorted(cpus))))
    return cpus


def cpuset_folders(pid: str) -> list[str]:
    """Where the process' cpuset cgroup may be: version 1, or version 2 alone or beside it."""
    found = []
    with open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            if "cpuset" in controllers.split(","):
                found.append(f"/sys/fs/cgroup/cpuset{path}")
            elif number == "0":
                found += [f"/sys/fs/cgroup{path}", f"/sys/fs/cgroup/unified{path}"]
    return found


def pin_cgroup(pid: int, cpus: set[int]) -> bool:
    """Set the cpuset of the container's own cgroup; never of one that it shares with this program."""
    for folder, ours in zip(cpuset_folders(str(pid)), cpuset_folders("self"), strict=False):
        if folder == ours:
            continue
        try:
            with open(f"{folder}/cpuset.cpus", "w") as file:
                file.write(",".join(map(str, sorted(cpus))))
        except OSError:
            continue
        if os.sched_getaffinity(pid) <= cpus:
            return True
    return False


def pin_threads(pid: int, cpus: set[int]) -> None:
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cpus)


def main() -> None:
    folder, text = sys.argv[1:]
    pid = int(json.load(sys.stdin)["pid"])
    cpus = remember(folder, pid, parse(text))
    if not pin_cgroup(pid, cpus):
        pin_threads(pid, cpus)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"cannot pin the container to CPUs {sys.argv[2:]}: {error}")
