"""What kinds the server has, asked of the server: custom resources come and go."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from drakit.client.api import Client, Resource
from drakit.transport import Request

_ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


class Served(Struct, frozen=True):
    """A resource in the version its group prefers, and what may be done with it."""

    resource: Resource
    verbs: frozenset[str]


async def discover(client: Client) -> list[Served]:
    """Every resource of the server, subresources aside, once: in the first version that has it."""
    found: dict[tuple[str, str], Served] = {}
    for path in ("/api", "/apis"):
        response = await client.request(Request(method="GET", path=path, accept=_ACCEPT))
        for group in response.document.get("items") or ():
            name = (group.get("metadata") or {}).get("name") or ""
            for version in group.get("versions") or ():
                for row in version.get("resources") or ():
                    served = _read(name, version["version"], row)
                    found.setdefault((name, served.resource.plural), served)
    return list(found.values())


def _read(group: str, version: str, row: dict[str, Any]) -> Served:
    resource = Resource(
        group,
        version,
        row["resource"],
        (row.get("responseKind") or {}).get("kind") or "",
        row.get("scope") == "Namespaced",
    )
    return Served(resource, frozenset(row.get("verbs") or ()))
