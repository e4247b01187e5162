"""The store against a model: any writes, deletions, compactions and restarts.

What a list at N and the changes after N make together is the list at M, for every N the history reaches.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from drakit.store import Store

COLLECTIONS = ("pods", "nodes")
KEYS = st.sampled_from(["a/1", "a/2", "b/1", "b/10"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(COLLECTIONS), KEYS, st.binary(max_size=20)),
        st.tuples(st.just("delete"), st.sampled_from(COLLECTIONS), KEYS, st.just(b"")),
        st.tuples(st.just("commit"), st.just(""), st.just(""), st.just(b"")),
        st.tuples(st.just("restart"), st.just(""), st.just(""), st.just(b"")),
    ),
    max_size=60,
)
State = dict[str, dict[str, bytes]]


def _open(folder: str) -> Store:
    return Store(Path(folder) / "state.db", history_changes=12)


async def _run(steps: list[tuple[str, str, str, bytes]], folder: str) -> None:
    store = _open(folder)
    model: State = {name: {} for name in COLLECTIONS}
    at: dict[int, State] = {store.revision: {name: {} for name in COLLECTIONS}}
    pending = []
    for action, collection, key, value in steps:
        if action in ("commit", "restart"):
            await asyncio.gather(*pending)
            pending.clear()
        if action == "restart":
            await store.close()
            store = _open(folder)
            continue
        if not collection:
            continue
        head = store.head(collection, key)
        assert (head.value if head else None) == model[collection].get(key)
        if action == "put":
            model[collection][key] = value
            done = store.write(collection, key, head.revision if head else 0, lambda revision, v=value: v)
        elif head is None:
            continue
        else:
            del model[collection][key]
            done = store.write(collection, key, head.revision, None)
        pending.append(done)
        at[max(at) + 1] = {name: dict(rows) for name, rows in model.items()}
    await asyncio.gather(*pending)
    _check(store, model, at)
    await store.close()


def _check(store: Store, model: State, at: dict[int, State]) -> None:
    assert store.revision == max(at)
    for collection in COLLECTIONS:
        now = {entry.key: entry.value for entry in store.page(collection)}
        assert now == model[collection]
        assert list(now) == sorted(now)
        for revision in range(store.floor, store.revision + 1):
            then = {entry.key: entry.value for entry in store.page_at(collection, "", "", revision)}
            assert then == at[revision][collection]
            for change in store.history(collection, revision):
                assert (change.previous.value if change.previous else None) == then.get(change.key)
                if change.entry is None:
                    del then[change.key]
                else:
                    then[change.key] = change.entry.value
            assert then == now


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_store_does_what_the_model_does(steps: list[tuple[str, str, str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_run(steps, folder))
