"""A process to kill: it writes to a store and prints what was acknowledged, one `key revision` a line.

python writer.py PATH DURABILITY SEED
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import cast

from drakit.store import Durability, Stale, Store


async def write(store: Store, chance: random.Random, worker: int) -> None:
    while True:
        key = f"{worker}/{chance.randrange(20)}"
        head = store.head("pods", key)
        expected = head.revision if head else 0
        is_deletion = head is not None and chance.random() < 0.2
        value = chance.randbytes(chance.randrange(1, 3000))
        try:
            done = store.write("pods", key, expected, None if is_deletion else lambda revision, v=value: v)
        except Stale:
            continue
        entry = await done
        state = "gone" if is_deletion else value[:8].hex()
        sys.stdout.write(f"{key} {entry.revision} {state}\n")
        sys.stdout.flush()


async def main() -> None:
    path, durability, seed = sys.argv[1:]
    store = Store(Path(path), durability=cast(Durability, durability), history_changes=20_000)
    chance = random.Random(seed)
    await asyncio.gather(*(write(store, chance, worker) for worker in range(4)))


asyncio.run(main())
