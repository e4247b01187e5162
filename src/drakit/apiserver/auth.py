"""Who asks, and may they.

Authentication: bearer tokens given at start, and service-account tokens that the server signed itself.
Authorization: `allows` is the one question; members of system:masters may do everything, everybody
may read what system:discovery and system:public-info-viewer give, the rest is the rules' business.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from drakit.errors import Forbidden, Unauthorized

ISSUER = "https://kubernetes.default.svc"
_AUTHENTICATED = "system:authenticated"
_PUBLIC_PATHS: tuple[str, ...] = ("/healthz", "/livez", "/readyz", "/version")
_DISCOVERY_PATHS: tuple[str, ...] = ("/api", "/apis", "/openapi")


class User(Struct, frozen=True):
    """Who a request comes from, as authentication found out."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_admin(self) -> bool:
        return "system:masters" in self.groups

    def info(self) -> dict[str, Any]:
        """The UserInfo document."""
        found: dict[str, Any] = {"username": self.name, "uid": self.uid, "groups": list(self.groups)}
        return {key: value for key, value in (found | {"extra": self.extra}).items() if value}


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Attributes(Struct, frozen=True):
    """What a request wants to do: to a resource, or with `path` set to a URL path."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    def denied_to(self, user: User) -> Forbidden:
        """The error upstream gives."""
        if self.path:
            return Forbidden(
                f'forbidden: User "{user.name}" cannot {self.verb} path "{self.path}"', details={}
            )
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        subject = f"{self.resource}.{self.group}" if self.group else self.resource
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        name = f' "{self.name}"' if self.name else ""
        details = {"name": self.name, "group": self.group, "kind": self.resource}
        return Forbidden(
            f'{subject}{name} is forbidden: User "{user.name}" cannot {self.verb} resource "{what}" '
            f'in API group "{self.group}" {where}',
            details={key: value for key, value in details.items() if value},
        )


Rules = Callable[[User, Attributes], bool]


class Authorizer:
    """Answers `allows`; `rules` decides for everyone who is not an administrator."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def allows(self, user: User, attributes: Attributes) -> bool:
        if user.is_admin or (attributes.path and _is_public(user, attributes)):
            return True
        return self._rules(user, attributes)

    def check(self, user: User, attributes: Attributes) -> None:
        """Raises Forbidden unless the user may."""
        if not self.allows(user, attributes):
            raise attributes.denied_to(user)


def _is_public(user: User, attributes: Attributes) -> bool:
    if attributes.verb != "get":
        return False
    known = _PUBLIC_PATHS
    if _AUTHENTICATED in user.groups:
        known += _DISCOVERY_PATHS
    return any(attributes.path == path or attributes.path.startswith(f"{path}/") for path in known)


class Tokens:
    """The bearer tokens a server accepts. `key` signs the service-account tokens it makes;
    `is_current(namespace, name, uid)` says whether that service account still exists."""

    def __init__(
        self, known: Mapping[str, User], key: bytes, is_current: Callable[[str, str, str], bool]
    ) -> None:
        self._known = {_digest(token): user for token, user in known.items()}
        self._key = key
        self._is_current = is_current

    def user(self, token: str) -> User:
        """Raises Unauthorized for a token that is unknown, expired or of a deleted account."""
        user = self._known.get(_digest(token)) or self._account(token)
        if user is None:
            raise Unauthorized("Unauthorized")
        if _AUTHENTICATED in user.groups:
            return user
        return msgspec.structs.replace(user, groups=(*user.groups, _AUTHENTICATED))

    def issue(self, namespace: str, name: str, uid: str, seconds: int, audiences: list[str]) -> str:
        """A signed token (a JWT) for a service account."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "aud": audiences,
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
        }
        body = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
        return f"{body}.{self._signature(body)}"

    def _signature(self, body: str) -> str:
        return _base64(hmac.new(self._key, body.encode(), hashlib.sha256).digest())

    def _account(self, token: str) -> User | None:
        body, _, signature = token.rpartition(".")
        if not body or not hmac.compare_digest(self._signature(body).encode(), signature.encode()):
            return None
        text = body.partition(".")[2]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if claims["exp"] < time.time():
            return None
        account = claims["kubernetes.io"]
        namespace, name = account["namespace"], account["serviceaccount"]["name"]
        uid = account["serviceaccount"]["uid"]
        if not self._is_current(namespace, name, uid):
            return None
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return User(str(claims["sub"]), groups, uid)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _part(document: dict[str, Any]) -> str:
    return _base64(msgspec.json.encode(document))
