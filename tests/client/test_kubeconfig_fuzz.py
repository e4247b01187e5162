"""Whatever a kubeconfig holds, loading it gives a Config or a UsageError that names the file."""

from __future__ import annotations

import copy
import random
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from drakit.client import kubeconfig
from drakit.errors import UsageError

WHOLE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "here",
    "clusters": [
        {
            "name": "c",
            "cluster": {
                "server": "https://h:1",
                "certificate-authority-data": "eA==",
                "certificate-authority": "ca.pem",
                "insecure-skip-tls-verify": False,
                "tls-server-name": "x",
                "proxy-url": "http://proxy:1",
            },
        }
    ],
    "users": [
        {
            "name": "u",
            "user": {
                "token": "t",
                "tokenFile": "token",
                "client-certificate-data": "eA==",
                "client-key-data": "eA==",
                "username": "n",
                "password": "p",
                "as": "other",
                "as-groups": ["g"],
                "exec": {
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "command": "login",
                    "args": ["a"],
                    "env": [{"name": "A", "value": "b"}],
                    "provideClusterInfo": True,
                    "installHint": "hint",
                },
            },
        }
    ],
    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "n"}}],
}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside `value`."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.lists(VALUES, min_size=1, max_size=3))
def test_any_value_anywhere(seed: int, values: list[Any]) -> None:
    rng, document = random.Random(seed), copy.deepcopy(WHOLE)
    for value in values:
        path = rng.choice(places(document))
        inner = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config")
        file.write_text(yaml.safe_dump(document))
        config, problem = None, ""
        try:
            config = kubeconfig.load(file)
        except UsageError as error:
            problem = str(error)
    if config is None:
        assert str(file) in problem
        assert "\n" not in problem
    else:
        assert isinstance(config.server, str)
        assert config.token is None or isinstance(config.token, str)
