"""The agent dies at every step of a pod: afterwards no device is lost, held twice or held for nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from drakit.client.api import PODS
from drakit.node.checkpoint import Checkpoint
from tests.node.make import NS, FakeDriver, TestNode, make_pod, running_node, until

pytestmark = pytest.mark.anyio

STEPS = [
    "before save 1",
    "after save 1",
    "before save 2",
    "after save 2",
    "create c.0",
    "start c.0",
    "stop c.0",
    "before save 3",
    "after save 3",
    "remove c.0",
    "remove sandbox",
]


class Crash:
    """Stops the agent for good at one step: whatever reaches it never goes on."""

    def __init__(self, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.step = step
        self.reached = asyncio.Event()
        self.saves = 0
        save = Checkpoint.save

        async def watched(checkpoint: Checkpoint) -> None:
            self.saves += 1
            number = self.saves
            await self.pass_by(f"before save {number}")
            await save(checkpoint)
            await self.pass_by(f"after save {number}")

        monkeypatch.setattr(Checkpoint, "save", watched)

    async def pass_by(self, step: str) -> None:
        if step.startswith(self.step) and not self.reached.is_set():
            self.reached.set()
            await asyncio.Event().wait()

    def hook(self, node: TestNode) -> None:
        """Stop before the runtime's call of that name."""
        runtime = node.runtime
        for name in ("create", "start", "stop", "remove", "remove_sandbox"):
            original = getattr(runtime, name)

            async def stopped(*arguments: object, name: str = name, original: object = original) -> object:
                label = "remove sandbox" if name == "remove_sandbox" else f"{name} c.0"
                await self.pass_by(label)
                return await original(*arguments)  # type: ignore[operator]

            setattr(runtime, name, stopped)


@pytest.mark.parametrize("step", STEPS)
async def test_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    driver, crash = FakeDriver(), Crash(step, monkeypatch)
    async with running_node(tmp_path) as node:
        crash.hook(node)
        await driver.start(node.paths)
        await until(lambda: driver.outcomes)
        pod = await node.create(make_pod("a", "a", bound=False))
        await node.add_claim("a", pod)
        target = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": target}
        await node.client.create(PODS, body, NS, name="a", subresource="binding")
        running = asyncio.create_task(node.until_phase("a", "Running"))
        reached = asyncio.create_task(crash.reached.wait())
        await asyncio.wait([running, reached], return_when=asyncio.FIRST_COMPLETED)
        if not crash.reached.is_set():
            await node.client.delete(PODS, "a", NS)
            async with asyncio.timeout(10):
                await reached
        running.cancel()
        await node.stop()
        await node.start()
        found = await node.get("a")
        assert found is not None
        if not found["metadata"].get("deletionTimestamp"):
            await node.until_phase("a", "Running")
            assert len(driver.prepared) == 1
            assert [c.state for c in node.runtime.found.values()] == ["running"]
            await node.client.delete(PODS, "a", NS)
        await node.until_gone("a")
        await until(lambda: not node.runtime.found and not node.runtime.pods)
        assert driver.prepared == set()
        assert Checkpoint(node.paths.checkpoint).claims == {}
    await driver.stop()


async def test_a_pod_that_has_ended_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent dies when the containers are removed and the API does not know yet how the pod ended."""
    crash = Crash("remove sandbox", monkeypatch)
    async with running_node(tmp_path) as node:
        crash.hook(node)
        node.runtime.exit_codes["c"] = 3
        await node.create(make_pod("a", restartPolicy="Never"))
        async with asyncio.timeout(10):
            await crash.reached.wait()
        await node.stop()
        assert node.runtime.found == {}
        await node.start()
        pod = await node.until_phase("a", "Failed")
        ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (3, "Error")
        assert node.runtime.calls.count("start c.0") == 1
