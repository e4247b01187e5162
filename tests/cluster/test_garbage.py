"""How often the process of a cluster looks for garbage."""

from __future__ import annotations

import gc

from drakit.cluster.garbage import collect_rarely


def test_cycles_are_still_collected() -> None:
    before = gc.get_threshold()
    try:
        collect_rarely()
        assert gc.isenabled()
        assert all(after > 0 for after in gc.get_threshold())
        assert gc.get_threshold()[0] > before[0]
    finally:
        gc.set_threshold(*before)
