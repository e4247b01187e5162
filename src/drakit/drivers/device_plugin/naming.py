"""Names of device plugins as names of DRA."""

from __future__ import annotations

import hashlib
import re

from drakit.errors import DRAError

_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LAST_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MAX_LABEL = 63
_MAX_DOMAIN = 253


def check_resource(resource: str) -> str:
    """`resource` if it is the name of an extended resource, `vendor.com/gpu`. Raises DRAError."""
    domain, slash, name = resource.partition("/")
    is_name = slash and _DOMAIN.fullmatch(domain) and _LAST_PART.fullmatch(name)
    if not is_name or len(domain) > _MAX_DOMAIN:
        raise DRAError(f"resource {resource[:100]!r} is not called like vendor.com/gpu")
    if domain == "kubernetes.io" or domain.endswith(".kubernetes.io"):
        raise DRAError(f"resource {resource!r}: names of kubernetes.io are not for plugins")
    return resource


def driver_name(resource: str) -> str:
    """The name of the DRA driver of `resource`: gpu.vendor.com of vendor.com/gpu."""
    domain, _, name = resource.partition("/")
    return f"{_label(name)}.{domain}"


def pool_name(node_name: str, resource: str) -> str:
    """The pool of `resource` on a node: node-1/vendor.com/gpu."""
    domain, _, name = resource.partition("/")
    return f"{node_name}/{domain}/{_label(name)}"


def device_name(device_id: str) -> str:
    """The name of the device `device_id`: the same, or as much of it as may be and a hash."""
    return _label(device_id)


def _label(text: str) -> str:
    """`text` as a DNS label; other texts have other labels."""
    if _LABEL.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]
    readable = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[: _MAX_LABEL - 9].rstrip("-")
    return f"{readable}-{digest}" if readable else digest


def is_driver_name(text: str) -> bool:
    """Whether a driver can be called `text`."""
    return len(text) <= _MAX_LABEL and bool(_DOMAIN.fullmatch(text))
