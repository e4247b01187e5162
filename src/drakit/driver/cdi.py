"""The CDI files of a driver: one for each prepared claim, written in one step."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from msgspec import structs

from drakit.driver.checkpoint import write_file
from drakit.driver.claim import PreparedDevice
from drakit.errors import RecoverableError
from drakit.model import cdi

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.:-]")


class CDIFiles:
    """The files of `driver` in `folder`. Their kind is `k8s.<driver>/claim`."""

    def __init__(self, folder: Path, driver: str) -> None:
        self._folder = folder
        self._kind = f"k8s.{driver}/claim"
        self._prefix = f"k8s.{driver}-claim_"

    def write(self, uid: str, devices: Sequence[PreparedDevice]) -> list[PreparedDevice]:
        """Write the file of claim `uid` and return `devices` with the CDI names they have there added.

        A device without edits is in no file; a claim without any has none. Raises RecoverableError if the
        file cannot be written, CDIError if the edits are not valid.
        """
        entries: dict[str, cdi.Device] = {}
        named: list[PreparedDevice] = []
        for device in devices:
            if device.edits == cdi.NO_EDITS:
                named.append(device)
                continue
            name = self._name(uid, device, len(entries))
            entries[name] = cdi.Device(
                name=name, annotations=device.annotations, container_edits=device.edits
            )
            ids = [*device.cdi_device_ids, cdi.qualified_name(self._kind, name)]
            named.append(structs.replace(device, cdi_device_ids=list(dict.fromkeys(ids))))
        if entries:
            write_file(self._path(uid), cdi.encode(cdi.build(self._kind, entries.values())))
        return named

    def has(self, uid: str) -> bool:
        """Whether the claim `uid` has its file."""
        return self._path(uid).exists()

    def remove(self, uid: str) -> None:
        """Remove the file of claim `uid`, if there is one. Raises RecoverableError if that fails."""
        try:
            self._path(uid).unlink(missing_ok=True)
        except OSError as error:
            raise RecoverableError(f"cannot remove {self._path(uid)}: {error.strerror}") from None

    def keep(self, uids: Collection[str]) -> None:
        """Remove every file but those of the claims `uids`, and what a crash left half written.

        Raises RecoverableError if that is not possible.
        """
        found = [path.stem.removeprefix(self._prefix) for path in self._folder.glob(f"{self._prefix}*.json")]
        for uid in found:
            if uid not in uids:
                self.remove(uid)
        for path in self._folder.glob(f".{self._prefix}*"):
            path.unlink(missing_ok=True)

    def _path(self, uid: str) -> Path:
        return self._folder / f"{self._prefix}{uid}.json"

    def _name(self, uid: str, device: PreparedDevice, index: int) -> str:
        share = f"-{index}" if device.share_id else ""
        return _NOT_IN_NAMES.sub(".", f"{uid}-{device.request}-{device.name}{share}")
