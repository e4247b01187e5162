"""What Kubernetes fills in when a client left it out, kind by kind.

Defaults belong to a version: v1beta1 sets an allocation mode only beside a device class, v1 in every
exact request. They are set on the document as the client sent it, before it is converted, and again on
the outcome of every patch; so each function here must leave a defaulted document as it is.
Source: pkg/apis/*/v*/defaults.go.
"""

from __future__ import annotations

from collections.abc import Callable

from drakit.apiserver.defaults_core import CORE_DEFAULTS
from drakit.apiserver.defaults_resource import RESOURCE_DEFAULTS
from drakit.apiserver.defaults_workload import WORKLOAD_DEFAULTS
from drakit.transport import Document

Default = Callable[[Document], None]

_DEFAULTS: dict[tuple[str, str], Default] = {**CORE_DEFAULTS, **WORKLOAD_DEFAULTS}


def set_defaults(document: Document, group: str, version: str, now: str = "") -> None:
    """Set on `document`, in place, what its kind defaults in `version` of `group`. New device taints are
    stamped with `now`, if that is known."""
    kind = str(document.get("kind", ""))
    if group == "resource.k8s.io":
        default = RESOURCE_DEFAULTS.get(kind)
        if default is not None:
            default(document, version, now)
        return
    plain = _DEFAULTS.get((group, kind))
    if plain is not None:
        plain(document)
