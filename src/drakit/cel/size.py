"""Sizes of values as the cost estimate knows them, and how big the parts of a device may be.

A size is a pair of a least and a greatest value. Everything saturates at 2^64 - 1.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from drakit.cel.declare import Environment

MOST: Final = (1 << 64) - 1
Size = tuple[int, int]
UNKNOWN: Final[Size] = (0, MOST)
ONE: Final[Size] = (1, 1)
_MAX_ENTRIES, _MAX_DOMAIN, _MAX_ID, _MAX_DRIVER = 32, 63, 32, 63


class Entry(NamedTuple):
    """How big keys (or indices) and values of a container are."""

    kind: str
    key: Size
    value: Size


class Variable(NamedTuple):
    path: tuple[str, ...]
    size: Size | None
    entry: Entry | None


class Shape(NamedTuple):
    """A part of a device: the greatest size, and what is inside."""

    most: int
    key: Shape | None = None
    value: Shape | None = None
    fields: dict[str, Shape] | None = None
    is_attribute_map: bool = False


def total_of(*amounts: int) -> int:
    return min(MOST, sum(amounts))


def times(a: int, b: int) -> int:
    return min(MOST, a * b)


def by_factor(amount: int, factor: float) -> int:
    product = math.ceil(float(amount) * factor)
    return MOST if product >= 1 << 64 else product


def add(a: Size, b: Size) -> Size:
    return total_of(a[0], b[0]), total_of(a[1], b[1])


def multiply(a: Size, b: Size) -> Size:
    return times(a[0], b[0]), times(a[1], b[1])


def union(a: Size, b: Size) -> Size:
    return min(a[0], b[0]), max(a[1], b[1])


def device_shape(environment: Environment) -> Shape:
    attribute = Shape(environment.attribute_size)
    domain, name = Shape(_MAX_DOMAIN), Shape(_MAX_ID)
    attributes = Shape(_MAX_ENTRIES, name, attribute, is_attribute_map=True)
    capacities = Shape(_MAX_ENTRIES, name, Shape(0))
    fields = {
        "driver": Shape(_MAX_DRIVER),
        "attributes": Shape(_MAX_ENTRIES, domain, attributes),
        "capacity": Shape(_MAX_ENTRIES, domain, capacities),
        "allowMultipleAllocations": Shape(1),
    }
    return Shape(0, fields=fields)


def replaced(size: Size, old: Size, new: Size) -> Size:
    """How long a string is after a replacement."""
    most = least = kept_most = kept_least = 0
    if old[0] == 0:
        most, kept_most = min(MOST, size[1] + 1), size[1]
    elif new[1] <= old[0]:
        kept_most = size[1]
    else:
        most = math.ceil(float(size[1]) / float(old[0]))
    if old[1] == 0:
        least, kept_least = min(MOST, size[0] + 1), size[0]
    elif old[1] <= new[0]:
        kept_least = size[0]
    else:
        least = math.ceil(float(size[0]) / float(old[1]))
    return add(multiply((least, min(MOST, most)), new), (kept_least, kept_most))


def regex_cost(text: Size, pattern: Size) -> int:
    """The most that matching a text of that size may cost."""
    return times(by_factor(total_of(text[1], 1), 0.1), by_factor(pattern[1], 0.25))
