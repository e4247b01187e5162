"""Which API server to talk to and as whom, from kubeconfig files or from inside a pod.

Several files merge as kubectl merges them: the first that says something wins, entries are whole, and
paths count from the folder of their file. Source: k8s.io/client-go/tools/clientcmd.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from drakit.errors import UsageError
from drakit.model.nesting import refuse_deep

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ExecPlugin(Struct, frozen=True, kw_only=True):
    """A program that prints credentials (client.authentication.k8s.io). `cluster` is what it is told about
    the server when it asked for that; `where` names the entry in messages."""

    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    api_version: str = "client.authentication.k8s.io/v1"
    install_hint: str = ""
    cluster: dict[str, Any] | None = None
    where: str = ""


class Config(Struct, frozen=True, kw_only=True):
    """One server and one identity. `token_file` is read again when it changes and wins over `token`;
    certificates are PEM."""

    server: str
    namespace: str = "default"
    context: str = ""
    ca_data: bytes | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = None
    client_certificate: bytes | None = None
    client_key: bytes | None = None
    token: str | None = None
    token_file: Path | None = None
    username: str | None = None
    password: str | None = None
    exec_plugin: ExecPlugin | None = None
    impersonate_user: str | None = None
    impersonate_groups: tuple[str, ...] = ()


def load(
    path: str | Path | None = None,
    context: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Config:
    """The configuration of `context` (default: the current one) from `path`, or, without a path, from the
    files in $KUBECONFIG, or ~/.kube/config, or the service account of the pod this runs in.

    Raises UsageError naming file and field when something is missing, unreadable or wrong.
    """
    if path is not None:
        merged = _merge([_read(Path(path))])
    else:
        files = _default_files(environ)
        merged = _merge([_read(file) for file in files if file.exists()])
        if not merged.files:
            if "KUBERNETES_SERVICE_HOST" in environ:
                return _in_cluster(environ, service_account)
            names = " or ".join(map(str, files))
            raise UsageError(
                f"no kubeconfig: {names} does not exist; name one with --kubeconfig or $KUBECONFIG"
            )
    return _resolve(merged, context)


# --- files ----------------------------------------------------------------------------------------


class _Entry(Struct, frozen=True):
    """A cluster, user or context and the file it is from."""

    file: Path
    label: str
    values: dict[str, Any]

    def text(self, field: str) -> str | None:
        value = self.values.get(field)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise UsageError(f"{self.file}: {self.label}.{field} must be text, not {type(value).__name__}")
        return value

    def flag(self, field: str) -> bool:
        value = self.values.get(field, False)
        if not isinstance(value, bool):
            raise UsageError(f"{self.file}: {self.label}.{field} must be true or false")
        return value

    def path(self, field: str) -> Path | None:
        text = self.text(field)
        return None if text is None else self.file.parent / text

    def data(self, field: str) -> bytes | None:
        """The bytes of `FIELD-data` (base64), else of the file `FIELD` names."""
        encoded = self.text(f"{field}-data")
        if encoded is not None:
            try:
                return base64.b64decode("".join(encoded.split()), validate=True)
            except (binascii.Error, ValueError):
                raise UsageError(f"{self.file}: {self.label}.{field}-data is not base64") from None
        file = self.path(field)
        if file is None:
            return None
        try:
            return file.read_bytes()
        except OSError as error:
            raise UsageError(
                f"{self.file}: {self.label}.{field}: cannot read {file}: {error.strerror}"
            ) from None


class _Merged(Struct):
    """What all files say together."""

    files: list[Path]
    current: str
    clusters: dict[str, _Entry]
    users: dict[str, _Entry]
    contexts: dict[str, _Entry]


def _default_files(environ: Mapping[str, str]) -> list[Path]:
    named = [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [Path(environ.get("HOME", "~")).expanduser() / ".kube" / "config"]


def _read(file: Path) -> tuple[Path, dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read kubeconfig {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"kubeconfig {file} is not text") from None
    try:
        refuse_deep(text)
        document = yaml.load(text, Loader=_Loader)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"kubeconfig {file}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise UsageError(f"kubeconfig {file}{line}: {problem}") from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise UsageError(f"kubeconfig {file} must be a mapping, not {type(document).__name__}")
    return file, document


def _merge(documents: list[tuple[Path, dict[str, Any]]]) -> _Merged:
    merged = _Merged([], "", {}, {}, {})
    for file, document in documents:
        merged.files.append(file)
        current = document.get("current-context") or ""
        if not isinstance(current, str):
            raise UsageError(f"{file}: current-context must be text")
        merged.current = merged.current or current
        for into, plural, singular in (
            (merged.clusters, "clusters", "cluster"),
            (merged.users, "users", "user"),
            (merged.contexts, "contexts", "context"),
        ):
            for name, entry in _entries(file, document, plural, singular):
                into.setdefault(name, entry)
    return merged


def _entries(file: Path, document: dict[str, Any], plural: str, singular: str) -> list[tuple[str, _Entry]]:
    rows = document.get(plural) or []
    if not isinstance(rows, list):
        raise UsageError(f"{file}: {plural} must be a list")
    found = []
    for position, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise UsageError(f"{file}: {plural}[{position}] needs a name")
        values = row.get(singular)
        if values is None:
            values = {}
        label = f"{plural}[{row['name']}].{singular}"
        if not isinstance(values, dict):
            raise UsageError(f"{file}: {label} must be a mapping")
        found.append((row["name"], _Entry(file, label, values)))
    return found


# --- what they mean -------------------------------------------------------------------------------


def _resolve(merged: _Merged, wanted: str | None) -> Config:
    where = ", ".join(map(str, merged.files))
    name = wanted or merged.current
    if not name:
        raise UsageError(
            f"{where}: no current-context; choose one of {_names(merged.contexts)} with --context"
        )
    context = merged.contexts.get(name)
    if context is None:
        raise UsageError(f"{where}: no context {name!r}; there is {_names(merged.contexts)}")
    cluster = _referred(context, "cluster", merged.clusters)
    if cluster is None:
        raise UsageError(f"{context.file}: {context.label}.cluster is missing")
    server = cluster.text("server")
    if server is None:
        raise UsageError(f"{cluster.file}: {cluster.label}.server is missing")
    if not server.startswith(("http://", "https://")):
        raise UsageError(
            f"{cluster.file}: {cluster.label}.server {server!r} must start with http:// or https://"
        )
    insecure = cluster.flag("insecure-skip-tls-verify")
    authority = cluster.data("certificate-authority")
    if insecure and authority is not None:
        raise UsageError(
            f"{cluster.file}: {cluster.label} has certificate-authority and insecure-skip-tls-verify: "
            "keep one"
        )
    proxy = cluster.text("proxy-url")
    if proxy is not None and not proxy.startswith(("http://", "https://")):
        raise UsageError(
            f"{cluster.file}: {cluster.label}.proxy-url {proxy!r}: only http and https proxies work"
        )
    identity = _identity(_referred(context, "user", merged.users), cluster, server)
    return Config(
        server=server.rstrip("/"),
        namespace=context.text("namespace") or "default",
        context=name,
        ca_data=authority,
        insecure_skip_tls_verify=insecure,
        tls_server_name=cluster.text("tls-server-name"),
        proxy_url=proxy,
        **identity,
    )


def _referred(context: _Entry, field: str, entries: dict[str, _Entry]) -> _Entry | None:
    name = context.text(field)
    if name is None:
        return None
    entry = entries.get(name)
    if entry is None:
        raise UsageError(
            f"{context.file}: {context.label}.{field} names {name!r}, but there is {_names(entries)}"
        )
    return entry


def _identity(user: _Entry | None, cluster: _Entry, server: str) -> dict[str, Any]:
    if user is None:
        return {}
    if "auth-provider" in user.values:
        raise UsageError(f"{user.file}: {user.label}.auth-provider is no longer supported: use exec")
    certificate, key = user.data("client-certificate"), user.data("client-key")
    if (certificate is None) != (key is None):
        missing = "client-key" if key is None else "client-certificate"
        raise UsageError(f"{user.file}: {user.label}.{missing} is missing beside its counterpart")
    groups = user.values.get("as-groups") or []
    if not isinstance(groups, list):
        raise UsageError(f"{user.file}: {user.label}.as-groups must be a list")
    return {
        "client_certificate": certificate,
        "client_key": key,
        "token": user.text("token"),
        "token_file": user.path("tokenFile"),
        "username": user.text("username"),
        "password": user.text("password"),
        "exec_plugin": _exec_plugin(user, cluster, server),
        "impersonate_user": user.text("as"),
        "impersonate_groups": tuple(map(str, groups)),
    }


def _exec_plugin(user: _Entry, cluster: _Entry, server: str) -> ExecPlugin | None:
    values = user.values.get("exec")
    if values is None:
        return None
    label = f"{user.label}.exec"
    if not isinstance(values, dict):
        raise UsageError(f"{user.file}: {label} must be a mapping")
    plugin = _Entry(user.file, label, values)
    command = plugin.text("command")
    if command is None:
        raise UsageError(f"{user.file}: {label}.command is missing")
    if "/" in command:
        command = str(user.file.parent / command)
    version = plugin.text("apiVersion") or ""
    if version not in ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"):
        raise UsageError(f"{user.file}: {label}.apiVersion {version!r}: use client.authentication.k8s.io/v1")
    args, env = values.get("args") or [], values.get("env") or []
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise UsageError(f"{user.file}: {label}.args must be a list of texts")
    if not isinstance(env, list) or not all(isinstance(row, dict) and "name" in row for row in env):
        raise UsageError(f"{user.file}: {label}.env must be a list of name and value")
    told = None
    if plugin.flag("provideClusterInfo"):
        told = {"server": server} | {
            field: cluster.values[field]
            for field in (
                "insecure-skip-tls-verify",
                "tls-server-name",
                "proxy-url",
                "certificate-authority-data",
            )
            if cluster.values.get(field)
        }
    return ExecPlugin(
        command=command,
        args=tuple(args),
        env=tuple((str(row["name"]), str(row.get("value", ""))) for row in env),
        api_version=version,
        install_hint=plugin.text("installHint") or "",
        cluster=told,
        where=f"{user.file}: {label}",
    )


def _names(entries: Mapping[str, object]) -> str:
    return ", ".join(repr(name) for name in entries) or "none"


def _in_cluster(environ: Mapping[str, str], folder: Path) -> Config:
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    token_file = folder / "token"
    try:
        authority = (folder / "ca.crt").read_bytes()
        token_file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"this pod has no service account: cannot read {error.filename}: {error.strerror}; "
            "name a kubeconfig or mount the service account token"
        ) from None
    namespace_file = folder / "namespace"
    return Config(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace_file.read_text().strip() if namespace_file.exists() else "default",
        ca_data=authority,
        token_file=token_file,
    )
