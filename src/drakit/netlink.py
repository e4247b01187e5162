"""Network interfaces of Linux, through rtnetlink: list, make, move, name, address and delete them.

The kernel answers each request on a socket, and a socket belongs to the network namespace it was made in. So
a `Netlink` works on one namespace, entered for a moment by a thread of its own when the socket is made; an
interface goes to another one by a descriptor of that. Nothing but the standard library is used: hooks that
start with containers import this module, and no machine needs the program `ip`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")

UP = 0x1
LOOPBACK = 0x8
LOWER_UP = 0x10000
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4}

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE = 16, 17, 18, 20, 22, 24, 26
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _EXCLUSIVE, _CREATE, _DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
_CAPPED, _ACK_TLVS = 0x100, 0x200
_SOL_NETLINK, _EXT_ACK, _CAP_ACK = 270, 11, 10
_GROUP_LINK = 1
_CLONE_NEWNET = 0x40000000

_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _OPERSTATE, _LINKINFO, _IFALIAS = 1, 3, 4, 5, 10, 16, 18, 20
_NET_NS_FD, _PERM_ADDRESS, _PARENT_DEV, _PARENT_BUS = 28, 54, 56, 57
_INFO_KIND, _INFO_DATA, _VETH_PEER, _MACVLAN_MODE = 1, 2, 1, 1
_STATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")


class NetlinkError(OSError):
    """The kernel refused; the text says what was asked and why not."""


class Link(NamedTuple):
    """An interface. `kind` is "" for a real one ("veth", "bridge", ...), `bus` and `device` name what is
    behind it ("pci", "0000:3b:00.0"), `parent` and `master` are indexes, 0 for none, `type` is ARP's (1 is
    Ethernet)."""

    ifindex: int
    name: str
    type: int
    flags: int
    mtu: int = 0
    mac: str = ""
    permanent_mac: str = ""
    kind: str = ""
    state: str = "unknown"
    alias: str = ""
    parent: int = 0
    master: int = 0
    bus: str = ""
    device: str = ""

    @property
    def is_up(self) -> bool:
        return bool(self.flags & UP)

    @property
    def has_carrier(self) -> bool:
        """Whether something is at the other end; only known of one that is up."""
        return bool(self.flags & LOWER_UP)


class Address(NamedTuple):
    """An address of the interface `ifindex`: "192.0.2.7/24". Scope 0 is good everywhere, 253 on the link
    alone."""

    ifindex: int
    text: str
    scope: int


def inside(namespace: str, make: Callable[[], T]) -> T:
    """What `make` returns when it is called in the network namespace whose file is `namespace`.

    A thread of its own enters it and ends afterwards, as one of a pool would stay there. Raises OSError where
    there is no such namespace (any more).
    """
    made: list[T] = []
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), namespace)
            finally:
                os.close(descriptor)
            made.append(make())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=enter, name="netns")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def find_namespace(number: int, proc: str = "/proc") -> str:
    """A file of the network namespace `number` (its inode): of a process that is in it, or a mount that keeps
    it.

    "" if there is none (any more). `proc` is where the machine's processes are.
    """
    wanted = f"net:[{number}]"
    for name in os.listdir(proc):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(f"{proc}/{name}/ns/net") == wanted:
                    return f"{proc}/{name}/ns/net"
    # In a container what the machine has mounted is seen through its first process, if that is seen.
    for process, root in (("self", ""), ("1", f"{proc}/1/root")):
        with (
            contextlib.suppress(PermissionError, FileNotFoundError),
            open(f"{proc}/{process}/mountinfo", encoding="utf-8", errors="replace") as mounts,
        ):
            for line in mounts:
                if line.split()[3] == wanted:
                    return root + line.split()[4]
    return ""


class Netlink:
    """The interfaces of the network namespace whose file is `namespace`, this process' own if there is none.

    Everything raises NetlinkError where the kernel refuses. Use it in `with`, or call `close`.
    """

    def __init__(self, namespace: str = "") -> None:
        self._socket = inside(namespace, _open) if namespace else _open()
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    # --- what is there ----------------------------------------------------------------------------

    def links(self) -> list[Link]:
        """All interfaces, by index."""
        body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)
        found = [_link(data) for kind, data in self._ask("list interfaces", _GETLINK, _DUMP, body)]
        return sorted(found, key=lambda link: link.ifindex)

    def link(self, name: str) -> Link | None:
        """The interface that is called `name` now."""
        return next((link for link in self.links() if link.name == name), None)

    def addresses(self) -> list[Address]:
        """All addresses of all interfaces."""
        found = []
        for _, data in self._ask("list addresses", _GETADDR, _DUMP, struct.pack("=BBBBI", 0, 0, 0, 0, 0)):
            _, prefix, _, scope, index = struct.unpack_from("=BBBBI", data)
            values = dict(_attributes(data[8:]))
            packed = values.get(2) or values.get(1)
            if packed:
                found.append(Address(index, f"{ipaddress.ip_address(packed)}/{prefix}", scope))
        return found

    def default_routes(self) -> set[int]:
        """The indexes of the interfaces by which the rest of the world is reached."""
        found: set[int] = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
            for _, data in self._ask("list routes", _GETROUTE, _DUMP, body):
                length, kind = data[1], data[7]
                if length == 0 and kind == 1:
                    values = dict(_attributes(data[12:]))
                    if 4 in values:
                        found.add(struct.unpack("=I", values[4])[0])
                    found.update(_next_hops(values.get(9, b"")))
        return found

    # --- changing it ------------------------------------------------------------------------------

    def add_bridge(self, name: str, mac: str) -> None:
        """`mac` keeps the bridge's address from changing with its ports."""
        self._add(name, "bridge", [_attribute(_ADDRESS, _packed_mac(mac))])

    def add_veth(self, name: str, peer: str, namespace: int, *, mac: str, mtu: int = 0) -> None:
        """A pair of interfaces: `name` here, `peer` with the address `mac` in the namespace of the
        descriptor."""
        own = [_attribute(_MTU, struct.pack("=I", mtu))] if mtu else []
        there = [
            struct.pack("=BxHiII", 0, 0, 0, 0, 0),
            _attribute(_IFNAME, _text(peer)),
            _attribute(_ADDRESS, _packed_mac(mac)),
            _attribute(_NET_NS_FD, struct.pack("=I", namespace)),
            *own,
        ]
        self._add(name, "veth", own, _attribute(_VETH_PEER, b"".join(there)))

    def add_macvlan(
        self, name: str, parent: int, mode: str, namespace: int, *, mac: str, mtu: int = 0
    ) -> None:
        """An interface with a hardware address of its own on top of `parent`, in the namespace of the
        descriptor.

        `mode` is one of MACVLAN_MODES.
        """
        attributes = [
            _attribute(_LINK, struct.pack("=I", parent)),
            _attribute(_ADDRESS, _packed_mac(mac)),
            _attribute(_NET_NS_FD, struct.pack("=I", namespace)),
        ]
        attributes += [_attribute(_MTU, struct.pack("=I", mtu))] if mtu else []
        data = _attribute(_MACVLAN_MODE, struct.pack("=I", MACVLAN_MODES[mode]))
        self._add(name, "macvlan", attributes, data)

    def _add(self, name: str, kind: str, attributes: list[bytes], data: bytes = b"") -> None:
        info = _attribute(_INFO_KIND, kind.encode()) + (_attribute(_INFO_DATA, data) if data else b"")
        body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _attribute(_IFNAME, _text(name))
        body += b"".join(attributes) + _attribute(_LINKINFO, info)
        self._do(f"make the {kind} interface {name}", _NEWLINK, _CREATE | _EXCLUSIVE, body)

    def change(
        self,
        index: int,
        *,
        name: str | None = None,
        is_up: bool | None = None,
        mtu: int | None = None,
        mac: str | None = None,
        alias: str | None = None,
        master: int | None = None,
        namespace: int | None = None,
    ) -> None:
        """Change what is given of the interface `index`; one goes to another namespace first, then
        changes."""
        flags = UP if is_up else 0
        body = struct.pack("=BxHiII", 0, 0, index, flags, 0 if is_up is None else UP)
        body += b"" if name is None else _attribute(_IFNAME, _text(name))
        body += b"" if mtu is None else _attribute(_MTU, struct.pack("=I", mtu))
        body += b"" if mac is None else _attribute(_ADDRESS, _packed_mac(mac))
        body += b"" if alias is None else _attribute(_IFALIAS, _text(alias))
        body += b"" if master is None else _attribute(_MASTER, struct.pack("=I", master))
        body += b"" if namespace is None else _attribute(_NET_NS_FD, struct.pack("=I", namespace))
        self._do(f"change the interface {name or index}", _NEWLINK, 0, body)

    def delete(self, index: int) -> None:
        """Delete the interface `index`; one that is gone already is no error."""
        body = struct.pack("=BxHiII", 0, 0, index, 0, 0)
        self._do("delete an interface", _DELLINK, 0, body, unless=errno.ENODEV)

    def add_address(self, index: int, text: str) -> None:
        """Give the interface `index` the address "192.0.2.7/24"; one that it has already is no error."""
        address = ipaddress.ip_interface(text)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        no_detection = (
            0 if address.version == 4 else 0x02
        )  # or an IPv6 address could be used a second later only
        body = struct.pack("=BBBBI", family, address.network.prefixlen, no_detection, 0, index)
        body += _attribute(2, address.packed) + _attribute(1, address.packed)
        if address.version == 4 and address.network.prefixlen < 31:
            body += _attribute(4, address.network.broadcast_address.packed)
        self._do(f"add the address {text}", _NEWADDR, _CREATE | _EXCLUSIVE, body, unless=errno.EEXIST)

    def add_route(self, index: int, destination: str, gateway: str = "", source: str = "") -> None:
        """Send what goes to `destination` ("192.0.2.0/24") through the interface `index`, by way of
        `gateway`."""
        network = ipaddress.ip_network(destination)
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        scope = 0 if gateway or network.version == 6 else 253
        body = struct.pack("=BBBBBBBBI", family, network.prefixlen, 0, 0, 254, 4, scope, 1, 0)
        body += _attribute(1, network.network_address.packed) if network.prefixlen else b""
        body += _attribute(4, struct.pack("=I", index))
        body += _attribute(5, ipaddress.ip_address(gateway).packed) if gateway else b""
        body += _attribute(7, ipaddress.ip_address(source).packed) if source else b""
        what = f"add the route to {destination}"
        self._do(what, _NEWROUTE, _CREATE | _EXCLUSIVE, body, unless=errno.EEXIST)

    # --- talking to the kernel --------------------------------------------------------------------

    def _do(self, what: str, kind: int, flags: int, body: bytes, *, unless: int = 0) -> None:
        """Have it done; the error number `unless` means that it was so already."""
        try:
            for _ in self._ask(what, kind, _ACK | flags, body):
                pass
        except NetlinkError as error:
            if error.errno != unless:
                raise

    def _ask(self, what: str, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        """The messages of the answer, until it ends."""
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | flags, self._sequence, 0)
        self._socket.send(header + body)
        while True:
            data = self._socket.recv(1 << 18)
            while len(data) >= 16:
                length, answer, answer_flags, sequence, _ = struct.unpack_from("=IHHII", data)
                message, data = data[16:length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:
                    continue
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    _check(what, message, answer_flags)
                    return
                yield answer, message


def watch_links(namespace: str = "") -> socket.socket:
    """A socket that can be read whenever an interface of `namespace` comes, goes or changes."""

    def listen() -> socket.socket:
        made = _open()
        made.bind((0, _GROUP_LINK))
        made.setblocking(False)
        return made

    return inside(namespace, listen) if namespace else listen()


def _open() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    for option in (_EXT_ACK, _CAP_ACK):
        with contextlib.suppress(OSError):
            made.setsockopt(_SOL_NETLINK, option, 1)
    return made


def _check(what: str, message: bytes, flags: int) -> None:
    number = -struct.unpack_from("=i", message)[0]
    if number == 0:
        return
    words = os.strerror(number)
    if flags & _ACK_TLVS and flags & _CAPPED:
        said = dict(_attributes(message[20:])).get(1, b"").rstrip(b"\0").decode(errors="replace")
        words += f" ({said})" if said else ""
    raise NetlinkError(number, f"cannot {what}: {words}")


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def _next_hops(data: bytes) -> Iterator[int]:
    while len(data) >= 8:
        length, _, _, index = struct.unpack_from("=HBBi", data)
        yield index
        data = data[max(length + 3 & ~3, 8) :]


def _link(data: bytes) -> Link:
    _, kind, index, flags, _ = struct.unpack_from("=BxHiII", data)
    values = dict(_attributes(data[16:]))

    def number(key: int) -> int:
        value = values.get(key, b"")
        return int.from_bytes(value[:4], "little" if struct.pack("=H", 1)[0] else "big")

    def text(key: int) -> str:
        return values.get(key, b"").rstrip(b"\0").decode(errors="replace")

    info = dict(_attributes(values.get(_LINKINFO, b"")))
    state = number(_OPERSTATE)
    return Link(
        ifindex=index,
        name=text(_IFNAME),
        type=kind,
        flags=flags,
        mtu=number(_MTU),
        mac=values.get(_ADDRESS, b"").hex(":"),
        permanent_mac=values.get(_PERM_ADDRESS, b"").hex(":"),
        kind=info.get(_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace"),
        state=_STATES[state] if state < len(_STATES) else "unknown",
        alias=text(_IFALIAS),
        parent=number(_LINK),
        master=number(_MASTER),
        bus=text(_PARENT_BUS),
        device=text(_PARENT_DEV),
    )


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _packed_mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
