"""The devices that `dra cel` tries expressions on, and reading the files it is given."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from drakit.apiserver.body import plain
from drakit.cel.survey import Candidate
from drakit.cli.connect import connect
from drakit.client.api import DEVICE_CLASSES, RESOURCE_SLICES
from drakit.errors import UsageError
from drakit.model.nesting import refuse_deep
from drakit.model.resource import Device, ResourceSlice

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def captured(kubeconfig: str | None, context: str | None) -> list[dict[str, Any]]:
    """The ResourceSlices and DeviceClasses of a cluster. Raises UsageError when there is none."""
    return asyncio.run(_captured(kubeconfig, context))


async def _captured(kubeconfig: str | None, context: str | None) -> list[dict[str, Any]]:
    async with connect(kubeconfig, context) as client:
        slices = await client.list(RESOURCE_SLICES)
        classes = await client.list(DEVICE_CLASSES)
    return [
        *({**item, "kind": "ResourceSlice"} for item in slices.items),
        *({**item, "kind": "DeviceClass"} for item in classes.items),
    ]


def device_in(path: Path) -> Candidate:
    """The one device of a file: a device of a slice, with its driver as `driver`."""
    found = documents(path)
    if len(found) != 1:
        raise UsageError(f"{path}: expected one device, found {len(found)} documents")
    driver = str(found[0].get("driver", ""))
    try:
        device = msgspec.convert({"name": "device", **found[0]}, Device)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: not a device: {error}") from None
    return Candidate(f"{driver}/{device.name}" if driver else device.name, driver, device)


def documents(path: Path) -> list[dict[str, Any]]:
    """The objects of a YAML or JSON file, `-` for standard input; the items of lists on their own."""
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        parsed = _parsed(data.decode("utf-8-sig"))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {_one_line(error)}") from None
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply") from None
    strange = next((each for each in parsed if each is not None and not isinstance(each, dict | list)), None)
    if strange is not None:
        raise UsageError(f"{path}: {str(strange)[:40]!r} is no Kubernetes object")
    return list(_flattened(parsed))


def _parsed(text: str) -> list[Any]:
    if text[:1] in ("{", "["):
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            return [msgspec.json.decode(text)]
    refuse_deep(text)
    return [plain(each) for each in yaml.load_all(text, Loader=_LOADER)]


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    if mark is not None and problem:
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
    return str(error).splitlines()[0]


def _flattened(values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for value in values:
        if not isinstance(value, dict):
            continue
        lists = [items for items in value.values() if isinstance(items, list)]
        is_object = "spec" in value or "name" in value or "attributes" in value or "capacity" in value
        if lists and not is_object:
            for items in lists:
                yield from _flattened(items)
        else:
            yield value


def slices_in(found: Iterable[dict[str, Any]]) -> list[Candidate]:
    """The devices of the ResourceSlices among objects."""
    candidates = []
    for document in found:
        spec = document.get("spec")
        if not isinstance(spec, dict) or "pool" not in spec or "driver" not in spec:
            continue
        try:
            slice_ = msgspec.convert(document, ResourceSlice)
        except msgspec.ValidationError as error:
            name = (document.get("metadata") or {}).get("name", "")
            raise UsageError(f"ResourceSlice {name}: {error}") from None
        prefix = f"{slice_.spec.driver}/{slice_.spec.pool.name}"
        candidates += [Candidate(f"{prefix}/{d.name}", slice_.spec.driver, d) for d in slice_.spec.devices]
    return candidates
