"""Checks results of allocation from nothing but the documents: no code is shared with the search.

Every rule is applied in the plainest way to the whole result at once. Raises AssertionError that names
what is wrong. Only what concerns one device and needs an expression goes through `drakit.cel`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import msgspec

from drakit import cel
from drakit.model.quantity import Quantity
from drakit.model.resource import Device

Document = dict[str, Any]
ID = tuple[str, str, str]


def amount(value: object) -> Fraction:
    return Fraction(Quantity.of(value).nano, 10**9)  # type: ignore[arg-type]


def consumed_of(offered: Document, wanted: object) -> Fraction:
    """What a share takes of a capacity: the next amount that the policy allows, all of it where nothing is
    said."""
    policy = offered.get("requestPolicy") or {}
    if wanted is None:
        return amount(policy.get("default", offered["value"]))
    asked = amount(wanted)
    if "validValues" in policy:
        return min((amount(v) for v in policy["validValues"] if amount(v) >= asked), default=asked)
    if "validRange" in policy:
        low, step = amount(policy["validRange"]["min"]), policy["validRange"].get("step")
        if asked <= low or step is None:
            return max(low, asked)
        return low + amount(step) * -(-(asked - low) // amount(step))
    return asked


def full(id: ID, entries: Document) -> Document:
    """Capacities by name with a domain: the driver's where there is none."""
    return {name if "/" in name else f"{id[0]}/{name}": value for name, value in entries.items()}


