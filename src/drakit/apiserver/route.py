"""From the path of a request to what it is about.

    /api/v1/pods                                  /apis/G/V/namespaces/NS/PLURAL/NAME/SUBRESOURCE
    /api/v1/namespaces/NS  (the namespace itself) /api/v1/namespaces/NS/status  (its subresource)

Source: apiserver/pkg/endpoints/request/requestinfo.go.
"""

from __future__ import annotations

from msgspec import Struct

from drakit.apiserver.auth import Attributes
from drakit.apiserver.kinds import Kind, Kinds
from drakit.errors import BadRequest, MethodNotAllowed, NotFound
from drakit.model.selector import parse_fields

_NAMESPACE_SUBRESOURCES = ("status", "finalize")
_COLLECTION_VERBS = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
_OBJECT_VERBS = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"}


class Target(Struct, frozen=True):
    """What a path names: a collection, an object (`name`) or a subresource of it."""

    kind: Kind
    version: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> str:
        """The object's key in the store."""
        return f"{self.namespace}/{self.name}" if self.kind.is_namespaced else self.name

    @property
    def api_version(self) -> str:
        return self.kind.api_version(self.version)

    def attributes(self, verb: str, field_selector: str = "") -> Attributes:
        """What authorization is asked. A namespace counts as being in itself, and a selected name as asked
        for, as upstream has it."""
        kind, name = self.kind, self.name
        namespace = name if kind.plural == "namespaces" and not kind.group else self.namespace
        if field_selector and not name and verb in ("list", "watch", "deletecollection"):
            name = _selected_name(field_selector)
        else:
            field_selector = ""
        return Attributes(
            verb, kind.group, kind.plural, self.subresource, namespace, name, field_selector=field_selector
        )

    def missing(self) -> NotFound:
        """The error when the object does not exist."""
        details = {"name": self.name, "group": self.kind.group, "kind": self.kind.plural}
        return NotFound(
            f'{self.kind.resource} "{self.name}" not found',
            details={key: value for key, value in details.items() if value},
        )


def _selected_name(field_selector: str) -> str:
    try:
        terms = parse_fields(field_selector).terms
    except BadRequest:
        return ""
    return next((term.value for term in terms if term.field == "metadata.name" and term.is_equal), "")


def no_such_path() -> NotFound:
    return NotFound("the server could not find the requested resource", details={})


def not_allowed() -> MethodNotAllowed:
    return MethodNotAllowed("the server does not allow this method on the requested resource", details={})


def find_target(path: str, kinds: Kinds) -> Target:
    """What `path` names. Raises NotFound if the server serves nothing there."""
    parts = path.strip("/").split("/")
    if parts[0] == "api":
        group, rest = "", parts[1:]
    elif parts[0] == "apis" and len(parts) > 1:
        group, rest = parts[1], parts[2:]
    else:
        raise no_such_path()
    if len(rest) < 2 or "" in rest:
        raise no_such_path()
    version, rest = rest[0], rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        raise no_such_path()
    plural, name, subresource = (*rest, "", "")[:3]
    kind = kinds.find(group, version, plural)
    if kind is None or (namespace and not kind.is_namespaced):
        raise no_such_path()
    if name and kind.is_namespaced and not namespace:
        raise no_such_path()
    if subresource and kind.subresource(subresource) is None:
        raise no_such_path()
    return Target(kind, version, namespace, name, subresource)


def verb_of(method: str, target: Target, is_watch: bool) -> str:
    """The Kubernetes verb of an HTTP method. Raises MethodNotAllowed if the target does not know it."""
    verbs = _OBJECT_VERBS if target.name else _COLLECTION_VERBS
    verb = verbs.get(method, "")
    if target.subresource:
        row = target.kind.subresource(target.subresource)
        known = row.verbs if row else ()
    elif verb == "create" and target.name:
        known = ()
    else:
        known = target.kind.verbs
    if verb not in known:
        raise not_allowed()
    return "watch" if verb == "list" and is_watch else verb
