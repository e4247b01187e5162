"""Sets of CPUs and the kernel's notation for them: `0,2-3`."""

from __future__ import annotations

from collections.abc import Iterable

MAX_CPU = 8191


def parse(text: str) -> frozenset[int]:
    """The CPUs of `0,2-3`. Raises ValueError for anything else; empty text is no CPU."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, dash, last = part.partition("-")
        low, high = _number(first), _number(last) if dash else _number(first)
        if low > high:
            raise ValueError(f"{part!r} runs backwards")
        found.update(range(low, high + 1))
    return frozenset(found)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > MAX_CPU:
        raise ValueError(f"{text!r} is not the number of a CPU")
    return int(text)


def format(cpus: Iterable[int]) -> str:
    """`cpus` as `0,2-3`."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in runs)