class Checker:
    """The cluster of one scenario."""

    def __init__(self, scenario: Document) -> None:
        self.scenario = scenario
        features = scenario.get("features")
        self.has_taints = not isinstance(features, dict) or features.get("deviceTaints", False)
        self.has_all = features == "all"
        known = features if isinstance(features, dict) else {}
        self.has_binding = known.get("deviceBindingAndStatus", features != "none")
        self.has_partitions = known.get("partitionableDevices", features != "none")
        self.node = scenario["node"]
        self.classes = {c["metadata"]["name"]: c for c in scenario["deviceClasses"] or ()}
        self.devices: dict[ID, tuple[Document, Document]] = {}
        self.complete: set[tuple[str, str]] = set()
        self.totals: dict[tuple[str, str, str], dict[str, Fraction]] = {}
        self._read_slices(scenario["resourceSlices"] or [])
        self.whole = {self._id(row) for row in scenario.get("allocatedDevices") or ()}
        self.shared: dict[ID, dict[str, Fraction]] = {}
        for row in scenario.get("aggregatedCapacity") or ():
            id = self._id(row)
            self.shared[id] = {k: amount(v) for k, v in full(id, row.get("capacity", {})).items()}
        for row in scenario.get("allocatedSharedDeviceIDs") or ():
            self.shared.setdefault(self._id(row), {})

    @staticmethod
    def _id(row: Document) -> ID:
        return (row["driver"], row["pool"], row["device"])

    def _read_slices(self, slices: list[Document]) -> None:
        """Devices of the newest generation among the slices that the node sees, and all counter sets."""
        newest: dict[tuple[str, str], int] = {}
        for row in slices:
            spec = row["spec"]
            if self.sees(spec) or spec.get("sharedCounters"):
                key = (spec["driver"], spec["pool"]["name"])
                newest[key] = max(newest.get(key, 0), spec["pool"].get("generation", 0))
        found: Counter[tuple[str, str]] = Counter()
        for row in slices:
            spec = row["spec"]
            pool = (spec["driver"], spec["pool"]["name"])
            if spec["pool"].get("generation", 0) != newest.get(pool):
                continue
            found[pool] += 1
            if found[pool] == spec["pool"].get("resourceSliceCount", 0):
                self.complete.add(pool)
            else:
                self.complete.discard(pool)
            for counter_set in spec.get("sharedCounters") or ():
                counters = {name: amount(c["value"]) for name, c in counter_set["counters"].items()}
                self.totals[(*pool, counter_set["name"])] = counters
            for device in spec.get("devices") or ():
                self.devices[(*pool, device["name"])] = (spec, device)

    def published(self, id: ID) -> Document:
        """The device, of this node or not; empty when it is gone."""
        found: Document = {}
        if id in self.devices:
            return self.devices[id][1]
        for row in self.scenario["resourceSlices"]:
            if (row["spec"]["driver"], row["spec"]["pool"]["name"]) == id[:2]:
                for device in row["spec"].get("devices") or ():
                    found = device if device["name"] == id[2] else found
        return found

    def sees(self, spec: Document) -> bool:
        if spec.get("perDeviceNodeSelection"):
            return any(self.sees(device) for device in spec.get("devices") or ())
        if spec.get("nodeName"):
            return bool(spec["nodeName"] == self.node["metadata"]["name"])
        if spec.get("allNodes"):
            return True
        return spec.get("nodeSelector") is not None and self._selected(spec["nodeSelector"])

    def _selected(self, selector: Document) -> bool:
        labels = self.node["metadata"].get("labels") or {}

        def holds(row: Document, values: dict[str, str]) -> bool:
            value, wanted = values.get(row["key"]), row.get("values") or []
            return {
                "In": value is not None and value in wanted,
                "NotIn": value is None or value not in wanted,
                "Exists": value is not None,
                "DoesNotExist": value is None,
            }[row["operator"]]

        return any(
            all(holds(r, labels) for r in term.get("matchExpressions") or ())
            and all(
                holds(r, {"metadata.name": self.node["metadata"]["name"]})
                for r in term.get("matchFields") or ()
            )
            for term in selector["nodeSelectorTerms"]
        )

    # --- the whole result ----------------------------------------------------------------------

    def check(self, results: list[Document]) -> None:
        claims = self.scenario["claimsToAllocate"]
        assert len(results) == len(claims), "one result a claim"
        rows: list[tuple[int, Document, Document]] = []
        for index, (claim, result) in enumerate(zip(claims, results, strict=True)):
            picked = result.get("devices", {}).get("results", [])
            assert len(picked) <= 32, f"claim {index}: {len(picked)} devices"
            self._check_requests(claim, picked)
            self._check_constraints(claim, picked)
            self._check_selector(result, picked)
            self._check_config(claim, result, picked)
            rows += [(index, row, self._asked(claim, row["request"])) for row in picked]
        for _, row, asked in rows:
            self._check_device(row, asked)
        self._check_exclusive(rows)
        self._check_counters(rows)
        self._check_groups(rows)
        self._check_capacity(rows)

    def _asked(self, claim: Document, name: str) -> Document:
        main, _, sub = name.partition("/")
        request = next(r for r in claim["spec"]["devices"]["requests"] if r["name"] == main)
        if not sub:
            return dict(request["exactly"])
        return dict(next(s for s in request["firstAvailable"] if s["name"] == sub))

    def _check_requests(self, claim: Document, picked: list[Document]) -> None:
        order = []
        for request in claim["spec"]["devices"].get("requests") or ():
            name = request["name"]
            served = [r for r in picked if r["request"].split("/")[0] == name]
            names = {r["request"] for r in served}
            assert len(names) <= 1, f"request {name}: several alternatives"
            order += served
            if not served:
                counts = [request["exactly"]] if "exactly" in request else request["firstAvailable"]
                assert any(c.get("count", 1) == 0 for c in counts), f"request {name}: nothing"
                continue
            asked = self._asked(claim, names.pop())
            if asked.get("allocationMode") == "All":
                missing = self._all(asked) - {self._id(r) for r in served}
                assert not missing, f"request {name}: all but {missing}"
            else:
                assert len(served) == asked.get("count", 1), f"request {name}: {len(served)} devices"
            ids = [self._id(r) for r in served]
            assert len(set(ids)) == len(ids), f"request {name}: a device twice"
        assert order == picked, "results in the order of requests"

    def _all(self, asked: Document) -> set[ID]:
        """What a request for all devices must have: those that it selects, here, of enough capacity. Left out
        are shared ones, of which others may have too much, and amounts that policies may forbid."""
        return {
            id
            for id, (spec, device) in self.devices.items()
            if id[:2] in self.complete and not device.get("allowMultipleAllocations")
            if not spec.get("skipNodeOperations")
            if self._is_here(spec, device) and self._offers(id, asked) and self._refuses(id, asked) is None
            if self.has_binding or not device.get("bindingConditions")
            if self.has_partitions or not device.get("consumesCounters")
        }

    def _offers(self, id: ID, asked: Document) -> bool:
        offered = full(id, self.devices[id][1].get("capacity") or {})
        wanted = full(id, (asked.get("capacity") or {}).get("requests", {}))
        return all(
            name in offered
            and "requestPolicy" not in offered[name]
            and amount(value) <= amount(offered[name]["value"])
            for name, value in wanted.items()
        )

    def _is_here(self, spec: Document, device: Document) -> bool:
        return self.sees(device if spec.get("perDeviceNodeSelection") else spec)

    def _refuses(self, id: ID, asked: Document) -> str | None:
        """The first selector of class and request that does not match the device."""
        published = msgspec.convert(self.devices[id][1], Device)
        rows = (self.classes[asked["deviceClassName"]]["spec"].get("selectors") or []) + (
            asked.get("selectors") or []
        )
        texts = [row["cel"]["expression"] for row in rows]
        return next((text for text in texts if not cel.compile(text).matches(published, id[0])), None)

    def _check_device(self, row: Document, asked: Document) -> None:
        id = self._id(row)
        assert id in self.devices, f"{id}: not published"
        assert id[:2] in self.complete, f"{id}: of an incomplete pool"
        spec, device = self.devices[id]
        assert self._is_here(spec, device), f"{id}: of another node"
        text = self._refuses(id, asked)
        assert text is None, f"{id}: {text}"
        assert row.get("tolerations", []) == (asked.get("tolerations") or []), f"{id}: tolerations"
        for taint in device.get("taints") or () if self.has_taints else ():
            assert taint["effect"] not in ("NoSchedule", "NoExecute") or any(
                (not t.get("effect") or t["effect"] == taint["effect"])
                and (not t.get("key") or t["key"] == taint["key"])
                and (t.get("operator") == "Exists" or t.get("value", "") == taint.get("value", ""))
                for t in asked.get("tolerations") or ()
            ), f"{id}: taint {taint}"
        assert row.get("adminAccess", False) == bool(asked.get("adminAccess")), f"{id}: admin access"
        assert row.get("bindingConditions", []) == device.get("bindingConditions", []), f"{id}: binding"
        for name in full(id, (asked.get("capacity") or {}).get("requests", {})):
            assert name in full(id, device.get("capacity", {})), f"{id}: no capacity {name}"

    def _check_exclusive(self, rows: list[tuple[int, Document, Document]]) -> None:
        taken: Counter[ID] = Counter()
        by_claim: Counter[tuple[int, ID]] = Counter()
        for index, row, _ in rows:
            id = self._id(row)
            if self.devices[id][1].get("allowMultipleAllocations"):
                assert "shareID" in row, f"{id}: a share without an id"
                assert id not in self.whole or row.get("adminAccess"), f"{id}: held whole"
                continue
            assert "shareID" not in row, f"{id}: an id without sharing"
            by_claim[index, id] += 1
            if not row.get("adminAccess"):
                taken[id] += 1
                assert id not in self.whole, f"{id}: held by another claim"
                assert id not in self.shared, f"{id}: shared by others"
        assert all(times == 1 for times in [*taken.values(), *by_claim.values()]), "a device twice"

    def _check_counters(self, rows: list[tuple[int, Document, Document]]) -> None:
        left = {key: dict(counters) for key, counters in self.totals.items()}
        uses = [*self.whole, *(id for id in self.shared if id not in self.whole)]
        shared = set(self.shared)
        for _, row, _ in rows:
            id = self._id(row)
            if self.devices[id][1].get("allowMultipleAllocations"):
                if id in shared:
                    continue
                shared.add(id)
            uses.append(id)
        touched = {self._id(row) for _, row, _ in rows} - self.shared.keys()
        for id in uses:
            for consumption in self.published(id).get("consumesCounters") or ():
                counters = left[(id[0], id[1], consumption["counterSet"])]
                for name, value in consumption["counters"].items():
                    counters[name] -= amount(value["value"])
        for id in touched:
            for consumption in self.devices[id][1].get("consumesCounters") or ():
                counters = left[(id[0], id[1], consumption["counterSet"])]
                for name in consumption["counters"]:
                    assert counters[name] >= 0, f"{id}: counter {consumption['counterSet']}/{name}"

    def _check_groups(self, rows: list[tuple[int, Document, Document]]) -> None:
        """Devices that draw on one counter set have a compatibility group in common, or none at all, unless
        those that claims hold already do not."""
        touched = {self._id(row) for _, row, _ in rows} - self.shared.keys()
        members: dict[tuple[str, str, str], list[set[str]]] = {}
        held: dict[tuple[str, str, str], list[set[str]]] = {}
        used = set()
        for id in {*self.whole, *self.shared, *touched} if self.has_all else ():
            for need in self.published(id).get("consumesCounters") or ():
                key = (id[0], id[1], need["counterSet"])
                members.setdefault(key, []).append(set(need.get("compatibilityGroups") or ()))
                used |= {key} if id in touched else set()
                if id in self.whole or id in self.shared:
                    held.setdefault(key, []).append(members[key][-1])
        for key in used:
            assert _together(members[key]) or not _together(held.get(key, [])), f"{key}: {members[key]}"

    def _check_capacity(self, rows: list[tuple[int, Document, Document]]) -> None:
        consumed: dict[ID, dict[str, Fraction]] = {}
        for _, row, asked in rows:
            id = self._id(row)
            capacity = full(id, self.devices[id][1].get("capacity") or {})
            wanted = full(id, (asked.get("capacity") or {}).get("requests", {}))
            if not self.devices[id][1].get("allowMultipleAllocations"):
                assert "consumedCapacity" not in row, f"{id}: consumed capacity of a whole device"
                assert all(amount(v) <= amount(capacity[k]["value"]) for k, v in wanted.items()), (
                    f"{id}: too small"
                )
                continue
            given = full(id, row.get("consumedCapacity") or {})
            for name, offered in capacity.items():
                value = amount(given[name])
                assert value == consumed_of(offered, wanted.get(name)), f"{id}: {name}"
                if name in wanted:
                    assert value >= amount(wanted[name]), f"{id}: {name} less than asked"
                elif "requestPolicy" not in offered:
                    assert value == amount(offered["value"]), f"{id}: {name} not whole"
                total = consumed.setdefault(id, dict(self.shared.get(id, {})))
                total[name] = total.get(name, Fraction(0)) + value
                assert total[name] <= amount(offered["value"]), f"{id}: {name} overcommitted"

    # --- constraints and where -----------------------------------------------------------------

    def _check_constraints(self, claim: Document, picked: list[Document]) -> None:
        for constraint in claim["spec"]["devices"].get("constraints") or ():
            names = constraint.get("requests") or []
            rows = [
                r for r in picked if not names or r["request"] in names or r["request"].split("/")[0] in names
            ]
            name = constraint.get("matchAttribute") or constraint["distinctAttribute"]
            sets = [self.values(self._id(row), name, self._asked(claim, row["request"])) for row in rows]
            assert all(sets), f"{name}: a device without it"
            if constraint.get("matchAttribute"):
                assert not sets or set.intersection(*sets), f"{name}: no common value"
            else:
                values = Counter(value for found in sets for value in found)
                assert all(times == 1 for times in values.values()), f"{name}: a value twice"

    def values(self, id: ID, name: str, asked: Document) -> set[tuple[str, object]]:
        """The values of an attribute, those the request derives in place of those published."""
        for derived in asked.get("derivedAttributes") or ():
            if derived["name"] == name:
                device = msgspec.convert(self.devices[id][1], Device)
                value = cel.compile_value(derived["expression"]).value(device, id[0])
                found = value if isinstance(value, list) else [value]
                return {("int" if isinstance(one, int) else "string", one) for one in found}
        attributes = self.devices[id][1].get("attributes") or {}
        domain, _, short = name.partition("/")
        found = attributes.get(name) or (attributes.get(short) if domain == id[0] else None) or {}
        return set(_flat(found))

    def _check_selector(self, result: Document, picked: list[Document]) -> None:
        selector = result.get("nodeSelector")
        assert selector is None or self._selected(selector), "the node itself is not selected"
        local = [r for r in picked if self._is_local(self._id(r))]
        if local:
            fields = selector and selector["nodeSelectorTerms"][0].get("matchFields")
            assert [f["values"] for f in fields or ()] == [[self.node["metadata"]["name"]]], "not tied to it"
            return
        terms = selector["nodeSelectorTerms"] if selector else [{}]
        for row in picked:
            spec, device = self.devices[self._id(row)]
            here = device if spec.get("perDeviceNodeSelection") else spec
            for term in (here.get("nodeSelector") or {}).get("nodeSelectorTerms") or ():
                for kind, wanted in term.items():
                    assert all(one in terms[0].get(kind, []) for one in wanted), f"{kind}: {wanted}"

    def _check_config(self, claim: Document, result: Document, picked: list[Document]) -> None:
        """Configs of the classes picked from come first, then those of the claim that concern a request."""
        entries = result.get("devices", {}).get("config", [])
        names = list(dict.fromkeys(row["request"] for row in picked))
        wanted = []
        for device_class in dict.fromkeys(self._asked(claim, name)["deviceClassName"] for name in names):
            config = self.classes[device_class]["spec"].get("config") or ()
            wanted += [("FromClass", entry["opaque"]) for entry in config]
        for entry in claim["spec"]["devices"].get("config") or ():
            about = entry.get("requests") or names
            if {*names, *(name.split("/")[0] for name in names)} & {*about} or not entry.get("requests"):
                wanted.append(("FromClaim", entry["opaque"]))
        found = [(entry["source"], entry["opaque"]) for entry in entries]
        assert found == wanted, f"config {found}, not {wanted}"

    def _is_local(self, id: ID) -> bool:
        spec, device = self.devices[id]
        here = device if spec.get("perDeviceNodeSelection") else spec
        return bool(here.get("nodeName") or device.get("bindsToNode"))


def _together(groups: list[set[str]]) -> bool:
    return not any(groups) or bool(set.intersection(*groups))


def _flat(found: Document) -> Iterator[tuple[str, object]]:
    for kind, value in found.items():
        if isinstance(value, list):
            yield from ((kind.rstrip("s"), one) for one in value)
        else:
            yield (kind, value)
