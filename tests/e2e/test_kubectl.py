"""The real kubectl, three minors of it, against the API server over HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from drakit.apiserver.app import API, User
from drakit.apiserver.http import Server, serve
from drakit.apiserver.tls import certificates
from drakit.errors import BadRequest, NotFound, RecoverableError
from drakit.podio import Connection, ExecSession, LogOptions
from drakit.profile import profile_for
from drakit.store import Store
from drakit.transport import Document
from drakit.transport import Request as APIRequest

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

TOOLS = Path(__file__).parents[2] / ".tools"
MINORS = ("1.32", "1.35", "1.37")
ADMIN = User("admin", ("system:masters",))
KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:{port}", certificate-authority: {ca}}}}}]
users: [{{name: u, user: {{token: secret}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"""
STORY = """
apiVersion: v1
kind: Pod
metadata: {name: p1, labels: {app: web}}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: busybox, command: [sleep, "1"], resources: {claims: [{name: x}]}}]
  resourceClaims: [{name: x, resourceClaimName: claim}]
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu}
spec: {selectors: [{cel: {expression: "device.driver == 'gpu.example.com'"}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: claim}
spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu}}]}}
---
apiVersion: resource.k8s.io/v1beta1
kind: ResourceSlice
metadata: {name: slice}
spec:
  driver: gpu.example.com
  nodeName: n1
  pool: {name: n1, generation: 1, resourceSliceCount: 1}
  devices: [{name: d0, basic: {attributes: {model: {string: A}}, capacity: {memory: {value: 1024Mi}}}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: web}]}}
"""


_LOST = -1


class Echo:
    """A command that repeats its stdin on stdout, its arguments on stderr, and exits with 3 if one is
    `fail`."""

    def __init__(self, command: Sequence[str], *, stdin: bool) -> None:
        self._output: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self._output.put_nowait((2, " ".join(command).encode() + b"\n"))
        self._code = 3 if "fail" in command else _LOST if "lose" in command else 0
        if not stdin:
            self._output.put_nowait(None)

    async def read(self) -> tuple[int, bytes] | None:
        return await self._output.get()

    async def write(self, data: bytes) -> None:
        self._output.put_nowait((1, data))

    async def close_stdin(self) -> None:
        self._output.put_nowait(None)

    async def resize(self, width: int, height: int) -> None: ...

    async def wait(self) -> int:
        if self._code == _LOST:
            raise RecoverableError("the runtime could not say")
        return self._code

    async def kill(self) -> None: ...


