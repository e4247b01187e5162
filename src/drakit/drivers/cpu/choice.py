"""Which CPUs of a group a claim gets for itself."""

from __future__ import annotations

from collections.abc import Sequence

from drakit.drivers.cpu.topology import CPU


def choose(group: Sequence[CPU], taken: frozenset[int], count: int) -> list[int] | None:
    """`count` CPUs of `group` that nobody has, None if there are not so many.

    Whole cores first, so that claims share none; an odd rest comes from a core that is broken already, if
    there is one. Cores of one L3 cache stay together.
    """
    free = [cpu for cpu in group if cpu.id not in taken]
    if count > len(free):
        return None
    cores: dict[tuple[int, int, int], list[CPU]] = {}
    for cpu in free:
        cores.setdefault((cpu.socket, -1 if cpu.l3 is None else cpu.l3, cpu.core), []).append(cpu)
    everyone = {cpu.id for cpu in group}
    whole = [core for core in cores.values() if len(core) == len(core[0].siblings & everyone)]
    broken = [core for core in cores.values() if len(core) < len(core[0].siblings & everyone)]
    chosen: list[int] = []
    split: list[list[CPU]] = []
    for core in sorted(whole, key=_order):
        if len(core) <= count - len(chosen):
            chosen += [cpu.id for cpu in core]
        else:
            split.append(core)
    for core in (*sorted(broken, key=_order), *split):
        chosen += [cpu.id for cpu in core][: count - len(chosen)]
    return sorted(chosen)


def _order(core: Sequence[CPU]) -> tuple[int, int, int]:
    first = core[0]
    return first.socket, -1 if first.l3 is None else first.l3, first.id
