"""Containers of a real containerd over CRI: the runtime, and a whole cluster on it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drakit.drivers.cpu import pin
from drakit.errors import UsageError
from drakit.model.cdi import ContainerEdits, Hook, build, encode
from drakit.model.cdi import Device as CDIDevice
from drakit.model.cdi import DeviceNode as CDINode
from drakit.model.cdi import Mount as CDIMount
from drakit.node.cri import CRIRuntime
from drakit.node.image import Image, ImageNotFound
from drakit.node.runtime import (
    Container,
    ContainerSpec,
    Limits,
    Login,
    Mount,
    RuntimeFailed,
    Sandbox,
    SandboxSpec,
    Security,
    UnresolvableCDI,
)
from drakit.podio import ExecSession
from tests.e2e.cluster import Cluster, wait_for
from tests.e2e.containerd import IMAGE, Containerd, need_containerd, write_image
from tests.e2e.podman import Podman
from tests.e2e.registry import registry

pytestmark = [pytest.mark.anyio, pytest.mark.e2e, pytest.mark.needs_root]


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    need_containerd()
    root = tmp_path_factory.mktemp("ctd")
    daemon = Containerd(root)
    daemon.start()
    try:
        write_image(root / "image.tar")
        daemon.import_image(root / "image.tar")
        yield daemon
    finally:
        daemon.stop()
        left = [
            line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if str(root) in line
        ]
        for point in left:
            subprocess.run(["umount", "-l", point], check=False)
        shutil.rmtree(root, ignore_errors=True)
    assert left == [], "a mount is left"


class Host:
    """A runtime of its own at the daemon, and one sandbox."""

    def __init__(self, containerd: Containerd, root: Path, runtime: CRIRuntime, sandbox: Sandbox) -> None:
        self.cdi = containerd.cdi
        self.root = root
        self.runtime = runtime
        self.sandbox = sandbox

    async def spec(self, script: str, name: str = "c", **more: Any) -> ContainerSpec:
        image = await self.runtime.ensure_image(IMAGE)
        wanted = {"args": ["sh", "-c", script], "log_path": str(self.root / "logs" / name / "0.log")} | more
        return ContainerSpec(name=name, attempt=0, image=image, **wanted)

    async def start(self, script: str, name: str = "c", **more: Any) -> Container:
        container = await self.runtime.create(self.sandbox, await self.spec(script, name, **more))
        return await self.runtime.start(container.id)

    async def output(self, script: str, name: str = "c", **more: Any) -> list[str]:
        container = await self.start(script, name, **more)
        await self.runtime.wait(container.id)
        return [line.split(" ", 3)[3] for line in Path(container.log_path).read_text().splitlines()]

    def write_cdi(self, name: str, **edits: Any) -> str:
        device = {"name": name, "containerEdits": edits}
        spec = {"cdiVersion": "0.5.0", "kind": "vendor.example.com/thing", "devices": [device]}
        (self.cdi / f"{name}.json").write_text(json.dumps(spec))
        return f"vendor.example.com/thing={name}"


@asynccontextmanager
async def host(containerd: Containerd, root: Path, **more: Any) -> AsyncIterator[Host]:
    runtime = await CRIRuntime.connect(containerd.socket, root)
    spec = SandboxSpec(
        uid=root.name,
        namespace="default",
        name="p",
        hostname="the-pod",
        log_folder=str(root / "logs"),
        **more,
    )
    try:
        yield Host(containerd, root, runtime, await runtime.run_sandbox(spec))
    finally:
        for container in await runtime.containers():
            await runtime.remove(container.id)
        await runtime.remove_sandbox(spec.uid)
        left = await runtime.sandboxes()
        await runtime.close()
    assert left == []
    assert not any(Path("/sys/fs/cgroup").glob(f"*/drakit/pod{spec.uid}")), "a cgroup is left"


async def _said(session: ExecSession) -> tuple[str, int]:
    output = b""
    async with asyncio.timeout(10):
        while chunk := await session.read():
            output += chunk[1]
        return output.decode(), await session.wait()


async def test_a_container_with_everything(containerd: Containerd, tmp_path: Path) -> None:
    async with host(containerd, tmp_path) as here:
        assert here.sandbox.ip == "192.0.2.9"
        tmp_path.chmod(0o755)
        (tmp_path / "data").write_text("from the host")
        hook = pin.hook(tmp_path / "pinned", "0")
        name = here.write_cdi(
            "gpu0",
            env=["GPU=gpu0"],
            hooks=[{"hookName": hook.hook_name, "path": hook.path, "args": hook.args}],
            deviceNodes=[{"path": "/dev/gpu0", "hostPath": "/dev/null"}],
            mounts=[{"hostPath": str(tmp_path), "containerPath": "/opt/gpu", "options": ["ro", "bind"]}],
        )
        script = (
            "hostname; echo $GPU $MINE $OF_IMAGE; id; ls -l /dev/gpu0; cat /opt/gpu/data /mnt/data; echo; "
            "touch /x; touch /mnt/y; grep -E 'NoNewPrivs|Cpus_allowed_list' /proc/self/status"
        )
        text = await here.output(
            script,
            env=["MINE=yes"],
            cdi_devices=[name],
            mounts=[Mount(source=str(tmp_path), target="/mnt", is_read_only=True)],
            security=Security(
                user=1000, group=1000, groups=[7], is_root_read_only=True, allows_escalation=False
            ),
            limits=Limits(cpu_limit=500, memory_limit=64 << 20),
        )
        text.sort(key=lambda line: "Read-only" in line)  # stderr has its own order
        assert text[:3] == ["the-pod", "gpu0 yes yes", "uid=1000(user) gid=1000(user) groups=7,1000(user)"]
        assert "1,   3" in text[3]
        assert "from the hostfrom the host" in text
        assert sum("Read-only file system" in line for line in text) == 2
        assert "NoNewPrivs:\t1" in text
        assert "Cpus_allowed_list:\t0" in text
        ended = (await here.runtime.containers())[0]
        assert (ended.state, ended.exit_code, ended.cdi_devices) == ("exited", 0, [name])
        # containerd notes the start when runc has returned: a short container may have ended before.
        assert 0 < ended.created_at <= min(ended.started_at, ended.finished_at)


async def test_exec_attach_stop_and_a_restarted_agent(containerd: Containerd, tmp_path: Path) -> None:
    async with host(containerd, tmp_path) as here:
        container = await here.start(
            "echo ready; cat; echo over; sleep 1000", has_stdin=True, is_stdin_once=True
        )
        runtime = here.runtime
        session = await runtime.exec(container.id, ["sh", "-c", "cat; exit 3"], stdin=True, tty=False)
        await session.write(b"x" * 200_000)
        await session.close_stdin()
        assert await _said(session) == ("x" * 200_000, 3)
        terminal = await runtime.exec(container.id, ["sh"], stdin=True, tty=True)
        await terminal.resize(100, 40)
        await terminal.write(b"stty size; exit 4\n")
        said, code = await _said(terminal)
        assert ("40 100" in said, code) == (True, 4)
        missing = await runtime.exec(container.id, ["nosuch"], stdin=False, tty=False)
        with pytest.raises(RuntimeFailed, match='"nosuch": executable file not found'):
            await _said(missing)
        attached = await runtime.attach(container.id, stdin=True, tty=False)
        await attached.write(b"typed\n")
        assert await attached.read() == (1, b"typed\n")
        await attached.close_stdin()
        assert await attached.read() == (1, b"over\n")
        await attached.kill()
        assert (await runtime.stats(container.id)).cpu_seconds > 0
        again = await CRIRuntime.connect(containerd.socket, tmp_path)
        assert [(c.name, c.state) for c in await again.containers()] == [("c", "running")]
        assert [sandbox.uid for sandbox in await again.sandboxes()] == [tmp_path.name]
        other = await CRIRuntime.connect(containerd.socket, tmp_path / "another node")
        assert await other.containers() == []
        waiting = asyncio.create_task(again.wait(container.id))
        assert (await again.stop(container.id, 0)).exit_code == 137
        assert (await waiting).exit_code == 137
        await again.close()
        await other.close()


async def test_what_cannot_be(containerd: Containerd, tmp_path: Path) -> None:
    async with host(containerd, tmp_path) as here:
        with pytest.raises(UnresolvableCDI, match=r"vendor\.example\.com/thing=nope"):
            await here.start("true", cdi_devices=["vendor.example.com/thing=nope"])
        with pytest.raises(RuntimeFailed, match='"nosuch": executable file not found'):
            await here.start("", "n", args=["nosuch"])
        failed = next(c for c in await here.runtime.containers() if c.name == "n")
        assert (failed.state, failed.exit_code) == ("exited", 128)
        text = await here.output("cat /dev/zero | grep -c x", "h", limits=Limits(memory_limit=8 << 20))
        assert text == [] or "0" not in text
        hungry = next(c for c in await here.runtime.containers() if c.name == "h")
        assert hungry.exit_code != 0
        with pytest.raises(ImageNotFound, match="pull policy of Never"):
            await here.runtime.ensure_image("localhost/nosuch:1", "Never")
        with pytest.raises(ImageNotFound, match="import it into containerd"):
            await here.runtime.ensure_image("localhost:1/nosuch:1")
        with pytest.raises(UsageError, match="no container runtime speaks CRI v1"):
            await CRIRuntime.connect(str(tmp_path / "nobody.sock"), tmp_path)


async def test_an_image_is_pulled_with_the_login_that_will_do(containerd: Containerd, tmp_path: Path) -> None:
    with registry(containerd.root / "image.tar", "me", "secret") as address:
        name = f"{address}/team/tool:1"

        async def logins(image: str) -> list[Login]:
            assert image == name
            return [Login("me", "old"), Login("me", "secret")]

        async with host(containerd, tmp_path) as here:
            with pytest.raises(ImageNotFound, match=r"401|no basic auth|authorization failed"):
                await here.runtime.ensure_image(name)
            assert (await here.runtime.ensure_image(name, "IfNotPresent", logins)).id


async def test_a_long_log_begins_anew(
    containerd: Containerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drakit.node.cri.LOG_SIZE_LIMIT", 1000)
    monkeypatch.setattr("drakit.node.cri.LOG_SECONDS", 0.1)
    async with host(containerd, tmp_path) as here:
        container = await here.start("while sleep 0.01; do echo a line of some length; done")
        waiting = asyncio.create_task(here.runtime.wait(container.id))
        log = Path(container.log_path)
        async with asyncio.timeout(10):
            while not (Path(f"{log}.1").exists() and log.exists() and log.stat().st_size):
                await asyncio.sleep(0.02)
        await here.runtime.stop(container.id, 0)
        assert (await waiting).state == "exited"


async def test_containers_of_one_pod_share_processes_if_they_want(
    containerd: Containerd, tmp_path: Path
) -> None:
    async with host(containerd, tmp_path, shares_processes=True) as here:
        await here.start("exec sleep 4711", "a")
        assert any("sleep 4711" in line for line in await here.output("ps", "b"))


async def test_claims_are_refused_where_the_runtime_would_ignore_them(tmp_path: Path) -> None:
    need_containerd()
    daemon = Containerd(tmp_path)
    daemon.start(cdi=False)
    try:
        runtime = await CRIRuntime.connect(daemon.socket, tmp_path)
        assert "enable_cdi = true" in runtime.problem
        sandbox = Sandbox(uid="u", namespace="n", name="p")
        spec = ContainerSpec(
            name="c",
            attempt=0,
            image=Image(reference=IMAGE, id="sha256:1", is_opaque=True),
            log_path="/x",
            cdi_devices=["v.example.com/thing=a"],
        )
        with pytest.raises(UnresolvableCDI, match="does not give containers CDI devices"):
            await runtime.create(sandbox, spec)
        await runtime.close()
    finally:
        daemon.stop()


EDITS = {
    "all that is old": (
        "0.5.0",
        ContainerEdits(
            env=["GPU=gpu0"],
            device_nodes=[CDINode(path="/dev/gpu0", host_path="/dev/null", permissions="rw")],
            mounts=[CDIMount(host_path="/etc/passwd", container_path="/opt/p", options=["ro", "bind"])],
            hooks=[Hook(hook_name="createRuntime", path="/bin/true", args=["true"])],
        ),
    ),
    "groups": ("0.7.0", ContainerEdits(env=["GPU=gpu0"], additional_gids=[4711])),
}


@pytest.mark.parametrize("name", EDITS)
async def test_what_our_writer_writes_is_read_by_others(
    containerd: Containerd, tmp_path: Path, name: str
) -> None:
    version, edits = EDITS[name]
    device = "vendor.example.com/written=gpu-0"
    spec = build("vendor.example.com/written", [CDIDevice(name="gpu-0", container_edits=edits)])
    assert spec.cdi_version == version
    path = containerd.cdi / "written.json"
    path.write_bytes(encode(spec))
    script = "echo $GPU; id -G; test -c /dev/gpu0 && cat /opt/p"
    async with host(containerd, tmp_path) as here:
        text = await here.output(script, cdi_devices=[device])
    said = Podman(tmp_path).run(device, path, script)
    assert text[0] == "gpu0"
    if version == "0.5.0":
        assert said.splitlines()[0] == "gpu0"
        assert said.splitlines()[2:] == text[2:] != []
    else:
        assert text[1] == "0 4711"
        assert "unresolvable CDI devices" in said, "podman 4.3 knows nothing newer than 0.5.0"


POD = """
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: one-gpu}
spec: {spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu.example.com}}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  resourceClaims: [{name: gpu, resourceClaimTemplateName: one-gpu}]
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, "echo hello; env; sleep 1000"]
    resources: {claims: [{name: gpu}]}
