"""How often Python looks for garbage.

A cluster in one process keeps hundreds of thousands of small objects: documents, which are trees and go
when nobody refers to them any more. Only cycles need the collector, and they are few: tasks and errors.
With Python's own thresholds it walks over everything every few hundred new documents, and a scheduler
under load spends a quarter of its time there.
"""

from __future__ import annotations

import gc

THRESHOLDS = (50_000, 20, 20)
"""New objects before the youngest are looked at; how often that happens before older ones, before all."""


def collect_rarely() -> None:
    """Look for garbage when it pays, in this whole process."""
    gc.set_threshold(*THRESHOLDS)
