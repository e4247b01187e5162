"""Who asks, and may they.

Authentication: certificates of clients, bearer tokens given at start, and service-account tokens that the
server signed itself.
Authorization: members of system:masters may do everything, nodes what the node authorizer says, and
everybody, nodes too, what the rules of the roles bound to them say.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from drakit.errors import Forbidden, Unauthorized

ISSUER = "https://kubernetes.default.svc"
AUTHENTICATED = "system:authenticated"
_NODE, _NODES = "system:node:", "system:nodes"
_ACCOUNT = "system:serviceaccount:"
_EXTRA = "authentication.kubernetes.io/"


class User(Struct, frozen=True):
    """Who a request comes from, as authentication found out."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_admin(self) -> bool:
        return "system:masters" in self.groups

    @property
    def node_credentials(self) -> str:
        """The node whose credentials these are, or ""."""
        is_node = self.name.startswith(_NODE) and _NODES in self.groups
        return self.name.removeprefix(_NODE) if is_node else ""

    @property
    def node(self) -> str:
        """The node the user is on: by its own credentials, or by the pod its token is bound to; or ""."""
        if self.name.startswith(_ACCOUNT):
            names = self.extra.get(f"{_EXTRA}node-name", [])
            return names[0] if len(names) == 1 else ""
        return self.node_credentials

    def info(self) -> dict[str, Any]:
        """The UserInfo document."""
        found: dict[str, Any] = {"username": self.name, "uid": self.uid, "groups": list(self.groups)}
        return {key: value for key, value in (found | {"extra": self.extra}).items() if value}


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


SERVER = User("system:apiserver", ("system:masters", AUTHENTICATED))
"""What the server does on its own account."""


class Attributes(Struct, frozen=True):
    """What a request wants to do: to a resource, or with `path` set to a URL path."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""

    def denied_to(self, user: User, reason: str = "") -> Forbidden:
        """The error upstream gives; `reason` is what an authorizer had to say."""
        reason = reason and f": {reason}"
        if self.path:
            return Forbidden(
                f'forbidden: User "{user.name}" cannot {self.verb} path "{self.path}"{reason}', details={}
            )
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        subject = f"{self.resource}.{self.group}" if self.group else self.resource
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        name = f' "{self.name}"' if self.name else ""
        details = {"name": self.name, "group": self.group, "kind": self.resource}
        return Forbidden(
            f'{subject}{name} is forbidden: User "{user.name}" cannot {self.verb} resource "{what}" '
            f'in API group "{self.group}" {where}{reason}',
            details={key: value for key, value in details.items() if value},
        )


Rules = Callable[[User, Attributes], bool]
Refusal = Callable[[User, Attributes], str | None]


class Authorizer:
    """Answers `allows`. `refusal` is asked about nodes (None: allowed, else why not), `rules` about everyone
    who is not an administrator."""

    def __init__(self, rules: Rules, refusal: Refusal) -> None:
        self._rules = rules
        self._refusal = refusal

    def allows(self, user: User, attributes: Attributes) -> bool:
        return self.decide(user, attributes) is None

    def decide(self, user: User, attributes: Attributes) -> str | None:
        """None if the user may; else what is to be said about it, mostly nothing."""
        if user.is_admin:
            return None
        reason: str | None = ""
        if user.node_credentials:
            reason = self._refusal(user, attributes)
        if reason is None or self._rules(user, attributes):
            return None
        return reason

    def check(self, user: User, attributes: Attributes) -> None:
        """Raises Forbidden unless the user may."""
        if (reason := self.decide(user, attributes)) is not None:
            raise attributes.denied_to(user, reason)


class Bound(Struct, frozen=True):
    """The object that a token lives and dies with."""

    kind: str
    name: str
    uid: str


class Tokens:
    """The bearer tokens a server accepts. `key` signs the service-account tokens it makes;
    `is_current(kind, namespace, name, uid)` says whether that object still exists."""

    def __init__(
        self, known: Mapping[str, User], key: bytes, is_current: Callable[[str, str, str, str], bool]
    ) -> None:
        self._known = {_digest(token): user for token, user in known.items()}
        self._key = key
        self._is_current = is_current

    def user(self, token: str, audiences: Sequence[str] = (ISSUER,)) -> User:
        """Raises Unauthorized for a token that is unknown, expired, meant for other `audiences`, or bound
        to an account, pod or node that is gone."""
        user = self._known.get(_digest(token)) or self._account(token, audiences)
        if user is None:
            raise Unauthorized("Unauthorized")
        if AUTHENTICATED in user.groups:
            return user
        return msgspec.structs.replace(user, groups=(*user.groups, AUTHENTICATED))

    def issue(
        self,
        namespace: str,
        account: tuple[str, str],
        seconds: int,
        audiences: list[str],
        bound: Sequence[Bound] = (),
    ) -> str:
        """A signed token (a JWT) for a service account, given by name and uid. It is good as long as all
        that is `bound` exists."""
        now = int(time.time())
        name, uid = account
        place: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        place |= {one.kind.lower(): {"name": one.name, "uid": one.uid} for one in bound}
        claims = {
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "aud": audiences,
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": place,
        }
        body = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
        return f"{body}.{self._signature(body)}"

    def _signature(self, body: str) -> str:
        return _base64(hmac.new(self._key, body.encode(), hashlib.sha256).digest())

    def _account(self, token: str, audiences: Sequence[str]) -> User | None:
        body, _, signature = token.rpartition(".")
        if not body or not hmac.compare_digest(self._signature(body).encode(), signature.encode()):
            return None
        text = body.partition(".")[2]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if claims["exp"] < time.time() or not set(audiences) & set(claims["aud"]):
            return None
        place = claims["kubernetes.io"]
        namespace, account = place["namespace"], place["serviceaccount"]
        for kind in ("ServiceAccount", "Pod", "Secret"):
            one = place.get(kind.lower())
            if one and not self._is_current(kind, namespace, one["name"], one["uid"]):
                return None
        extra = {f"{_EXTRA}credential-id": [f"JTI={claims['jti']}"]}
        for kind in ("node", "pod"):
            if one := place.get(kind):
                extra |= {f"{_EXTRA}{kind}-name": [one["name"]], f"{_EXTRA}{kind}-uid": [one["uid"]]}
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return User(str(claims["sub"]), groups, account["uid"], extra)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _part(document: dict[str, Any]) -> str:
    return _base64(msgspec.json.encode(document))
