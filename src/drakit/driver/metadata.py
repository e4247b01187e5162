"""Device metadata: a file in the container that says what its devices are (KEP-5304).

    /var/run/kubernetes.io/dra-device-attributes/resourceclaims/CLAIM/REQUEST/DRIVER-metadata.json
    /var/run/kubernetes.io/dra-device-attributes/resourceclaimtemplates/POD-CLAIM/REQUEST/...

the latter for a claim made from a template. The file is a stream of one JSON document for each version of
metadata.resource.k8s.io, the newest first. Its `generation` grows with every change. A change is written
into the file that is there, since a mount shows the file and not its name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import structs

from drakit.driver.checkpoint import write_file
from drakit.driver.claim import PreparedClaim, PreparedDevice
from drakit.errors import RecoverableError
from drakit.model.cdi import Mount
from drakit.model.resource import DeviceAttribute
from drakit.transport import Document

CONTAINER_FOLDER = "/var/run/kubernetes.io/dra-device-attributes"
VERSIONS = ("v1beta1", "v1alpha1")

Attributes = Mapping[tuple[str, str], Mapping[str, DeviceAttribute]]
"""Of devices, by pool and name."""


class MetadataFiles:
    """The files of `driver` in `folder`, which the host calls `host_folder`, by claim UID and request."""

    def __init__(self, folder: Path, driver: str, host_folder: Path) -> None:
        self._folder = folder
        self._host_folder = host_folder
        self._driver = driver

    def write(self, claim: PreparedClaim, published: Attributes) -> PreparedClaim:
        """Write the files of `claim`, and return it with a mount at the first device of each request.

        Raises RecoverableError if they cannot be written.
        """
        devices = list(claim.devices)
        for request in dict.fromkeys(_main(device.request) for device in devices):
            path = self._path(claim.uid, request)
            of_request = [device for device in devices if _main(device.request) == request]
            generation = self._generation(path) + 1
            write_file(path, self._content(claim, generation, of_request, published))
            path.chmod(0o644)
            first = devices.index(of_request[0])
            mount = Mount(
                host_path=str(self._host_folder / path.relative_to(self._folder)),
                container_path=self._container_path(claim, request),
                options=["ro", "bind"],
            )
            edits = devices[first].edits
            edits = structs.replace(edits, mounts=[*edits.mounts, mount])
            devices[first] = structs.replace(devices[first], edits=edits)
        return structs.replace(claim, devices=devices)

    def update(self, claim: PreparedClaim, published: Attributes) -> None:
        """Write anew what is said of the devices of `claim`. Raises RecoverableError."""
        for request in dict.fromkeys(_main(device.request) for device in claim.devices):
            path = self._path(claim.uid, request)
            of_request = [device for device in claim.devices if _main(device.request) == request]
            generation = 1 + self._generation(path)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._content(claim, generation, of_request, published))
                path.chmod(0o644)
            except OSError as error:
                raise RecoverableError(f"cannot write {path}: {error.strerror}") from None

    def restore(self, claim: PreparedClaim, published: Attributes) -> None:
        """Write files of the prepared `claim` that were lost."""
        requests = {_main(device.request) for device in claim.devices}
        if not all(self._path(claim.uid, request).exists() for request in requests):
            self.update(claim, published)

    def remove(self, uid: str) -> None:
        """Remove the files of the claim `uid`, if there are any. Raises RecoverableError."""
        try:
            shutil.rmtree(self._folder / uid)
        except FileNotFoundError:
            return
        except OSError as error:
            raise RecoverableError(f"cannot remove {self._folder / uid}: {error.strerror}") from None

    def keep(self, uids: Collection[str]) -> None:
        """Remove the files of every claim but `uids`."""
        if self._folder.is_dir():
            for entry in self._folder.iterdir():
                if entry.name not in uids:
                    self.remove(entry.name)

    def _path(self, uid: str, request: str) -> Path:
        return self._folder / uid / request / "metadata.json"

    def _container_path(self, claim: PreparedClaim, request: str) -> str:
        place = f"resourceclaims/{claim.name}"
        if claim.pod_claim_name:
            place = f"resourceclaimtemplates/{claim.pod_claim_name}"
        return f"{CONTAINER_FOLDER}/{place}/{request}/{self._driver}-metadata.json"

    @staticmethod
    def _generation(path: Path) -> int:
        try:
            document, _ = json.JSONDecoder().raw_decode(path.read_text())
            return int(document["metadata"]["generation"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _content(
        self,
        claim: PreparedClaim,
        generation: int,
        devices: Sequence[PreparedDevice],
        published: Attributes,
    ) -> bytes:
        requests: dict[str, list[Document]] = {}
        for device in devices:
            entry: Document = {"driver": self._driver, "pool": device.pool, "name": device.name}
            if attributes := {**published.get((device.pool, device.name), {}), **device.attributes}:
                entry["attributes"] = msgspec.to_builtins(attributes)
            if device.network_data is not None:
                entry["networkData"] = msgspec.to_builtins(device.network_data)
            requests.setdefault(device.request, []).append(entry)
        meta = {
            "name": claim.name,
            "namespace": claim.namespace,
            "uid": claim.uid,
            "generation": generation,
        }
        body: Document = {
            "metadata": meta,
            **({"podClaimName": claim.pod_claim_name} if claim.pod_claim_name else {}),
            "requests": [{"name": name, "devices": found} for name, found in requests.items()],
        }
        documents = [
            {"kind": "DeviceMetadata", "apiVersion": f"metadata.resource.k8s.io/{version}", **body}
            for version in VERSIONS
        ]
        return "".join(json.dumps(document, indent=2) + "\n" for document in documents).encode()


def _main(request: str) -> str:
    """The request of a subrequest `main/sub`."""
    return request.partition("/")[0]
