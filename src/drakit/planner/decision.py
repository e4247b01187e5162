"""What decided that a selector refused devices: the part of the expression, and what it found on each.

Devices with the same values of what the expression reads are looked at once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable

from drakit import cel
from drakit.cel import Selector, Verdict
from drakit.errors import CELError
from drakit.model.resource import Device
from drakit.planner.evidence import DeviceID
from drakit.profile import Profile

_SHOWN = 3
"""Values that are named before the rest is only counted."""

Decision = tuple[str, str, str]
"""What was looked at, its value, and what was wanted of it."""


class Decisions:
    """The decisions of the selectors of one cluster, each worked out once."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._known: dict[tuple[str, Hashable], Decision] = {}

    def told(self, expression: str, members: Iterable[tuple[DeviceID, Device]]) -> str:
        """What the deciding part of the selector found on the devices: `model is "L4" (8), "A100" (2)`."""
        try:
            selector = cel.compile(expression, profile=self._profile)
        except CELError as error:
            return str(error)
        found: dict[tuple[str, str], Counter[str]] = {}
        for id, device in members:
            name, value, wanted = self._decision(selector, id, device)
            found.setdefault((name, wanted), Counter())[value] += 1
        texts = []
        for (name, wanted), values in found.items():
            texts.append(f"{name} is {_counted(values)}{wanted}" if name else _counted(values))
        return "; ".join(texts)

    def _decision(self, selector: Selector, id: DeviceID, device: Device) -> Decision:
        key = (selector.text, selector.shape(device, id[0]) or id)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _decision(selector.explain(device, id[0]))
        return known


def _decision(verdict: Verdict) -> Decision:
    """In the first part that decided: what was looked at, its value, and what was wanted of it."""
    if verdict.error is not None:
        return "", verdict.error.message, ""
    for decided in verdict.decisive:
        is_unwanted = decided.value == "true"
        if presence := _PRESENCE.fullmatch(decided.text):
            return "", _presence(presence, is_unwanted), ""
        start, end = decided.span
        inside = [
            p for p in verdict.parts if start <= p.span[0] and p.span[1] <= end and p.span != decided.span
        ]
        reads = [part for part in inside if part.text.startswith("device.") and not part.is_error]
        if not reads:
            return decided.text, decided.value, ""
        widest = max(reads, key=lambda part: part.span[1] - part.span[0])
        name = _short(widest.text)
        after = decided.text.removeprefix(widest.text)
        is_first = after != decided.text
        condition = after.strip() if is_first else decided.text.replace(widest.text, name, 1)
        if is_unwanted:
            return name, widest.value, f", unwanted: {condition}"
        if is_first and condition == f"!= {widest.value}":
            return name, widest.value, ", which it must not be"
        return name, widest.value, f", not {condition.removeprefix('==').strip()}"
    return "", "false", ""


_MAP = r"""device\.(?P<map>attributes|capacity)(?:\[["'](?P<domain>[^"']+)["']\])?"""
_PRESENCE = re.compile(
    rf"""["'](?P<key>[^"']+)["']\s+in\s+{_MAP}|has\({_MAP.replace("<", "<has_")}\.(?P<has_key>\w+)\)"""
)
"""A question for an attribute's or capacity's being there, or for a domain's."""


def _presence(found: re.Match[str], is_unwanted: bool) -> str:
    """`no attribute gpu.example.com/type`: the answer to `"type" in device.attributes["gpu.example.com"]`."""
    part = {name.removeprefix("has_"): value for name, value in found.groupdict().items() if value}
    kind = "capacity" if part["map"] == "capacity" else "attribute"
    key, domain = part["key"], part.get("domain")
    what = f"{kind} {domain}/{key}" if domain else f"{kind} of {key}"
    return f"has {what}" if is_unwanted else f"no {what}"


def _short(text: str) -> str:
    """`device.attributes["d"].model` as `model`."""
    return text.rsplit(".", 1)[-1] if "(" not in text and text[-1] != "]" else text


def _counted(values: Counter[str]) -> str:
    shown = [f"{value} ({count})" for value, count in values.most_common(_SHOWN)]
    rest = len(values) - len(shown)
    return ", ".join(shown) + (f", {rest} more values" if rest > 0 else "")
