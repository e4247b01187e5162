"""Logins from the secrets that pods and service accounts name for pulling images."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from drakit.apiserver.app import API
from drakit.client.api import SECRETS, SERVICE_ACCOUNTS, Client
from drakit.node.pull_secret import PullSecrets
from drakit.profile import profile_for
from drakit.store import Store
from drakit.transport import Document
from tests.node.make import ADMIN, NS

pytestmark = pytest.mark.anyio


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(name: str, logins: Any, key: str = ".dockerconfigjson") -> Document:
    text = json.dumps({"auths": logins} if key == ".dockerconfigjson" else logins)
    kind = "kubernetes.io/dockerconfigjson" if key == ".dockerconfigjson" else "kubernetes.io/dockercfg"
    return {"metadata": {"name": name, "namespace": NS}, "type": kind, "data": {key: encoded(text)}}


def login(user: str) -> dict[str, str]:
    return {"auth": encoded(f"{user}:p:w")}


async def users(
    secrets: list[Document], image: str, account: Document | None = None, **spec: Any
) -> tuple[list[str], list[str]]:
    """The users tried for `image`, and the events."""
    api = API.open(Store(), profile_for())
    await api.start()
    client = Client(api.transport(ADMIN))
    for document in secrets:
        await client.create(SECRETS, document)
    if account is not None:
        await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": NS}} | account)
    pod: Document = {"metadata": {"name": "p", "namespace": NS}, "spec": spec}
    told: list[str] = []
    found = PullSecrets(client, pod, lambda type, reason, message: told.append(f"{type} {reason} {message}"))
    return [login.username for login in await found.logins(image)], told


OURS = [{"name": "ours"}]


@pytest.mark.parametrize(
    ("registry", "image", "is_for_it"),
    [
        ("registry.example.com", "registry.example.com/a/b:1", True),
        ("https://registry.example.com/v1/", "registry.example.com/a:1", True),
        ("registry.example.com/team", "registry.example.com/team/a:1", True),
        ("registry.example.com/team", "registry.example.com/other/a:1", False),
        ("registry.example.com", "registry.example.com:5000/a:1", False),
        ("registry.example.com:5000", "registry.example.com:5000/a:1", True),
        ("*.example.com", "registry.example.com/a:1", True),
        ("*.example.com", "a.b.example.com/a:1", False),
        ("example.com", "registry.example.com/a:1", False),
        ("https://index.docker.io/v1/", "docker.io/library/busybox:1", True),
        ("docker.io", "docker.io/team/tool:1", True),
        ("registry.example.com", "docker.io/library/busybox:1", False),
    ],
)
async def test_a_login_is_for_the_images_below_its_name(registry: str, image: str, is_for_it: bool) -> None:
    found = await users([secret("ours", {registry: login("me")})], image, imagePullSecrets=OURS)
    assert found == (["me"] if is_for_it else [], [])


async def test_the_longest_name_is_tried_first_and_old_secrets_are_read_too() -> None:
    secrets = [
        secret("ours", {"r.io": login("all"), "r.io/team/tool": login("tool"), "r.io/team": login("team")}),
        secret("old", {"r.io/team/t": {"username": "old", "password": "x"}}, key=".dockercfg"),
    ]
    found = await users(secrets, "r.io/team/tool:1", imagePullSecrets=[*OURS, {"name": "old"}])
    assert found == (["tool", "old", "team", "all"], [])


async def test_a_pod_that_names_none_has_those_of_its_service_account() -> None:
    secrets = [secret("ours", {"r.io": login("pod")}), secret("theirs", {"r.io": login("account")})]
    account = {"imagePullSecrets": [{"name": "theirs"}]}
    assert await users(secrets, "r.io/a:1", account) == (["account"], [])
    assert await users(secrets, "r.io/a:1", account, imagePullSecrets=OURS) == (["pod"], [])


async def test_what_is_wrong_with_a_secret_is_told_and_the_others_count() -> None:
    broken = secret("broken", {"r.io": {"auth": "%"}})
    names = [{"name": name} for name in ("gone", "broken", "ours")]
    found, told = await users(
        [secret("ours", {"r.io": login("me")}), broken], "r.io/a:1", imagePullSecrets=names
    )
    assert found == ["me"]
    assert told == [
        'Warning FailedToRetrieveImagePullSecret Unable to retrieve some image pull secrets (secret "gone"'
        ' not found; secret "broken" is no docker configuration: make it with kubectl create secret'
        " docker-registry); attempting to pull the image may not succeed."
    ]
