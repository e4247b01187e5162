"""The createRuntime hook that puts an interface into a pod: `python -I -S hook.py SOURCE PLAN`, OCI state on
stdin.

The container runtime starts it in the host's namespaces before the container's own program runs, and tells
the process that has the pod's network namespace. This is the one way that runc, crun, containerd, CRI-O and
podman all have, without a service that they must be connected to. All containers of a pod share the
namespace, and each that names the claim brings the hook: whoever comes second finds everything done. A veth
pair or macvlan is made here, in the namespace itself, so that it cannot outlive the pod.

What was done is noted in a file for the driver, before and after. Run as a program of its own with nothing
but the standard library (SOURCE is the folder of the package): it starts with every container.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])

from drakit.netlink import Link, Netlink, NetlinkError, find_namespace

_TRIES = 5
_MAX_NAMES = 1000


class Refused(Exception):
    """The interface cannot go into this pod."""


def main(plan: dict[str, Any], pid: int) -> None:
    """Do what `plan` says for the pod of the process `pid`. Raises Refused or OSError."""
    there = f"/proc/{pid}/ns/net"
    with contextlib.ExitStack() as stack:
        namespace = os.open(there, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, namespace)
        number = os.fstat(namespace).st_ino
        if number == os.stat(plan["host"] or "/proc/self/ns/net").st_ino:
            raise Refused("the pod shares the host's network: it cannot be given an interface")
        lock = os.open(os.path.join(plan["folder"], "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        host = stack.enter_context(Netlink(plan["host"]))
        pod = stack.enter_context(Netlink(there))
        _check_free(plan, number)
        link = _find(pod, plan) or _bring(host, pod, plan, namespace)
        _configure(pod, link, plan)
        write_note(plan, number, _named(pod, link.name))


def noted_namespace(plan: dict[str, Any]) -> int:
    """The pod's namespace in which the note says that the plan's device is, 0 without a note."""
    try:
        with open(os.path.join(plan["folder"], f"{plan['key']}.json")) as file:
            return int(json.load(file)["namespace"])
    except FileNotFoundError:
        return 0


def write_note(plan: dict[str, Any], namespace: int, link: Link | None = None) -> None:
    """Note that the plan's device goes to a pod's namespace, and when it is done, how it is there."""
    content: dict[str, Any] = {"namespace": namespace, "is_made": plan["kind"] != "interface"}
    content |= {"source": plan["source"], "end": plan["end"], "mac": plan["mac"]}
    if link is not None:
        content |= {"name": link.name, "mac": link.mac, "addresses": plan["addresses"]}
    path = os.path.join(plan["folder"], f"{plan['key']}.json")
    hidden = f"{path}.new"
    with open(hidden, "w") as file:
        json.dump(content, file)
    os.replace(hidden, path)


def _check_free(plan: dict[str, Any], number: int) -> None:
    """Raises Refused if the device is in another pod than that of the namespace `number`.

    The note may be older than the namespaces, whose numbers come again: what counts is that it is there.
    """
    known = noted_namespace(plan)
    place = find_namespace(known) if known != number else ""
    if place:
        with contextlib.suppress(FileNotFoundError), Netlink(place) as other:
            if _find(other, plan):
                raise Refused("another pod with the same claim has it")


def _find(netlink: Netlink, plan: dict[str, Any]) -> Link | None:
    """The plan's interface, if it is here: what was made has an address of its own, the rest is marked."""
    for link in netlink.links():
        if plan["kind"] == "interface":
            if link.alias.split(" ")[:3] == plan["mark"].split(" ")[:3]:
                return link
        elif (link.kind, link.mac) == (plan["kind"], plan["mac"]):
            return link
    return None


def _bring(host: Netlink, pod: Netlink, plan: dict[str, Any], namespace: int) -> Link:
    name = _free_name(pod, plan)
    link = None
    if plan["kind"] != "veth":
        wanted = plan["parent"] or plan["source"]
        link = (_find(host, plan) if plan["source"] else None) or host.link(wanted)
        if link is None:
            raise Refused(f"the interface {wanted} is not there")
    write_note(plan, os.fstat(namespace).st_ino)
    if link is None:
        _make_veth(host, plan, name, namespace)
    elif plan["kind"] == "macvlan":
        host.change(link.ifindex, is_up=True)
        host.add_macvlan(name, link.ifindex, plan["mode"], namespace, mac=plan["mac"], mtu=plan["mtu"])
    else:
        host.change(link.ifindex, alias=plan["mark"])
        host.change(link.ifindex, is_up=False)
        host.change(link.ifindex, name=name, namespace=namespace)
    return _named(pod, name)


def _free_name(pod: Netlink, plan: dict[str, Any]) -> str:
    """What the interface is called in the pod: what is wanted, else its own name, else the next net<n>."""
    taken = {link.name for link in pod.links()}
    wanted: str = plan["name"]
    if wanted in taken:
        raise Refused(f"the pod has an interface {wanted} already: choose another interface.name")
    numbered = (f"net{number}" for number in range(1, _MAX_NAMES))
    own = [plan["source"]] if plan["kind"] == "interface" else []
    return wanted or next(name for name in (*own, *numbered) if name not in taken)


def _make_veth(host: Netlink, plan: dict[str, Any], name: str, namespace: int) -> None:
    """A pair: one end in the pod, the other at the bridge, which is made if need be."""
    old = host.link(plan["end"])
    if old is not None:  # of a pod that is gone, or of one that the kernel still takes apart
        host.delete(old.ifindex)
    host.add_veth(plan["end"], name, namespace, mac=plan["mac"], mtu=plan["mtu"])
    end = _named(host, plan["end"])
    host.change(end.ifindex, alias=plan["mark"])
    for _ in range(_TRIES):
        bridge = host.link(plan["bridge"])
        try:
            if bridge is None:
                host.add_bridge(plan["bridge"], plan["bridge_mac"])
                bridge = _named(host, plan["bridge"])
            host.change(bridge.ifindex, is_up=True)
            host.change(end.ifindex, master=bridge.ifindex, is_up=True)
            return
        except (NetlinkError, Refused) as error:  # made or removed by somebody else at the same moment
            problem = error
    raise problem


def _configure(pod: Netlink, link: Link, plan: dict[str, Any]) -> None:
    if plan["mac"] and plan["mac"] != link.mac:
        pod.change(link.ifindex, mac=plan["mac"])
    if plan["mtu"] and plan["mtu"] != link.mtu:
        pod.change(link.ifindex, mtu=plan["mtu"])
    for address in plan["addresses"]:
        pod.add_address(link.ifindex, address)
    pod.change(link.ifindex, is_up=True)
    for route in plan["routes"]:
        pod.add_route(link.ifindex, route["destination"], route["gateway"], route["source"])


def _named(netlink: Netlink, name: str) -> Link:
    link = netlink.link(name)
    if link is None:
        raise Refused(f"the interface {name} is gone")
    return link


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[2]), int(json.load(sys.stdin)["pid"]))
    except (Refused, OSError, KeyError, ValueError) as error:
        sys.exit(f"network interface for the pod: {getattr(error, 'strerror', None) or error}")
