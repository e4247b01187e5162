"""ClusterRoles that are made of others: `admin`, `edit`, `view`, and those that people write.

A ClusterRole with an `aggregationRule` has the rules of all ClusterRoles that one of its selectors picks, in
the order of their names; rules written into it by hand go. Source:
pkg/controller/clusterroleaggregation.
"""

from __future__ import annotations

from drakit.client.api import Resource
from drakit.client.informer import key_of
from drakit.controllers.context import Context
from drakit.controllers.pod import is_deleting
from drakit.errors import BadRequest, NotFound
from drakit.model.selector import LabelSelector, read_labels
from drakit.transport import Document

CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False)


class Aggregation:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = context.queue()
        self._roles = context.informer(CLUSTER_ROLES)
        self._roles.add_handler(self._changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=1, name="clusterrole aggregation")

    def _changed(self, old: Document | None, new: Document | None) -> None:
        """A role that changed may be part of any other."""
        for role in self._roles.items():
            if role.get("aggregationRule"):
                self._queue.add(key_of(role))

    async def _sync(self, name: str) -> None:
        role = self._roles.get(name)
        if role is None or is_deleting(role) or not role.get("aggregationRule"):
            return
        selectors = _selectors(role)
        parts = sorted(self._roles.items(), key=lambda part: str(part["metadata"]["name"]))
        rules: list[Document] = []
        for part in parts:
            labels = part["metadata"].get("labels") or {}
            if part["metadata"]["name"] == name or not any(s.matches(labels) for s in selectors):
                continue
            rules += [rule for rule in part.get("rules") or () if rule not in rules]
        if rules == (role.get("rules") or []):
            return
        meta = role["metadata"]
        own = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        try:
            await self._client.patch(CLUSTER_ROLES, name, {"metadata": own, "rules": rules})
        except NotFound:
            return


def _selectors(role: Document) -> list[LabelSelector]:
    """The selectors of a role; those that cannot be read pick nothing."""
    found: list[LabelSelector] = []
    for row in role["aggregationRule"].get("clusterRoleSelectors") or ():
        try:
            selector = read_labels(row)
        except BadRequest:
            continue
        if selector is not None:
            found.append(selector)
    return found
