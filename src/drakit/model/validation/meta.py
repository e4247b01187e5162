"""Rules for the metadata of every object.

Source: apimachinery/pkg/api/validation/objectmeta.go, pkg/apis/core/validation/validation.go.
"""

from __future__ import annotations

from typing import Any

from drakit.model.validation import names
from drakit.model.validation.field import (
    Errors,
    forbidden,
    immutable,
    invalid,
    listed,
    mapped,
    messages,
    required,
    too_long,
)
from drakit.model.validation.names import Names

Document = dict[str, Any]

MAX_MANAGER, MAX_SUBRESOURCE = 128, 256
"""Bytes in the name of a field manager, and of a subresource it wrote to."""
MAX_ANNOTATIONS = 256 * 1024
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def object_meta(meta: Document, is_namespaced: bool, name_rule: Names, path: str = "metadata") -> Errors:
    """The rules for new metadata; `name_rule` is the one of the kind."""
    return any_meta(meta, is_namespaced, name_rule, path) + _qualified_finalizers(meta, path)


def any_meta(meta: Document, is_namespaced: bool, name_rule: Names, path: str = "metadata") -> Errors:
    """The rules for the metadata of every object, built-in or custom."""
    errors: Errors = []
    generate, name = meta.get("generateName") or "", meta.get("name") or ""
    if generate:
        errors += messages(f"{path}.generateName", generate, names.prefixed(name_rule)(generate))
    if not name:
        errors.append(required(f"{path}.name", "name or generateName is required"))
    else:
        errors += messages(f"{path}.name", name, name_rule(name))
    namespace = meta.get("namespace") or ""
    if not is_namespaced:
        if namespace:
            errors.append(forbidden(f"{path}.namespace", "not allowed on this type"))
    elif not namespace:
        errors.append(required(f"{path}.namespace"))
    else:
        errors += messages(f"{path}.namespace", namespace, names.dns_label(namespace))
    if (meta.get("generation") or 0) < 0:
        errors.append(invalid(f"{path}.generation", meta["generation"], "must be greater than or equal to 0"))
    errors += check_labels(meta.get("labels"), f"{path}.labels")
    errors += check_annotations(meta.get("annotations"), f"{path}.annotations")
    errors += _owner_references(meta.get("ownerReferences"), f"{path}.ownerReferences")
    errors += _finalizers(listed(meta.get("finalizers")), f"{path}.finalizers")
    return errors + _managed_fields(listed(meta.get("managedFields")), f"{path}.managedFields")


def _managed_fields(entries: list[Any], path: str) -> Errors:
    errors: Errors = []
    for index, entry in enumerate(entries):
        place = f"{path}[{index}]"
        if entry.get("operation") not in ("Apply", "Update"):
            operation = entry.get("operation") or ""
            errors.append(invalid(f"{place}.operation", operation, "must be `Apply` or `Update`"))
        if entry.get("fieldsType") not in (None, "", "FieldsV1"):
            errors.append(invalid(f"{place}.fieldsType", entry["fieldsType"], "must be `FieldsV1`"))
        errors += field_manager(str(entry.get("manager") or ""), f"{place}.manager")
        if len(str(entry.get("subresource") or "").encode()) > MAX_SUBRESOURCE:
            errors.append(too_long(f"{place}.subresource", MAX_SUBRESOURCE))
    return errors


def field_manager(name: str, path: str) -> Errors:
    """The rules for whom changes are put down to."""
    errors: Errors = [too_long(path, MAX_MANAGER)] if len(name.encode()) > MAX_MANAGER else []
    at = 0
    for char in name:
        if not char.isprintable():
            text = f"invalid character U+{ord(char):04X} (at position {at})"
            errors.append(invalid(path, name, text))
        at += len(char.encode())
    return errors


def template_meta(meta: Any, path: str) -> Errors:
    """The rules for the metadata in a template: labels and annotations."""
    meta = mapped(meta)
    return check_annotations(meta.get("annotations"), f"{path}.annotations") + check_labels(
        meta.get("labels"), f"{path}.labels"
    )


def object_meta_update(meta: Document, old: Document, path: str = "metadata") -> Errors:
    """The rules for changing the metadata of a built-in object."""
    return any_meta_update(meta, old, path) + _qualified_finalizers(meta, path)


def any_meta_update(meta: Document, old: Document, path: str = "metadata") -> Errors:
    """The rules for changing the metadata of every object, built-in or custom."""
    errors: Errors = []
    if old.get("deletionTimestamp"):
        added = [f for f in listed(meta.get("finalizers")) if f not in listed(old.get("finalizers"))]
        if added:
            shown = ", ".join(f'"{finalizer}"' for finalizer in added)
            text = "no new finalizers can be added if the object is being deleted, found new finalizers "
            errors.append(forbidden(f"{path}.finalizers", f"{text}[]string{{{shown}}}"))
    if not meta.get("resourceVersion"):
        errors.append(invalid(f"{path}.resourceVersion", "", "must be specified for an update"))
    if (meta.get("generation") or 0) < (old.get("generation") or 0):
        errors.append(invalid(f"{path}.generation", meta.get("generation") or 0, "must not be decremented"))
    for field in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp"):
        errors += immutable(f"{path}.{field}", meta.get(field), old.get(field))
    field = "deletionGracePeriodSeconds"
    errors += immutable(f"{path}.{field}", meta.get(field), old.get(field))
    errors += check_labels(meta.get("labels"), f"{path}.labels")
    errors += check_annotations(meta.get("annotations"), f"{path}.annotations")
    return errors + _owner_references(meta.get("ownerReferences"), f"{path}.ownerReferences")


def check_labels(value: Any, path: str) -> Errors:
    errors: Errors = []
    for key, text in sorted(mapped(value).items()):
        errors += messages(path, key, names.qualified_name(key))
        errors += messages(path, text, names.label_value(text))
    return errors


def check_annotations(value: Any, path: str) -> Errors:
    errors: Errors = []
    size = 0
    for key, text in sorted(mapped(value).items()):
        errors += messages(path, key, names.qualified_name(key.lower()))
        size += len(key.encode()) + len(text.encode())
    return [*errors, too_long(path, MAX_ANNOTATIONS)] if size > MAX_ANNOTATIONS else errors


def _owner_references(value: Any, path: str) -> Errors:
    """Upstream does not say which of the references is wrong."""
    errors: Errors = []
    controller = ""
    for owner in listed(value):
        api_version = str(owner.get("apiVersion") or "")
        if not api_version.rpartition("/")[2] or api_version.count("/") > 1:
            errors.append(invalid(f"{path}.apiVersion", api_version, "version must not be empty"))
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                errors.append(invalid(f"{path}.{field}", "", "must not be empty"))
        if api_version == "v1" and owner.get("kind") == "Event":
            errors.append(invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            name = f"{owner.get('kind') or ''}/{owner.get('name') or ''}"
            if controller:
                text = "Only one reference can have Controller set to true. Found"
                text = f'{text} "true" in references for {controller} and {name}'
                errors.append(invalid(path, listed(value), text))
            controller = controller or name
    return errors


def _finalizers(finalizers: list[str], path: str) -> Errors:
    errors: Errors = []
    for finalizer in finalizers:
        errors += messages(path, finalizer, names.qualified_name(finalizer))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        text = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(invalid(path, finalizers, text))
    return errors


def _qualified_finalizers(meta: Document, path: str) -> Errors:
    text = "name is neither a standard finalizer name nor is it fully qualified"
    return [
        invalid(f"{path}.finalizers[{index}]", finalizer, text)
        for index, finalizer in enumerate(listed(meta.get("finalizers")))
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS
    ]
