"""Who holds which devices, and how much of what is shared.

Allocations with admin access hold nothing. A device that vanishes from its pool while it is held still
consumes its counters: what it consumed is remembered when its slice goes.
"""

from __future__ import annotations

from collections.abc import Mapping

from drakit.allocator.device import Groups, Needs, Published
from drakit.model.quantity import Quantity
from drakit.model.resource import AllocationResult, DeviceRequestAllocationResult

_UNKNOWN = 10**100


class Use:
    """The holders of one device: claim uid -> name, and of each share what it consumes (10^-9 units)."""

    __slots__ = ("groups", "needs", "owners", "shares")

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}
        """Claims that hold the whole device."""
        self.shares: dict[tuple[str, str], tuple[str, Mapping[str, int]]] = {}
        """(claim uid, share id) -> claim name, consumed capacity."""
        self.needs: Needs | None = None
        """The counters it consumed when it was last published; None when that was never seen, or
        makes no sense."""
        self.groups: Groups = {}
        """Its compatibility groups then."""

    def __bool__(self) -> bool:
        return bool(self.owners or self.shares)

    def add(self, uid: str, owner: str, row: DeviceRequestAllocationResult) -> None:
        if row.share_id is None:
            self.owners[uid] = owner
        else:
            consumed = {name: _nano(value) for name, value in row.consumed_capacity.items()}
            self.shares[uid, row.share_id] = (owner, consumed)

    def drop(self, uid: str) -> None:
        self.owners.pop(uid, None)
        for key in [key for key in self.shares if key[0] == uid]:
            del self.shares[key]

    def remember(self, published: Published) -> None:
        """Keep what the device consumes, for when it is published no more."""
        self.groups = published.groups
        try:
            self.needs = published.needs
        except ValueError:
            self.needs = None
            return
        if any(amount < 0 for counters in published.needs.values() for amount in counters.values()):
            self.needs = None

    def keeps_away(self, published: Published) -> bool:
        """Whether nobody else may have the device: held whole, or shared but no longer shareable."""
        return bool(self.owners) or (bool(self.shares) and not published.is_shareable)

    def holders(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.owners.values(), *(owner for owner, _ in self.shares.values())]))

    def consumed(self) -> dict[str, int]:
        """What all shares together consume."""
        total: dict[str, int] = {}
        for _, amounts in self.shares.values():
            for name, amount in amounts.items():
                total[name] = total.get(name, 0) + amount
        return total


def held_rows(allocation: AllocationResult) -> list[DeviceRequestAllocationResult]:
    return [row for row in allocation.devices.results if not row.admin_access]


def _nano(value: str) -> int:
    """A quantity in another claim's status that is broken or negative counts as more than any device has:
    what is left of this one nobody knows."""
    try:
        amount = Quantity.of(value).nano
    except ValueError:
        return _UNKNOWN
    return amount if amount >= 0 else _UNKNOWN
