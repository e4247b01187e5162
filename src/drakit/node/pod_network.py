"""A private network for the pods of a machine, of which the host sees nothing.

A bridge in a network namespace of its own joins the pods: each has a veth pair, `eth0` in the pod and the
other end at the bridge. The host's interfaces, routes, iptables and ip_forward stay as they are, and its
addresses cannot clash with the pods'. What a pod needs of the host, the API server, comes another way (see
`api_door`).

The namespace lives as long as the process that holds it, which outlives the agent as containers do; when it
ends, the kernel takes away everything in it. Addresses are remembered with the sandboxes.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import itertools
import logging
import os
import signal
from collections.abc import Collection
from pathlib import Path

import msgspec
from msgspec import Struct

from drakit.netlink import Netlink, NetlinkError
from drakit.node.child import Child, is_alive, send_signal, wait_gone
from drakit.node.holder import hold
from drakit.node.record import write_file
from drakit.node.runtime import RuntimeFailed

_BRIDGE = "bridge"
_BRIDGE_MAC = "02:64:72:6b:00:01"
_NODE_PREFIX = 24
SUBNET = ipaddress.IPv4Network("10.244.0.0/16")

_log = logging.getLogger(__name__)


class _Holder(Struct):
    pid: int
    started: int


class PodNetwork:
    """The network of all pods whose holder is noted in the file `note`. Its nodes are numbered from 0."""

    def __init__(self, note: Path) -> None:
        self._note = note
        self._child: Child | None = None
        self._lock = asyncio.Lock()

    def of_node(self, index: int) -> NodeNetwork:
        """The part of node `index`: the addresses 10.244.<index>.0/24."""
        subnets = SUBNET.subnets(new_prefix=_NODE_PREFIX)
        return NodeNetwork(self, next(itertools.islice(subnets, index, None)))

    async def join(self, sandbox_pid: int, address: str) -> None:
        """Give the pod whose namespace `sandbox_pid` holds an interface `eth0` with `address`, "10.244.0.2".

        Raises NetlinkError where the kernel refuses, RuntimeFailed where the pod is gone.
        """
        async with self._lock:
            holder = await self._hold()
            await asyncio.to_thread(_join, holder, sandbox_pid, address)

    async def remove(self) -> None:
        """End the network; pods that are still there lose it."""
        if (holder := self._read()) is not None:
            send_signal(holder.pid, holder.started, signal.SIGKILL)
            await wait_gone(holder.pid, holder.started)
        if self._child is not None:
            await self._child.wait()
            self._child = None
        self._note.unlink(missing_ok=True)

    async def _hold(self) -> int:
        """The process that holds the namespace of the bridge, started if there is none."""
        holder = self._read()
        if holder is None or not is_alive(holder.pid, holder.started):
            if self._child is not None:
                await self._child.wait()
            self._child = await hold("", ["net"])
            holder = _Holder(self._child.pid, self._child.ticks)
            write_file(self._note, msgspec.json.encode(holder))
        return holder.pid

    def _read(self) -> _Holder | None:
        try:
            return msgspec.json.decode(self._note.read_bytes(), type=_Holder)
        except (OSError, msgspec.MsgspecError):
            return None


class NodeNetwork:
    """The addresses of one node's pods in `network`: those of `subnet`, the first left out as others do."""

    def __init__(self, network: PodNetwork, subnet: ipaddress.IPv4Network) -> None:
        self._network = network
        self._subnet = subnet
        self._last = 1
        self._is_possible = True

    async def join(self, sandbox_pid: int, taken: Collection[str]) -> str:
        """Connect the pod and return its address, which is none of `taken`; "" where this kernel cannot.

        Addresses go round, so that one is not used again at once. Raises RuntimeFailed.
        """
        if not self._is_possible:
            return ""
        count = self._subnet.num_addresses - 3
        for step in range(1, count + 1):
            offset = (self._last - 2 + step) % count + 2
            address = str(self._subnet[offset])
            if address not in taken:
                break
        else:
            raise RuntimeFailed(f"all addresses of {self._subnet} are taken by pods")
        self._last = offset
        try:
            await self._network.join(sandbox_pid, address)
        except NetlinkError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                raise RuntimeFailed(f"cannot connect the pod's network: {error.strerror}") from None
            _log.warning("pods have no network beside loopback: %s", error.strerror)
            self._is_possible = False
            return ""
        return address


def _join(holder: int, sandbox_pid: int, address: str) -> None:
    # The name of the pair's other end comes from the address: it is new, and an old one of it is a leftover.
    last = ipaddress.IPv4Address(address).packed
    name = f"pod{last[2]}.{last[3]}"
    mac = ":".join(f"{number:02x}" for number in (0x02, 0x64, *last))
    there = f"/proc/{sandbox_pid}/ns/net"
    try:
        namespace = os.open(there, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Netlink(f"/proc/{holder}/ns/net") as switch:
                _connect(switch, name, mac, namespace)
        finally:
            os.close(namespace)
        with Netlink(there) as pod:
            eth0 = pod.link("eth0")
            if eth0 is None:
                raise RuntimeFailed("the pod's network interface is gone")
            pod.add_address(eth0.ifindex, f"{address}/{SUBNET.prefixlen}")
            pod.change(eth0.ifindex, is_up=True)
    except NetlinkError:
        raise
    except OSError as error:
        raise RuntimeFailed(f"cannot connect the pod's network: {error.strerror}") from None


def _connect(switch: Netlink, name: str, mac: str, namespace: int) -> None:
    bridge, old = switch.link(_BRIDGE), switch.link(name)
    if bridge is None:
        switch.add_bridge(_BRIDGE, _BRIDGE_MAC)
        bridge = switch.link(_BRIDGE)
        assert bridge is not None
        switch.change(bridge.ifindex, is_up=True)
    if old is not None:
        switch.delete(old.ifindex)
    switch.add_veth(name, "eth0", namespace, mac=mac)
    port = switch.link(name)
    assert port is not None
    switch.change(port.ifindex, master=bridge.ifindex, is_up=True)