"""


def test_a_cluster_whose_containers_run_in_containerd(containerd: Containerd, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "--runtime", "cri", "--cri-socket", containerd.socket, "--driver", "gpu")
    cluster.up()
    try:
        assert f"cri: containerd {containerd.version}." in cluster.dra("status").stdout
        node = cluster.get("node", "node-0")["status"]["nodeInfo"]["containerRuntimeVersion"]
        assert node.startswith(f"containerd://{containerd.version}.")
        cluster.kubectl("apply", "-f", "gpu/00-class.yaml")
        cluster.kubectl("apply", "-f", "-", stdin=POD.replace("IMAGE", IMAGE))
        cluster.wait_ready("p")
        (status,) = cluster.get("pod", "p")["status"]["containerStatuses"]
        assert status["containerID"].startswith("containerd://")
        (held,) = status["allocatedResourcesStatus"][0]["resources"]
        vendor, _, _ = held["resourceID"].partition("=")
        written = [json.loads(path.read_text()) for path in containerd.cdi.glob("*.json")]
        assert vendor in [file["kind"] for file in written], "drivers write where the runtime reads"
        (file,) = (path for path in containerd.cdi.glob("*.json") if vendor in path.read_text())
        (env,) = Podman(tmp_path).run(held["resourceID"], file, "env | grep -c GPU").split()
        assert int(env) > 0, "podman reads the driver's file too"
        text = cluster.kubectl("logs", "p")
        assert text.startswith("hello\n")
        assert "GPU" in text
        assert cluster.kubectl("exec", "-i", "p", "--", "cat", stdin="typed\n") == "typed\n"
        cluster.kill()
        cluster.up()
        cluster.wait_ready("p")
        (again,) = cluster.get("pod", "p")["status"]["containerStatuses"]
        assert (again["containerID"], again["restartCount"]) == (status["containerID"], 0)
        cluster.kubectl("delete", "pod", "p", "--timeout=20s")
        wait_for(lambda: not cluster.items("resourceclaims"), "the claim to go")
        wait_for(lambda: not list(containerd.cdi.glob("*-claim_*")), "the claim's CDI file to go")
    finally:
        cluster.dra("down", "--delete", check=False)
