"""A small driver without an SDK, right in everything but what it is told to break.

It has two lamps, a state file, one CDI file a claim, metadata and health. `--break WHAT` gives it one fault:
each is a line `self.breaks("...")` below.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import signal
import ssl
import sys
import threading
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drakit.pluginapi import wire
from drakit.pluginapi.dra import Claim, PreparedDevice, PrepareResult, dra_handlers
from drakit.pluginapi.health import HEALTH_V1, DeviceHealth, health_handlers
from drakit.pluginapi.registration import PluginInfo, registration_handlers

NAME = "lamp.example.com"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
METADATA = "/var/run/kubernetes.io/dra-device-attributes/resourceclaims"
SLOW_SECONDS = 0.4
Document = dict[str, Any]


class Refused(Exception):
    """The API server said no, with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the API server answered {code}")
        self.code = code


class Api:
    """The API server of a kubeconfig in JSON with a token."""

    def __init__(self, path: str) -> None:
        config = json.loads(Path(path).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._address = cluster["server"].removeprefix("https://")
        self._headers = {"Authorization": f"Bearer {user['token']}", "Content-Type": "application/json"}
        ca = b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=ca)

    def call(self, method: str, path: str, body: Document | None = None) -> Document:
        """Raises Refused, or OSError if nobody answers."""
        with contextlib.closing(self._connect()) as connection:
            connection.request(method, path, json.dumps(body) if body else None, self._headers)
            answer = connection.getresponse()
            data = answer.read()
        if answer.status >= 400:
            raise Refused(answer.status)
        return dict(json.loads(data))

    def watch(self, path: str, version: str) -> Iterator[Document]:
        """The events after `version`, until the server ends them."""
        with contextlib.closing(self._connect()) as connection:
            connection.request("GET", f"{path}?watch=true&resourceVersion={version}", headers=self._headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise Refused(answer.status)
            while line := answer.readline():
                yield json.loads(line)

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._address, context=self._tls, timeout=60)


