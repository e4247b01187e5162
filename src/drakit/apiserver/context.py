"""What one request knows while an object is prepared and checked.

The seam between the verbs and the strategies. A strategy sees documents in the kind's storage version;
`Context` tells it who asks, in which version, at what time, and lets it look at other objects.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from drakit.apiserver.kinds import Kind
from drakit.profile import Profile
from drakit.transport import Document


class User(Struct, frozen=True):
    """Who a request comes from, as authentication found out."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_admin(self) -> bool:
        return "system:masters" in self.groups


class Context(Struct, frozen=True, kw_only=True):
    """`version` is the one of the request path ("v1beta1"), `now` RFC 3339 text in UTC with seconds.
    `lookup(group, plural, namespace, name)` gives another object in its storage version, or None; what it
    returns must not be changed."""

    profile: Profile
    kind: Kind
    user: User
    version: str
    now: str
    lookup: Callable[[str, str, str | None, str], Document | None]
    query: dict[str, str] = field(default_factory=dict)
    user_agent: str = ""
    subresource: str | None = None

    @property
    def field_manager(self) -> str:
        """The manager named by the request, or one made of the client's name, or "unknown"."""
        return self.query.get("fieldManager") or self.user_agent.split("/", 1)[0] or "unknown"

    @property
    def is_dry_run(self) -> bool:
        return "dryRun" in self.query
