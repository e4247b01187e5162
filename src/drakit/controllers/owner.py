"""Who an object belongs to: owner references, and its namespace."""

from __future__ import annotations

from drakit.client.api import Resource
from drakit.transport import Document


def controller_of(document: Document) -> Document | None:
    """The owner reference of the controller, if the object has one."""
    for reference in document["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: Document = reference
            return found
    return None


def controller_uid(document: Document) -> list[str]:
    """Index: the uid of the controller that owns the object."""
    owner = controller_of(document)
    return [owner["uid"]] if owner else []


def namespace_of(document: Document) -> list[str]:
    """Index: the object's namespace."""
    return [document["metadata"]["namespace"]]


def reference_to(owner: Document, resource: Resource) -> Document:
    """A controller reference to `owner`, an object of `resource`."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
