"""Small questions about a pod's specification."""

from __future__ import annotations

from drakit.transport import Document


def all_containers(spec: Document) -> list[Document]:
    """Every container of a pod with the `spec`: those proper, init containers, ephemeral ones."""
    kinds = ("containers", "initContainers", "ephemeralContainers")
    return [container for kind in kinds for container in spec.get(kind) or []]
