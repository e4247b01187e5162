"""Impersonate-User and its companions: who may, acts as somebody else.

Source: kubernetes apiserver/pkg/endpoints/filters/impersonation.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from drakit.apiserver.auth import ANONYMOUS, Attributes, Authorizer, User
from drakit.errors import BadRequest

_PREFIX = b"impersonate-"
_EXTRA = "impersonate-extra-"
_ACCOUNT = "system:serviceaccount:"
_GROUP = "authentication.k8s.io"


def impersonated(user: User, headers: Sequence[tuple[bytes, bytes]], authorizer: Authorizer) -> User:
    """Whom `user` acts as by the headers of a request. Raises BadRequest or Forbidden."""
    wanted = [(name.decode(), value.decode("latin-1")) for name, value in headers if name.startswith(_PREFIX)]
    if not wanted:
        return user
    name = next((value for key, value in wanted if key == "impersonate-user"), "")
    if not name:
        given = " ".join(key for key, _ in wanted)
        raise BadRequest(f"requested {given} without impersonating a user")
    groups = [value for key, value in wanted if key == "impersonate-group"]
    uid = next((value for key, value in wanted if key == "impersonate-uid"), "")
    extra: dict[str, list[str]] = {}
    for key, value in wanted:
        if key.startswith(_EXTRA):
            extra.setdefault(unquote(key.removeprefix(_EXTRA)), []).append(value)
    for attributes in _attributes(name, groups, uid, extra):
        authorizer.check(user, attributes)
    if name.startswith(_ACCOUNT) and name.count(":") == 3 and not groups:
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{name.split(':')[2]}"]
    common = ANONYMOUS.groups[0] if name == ANONYMOUS.name else "system:authenticated"
    if common not in groups:
        groups.append(common)
    return User(name, tuple(groups), uid, extra)


def _attributes(name: str, groups: list[str], uid: str, extra: dict[str, list[str]]) -> list[Attributes]:
    parts = name.split(":")
    if name.startswith(_ACCOUNT) and len(parts) == 4:
        found = [Attributes("impersonate", "", "serviceaccounts", "", parts[2], parts[3])]
    else:
        found = [Attributes("impersonate", "", "users", "", "", name)]
    found += [Attributes("impersonate", "", "groups", "", "", group) for group in groups]
    if uid:
        found.append(Attributes("impersonate", _GROUP, "uids", "", "", uid))
    for key, values in extra.items():
        found += [Attributes("impersonate", _GROUP, "userextras", key, "", value) for value in values]
    return found
