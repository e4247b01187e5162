"""A device as a slice publishes it, with what the search asks of it most often worked out once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from drakit.model.quantity import Quantity
from drakit.model.resource import Device, DeviceAttribute, DeviceTaint
from drakit.model.semver import Version

if TYPE_CHECKING:
    from drakit.allocator.pool import Slice

Value = tuple[str, str | int]
"""Type and value: equal values of different types are different."""

DeviceID = tuple[str, str, str]
"""Driver, pool and device name."""

Needs = Mapping[str, Mapping[str, int]]
"""Counters a device consumes: counter set -> counter -> amount in units of 10^-9."""

Groups = Mapping[str, tuple[str, ...]]
"""Compatibility groups a device has: counter set -> names."""


class Published:
    """One device of one slice. Never changes, except that `taints` is replaced when taint rules change.

    `fingerprint` is equal for devices that differ at most in driver, name and attributes: taints, counters,
    capacity, binding conditions, sharing and whether node operations are skipped are the same, and all
    attributes can be read.
    """

    __slots__ = (
        "_needs",
        "device",
        "driver",
        "fingerprint",
        "is_odd",
        "is_shareable",
        "name",
        "pool",
        "slice",
        "taints",
    )

    def __init__(
        self, slice: Slice, device: Device, taints: tuple[DeviceTaint, ...], is_shareable: bool
    ) -> None:
        self.slice = slice
        self.device = device
        self.driver = slice.spec.driver
        self.pool = slice.spec.pool.name
        self.name = device.name
        self.is_shareable = is_shareable
        self.is_odd = _is_odd(device)
        """Whether an attribute cannot be read: then every expression fails on the device."""
        self._needs: Needs | None = None
        self.set_taints(taints)

    def __str__(self) -> str:
        return f"{self.driver}/{self.pool}/{self.name}"

    @property
    def id(self) -> DeviceID:
        return (self.driver, self.pool, self.name)

    def set_taints(self, taints: tuple[DeviceTaint, ...]) -> None:
        self.taints = taints
        device = self.device
        self.fingerprint = digest(
            (
                taints,
                device.consumes_counters,
                device.capacity,
                bool(device.binding_conditions),
                device.allow_multiple_allocations,
                bool(self.slice.spec.skip_node_operations),
                device.attributes if self.is_odd else None,
            )
        )

    @property
    def needs(self) -> Needs:
        """What it consumes of its pool's counters. Raises ValueError for a quantity that cannot be read."""
        if self._needs is None:
            self._needs = {
                row.counter_set: {name: Quantity.of(c.value).nano for name, c in row.counters.items()}
                for row in self.device.consumes_counters
            }
        return self._needs

    @property
    def groups(self) -> Groups:
        return {row.counter_set: tuple(row.compatibility_groups) for row in self.device.consumes_counters}

    def attribute(self, name: str) -> DeviceAttribute | None:
        """The attribute with the fully qualified `name`; its domain may be the driver's and left out."""
        found = self.device.attributes.get(name)
        if found is None:
            domain, slash, short = name.partition("/")
            if slash and domain == self.driver:
                found = self.device.attributes.get(short)
        return found


def digest(value: Any) -> bytes:
    """Equal for equal values; dictionaries are equal only in the same order."""
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:
        # Integers beyond 64 bits, which the format does not know.
        return repr(value).encode()


def _is_odd(device: Device) -> bool:
    for attribute in device.attributes.values():
        values = attribute_values(attribute, True)
        if not values and attribute.strings is None and attribute.ints is None:
            return True
        if values and values[0][0] == "version" and not all(_is_version(str(text)) for _, text in values):
            return True
    return False


@lru_cache(maxsize=4096)
def _is_version(text: str) -> bool:
    try:
        Version.parse(text)
    except ValueError:
        return False
    return True


def attribute_values(attribute: DeviceAttribute, are_lists_known: bool) -> tuple[Value, ...]:
    """The values of an attribute as a set with their type: one for a scalar, none for what is not known.

    Equal versions are equal text: semantic versions have one form only.
    """
    if attribute.string is not None:
        return (("string", attribute.string),)
    if attribute.int_ is not None:
        return (("int", attribute.int_),)
    if attribute.bool_ is not None:
        return (("bool", attribute.bool_),)
    if attribute.version is not None:
        return (("version", attribute.version),)
    if not are_lists_known:
        return ()
    for kind, values in (
        ("string", attribute.strings),
        ("int", attribute.ints),
        ("bool", attribute.bools),
        ("version", attribute.versions),
    ):
        if values is not None:
            return tuple(dict.fromkeys((kind, value) for value in values))
    return ()
