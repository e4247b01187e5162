"""Taking interfaces back from pods, whatever happened meanwhile.

The pod may still be there, be gone, or just be taken apart by the kernel, which then puts a real interface
into the first network namespace under the name it has. The mark on it says what it was (see `mark`); what was
made for a pod is deleted. Every step may be repeated.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from drakit.drivers.net import mark
from drakit.netlink import Link, Netlink, NetlinkError, find_namespace

_RETURN_SECONDS = 2.0
_LOOK_SECONDS = 0.05

_log = logging.getLogger(__name__)


class Note(Struct, frozen=True):
    """What the hook wrote: the number of the pod's namespace, whether the interface was made for it (with the
    address `mac`, and `end` on the host) or is the host's `source`, and when it was done, how it is there."""

    namespace: int
    is_made: bool
    source: str = ""
    end: str = ""
    mac: str = ""
    name: str = ""
    addresses: list[str] = []

    @property
    def is_done(self) -> bool:
        return bool(self.name)


class Keeper:
    """The interfaces that the driver instance `owner` gave to pods out of the namespace `host` ("" is ours).

    `folder` has the hook's notes, and `proc` is the machine's /proc. Nothing is done while a hook is at work.
    """

    def __init__(self, owner: str, host: str, folder: Path, proc: Path) -> None:
        self.owner = owner
        self.host = host
        self.folder = folder
        self._proc = proc

    def note(self, key: str) -> Note | None:
        """What the hook says of the device `key`, None if it did not run."""
        try:
            return msgspec.json.decode((self.folder / f"{key}.json").read_bytes(), type=Note)
        except (OSError, msgspec.MsgspecError):
            return None

    def link_in_pod(self, key: str) -> Link | None:
        """The interface of the device `key` in its pod, None if it is not there (any more)."""
        note = self.note(key)
        place = find_namespace(note.namespace, str(self._proc)) if note else ""
        if not note or not place:
            return None
        with contextlib.suppress(OSError), Netlink(place) as pod:
            return self._find(pod, key, note)
        return None

    def give_back(self, key: str, addresses: Iterable[str] = ()) -> None:
        """Take back the interface of the device `key`; a real one gets `addresses` again.

        Raises NetlinkError where the kernel refuses.
        """
        with self._alone(), Netlink(self.host) as host:
            self._give_back(host, key, addresses)

    def recover(self, known: Callable[[], Collection[str]], *, is_last: bool = False) -> bool:
        """Take back whatever belongs to no claim of `known` (their UIDs), and whether that was anything.

        With `is_last` also what is here of pods of known ones that are gone for now.
        """
        with self._alone(), Netlink(self.host) as host:
            keys = [path.stem for path in self.folder.glob("*.json")]
            marks = [(link, marked) for link in host.links() if (marked := mark.read(link))]
            uids = known()  # asked last: who prepares a claim enters it before
            lost = [key for key in keys if _uid(key) not in uids]
            for key in lost:
                self._give_back(host, key, ())
            found = bool(lost)
            for link, marked in marks:
                if marked.owner != self.owner or marked.key in lost:
                    continue
                if _uid(marked.key) in uids and not (is_last and self.link_in_pod(marked.key) is None):
                    continue
                if mark.is_made(link):
                    host.delete(link.ifindex)
                else:
                    _restore(host, link, marked, ())
                found = True
        return found

    def drop_bridge(self, name: str) -> None:
        """Delete the bridge `name` if nothing is connected to it."""
        with Netlink(self.host) as host:
            links = host.links()
            bridge = next((link for link in links if link.name == name and link.kind == "bridge"), None)
            if bridge is not None and all(link.master != bridge.ifindex for link in links):
                host.delete(bridge.ifindex)

    # --- inside -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No hook is at work: each holds this lock."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _give_back(self, host: Netlink, key: str, addresses: Iterable[str]) -> None:
        note = self.note(key)
        if note is not None:
            place = find_namespace(note.namespace, str(self._proc))
            if place:
                with contextlib.suppress(FileNotFoundError):
                    self._fetch(host, place, key, note)
            if note.end and (end := host.link(note.end)) is not None:
                host.delete(end.ifindex)
            if not note.is_made:
                self._await(host, key, note, addresses)
        (self.folder / f"{key}.json").unlink(missing_ok=True)

    def _find(self, netlink: Netlink, key: str, note: Note) -> Link | None:
        for link in netlink.links():
            if note.is_made:
                if link.mac == note.mac:
                    return link
            elif (marked := mark.read(link)) and (marked.owner, marked.key) == (self.owner, key):
                return link
        return None

    def _fetch(self, host: Netlink, place: str, key: str, note: Note) -> None:
        """Take the interface out of the pod's namespace."""
        with Netlink(place) as pod:
            link = self._find(pod, key, note)
            if link is None:
                return
            if note.is_made:
                pod.delete(link.ifindex)
                return
            name = f"{mark.PREFIX}{link.ifindex}"  # its own may be taken, for now
            descriptor = os.open(self.host or "/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                pod.change(link.ifindex, is_up=False)
                pod.change(link.ifindex, name=name, namespace=descriptor)
            finally:
                os.close(descriptor)

    def _await(self, host: Netlink, key: str, note: Note, addresses: Iterable[str]) -> None:
        """Put the interface right when it is back; the kernel takes its time with a namespace that ended."""
        deadline = time.monotonic() + _RETURN_SECONDS
        while True:
            link = self._find(host, key, note)
            if link is not None and (marked := mark.read(link)):
                _restore(host, link, marked, addresses)
                return
            if not note.is_done and host.link(note.source) is not None:  # nothing was done to it
                return
            if time.monotonic() > deadline:
                _log.warning("the interface of %s has not come back: a virtual one goes with its pod", key)
                return
            time.sleep(_LOOK_SECONDS)


def owner_of(folder: Path) -> str:
    """How interfaces say that they belong to the driver instance with this folder."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:8]


def notes_of(folder: Path) -> Path:
    """Where the hooks of the driver instance with this folder write."""
    return folder / "attached"


def release(folder: Path) -> None:
    """Take back everything that the driver instance with this folder gave away: it will not run again.

    Raises NetlinkError where the kernel refuses.
    """
    keeper = Keeper(owner_of(folder), "", notes_of(folder), Path("/proc"))
    keeper.recover(tuple)
    with Netlink() as host:
        bridges = [link.name for link in host.links() if mark.is_made(link) and link.kind == "bridge"]
    for name in bridges:
        keeper.drop_bridge(name)


def _uid(key: str) -> str:
    """The claim's UID in a key, which is `UID.NUMBER`."""
    return key.rpartition(".")[0]


def _restore(host: Netlink, link: Link, marked: mark.Mark, addresses: Iterable[str]) -> None:
    """Make the interface what it was, the mark last."""
    host.change(link.ifindex, is_up=False)
    if link.name != marked.name:
        host.change(link.ifindex, name=marked.name)
    if link.mac != marked.mac:
        host.change(link.ifindex, mac=marked.mac)
    if link.mtu != marked.mtu:
        host.change(link.ifindex, mtu=marked.mtu)
    if marked.is_up:
        host.change(link.ifindex, is_up=True)
    for address in addresses:
        with contextlib.suppress(NetlinkError):
            host.add_address(link.ifindex, address)
    host.change(link.ifindex, alias=marked.alias)
