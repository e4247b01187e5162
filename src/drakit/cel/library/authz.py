"""`authorizer`: whether the user of a request may do something, asked of whoever decides that.

Source: k8s.io/apiserver/pkg/cel/library/authz.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from drakit.cel.charge import register_unit_equality
from drakit.cel.value import Fault, register_kind

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Wish(Struct, frozen=True, kw_only=True):
    """What somebody would do: to a resource, or with `path` to a URL path. `account` is the namespace and
    name of the service account that would, None for the user of the request."""

    verb: str = ""
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""
    account: tuple[str, str] | None = None


class Decision(Struct, frozen=True):
    is_allowed: bool
    reason: str = ""


Decide = Callable[[Wish], Decision]


class Authorizer(Struct, frozen=True):
    """The value of `authorizer`."""

    decide: Decide
    account: tuple[str, str] | None = None


class _Check(Struct, frozen=True):
    decide: Decide
    wish: Wish

    def having(self, **changes: Any) -> Any:
        return type(self)(self.decide, msgspec.structs.replace(self.wish, **changes))


class PathCheck(_Check, frozen=True):
    pass


class GroupCheck(_Check, frozen=True):
    pass


class ResourceCheck(_Check, frozen=True):
    """Also the value of `authorizer.requestResource`."""


def _path(authorizer: Authorizer, path: str) -> PathCheck:
    if not path.strip():
        raise Fault("path must not be empty")
    return PathCheck(authorizer.decide, Wish(path=path, account=authorizer.account))


def _group(authorizer: Authorizer, group: str) -> GroupCheck:
    return GroupCheck(authorizer.decide, Wish(group=group, account=authorizer.account))


def _service_account(authorizer: Authorizer, namespace: str, name: str) -> Authorizer:
    if not _NAME.fullmatch(name) or len(name) > 253:
        raise Fault("Invalid service account name")
    if not _LABEL.fullmatch(namespace):
        raise Fault("Invalid service account namespace")
    return Authorizer(authorizer.decide, (namespace, name))


def _resource(check: GroupCheck, resource: str) -> ResourceCheck:
    if not resource.strip():
        raise Fault("resource must not be empty")
    return ResourceCheck(check.decide, msgspec.structs.replace(check.wish, resource=resource))


def _check(check: _Check, verb: str) -> Decision:
    return check.decide(msgspec.structs.replace(check.wish, verb=verb))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "authorizer_path": _path,
    "authorizer_group": _group,
    "authorizer_serviceaccount": _service_account,
    "groupcheck_resource": _resource,
    "resourcecheck_subresource": lambda check, text: check.having(subresource=text),
    "resourcecheck_namespace": lambda check, text: check.having(namespace=text),
    "resourcecheck_name": lambda check, text: check.having(name=text),
    "authorizer_fieldselector": lambda check, text: check.having(field_selector=text),
    "authorizer_labelselector": lambda check, text: check.having(label_selector=text),
    "pathcheck_check": _check,
    "resourcecheck_check": _check,
    "decision_allowed": lambda decision: decision.is_allowed,
    "decision_reason": lambda decision: decision.reason,
    "decision_errored": lambda decision: False,
    "decision_error": lambda decision: "",
}

for _class in (Authorizer, PathCheck, GroupCheck, ResourceCheck, Decision):
    register_kind(_class, f"kubernetes.authorization.{_class.__name__}")
    register_unit_equality(_class)
