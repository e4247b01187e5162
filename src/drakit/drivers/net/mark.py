"""How an interface that belongs to a claim is known, wherever it is and whatever it is called.

A real interface that goes to a pod is marked in its alias, which survives every move and no container can see
elsewhere: whose it is, and how it was before. When nobody else remembers, the mark is enough to put it back.
The host's end of a veth pair is marked likewise.
"""

from __future__ import annotations

from typing import NamedTuple

from drakit.netlink import Link

_WORD = "drakit"
_MAX_ALIAS = 255
PREFIX = "drk"
"""All interfaces that are made on the host are called so."""


class Mark(NamedTuple):
    """`owner` is the driver instance, `key` the claim's device; the rest is how the interface was."""

    owner: str
    key: str
    name: str
    mtu: int
    mac: str
    is_up: bool
    alias: str = ""

    def text(self) -> str:
        """The alias that says so."""
        words = (
            _WORD,
            self.owner,
            self.key,
            self.name,
            str(self.mtu),
            self.mac,
            "up" if self.is_up else "down",
        )
        return f"{' '.join(words)} {self.alias}".encode()[:_MAX_ALIAS].decode(errors="ignore").rstrip()


def of(link: Link, owner: str, key: str) -> Mark:
    """The mark for `link` as it is now."""
    return Mark(owner, key, link.name, link.mtu, link.mac, link.is_up, link.alias)


def read(link: Link) -> Mark | None:
    """The mark that `link` carries, None if it is none of ours."""
    words = link.alias.split(" ", 7)
    if len(words) < 7 or words[0] != _WORD or not words[4].isdecimal():
        return None
    _, owner, key, name, mtu, mac, state = words[:7]
    return Mark(owner, key, name, int(mtu), mac, state == "up", words[7] if len(words) > 7 else "")


def is_made(link: Link) -> bool:
    """Whether the host's interface `link` is a bridge or the end of a veth pair that was made for claims."""
    return link.name.startswith(PREFIX) and link.kind in ("bridge", "veth")
