"""What kubectl printed about objects of a real cluster, printed again about the same objects here.

The objects are those of `api/tables`, put into the store as they were recorded. Ages differ, and so do the
versions of kubectl and of the server; everything else must be the same. There is no kubectl 1.36 to run:
its outputs are compared with those of 1.37.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from drakit.apiserver.app import API
from tests.e2e.test_kubectl import Kubectl, binary, start
from tests.recorded import cases

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CASES = cases("api/kubectl-output")
RUN_AS = {"1.32": "1.32", "1.35": "1.35", "1.36": "1.37"}
NOT_COMPARED = {"version": "the versions of client and server differ"}
NOT_SERVED = (
    "componentstatuses",
    "autoscaling/v1",
    "scheduling.k8s.io/v1alpha2",
)
"""Words in lines about kinds that are no business of DRA, which this server leaves out."""
_PORT = re.compile(r"127\.0\.0\.1:\d+")
_AGE = re.compile(r"(?<![\w.-])(?:\d+[smhdy])+(?![\w.-])")
_COMMAND = re.compile(r"\$ kubectl (.*?)\s+# \S+ rc=(\d+)")


def _normal(text: str) -> list[str]:
    """The words of each line, ages apart: the width of a column follows its ages."""
    text = _PORT.sub("ADDRESS", _AGE.sub("AGE", text))
    lines = [line.split() for line in text.splitlines() if line.strip()]
    return [" ".join(words) for words in lines if not set(words) & set(NOT_SERVED)]


def _given(value: bytes, revision: int) -> bytes:
    return value


async def _fill(api: API) -> None:
    """Put the recorded objects into the store, as they are."""
    for case in cases("api/tables"):
        objects: Any = case["objects"] or {"kind": "", "apiVersion": "", "items": []}
        group, _, version = objects["apiVersion"].rpartition("/")
        name = objects["kind"].removesuffix("List")
        kind = next(
            (
                row
                for row in api.registry.kinds.rows
                if (row.group, row.kind) == (group, name) and row.versions[0] == version
            ),
            None,
        )
        for document in objects["items"] if kind else ():
            assert kind is not None
            metadata = document["metadata"]
            key = f"{metadata['namespace']}/{metadata['name']}" if kind.is_namespaced else metadata["name"]
            entry = api.store.head(kind.collection, key)
            bare = {k: v for k, v in document.items() if k not in ("kind", "apiVersion")}
            value = msgspec.json.encode(bare)
            before = entry.revision if entry else 0
            await api.store.write(kind.collection, key, before, partial(_given, value))


@pytest.fixture(params=["1.32", "1.35", "1.36"])
async def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, Kubectl]]:
    found = binary(RUN_AS[request.param])
    api, server = await start(tmp_path, "1.36")
    await _fill(api)
    yield request.param, Kubectl(found, tmp_path)
    await server.stop()
    await api.close()


async def test_output_as_recorded(recorded: tuple[str, Kubectl]) -> None:
    minor, kubectl = recorded
    await kubectl("api-versions")
    rows = [row for row in CASES if row["kubectl"] == minor and row["name"] not in NOT_COMPARED]
    limit = asyncio.Semaphore(4)

    async def difference(row: dict[str, Any]) -> list[str]:
        first, _, expected = row["output"].partition("\n")
        command = _COMMAND.match(first)
        assert command is not None
        async with limit:
            code, out, err = await kubectl.run(*command[1].split())
        out = re.sub(r"\x1b\[[\d;]*m", "", out)
        printed = out + (f"--stderr--\n{err}" if err else "")
        wanted, got = _normal(expected), _normal(printed)
        if code == int(command[2]) and wanted == got:
            return []
        lines = [f"- {line}" for line in wanted if line not in got] + [
            f"+ {line}" for line in got if line not in wanted
        ]
        return [f"{row['name']} (exit code {code})", *lines]

    found = await asyncio.gather(*map(difference, rows))
    assert len(rows) >= 29
    problems = [line for lines in found for line in lines]
    assert not problems, "\n".join(problems)