class Node:
    """A node whose containers say three lines and echo."""

    async def logs(self, pod: Document, options: LogOptions) -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"{options.container} line {number}\n".encode()

    async def exec(
        self, pod: Document, container: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> ExecSession:
        if command[0] == "gone":
            raise NotFound(f'container not found ("{container}")')
        return Echo(command, stdin=stdin)

    async def attach(self, pod: Document, container: str, *, stdin: bool, tty: bool) -> ExecSession:
        return Echo(["attached to", container], stdin=stdin)

    async def connect(self, pod: Document, port: int) -> Connection:
        if port == 9:
            raise BadRequest("nobody listens")
        return Answer(port)


class Answer:
    """A connection whose other end repeats in capitals what it hears, after its port's number."""

    def __init__(self, port: int) -> None:
        self._said: asyncio.Queue[bytes] = asyncio.Queue()
        self._said.put_nowait(b"%d " % port)

    async def read(self) -> bytes:
        return await self._said.get()

    async def write(self, data: bytes) -> None:
        self._said.put_nowait(data.upper())

    async def end(self) -> None:
        self._said.put_nowait(b"")

    def close(self) -> None: ...


class Kubectl:
    """One kubectl binary pointed at one server."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self._environment = {
            "HOME": str(folder),
            "KUBECONFIG": str(folder / "config"),
            "PATH": os.environ["PATH"],
            "EDITOR": str(folder / "editor"),
        }

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            str(self._binary),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            cwd=self._folder,
        )

    async def run(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def __call__(self, *arguments: str, stdin: str = "") -> str:
        code, out, err = await self.run(*arguments, stdin=stdin)
        assert code == 0, f"kubectl {' '.join(arguments)}: {err or out}"
        return out

    async def refused(self, *arguments: str, stdin: str = "") -> str:
        code, out, err = await self.run(*arguments, stdin=stdin)
        assert code != 0, f"kubectl {' '.join(arguments)} was not refused: {out}"
        return err


def binary(minor: str) -> Path:
    found = TOOLS / minor / "kubectl"
    if not found.exists():
        pytest.skip(f"kubectl {minor} is not in {TOOLS}: run scripts/ci-tools.sh")
    return found


async def start(folder: Path, version: str) -> tuple[API, Server]:
    api = API.open(Store(), profile_for(version), tokens={"secret": ADMIN}, pod_io=lambda name: Node())
    await api.start()
    files = certificates(folder / "pki")
    server = await serve(api, "127.0.0.1", 0, certfile=files.certificate, keyfile=files.key)
    (folder / "config").write_text(KUBECONFIG.format(port=server.port, ca=files.ca))
    (folder / "config").chmod(stat.S_IRUSR | stat.S_IWUSR)
    return api, server


@pytest.fixture(params=MINORS)
async def kubectl(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kubectl]:
    found = binary(request.param)
    api, server = await start(tmp_path, "1.37")
    yield Kubectl(found, tmp_path)
    await server.stop()
    await api.close()


async def test_apply_get_change_and_delete(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "story.yaml").write_text(STORY)
    assert (await kubectl("apply", "-f", "story.yaml")).count(" created") == 5
    assert "pod/p1 unchanged" in await kubectl("apply", "-f", "story.yaml")
    assert "p1     0/1     Pending" in await kubectl("get", "pods")
    wide = await kubectl("get", "resourceclaims,resourceslices,deviceclasses", "-o", "wide")
    assert "resourceclaim.resource.k8s.io/claim   pending" in wide
    assert "n1     gpu.example.com   n1" in wide
    slice_ = json.loads(await kubectl("get", "resourceslices.v1.resource.k8s.io", "slice", "-o", "json"))
    assert slice_["spec"]["devices"][0]["capacity"]["memory"]["value"] == "1Gi"
    assert (await kubectl("get", "pod", "p1", "-o", "jsonpath={.spec.containers[0].image}")) == "busybox"
    assert (await kubectl("get", "pods", "-A", "-l", "app=web", "-o", "name")) == "pod/p1\n"
    assert (await kubectl("get", "pods", "--field-selector", "spec.nodeName=n2", "-o", "name")) == ""
    assert "Node:             n1" in await kubectl("describe", "pod", "p1")

    await kubectl("label", "pod", "p1", "a=b")
    await kubectl("annotate", "pod", "p1", "c=d")
    await kubectl("patch", "deployment", "web", "-p", '{"spec":{"replicas":3}}')
    await kubectl(
        "patch", "deployment", "web", "--type=json", "-p", '[{"op":"remove","path":"/spec/replicas"}]'
    )
    await kubectl("scale", "deployment", "web", "--replicas=5")
    assert (await kubectl("get", "deployment", "web", "-o", "jsonpath={.spec.replicas}")) == "5"
    live = await kubectl("get", "deployment", "web", "-o", "yaml")
    await kubectl("replace", "-f", "-", stdin=live.replace("replicas: 5", "replicas: 6"))
    stale = live.replace("replicas: 5", "replicas: 7")
    assert "the object has been modified" in await kubectl.refused("replace", "-f", "-", stdin=stale)

    deleted = await kubectl("delete", "-f", "story.yaml", "--timeout=10s", "--force")
    assert deleted.count('"') == 10
    assert "not found" in await kubectl.refused("get", "pod", "p1")


async def test_what_kubectl_sends_as_protobuf(kubectl: Kubectl) -> None:
    assert await kubectl("create", "namespace", "t") == "namespace/t created\n"
    await kubectl("create", "configmap", "c", "--from-literal=a=b", "-n", "t")
    await kubectl("create", "secret", "generic", "s", "--from-literal=a=b", "-n", "t")
    await kubectl("create", "serviceaccount", "sa", "-n", "t")
    await kubectl("create", "deployment", "d", "--image=x", "--replicas=0", "-n", "t")
    await kubectl("create", "job", "j", "--image=x", "-n", "t", "--", "sh", "-c", "true")
    await kubectl("create", "clusterrole", "r", "--verb=get", "--resource=pods")
    secret = json.loads(await kubectl("get", "secret", "s", "-n", "t", "-o", "json"))
    assert secret["data"] == {"a": "Yg=="}
    deployment = json.loads(await kubectl("get", "deployment", "d", "-n", "t", "-o", "json"))
    assert deployment["spec"]["replicas"] == 0
    assert "resources" in deployment["spec"]["template"]["spec"]["containers"][0]
    assert "admin" in await kubectl("auth", "whoami")
    assert (await kubectl("auth", "can-i", "create", "pods")).strip() == "yes"
    token = await kubectl("create", "token", "sa", "-n", "t")
    assert token.count(".") == 2
    await kubectl("delete", "namespace", "t", "--wait=false")
    assert "is being terminated" in await kubectl.refused("create", "configmap", "late", "-n", "t")


async def test_server_side_apply_and_dry_run(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "class.yaml").write_text(STORY.split("---")[1])
    assert "serverside-applied" in await kubectl("apply", "--server-side", "-f", "class.yaml")
    assert "(server dry run)" in await kubectl("apply", "--dry-run=server", "-f", "class.yaml")
    (tmp_path / "other.yaml").write_text(STORY.split("---")[2])
    await kubectl("create", "--dry-run=server", "-f", "other.yaml")
    assert "not found" in await kubectl.refused("get", "resourceclaim", "claim")


async def test_mistakes_are_explained(kubectl: Kubectl) -> None:
    unknown = STORY.split("---")[2].replace("deviceClassName", "deviceClass")
    assert 'unknown field "spec.devices.requests[0].exactly.deviceClass"' in await kubectl.refused(
        "create", "-f", "-", stdin=unknown
    )
    assert 'namespaces "nowhere" not found' in await kubectl.refused(
        "create", "configmap", "c", "-n", "nowhere"
    )
    await kubectl("create", "configmap", "c")
    assert 'configmaps "c" already exists' in await kubectl.refused("create", "configmap", "c")


async def test_watch_and_wait(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "story.yaml").write_text(STORY)
    await kubectl("apply", "-f", "story.yaml")
    watcher = await kubectl.start("get", "pods", "-w", "--no-headers")
    assert watcher.stdout is not None
    assert b"Pending" in await asyncio.wait_for(watcher.stdout.readline(), 20)
    await kubectl("patch", "pod", "p1", "--subresource=status", "-p", '{"status":{"phase":"Running"}}')
    assert b"Running" in await asyncio.wait_for(watcher.stdout.readline(), 20)
    waited = await kubectl("wait", "pod/p1", "--for=jsonpath={.status.phase}=Running", "--timeout=10s")
    assert "condition met" in waited
    gone = await kubectl.start("wait", "pod/p1", "--for=delete", "--timeout=20s")
    await kubectl("delete", "pod", "p1", "--force")
    assert await asyncio.wait_for(gone.wait(), 20) == 0
    watcher.kill()
    await watcher.wait()


async def test_logs_and_exec(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(STORY.split("---")[0])
    await kubectl("create", "-f", "pod.yaml")
    assert await kubectl("logs", "p1") == "c line 0\nc line 1\nc line 2\n"
    assert "container nope is not valid for pod p1" in await kubectl.refused("logs", "p1", "-c", "nope")
    code, out, err = await kubectl.run("exec", "-i", "p1", "--", "cat", "-", stdin="hello\n")
    assert (code, out) == (0, "hello\n")
    assert "cat -" in err
    code, _, err = await kubectl.run("exec", "p1", "--", "fail")
    assert code == 3
    assert "exit code 3" in err
    assert "the runtime could not say" in await kubectl.refused("exec", "p1", "--", "lose")


async def test_attach_and_port_forward(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(STORY.split("---")[0].replace("resources:", "stdin: true, resources:"))
    await kubectl("create", "-f", "pod.yaml")
    await kubectl("patch", "pod", "p1", "--subresource=status", "-p", '{"status":{"phase":"Running"}}')
    code, out, err = await kubectl.run("attach", "-i", "p1", stdin="hello\n")
    assert (code, out) == (0, "hello\n")
    assert "attached to c" in err
    forward = await kubectl.start("port-forward", "p1", ":80", ":9", "--address=127.0.0.1")
    assert forward.stdout is not None
    assert forward.stderr is not None
    lines = [await asyncio.wait_for(forward.stdout.readline(), 20) for _ in range(2)]
    ports = {int(line.split(b"->")[1]): int(line.split(b":")[1].split()[0]) for line in lines}
    big = b"x" * 300_000

    async def ask(port: int, text: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[port])
        writer.write(text)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answer

    answers = await asyncio.gather(ask(80, b"hello"), ask(80, big))
    assert answers == [b"80 HELLO", b"80 " + big.upper()]
    assert await ask(9, b"") == b"", "closed; with something unread it would be reset"
    told = b""
    while b"nobody listens" not in told:
        told += await asyncio.wait_for(forward.stderr.readline(), 20)
    with contextlib.suppress(ProcessLookupError):  # newer ones end when a port fails
        forward.kill()
    await forward.wait()


async def test_exec_into_a_container_that_does_not_run_says_so(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(STORY.split("---")[0])
    await kubectl("create", "-f", "pod.yaml")
    assert 'container not found ("c")' in await kubectl.refused("exec", "p1", "--", "gone")
    assert "container nope is not valid for pod p1" in await kubectl.refused(
        "exec", "p1", "-c", "nope", "--", "ls"
    )


async def test_discovery(kubectl: Kubectl) -> None:
    rows = await kubectl("api-resources", "--api-group=resource.k8s.io", "-o", "wide")
    assert "resource.k8s.io/v1 " in rows
    assert "devicetaintrules" in rows
    versions = (await kubectl("api-versions")).split()
    assert {"resource.k8s.io/v1", "resource.k8s.io/v1beta1", "resource.k8s.io/v1beta2", "v1"} <= set(versions)
    assert "Server Version: v1.37.0" in await kubectl("version")


@pytest.mark.parametrize("version", ["1.32", "1.37"])
async def test_explain_prints_the_text_of_the_version(tmp_path: Path, version: str) -> None:
    found = Kubectl(binary("1.32"), tmp_path)
    api, server = await start(tmp_path, version)
    text = await found("explain", "deviceclass.spec")
    served = "v1beta1" if version == "1.32" else "v1"
    assert text.startswith(f"GROUP:      resource.k8s.io\nKIND:       DeviceClass\nVERSION:    {served}\n")
    assert "Config defines configuration parameters that apply to each device that is" in text
    whole = await found("explain", "resourceslice")
    assert ("This is an alpha type" in whole) == (version == "1.32")
    assert "Driver identifies the DRA driver" in await found("explain", "resourceslice.spec.driver")
    assert "requests\t<[]DeviceRequest>" in await found("explain", "resourceclaim.spec.devices")
    assert "spec\t<ResourceClaimSpec>" in await found("explain", "resourceclaimtemplate.spec")
    assert "containers\t<[]Container>" in await found("explain", "pod", "--recursive")
    await server.stop()
    await api.close()


async def test_a_wrong_token_is_refused_and_open_watches_do_not_hold_up_stopping(tmp_path: Path) -> None:
    found = Kubectl(binary("1.37"), tmp_path)
    api, server = await start(tmp_path, "1.37")
    assert "provide credentials" in await found.refused("get", "pods", "--token=nope")
    watcher = await found.start("get", "namespaces", "-w", "--no-headers")
    assert watcher.stdout is not None
    await asyncio.wait_for(watcher.stdout.readline(), 20)
    await asyncio.wait_for(server.stop(), 5)
    await api.close()
    assert await asyncio.wait_for(watcher.wait(), 10) is not None
    response = (
        await API.open(Store(), profile_for())
        .transport(ADMIN)
        .send(APIRequest(method="GET", path="/api/v1/namespaces"))
    )
    assert response.status == 200
