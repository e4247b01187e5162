from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from drakit.client import kubeconfig
from drakit.errors import UsageError


def document(**changes: Any) -> dict[str, Any]:
    return {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443/"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    } | changes


def write(folder: Path, name: str = "config", **changes: Any) -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump(document(**changes)))
    return file


def cluster(**fields: Any) -> list[Any]:
    return [{"name": "c", "cluster": {"server": "https://h:1", **fields}}]


def user(**fields: Any) -> list[Any]:
    return [{"name": "u", "user": fields}]


def test_the_plain_case(tmp_path: Path) -> None:
    config = kubeconfig.load(write(tmp_path))
    assert config.server == "https://127.0.0.1:6443"
    assert (config.token, config.namespace, config.context) == ("secret", "default", "here")


def test_paths_count_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"CA")
    (tmp_path / "cert.pem").write_bytes(b"CERT")
    key = base64.b64encode(b"KEY").decode()
    config = kubeconfig.load(
        write(
            tmp_path,
            clusters=cluster(**{"certificate-authority": "ca.pem", "tls-server-name": "kubernetes"}),
            users=user(**{"client-certificate": "cert.pem", "client-key-data": key, "tokenFile": "token"}),
        )
    )
    assert (config.ca_data, config.client_certificate, config.client_key) == (b"CA", b"CERT", b"KEY")
    assert config.token_file == tmp_path / "token"
    assert config.tls_server_name == "kubernetes"


def test_files_merge_and_the_first_wins(tmp_path: Path) -> None:
    first = write(tmp_path, "first", contexts=[], **{"current-context": ""})
    contexts = [
        {"name": "a", "context": {"cluster": "c", "user": "u", "namespace": "ns"}},
        {"name": "b", "context": {"cluster": "c"}},
    ]
    second = write(
        tmp_path, "second", contexts=contexts, clusters=cluster(), users=[], **{"current-context": "a"}
    )
    environ = {"KUBECONFIG": f"{tmp_path}/missing:{first}:{second}"}
    config = kubeconfig.load(environ=environ)
    assert (config.server, config.token, config.namespace) == ("https://127.0.0.1:6443", "secret", "ns")
    assert kubeconfig.load(context="b", environ=environ).token is None


def test_the_home_folder(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube")
    assert kubeconfig.load(environ={"HOME": str(tmp_path)}).token == "secret"


def test_inside_a_pod(tmp_path: Path) -> None:
    environ = {
        "HOME": str(tmp_path),
        "KUBERNETES_SERVICE_HOST": "fd00::1",
        "KUBERNETES_SERVICE_PORT": "443",
    }
    account = tmp_path / "account"
    with pytest.raises(UsageError, match=r"no service account: cannot read .*ca\.crt"):
        kubeconfig.load(environ=environ, service_account=account)
    account.mkdir()
    (account / "token").write_text("t")
    (account / "ca.crt").write_text("CA")
    (account / "namespace").write_text("team")
    config = kubeconfig.load(environ=environ, service_account=account)
    assert (config.server, config.namespace) == ("https://[fd00::1]:443", "team")
    assert config.token_file == account / "token"


def test_exec_plugins(tmp_path: Path) -> None:
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "./login",
        "args": ["--now"],
        "env": [{"name": "A", "value": "b"}],
        "provideClusterInfo": True,
    }
    config = kubeconfig.load(write(tmp_path, users=user(exec=plugin)))
    found = config.exec_plugin
    assert found is not None
    assert found.command == str(tmp_path / "login")
    assert (found.args, found.env) == (("--now",), (("A", "b"),))
    assert found.cluster == {"server": "https://127.0.0.1:6443/"}


EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "x"}
REFUSED = {
    "unknown context": ({"current-context": "x"}, "no context 'x'; there is 'here'"),
    "no context": ({"current-context": ""}, "no current-context; choose one of 'here'"),
    "context of another type": ({"current-context": 5}, "current-context must be text"),
    "context without cluster": (
        {"contexts": [{"name": "here", "context": {"user": "u"}}]},
        r"contexts\[here\].context.cluster is missing",
    ),
    "unknown cluster": (
        {"contexts": [{"name": "here", "context": {"cluster": "x"}}]},
        r"contexts\[here\].context.cluster names 'x', but there is 'c'",
    ),
    "unknown user": ({"users": []}, r"contexts\[here\].context.user names 'u', but there is none"),
    "no server": (
        {"clusters": [{"name": "c", "cluster": {}}]},
        r"clusters\[c\].cluster.server is missing",
    ),
    "no scheme": ({"clusters": [{"name": "c", "cluster": {"server": "h:1"}}]}, "must start with http"),
    "server of another type": ({"clusters": [{"name": "c", "cluster": {"server": 1}}]}, "must be text"),
    "no base64": (
        {"clusters": cluster(**{"certificate-authority-data": "%"})},
        "certificate-authority-data is not base64",
    ),
    "no such file": (
        {"clusters": cluster(**{"certificate-authority": "x.pem"})},
        "certificate-authority: cannot read .*x.pem: No such file",
    ),
    "insecure and authority": (
        {"clusters": cluster(**{"certificate-authority-data": "eA==", "insecure-skip-tls-verify": True})},
        "keep one",
    ),
    "insecure as text": (
        {"clusters": cluster(**{"insecure-skip-tls-verify": "yes"})},
        "must be true or false",
    ),
    "socks": ({"clusters": cluster(**{"proxy-url": "socks5://h"})}, "only http and https proxies"),
    "half a certificate": ({"users": user(**{"client-key-data": "eA=="})}, "client-certificate is missing"),
    "auth provider": ({"users": user(**{"auth-provider": {}})}, "use exec"),
    "exec without command": ({"users": user(exec={"apiVersion": "v1"})}, "exec.command is missing"),
    "exec of an old version": (
        {"users": user(exec=EXEC | {"apiVersion": "client.authentication.k8s.io/v1alpha1"})},
        "use client.authentication.k8s.io/v1",
    ),
    "exec with text args": ({"users": user(exec=EXEC | {"args": "x"})}, "args must be a list"),
    "exec with odd env": ({"users": user(exec=EXEC | {"env": ["x"]})}, "env must be a list"),
    "clusters no list": ({"clusters": {}, "users": "x"}, "users must be a list"),
    "nameless": ({"users": [{"user": {}}]}, r"users\[0\] needs a name"),
    "entry no mapping": ({"users": [{"name": "u", "user": "x"}]}, r"users\[u\].user must be a mapping"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = write(tmp_path, **changes)
    with pytest.raises(UsageError, match=message) as refused:
        kubeconfig.load(file)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "line 2: did not find"),
        ("- x", "must be a mapping, not list"),
        ("\xff", "is not text"),
        (None, "cannot read kubeconfig"),
    ],
)
def test_files_that_are_no_kubeconfig(text: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=message):
        kubeconfig.load(file)


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.kube/config does not exist; name one with --kubeconfig"):
        kubeconfig.load(environ={"HOME": str(tmp_path)})
