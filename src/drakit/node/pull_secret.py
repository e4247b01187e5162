"""Logins for registries, from the secrets that a pod or its service account names for pulling images.

A secret has logins by registry, such as `registry.example.com` or `registry.example.com:5000/team`; parts of
the host may be patterns (`*.example.com`). A login is tried for an image below that name, the longest name
first; one for Docker Hub is written `https://index.docker.io/v1/`.

Source: pkg/credentialprovider/{keyring,config}.go, plugin/pkg/admission/serviceaccount.
"""

from __future__ import annotations

import base64
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from drakit.client.api import SERVICE_ACCOUNTS, Client
from drakit.errors import APIError
from drakit.node.env import ConfigFailed, fetch_data
from drakit.node.runtime import Login
from drakit.node.tell import Tell
from drakit.transport import Document

_HUB = ("docker.io", "index.docker.io")


class PullSecrets:
    """The logins of one pod. What is wrong with a secret is told once as an event; the others count."""

    def __init__(self, client: Client, pod: Document, tell: Tell) -> None:
        self._client = client
        self._pod = pod
        self._tell = tell

    async def logins(self, image: str) -> list[Login]:
        """The logins to try for `image`, a normalized name."""
        known: dict[str, Login] = {}
        wrong: list[str] = []
        for name in await self._names():
            try:
                known |= await self._read(name)
            except ConfigFailed as error:
                wrong.append(str(error))
        if wrong:
            reasons = "; ".join(wrong)
            self._tell(
                "Warning",
                "FailedToRetrieveImagePullSecret",
                f"Unable to retrieve some image pull secrets ({reasons}); attempting to pull the image may"
                " not succeed.",
            )
        return [login for place, login in sorted(known.items(), reverse=True) if _covers(place, image)]

    async def _names(self) -> list[str]:
        spec, namespace = self._pod.get("spec") or {}, self._pod["metadata"]["namespace"]
        rows = spec.get("imagePullSecrets")
        if not rows:
            account = spec.get("serviceAccountName") or "default"
            try:
                rows = (await self._client.get(SERVICE_ACCOUNTS, account, namespace)).get("imagePullSecrets")
            except APIError:
                return []  # the volume of a service account that is not there says so
        return [row["name"] for row in rows or [] if row.get("name")]

    async def _read(self, name: str) -> dict[str, Login]:
        data = await fetch_data(self._client, "secret", self._pod["metadata"]["namespace"], {"name": name})
        try:
            if ".dockerconfigjson" in data:
                rows = msgspec.json.decode(data[".dockerconfigjson"])["auths"]
            else:
                rows = msgspec.json.decode(data[".dockercfg"])
            return {_place(registry): _login(row) for registry, row in rows.items()}
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError, ValueError):
            text = "is no docker configuration: make it with kubectl create secret docker-registry"
            raise ConfigFailed(f'secret "{name}" {text}') from None


def _login(row: dict[str, Any]) -> Login:
    """Raises ValueError and its like for what is no login."""
    if auth := row.get("auth"):
        user, password = base64.b64decode(auth, validate=True).decode().split(":", 1)
        return Login(user, password)
    return Login(str(row["username"]), str(row["password"]))


def _place(registry: str) -> str:
    """`https://host/v1/team/` -> `host/team`."""
    host, _, path = registry.removeprefix("https://").removeprefix("http://").partition("/")
    path = path.removeprefix("v1/").removeprefix("v2/").strip("/")
    if path in ("v1", "v2"):
        path = ""
    return f"{host}/{path}" if path else host


def _covers(place: str, image: str) -> bool:
    """Whether a login for `place` is one for `image`."""
    host, _, path = place.partition("/")
    image_host, _, image_path = image.partition("/")
    if image_host == "docker.io" and host in _HUB:
        return image_path.startswith(path)
    parts, image_parts = host.split("."), image_host.split(".")
    return (
        len(parts) == len(image_parts)
        and host.partition(":")[2] == image_host.partition(":")[2]
        and all(map(fnmatchcase, image_parts, parts))
        and image_path.startswith(path)
    )
