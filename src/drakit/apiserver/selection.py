"""Which objects of a kind a list or watch asks for: namespace, label selector, field selector.

Source of the field labels: AddFieldLabelConversionFunc in each API group, and the strategies' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from drakit.apiserver.kinds import Kind
from drakit.apiserver.route import Target
from drakit.errors import BadRequest
from drakit.model.selector import FieldSelector, LabelSelector, parse_fields, parse_labels
from drakit.transport import Document

_EVENT_FIELDS = {
    **{
        f"{path}.{name}": f"involvedObject.{name}"
        for path in ("involvedObject", "regarding")
        for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    },
    "reason": "reason",
    "reportingComponent": "reportingComponent",
    "reportingController": "reportingComponent",
    "source": "source.component",
    "type": "type",
}
_POD_FIELDS = (
    "spec.nodeName spec.restartPolicy spec.schedulerName spec.serviceAccountName spec.hostNetwork "
    "status.phase status.podIP status.podIPs status.nominatedNodeName"
)
_FIELDS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("", "Pod"): {name: name for name in _POD_FIELDS.split()},
    ("", "Event"): _EVENT_FIELDS,
    ("events.k8s.io", "Event"): _EVENT_FIELDS,
    ("", "Node"): {"spec.unschedulable": "spec.unschedulable"},
    ("", "Namespace"): {"status.phase": "status.phase", "name": "metadata.name"},
    ("", "Secret"): {"type": "type"},
    ("", "Service"): {"spec.clusterIP": "spec.clusterIP", "spec.type": "spec.type"},
    ("", "PersistentVolume"): {"name": "metadata.name"},
    ("", "PersistentVolumeClaim"): {"name": "metadata.name"},
    ("", "ReplicationController"): {"status.replicas": "status.replicas"},
    ("apps", "ReplicaSet"): {"status.replicas": "status.replicas"},
    ("batch", "Job"): {"status.successful": "status.succeeded"},
    ("resource.k8s.io", "ResourceSlice"): {"spec.nodeName": "spec.nodeName", "spec.driver": "spec.driver"},
}


class Selection(Struct, frozen=True):
    """What to give: `prefix` of the keys, and the selectors if there are any; `space` is the part of the
    prefix that the namespace makes. `name` is set when only one object can match."""

    prefix: str
    labels: LabelSelector | None
    fields: FieldSelector | None
    paths: Mapping[str, str]
    name: str = ""
    space: str = ""

    @property
    def is_everything(self) -> bool:
        """Whether the keys alone decide."""
        return self.labels is None and self.fields is None

    def matches(self, document: Document) -> bool:
        """Whether the selectors take `document`, an object in its storage version."""
        metadata = document.get("metadata") or {}
        if self.labels is not None and not self.labels.matches(metadata.get("labels") or {}):
            return False
        fields, paths = self.fields, self.paths
        return fields is None or fields.matches(lambda name: _value(document, paths.get(name, name)))


def select(target: Target, query: Mapping[str, str]) -> Selection:
    """What `query` asks for. Raises BadRequest for a broken selector or a field the kind does not offer."""
    kind = target.kind
    label_text, field_text = query.get("labelSelector", ""), query.get("fieldSelector", "")
    labels = parse_labels(label_text) if label_text else None
    fields = parse_fields(field_text) if field_text else None
    paths = kind.custom.selectable if kind.custom else _FIELDS.get((kind.group, kind.kind), {})
    name = ""
    for term in fields.terms if fields else ():
        if term.field not in ("metadata.name", "metadata.namespace") and term.field not in paths:
            raise _unknown_field(kind, target.version, term.field, bool(paths or kind.custom))
        if term.field == "metadata.name" and term.is_equal:
            name = term.value
    prefix = space = f"{target.namespace}/" if kind.is_namespaced and target.namespace else ""
    if name and (prefix or not kind.is_namespaced):
        prefix += name
    wanted = fields if fields and fields.terms else None
    return Selection(prefix, labels or None, wanted, paths, name, space)


def _unknown_field(kind: Kind, version: str, field: str, is_special: bool) -> BadRequest:
    if kind.kind == "ResourceSlice":
        where = f"{kind.api_version(version)}, Kind={kind.kind}"
        return BadRequest(f"field label not supported for {where}: {field}")
    if is_special:
        return BadRequest(f"field label not supported: {field}")
    return BadRequest(f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"')


def _value(document: Document, path: str) -> str:
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        return _DEFAULTS.get(path, "")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


_DEFAULTS = {
    "spec.unschedulable": "false",
    "spec.hostNetwork": "false",
    "status.replicas": "0",
    "status.succeeded": "0",
}