class Lamps:
    def __init__(self, options: argparse.Namespace) -> None:
        self._break = options.what
        self._node = os.environ["NODE_NAME"]
        self._api = Api(os.environ["KUBECONFIG"])
        self._cdi = Path(os.environ["CDI_DIR"])
        self._folder = Path(options.plugins_dir) / NAME
        pod = os.environ["POD_UID"]
        suffix = f"-{pod}" if pod and not self.breaks("rolling") else ""
        self._socket = self._folder / f"dra{suffix}.sock"
        self._registry_socket = Path(options.registry_dir) / f"{NAME}{suffix}-reg.sock"
        self._state = self._folder / "state.json"
        self._lock = asyncio.Lock()
        self._calls = 0
        self._asked = 0
        self._memory: dict[str, Document] = {}
        self._leaked: list[int] = []
        self._is_other = options.other
        self._lamps = ("lamp-5", "lamp-6") if options.other else ("lamp-0", "lamp-1", "lamp-2")

    def breaks(self, what: str) -> bool:
        return bool(self._break == what)

    async def run(self) -> None:
        self._folder.mkdir(exist_ok=True)
        if self.breaks("metadata-generation"):
            for path in self._folder.glob("*-metadata.json"):
                path.write_text(json.dumps({**json.loads(path.read_text()), "boot": time.time()}))
        threading.Thread(target=self._publish, daemon=True).start()
        services = dra_handlers(self)
        handlers = [*(services[:1] if self.breaks("version") else services), *health_handlers(self)]
        plugin = await wire.serve(self._socket, handlers)
        registry = await wire.serve(self._registry_socket, registration_handlers(self))
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        handle = (lambda: None) if self.breaks("sigterm") else stopped.set
        loop.add_signal_handler(signal.SIGTERM, handle)
        await stopped.wait()
        await registry.stop(0)
        await plugin.stop(0)

    # --- registration -----------------------------------------------------------------------------

    async def get_info(self) -> PluginInfo:
        self._asked += 1
        if self.breaks("kubelet") and self._asked > 1:
            raise ValueError("asked again")
        type = "CSIPlugin" if self.breaks("type") else "DRAPlugin"
        endpoint = "/nowhere/dra.sock" if self.breaks("endpoint") else str(self._socket)
        services = ["v1.DRAPlugin", "v1beta1.DRAPlugin", HEALTH_V1]
        return PluginInfo(type, NAME, endpoint, services)

    async def notify(self, is_registered: bool, error: str) -> None:
        pass

    # --- slices -----------------------------------------------------------------------------------

    def _publish(self) -> None:
        if self.breaks("refused") and not self._api.call("GET", SLICES)["items"]:
            with contextlib.suppress(Refused):
                self._api.call("POST", SLICES, self._slice("Not_A_Name"))
        if self.breaks("rbac"):
            with contextlib.suppress(Refused):
                self._api.call("GET", "/api/v1/secrets")
        if self.breaks("absent"):
            marker = self._folder / "was-here"
            if marker.exists() and not self._api.call("GET", SLICES)["items"]:
                marker.unlink()
                return
            marker.touch()
        if self.breaks("mixed") and self._is_other:
            (ours,) = self._api.call("GET", SLICES)["items"]
            ours["spec"]["devices"] = [{"name": self._lamps[0]}]
            self._write("PUT", f"{SLICES}/{ours['metadata']['name']}", ours)
        version = ""
        while not self.breaks("silent"):
            try:
                version = version or self._reconcile()
                for event in self._api.watch(SLICES, version):
                    if event["type"] == "ERROR":
                        version = version if self.breaks("expired") else ""
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK" and not (
                        event["type"] == "DELETED" and self.breaks("deleted")
                    ):
                        self._reconcile()
            except Refused as error:
                version = ""
                if self.breaks("error") and error.code == 500:
                    os._exit(3)
            except (OSError, http.client.HTTPException):
                version = ""
                if self.breaks("gone"):
                    os._exit(4)
            time.sleep(0.05)

    def _reconcile(self) -> str:
        """Have exactly our slice; returns the version of the list that was looked at."""
        found = self._api.call("GET", SLICES)
        ours = [
            item
            for item in found["items"]
            if item["spec"]["driver"] == NAME
            and (item["spec"].get("nodeName") == self._node or self.breaks("foreign"))
        ]
        wanted = self._slice(self._lamps[0])
        is_there = False
        for item in ours:
            if item["metadata"]["name"] == wanted["metadata"]["name"]:
                is_there = True
                is_same = item["spec"]["devices"] == wanted["spec"]["devices"]
                if (not is_same and not self.breaks("changed")) or self.breaks("busy"):
                    label = {"labels": {"time": str(time.monotonic_ns())}} if self.breaks("busy") else {}
                    metadata = {**item["metadata"], **label}
                    self._write("PUT", f"{SLICES}/{metadata['name']}", {**wanted, "metadata": metadata})
            elif not self.breaks("stray"):
                self._api.call("DELETE", f"{SLICES}/{item['metadata']['name']}")
        if not is_there:
            self._write("POST", SLICES, wanted)
        return str(found["metadata"]["resourceVersion"])

    def _write(self, method: str, path: str, document: Document) -> None:
        with contextlib.suppress(Refused):
            if self.breaks("generation"):
                document["spec"]["pool"]["generation"] = 2 if method == "POST" else 1
            self._api.call(method, path, document)

    def _slice(self, first: str) -> Document:
        node = self._api.call("GET", f"/api/v1/nodes/{self._node}")
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": node["metadata"]["uid"]}
        count = 2 if self.breaks("incomplete") else 1
        return {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": f"{self._node}-lamps", "ownerReferences": [owner]},
            "spec": {
                "driver": NAME,
                "nodeName": self._node,
                "pool": {"name": self._node, "generation": 1, "resourceSliceCount": count},
                "devices": [{"name": name} for name in (first, *self._lamps[1:])],
            },
        }

    # --- health -----------------------------------------------------------------------------------

    async def watch_health(self) -> AsyncIterator[Sequence[DeviceHealth]]:
        name = "sun" if self.breaks("health") else "lamp-0"
        while True:
            yield [DeviceHealth(self._node, name, "Healthy", int(time.time()), 1)]
            if self.breaks("health-once"):
                await asyncio.Event().wait()
            await asyncio.sleep(0.3)

    # --- claims -----------------------------------------------------------------------------------

    async def prepare(self, claims: Sequence[Claim]) -> Mapping[str, PrepareResult]:
        answers: dict[str, PrepareResult] = {}
        async with self._alone():
            for claim in claims[:1] if self.breaks("first-only") else claims:
                try:
                    answers[claim.uid] = PrepareResult(await self._prepare(claim))
                except (Refused, OSError, ValueError) as error:
                    answers[claim.uid] = PrepareResult(error=str(error))
        errors = [answer.error for answer in answers.values() if answer.error]
        if errors and self.breaks("helper") and len(claims) > 1:
            raise ValueError(errors[0])
        if errors and self.breaks("whole"):
            return {claim.uid: PrepareResult(error=errors[0]) for claim in claims}
        return answers

    async def unprepare(self, claims: Sequence[Claim]) -> Mapping[str, str]:
        answers: dict[str, str] = {}
        async with self._alone():
            for claim in claims:
                answers[claim.uid] = ""
                try:
                    await self._unprepare(claim)
                except (Refused, OSError, ValueError) as error:
                    answers[claim.uid] = str(error)
        return answers

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One call at a time, whatever comes of it."""
        self._calls += 1
        try:
            if self.breaks("parallel") and self._calls > 1:
                raise ValueError("busy")
            await self._lock.acquire()
            try:
                yield
            except asyncio.CancelledError:
                if not self.breaks("deadline"):
                    self._lock.release()
                raise
            except BaseException:
                self._lock.release()
                raise
            self._lock.release()
        finally:
            self._calls -= 1

    async def _prepare(self, claim: Claim) -> list[PreparedDevice]:
        known = self._known()
        if claim.uid in known and self.breaks("again"):
            raise ValueError("it is prepared already")
        if claim.uid not in known:
            devices = await asyncio.to_thread(self._devices, claim)
            self._check_free(devices, known)
            self._write_files(claim, devices)
            known[claim.uid] = {"devices": devices}
            self._remember(known)
        if self.breaks("leak"):
            self._leaked.append(os.open("/dev/null", os.O_RDONLY))
        return [
            PreparedDevice(
                [device["request"] if self.breaks("alternative") else device["request"].partition("/")[0]],
                device["pool"],
                "sun" if self.breaks("device") else device["device"],
                [f"example.com/lamp={claim.uid}"],
            )
            for device in known[claim.uid]["devices"]
        ]

    def _devices(self, claim: Claim) -> list[Document]:
        """What was allocated for the claim. Raises Refused, OSError or ValueError."""
        began = time.monotonic()
        try:
            path = f"/apis/resource.k8s.io/v1/namespaces/{claim.namespace}/resourceclaims/{claim.name}"
            document = self._api.call("GET", path)
        except Refused as error:
            if self.breaks("unknown") and error.code == 404:
                return [{"request": "device", "pool": self._node, "device": "lamp-0"}]
            raise
        if self.breaks("slow") and time.monotonic() - began > SLOW_SECONDS:
            raise ValueError("the API server is too slow")
        if document["metadata"]["uid"] != claim.uid and not self.breaks("stale"):
            raise ValueError("the claim was replaced")
        return list(document["status"]["allocation"]["devices"]["results"])

    def _check_free(self, devices: list[Document], known: dict[str, Document]) -> None:
        """Raises ValueError for a lamp that another claim still has."""
        taken = {device["device"]: uid for uid, entry in known.items() for device in entry["devices"]}
        for device in devices:
            if uid := taken.get(device["device"]):
                raise ValueError(f"{device['device']} is still prepared for claim {uid}")

    async def _unprepare(self, claim: Claim) -> None:
        known = self._known()
        if claim.uid not in known:
            if self.breaks("dies"):
                os._exit(5)
            if self.breaks("never"):
                raise ValueError("it is not prepared")
            return
        if self.breaks("unprepare"):
            raise ValueError("not today")
        if self.breaks("deleted-claim"):
            await asyncio.to_thread(self._devices, claim)
        if not self.breaks("cdi-left"):
            self._cdi_file(claim.uid).unlink(missing_ok=True)
        (self._folder / f"{claim.uid}-metadata.json").unlink(missing_ok=True)
        del known[claim.uid]
        self._remember(known)

    def _known(self) -> dict[str, Document]:
        if self.breaks("forget"):
            return self._memory
        return dict(json.loads(self._state.read_text())) if self._state.exists() else {}

    def _remember(self, known: dict[str, Document]) -> None:
        self._state.with_suffix(".new").write_text(json.dumps(known))
        self._state.with_suffix(".new").rename(self._state)

    def _cdi_file(self, uid: str) -> Path:
        return self._cdi / f"lamp-{uid}.json"

    def _write_files(self, claim: Claim, devices: list[Document]) -> None:
        metadata = self._folder / f"{claim.uid}-metadata.json"
        uid = "another" if self.breaks("metadata-uid") else claim.uid
        document = {
            "apiVersion": "metadata.resource.k8s.io/v1alpha1",
            "kind": "DeviceMetadata",
            "metadata": {"name": claim.name, "namespace": claim.namespace, "uid": uid, "generation": 1},
            "requests": [
                {"name": d["request"], "devices": [{"driver": NAME, "pool": d["pool"], "name": d["device"]}]}
                for d in devices
            ],
        }
        metadata.write_text("{" if self.breaks("metadata") else json.dumps(document) + "\n")
        mount = {
            "hostPath": str(metadata),
            "containerPath": f"{METADATA}/{claim.name}/device/{metadata.name}",
            "options": ["ro", "bind"],
        }
        edits: Document = {"env": [f"LAMP={devices[0]['device']}"], "mounts": [mount]}
        if self.breaks("cdi"):
            edits["additionalGids"] = [7]
        spec = {
            "cdiVersion": "1.1.0" if self.breaks("cdi-new") else "0.5.0",
            "kind": "example.com/lamp",
            "devices": [{"name": claim.uid, "containerEdits": edits}],
        }
        self._cdi_file(claim.uid).write_text(json.dumps(spec))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--plugins-dir", required=True)
    parser.add_argument("--registry-dir", required=True)
    parser.add_argument("--break", dest="what", default="")
    parser.add_argument("--other", action="store_true", help="publish other lamps")
    asyncio.run(Lamps(parser.parse_args()).run())


if __name__ == "__main__":
    sys.exit(main())
