"""What people did in a recorded scenario, read from what was seen happening.

A recording has the cluster's own objects, the end state, and a timeline of changes and events. What was
applied in between follows from it: claims and pods that appear and belong to nobody, pods that are
deleted or finish, device statuses that a driver writes, and classes, slices or templates that come only
after a pod has complained about missing them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec import Struct

Document = dict[str, Any]

_CHANGE = re.compile(r"([\d.]+) (ADDED|MODIFIED|DELETED) (pod|claim)/(\S+) (.*)")
_EVENT = re.compile(r"([\d.]+) EVENT (\w+) (\w+) obj=Pod/(\S+) .*? :: (.*)")
_POD = re.compile(r"node=(\S+) phase=(\S+) claimStatuses=(.*) ext=(.*) cond=(.*)")
_CLAIM = re.compile(r"fin=(.*) del=(\S+) status=(.*)")
_SOON = 0.2
"""A claim that shows up so soon after the pod that uses it was applied before it."""


class Line(Struct):
    """A change (`what` is ADDED, MODIFIED or DELETED) or, with `what` EVENT, an event about a pod."""

    time: float
    what: str
    kind: str
    name: str
    node: str = ""
    phase: str = ""
    claim_statuses: list[Document] = []
    is_deleting: bool = False
    status: Document = {}
    reason: str = ""
    text: str = ""


class Step(Struct):
    """Something that was done: `verb` is apply, delete, finish (a pod ends in `phase`) or report (a driver
    writes `document` as the claim's status.devices). Before a step that came later everything settles."""

    verb: str
    kind: str
    name: str
    document: Document = {}
    phase: str = ""
    is_later: bool = True


def read(timeline: str) -> list[Line]:
    lines = []
    for text in timeline.splitlines():
        if found := _EVENT.match(text):
            time, _, reason, name, message = found.groups()
            lines.append(Line(float(time), "EVENT", "pod", name, reason=reason, text=message))
        elif found := _CHANGE.match(text):
            time, what, kind, name, rest = found.groups()
            line = Line(float(time), what, kind, name)
            if kind == "pod" and (fields := _POD.match(rest)):
                line.node, line.phase = fields[1].replace("None", ""), fields[2]
                line.claim_statuses = json.loads(fields[3]) or []
            elif fields := _CLAIM.match(rest):
                line.is_deleting, line.status = fields[2] != "None", json.loads(fields[3])
            lines.append(line)
    return lines


class Scenario:
    """A recorded scenario with the namespace it ran in, the objects it needs and the steps it took."""

    def __init__(self, row: Document) -> None:
        self.name: str = row["name"]
        self.namespace = f"e2e-{self.name}"
        self.row = row
        self._lines = read(row["timeline"])
        self._known = _by_name(row)
        self._generated = {
            status["resourceClaimName"]: status["name"]
            for line in self._lines
            for status in line.claim_statuses
        }
        self._late = self._late_objects()

    @property
    def first_objects(self) -> list[Document]:
        """Cluster objects that were there from the start."""
        return [o for o in self.row["input_cluster_objects"] if o not in self._late]

    @property
    def ends_with_a_report(self) -> bool:
        """Whether the end state was taken right after a driver wrote a status, before anybody reacted."""
        return any(step.verb == "report" for step in self._steps_of(self._lines[-1], set(), {}))

    @property
    def without_claim(self) -> set[str]:
        """Pods that the reference kept waiting for a claim without a word about scheduling: the recorder
        expected to hear that they are unschedulable and did not, or their claim could not be made."""
        silent = set(re.findall(r"NOTE TIMEOUT waiting for (\S+) unschedulable", self.row["timeline"]))
        return silent | {line.name for line in self._lines if line.reason == "FailedResourceClaimCreation"}

    @property
    def overlapped(self) -> set[str]:
        """Pods that were turned away for a moment because a claim was just being allocated."""
        return {line.name for line in self._lines if "in the process of being allocated" in line.text}

    def steps(self) -> list[Step]:
        """What was done, in order."""
        steps: list[Step] = []
        last_output = 0
        done: set[tuple[str, str]] = set()
        phases: dict[str, str] = {}
        for position, line in enumerate(self._lines):
            new = self._steps_of(line, done, phases)
            if not new:
                last_output = position
                continue
            new[0].is_later = last_output == position - 1 or not steps
            for step in new[1:]:
                step.is_later = False
            steps += new
        return steps

    def _steps_of(self, line: Line, done: set[tuple[str, str]], phases: dict[str, str]) -> list[Step]:
        if line.what == "EVENT":
            return []
        mark = (line.kind, line.name)
        if line.kind == "claim":
            return self._claim_steps(line, mark, done)
        if line.what == "ADDED":
            phases[line.name] = line.phase
            return self._pod_steps(line, done)
        if line.what == "DELETED":
            return [Step("delete", "pod", line.name)]
        if phases.get(line.name) != line.phase:
            phases[line.name] = line.phase
            return [Step("finish", "pod", line.name, phase=line.phase)]
        return []

    def _claim_steps(self, line: Line, mark: tuple[str, str], done: set[tuple[str, str]]) -> list[Step]:
        if line.name in self._generated or self._is_extended(line.name):
            if line.what == "ADDED" and line.name in self._generated:
                return self._late_template(line.name, done)
            return []
        if line.what == "ADDED":
            return self._once(done, Step("apply", "claim", line.name, self._claim(line.name)))
        if line.what == "MODIFIED" and line.is_deleting:
            return self._once(done, Step("delete", "claim", line.name), "deleted")
        steps = []
        if line.status.get("devices"):
            step = Step("report", "claim", line.name, {"devices": line.status["devices"]})
            steps = self._once(done, step, "devices")
        if line.what == "MODIFIED" and line.status.get("allocation"):
            steps = self._late_steps(done) + steps
        return steps

    def _pod_steps(self, line: Line, done: set[tuple[str, str]]) -> list[Step]:
        """The pod, after what it needs: claims that were there by then, and templates."""
        pod = self._pod(line.name)
        steps: list[Step] = []
        for entry in pod["spec"].get("resourceClaims") or ():
            name = entry.get("resourceClaimName")
            if name and self._appears(name) <= line.time + _SOON:
                steps += self._once(done, Step("apply", "claim", name, self._claim(name)))
            template = entry.get("resourceClaimTemplateName")
            if template and not self._lacks_template(line.name):
                steps += self._once(
                    done, Step("apply", "template", template, self._template(line.name, entry))
                )
        return [*steps, Step("apply", "pod", line.name, pod)]

    def _late_template(self, claim: str, done: set[tuple[str, str]]) -> list[Step]:
        for name in {line.name for line in self._lines if line.kind == "pod"}:
            for entry in self._pod(name)["spec"].get("resourceClaims") or ():
                template = entry.get("resourceClaimTemplateName")
                if template and self._generated[claim] == entry["name"] and claim.startswith(f"{name}-"):
                    document = self._template(name, entry)
                    return self._once(done, Step("apply", "template", template, document))
        return []

    def _late_steps(self, done: set[tuple[str, str]]) -> list[Step]:
        steps: list[Step] = []
        for document in self._late:
            name = document["metadata"]["name"]
            steps += self._once(done, Step("apply", document["kind"], name, document))
        return steps

    @staticmethod
    def _once(done: set[tuple[str, str]], step: Step, what: str = "") -> list[Step]:
        mark = (what or step.kind, step.name)
        if mark in done:
            return []
        done.add(mark)
        return [step]

    # --- what must have been there ----------------------------------------------------------------

    def _late_objects(self) -> list[Document]:
        """Cluster objects that a pod missed before it was placed without anybody touching pods or claims."""
        objects: list[Document] = self.row["input_cluster_objects"]
        failed: dict[str, str] = {}
        for line in self._lines:
            if line.what == "EVENT" and line.reason == "FailedScheduling":
                failed[line.name] = line.text
            elif line.what in ("ADDED", "DELETED") and failed:
                return []
            elif line.what == "EVENT" and line.reason == "Scheduled" and line.name in failed:
                text = failed[line.name]
                if "does not exist" in text:
                    return [o for o in objects if f"class {o['metadata']['name']} does not exist" in text]
                if "in the process of being allocated" in text:
                    return []
                return [o for o in objects if o["kind"] == "ResourceSlice"]
        return []

    def _lacks_template(self, pod: str) -> bool:
        return any(
            line.reason == "FailedResourceClaimCreation" and line.name == pod and "not found" in line.text
            for line in self._lines
        )

    def _appears(self, claim: str) -> float:
        times = [x.time for x in self._lines if (x.kind, x.name, x.what) == ("claim", claim, "ADDED")]
        return min(times, default=float("inf"))

    def _is_extended(self, name: str) -> bool:
        return "-extended-resources-" in name

    def _claim(self, name: str) -> Document:
        known = self._known.get(("claim", name))
        spec = known["spec"] if known else self._plain_spec()
        return _document("resource.k8s.io/v1", "ResourceClaim", self.namespace, name, spec=spec)

    def _plain_spec(self) -> Document:
        return {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": self.name}}]}}

    def _template(self, pod: str, entry: Document) -> Document:
        spec = self._plain_spec()
        for (kind, name), known in self._known.items():
            if kind == "claim" and self._generated.get(name) == entry["name"] and name.startswith(f"{pod}-"):
                spec = known["spec"]
        refused = re.search(r"requested: \S+/devices=(\d+)", self.row["timeline"])
        if refused:
            spec["devices"]["requests"][0]["exactly"]["count"] = int(refused[1])
        name = entry["resourceClaimTemplateName"]
        template = {"spec": spec}
        return _document("resource.k8s.io/v1", "ResourceClaimTemplate", self.namespace, name, spec=template)

    def _pod(self, name: str) -> Document:
        known = self._known.get(("pod", name))
        if known is not None:
            return self._as_applied(known)
        entries: list[Document] = []
        for line in self._lines:
            if (line.kind, line.name) == ("pod", name) and line.claim_statuses:
                entries = [
                    {"name": row["name"], "resourceClaimTemplateName": "t"} for row in line.claim_statuses
                ]
                break
        if not entries:
            users = {
                line.name
                for line in self._lines
                for row in line.status.get("reservedFor") or ()
                if row["name"] == name
            } or {line.name for line in self._lines if line.kind == "claim"}
            entries = [
                {"name": f"c{n}", "resourceClaimName": claim}
                for n, claim in enumerate(sorted(users - set(self._generated)))
            ]
        claims = [{"name": entry["name"]} for entry in entries]
        container = {"name": "c", "image": "pause", "resources": {"claims": claims}}
        spec = {"containers": [container], "resourceClaims": entries, "terminationGracePeriodSeconds": 0}
        return _document("v1", "Pod", self.namespace, name, spec=spec)

    def _as_applied(self, pod: Document) -> Document:
        """A pod from the end state as it was sent: without what server and scheduler added."""
        spec = {k: v for k, v in pod["spec"].items() if k in _SENT}
        containers = [
            {k: v for k, v in row.items() if k in ("name", "image", "resources")}
            for row in spec["containers"]
        ]
        spec["containers"] = containers
        first = next(x for x in self._lines if (x.kind, x.name) == ("pod", pod["metadata"]["name"]))
        if first.node:
            spec["nodeName"] = first.node
        return _document("v1", "Pod", self.namespace, pod["metadata"]["name"], spec=spec)


_SENT = ("containers", "resourceClaims", "nodeSelector", "terminationGracePeriodSeconds", "schedulerName")


def _document(api_version: str, kind: str, namespace: str, name: str, *, spec: Document) -> Document:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": spec}


def _by_name(row: Document) -> dict[tuple[str, str], Document]:
    known: dict[tuple[str, str], Document] = {}
    for state in (row.get("bound") or {}, row["final"]):
        for kind, plural in (("pod", "pods"), ("claim", "resourceclaims")):
            for document in state.get(plural) or ():
                known[kind, document["metadata"]["name"]] = document
    return known
