"""The allocator's answer the slow way: every choice in order, every rule checked from scratch.

No pruning, no state to keep consistent: a choice is judged by looking at all picks made so far. Only for
one node whose pools are complete. Shares no code with the search.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import msgspec

from drakit import cel
from drakit.errors import CELError
from drakit.model.resource import Device
from tests.allocator.checker import ID, Checker, Document, amount, consumed_of, full


class Stopped(Exception):
    """An error that ends the search."""


class Pick(msgspec.Struct, frozen=True):
    claim: int
    request: str
    id: ID
    asked: Document


class Naive:
    def __init__(self, scenario: Document) -> None:
        self.cluster = Checker(scenario)
        self.claims = scenario["claimsToAllocate"]
        slices = sorted(scenario["resourceSlices"], key=lambda s: s["metadata"]["name"])
        pools: dict[tuple[str, str], list[ID]] = {}
        last: set[tuple[str, str]] = set()
        for row in slices:
            pool = (row["spec"]["driver"], row["spec"]["pool"]["name"])
            for device in row["spec"].get("devices") or ():
                pools.setdefault(pool, []).append((*pool, device["name"]))
                if device.get("bindingConditions"):
                    last.add(pool)
        ordered = [id for pool in sorted(pools, key=lambda p: (p in last, p)) for id in pools[pool]]
        self.order = [id for id in ordered if id in self.cluster.devices]

    def solve(self) -> list[list[tuple[str, str]]] | None:
        """Of each claim (request, device name) in order; None when nothing fits. Raises Stopped."""
        alternatives = [list(self._alternatives(claim)) for claim in self.claims]
        for index, requests in enumerate(alternatives):
            least = [
                min(
                    len(self._all(index, a)) if a.get("allocationMode") == "All" else a["count"]
                    for _, a in options
                )
                for options in requests
            ]
            if sum(least) > 32:
                raise Stopped("limit")
        picks = self._requests(
            [(i, options) for i, rows in enumerate(alternatives) for options in rows], 0, []
        )
        if picks is None:
            return None
        return [[(p.request, p.id[2]) for p in picks if p.claim == i] for i in range(len(self.claims))]

    @staticmethod
    def _alternatives(claim: Document) -> Iterator[list[tuple[str, Document]]]:
        for request in claim["spec"]["devices"]["requests"]:
            if "exactly" in request:
                yield [(request["name"], request["exactly"])]
            else:
                yield [(f"{request['name']}/{sub['name']}", sub) for sub in request["firstAvailable"]]

    def _requests(self, todo: list[Any], at: int, picks: list[Pick]) -> list[Pick] | None:
        if at == len(todo):
            return picks
        claim, options = todo[at]
        for name, asked in options:
            if asked.get("allocationMode") == "All":
                taken = self._take_all(claim, name, asked, picks)
                found = None if taken is None else self._requests(todo, at + 1, taken)
            else:
                count = sum(p.claim == claim for p in picks) + asked["count"]
                found = None if count > 32 else self._slots(todo, at, name, asked, asked["count"], 0, picks)
            if found is not None:
                return found
        return None

    def _slots(
        self, todo: list[Any], at: int, name: str, asked: Document, slots: int, start: int, picks: list[Pick]
    ) -> list[Pick] | None:
        if not slots:
            return self._requests(todo, at + 1, picks)
        claim = todo[at][0]
        for index in range(start, len(self.order)):
            pick = Pick(claim, name, self.order[index], asked)
            if self._is_held(pick, picks) or not self._selected(pick):
                continue
            if not (self._has_room(pick, picks) and self._is_tolerated(pick) and self._holds([*picks, pick])):
                continue
            found = self._slots(todo, at, name, asked, slots - 1, index + 1, [*picks, pick])
            if found is not None:
                return found
        return None

    def _all(self, claim: int, asked: Document) -> list[ID]:
        picks = [Pick(claim, "", id, asked) for id in self.order]
        return [p.id for p in picks if self._selected(p) and self._fits_capacity(p, [])]

    def _take_all(self, claim: int, name: str, asked: Document, picks: list[Pick]) -> list[Pick] | None:
        ids = self._all(claim, asked)
        if not ids or sum(p.claim == claim for p in picks) + len(ids) > 32:
            return None
        for id in ids:
            pick = Pick(claim, name, id, asked)
            if not (self._has_counters(pick, picks) and self._is_tolerated(pick)) or self._is_held(
                pick, picks
            ):
                return None
            if not self._holds([*picks, pick]):
                raise Stopped("constraint")
            if not self._fits_capacity(pick, picks):
                return None
            picks = [*picks, pick]
        return picks

    # --- rules ---------------------------------------------------------------------------------

    def _device(self, id: ID) -> Document:
        return self.cluster.devices[id][1]

    def _is_shareable(self, id: ID) -> bool:
        return bool(self._device(id).get("allowMultipleAllocations"))

    def _is_held(self, pick: Pick, picks: list[Pick]) -> bool:
        if pick.asked.get("adminAccess"):
            return any(
                p.id == pick.id and p.claim == pick.claim and not self._is_shareable(p.id) for p in picks
            )
        if pick.id in self.cluster.whole or (
            pick.id in self.cluster.shared and not self._is_shareable(pick.id)
        ):
            return True
        return not self._is_shareable(pick.id) and any(p.id == pick.id for p in picks)

    def _selected(self, pick: Pick) -> bool:
        published = msgspec.convert(self._device(pick.id), Device)
        of_class = self.cluster.classes[pick.asked["deviceClassName"]]["spec"].get("selectors") or []
        for selector in of_class + (pick.asked.get("selectors") or []):
            try:
                if not cel.compile(selector["cel"]["expression"]).matches(published, pick.id[0]):
                    return False
            except CELError as error:
                raise Stopped("selector") from error
        spec, document = self.cluster.devices[pick.id]
        if not self.cluster.sees(document if spec.get("perDeviceNodeSelection") else spec):
            return False
        wanted = (pick.asked.get("capacity") or {}).get("requests", {})
        offered = self._device(pick.id).get("capacity") or {}
        return all(
            name in offered and consumed_of(offered[name], v) <= amount(offered[name]["value"])
            for name, v in wanted.items()
        ) and self._is_allowed(offered, wanted)

    @staticmethod
    def _is_allowed(offered: Document, wanted: Document) -> bool:
        """Whether policies allow what would be consumed."""
        for name, capacity in offered.items():
            policy, taken = capacity.get("requestPolicy") or {}, consumed_of(capacity, wanted.get(name))
            if taken == amount(policy.get("default", "-1")):
                continue
            if "validValues" in policy and all(taken != amount(v) for v in policy["validValues"]):
                return False
            if "max" in policy.get("validRange", {}) and taken > amount(policy["validRange"]["max"]):
                return False
        return True

    def _is_tolerated(self, pick: Pick) -> bool:
        return all(
            any(
                t.get("operator") == "Exists"
                or (t.get("key"), t.get("value")) == (taint["key"], taint["value"])
                for t in pick.asked.get("tolerations") or ()
            )
            for taint in self._device(pick.id).get("taints") or ()
            if taint["effect"] != "None"
        )

    def _consumes(self, pick: Pick) -> dict[str, Fraction]:
        wanted = full(pick.id, (pick.asked.get("capacity") or {}).get("requests", {}))
        offered = full(pick.id, self._device(pick.id).get("capacity") or {})
        return {name: consumed_of(capacity, wanted.get(name)) for name, capacity in offered.items()}

    def _fits_capacity(self, pick: Pick, picks: list[Pick]) -> bool:
        if not self._is_shareable(pick.id):
            return True
        total = dict(self.cluster.shared.get(pick.id, {}))
        for one in [*(p for p in picks if p.id == pick.id), pick]:
            for name, value in self._consumes(one).items():
                total[name] = total.get(name, Fraction(0)) + value
        offered = full(pick.id, self._device(pick.id).get("capacity") or {})
        return all(total.get(name, Fraction(0)) <= amount(c["value"]) for name, c in offered.items())

    def _has_room(self, pick: Pick, picks: list[Pick]) -> bool:
        return self._fits_capacity(pick, picks) and self._has_counters(pick, picks)

    def _has_counters(self, pick: Pick, picks: list[Pick]) -> bool:
        users = [*self.cluster.whole, *self.cluster.shared]
        for one in [*picks, pick]:
            if not self._is_shareable(one.id) or one.id not in users:
                users.append(one.id)
            elif one is pick:
                return True
        needs = self._device(pick.id).get("consumesCounters") or ()
        if (
            needs
            and min(
                left
                for key in self.cluster.totals
                if key[:2] == pick.id[:2]
                for left in self._left(key, users)
            )
            < 0
        ):
            return False
        return all(self._goes_with((*pick.id[:2], need["counterSet"]), users) for need in needs)

    def _left(self, key: tuple[str, str, str], users: list[ID]) -> list[Fraction]:
        """What is left of a counter set; of all sets of a pool nothing may be promised twice."""
        left = dict(self.cluster.totals[key])
        for id in users:
            for row in self.cluster.published(id).get("consumesCounters") or ():
                if (id[0], id[1], row["counterSet"]) == key:
                    for name, value in row["counters"].items():
                        left[name] -= amount(value["value"])
        return list(left.values())

    def _goes_with(self, key: tuple[str, str, str], users: list[ID]) -> bool:
        """Whether all devices that draw on the counter set have a compatibility group in common, or none."""
        rows = [
            set(need.get("compatibilityGroups") or ())
            for id in users
            if id[:2] == key[:2]
            for need in self.cluster.published(id).get("consumesCounters") or ()
            if need["counterSet"] == key[2]
        ]
        return not self.cluster.has_all or not any(rows) or bool(set.intersection(*rows))

    def _values(self, pick: Pick, name: str) -> set[Any]:
        try:
            return self.cluster.values(pick.id, name, pick.asked)
        except CELError as error:
            raise Stopped("derived attribute") from error

    def _holds(self, picks: list[Pick]) -> bool:
        """Whether all constraints of the last pick's claim hold for what is picked so far."""
        claim = picks[-1].claim
        for constraint in self.claims[claim]["spec"]["devices"].get("constraints") or ():
            names = constraint.get("requests") or []
            name = constraint.get("matchAttribute") or constraint["distinctAttribute"]
            sets = [
                self._values(p, name)
                for p in picks
                if p.claim == claim and (not names or p.request in names or p.request.split("/")[0] in names)
            ]
            if not all(sets):
                return False
            if "matchAttribute" in constraint:
                if sets and not set.intersection(*sets):
                    return False
            elif len(set().union(*sets)) < sum(map(len, sets)):
                return False
        return True
