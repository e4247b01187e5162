"""What a pod calls itself and others: its host name, /etc/hosts and /etc/resolv.conf, as the kubelet writes
them.

Source: pkg/kubelet/kubelet_pods.go, pkg/kubelet/network/dns.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from drakit.node.runtime import Sandbox
from drakit.transport import Document

_DOMAIN = "cluster.local"
_LOCAL = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def hostname(pod: Document) -> str:
    """The name a pod's sandbox gets, of at most 63 characters."""
    spec, meta = pod.get("spec") or {}, pod["metadata"]
    short = str(spec.get("hostname") or meta["name"])[:63].rstrip("-.")
    whole = _whole(pod, short)
    return whole if spec.get("setHostnameAsFQDN") and len(whole) <= 63 else short


def name_files(pod: Document, sandbox: Sandbox) -> dict[str, str]:
    """The content of /etc/hosts, /etc/hostname and /etc/resolv.conf, by path."""
    spec = pod.get("spec") or {}
    return {
        "/etc/hostname": f"{sandbox.hostname}\n",
        "/etc/hosts": _hosts(pod, sandbox),
        "/etc/resolv.conf": _resolv_conf(spec.get("dnsPolicy", "ClusterFirst"), spec.get("dnsConfig") or {}),
    }


def _whole(pod: Document, short: str) -> str:
    subdomain = (pod.get("spec") or {}).get("subdomain")
    namespace = pod["metadata"]["namespace"]
    return f"{short}.{subdomain}.{namespace}.svc.{_DOMAIN}" if subdomain else short


def _hosts(pod: Document, sandbox: Sandbox) -> str:
    spec = pod.get("spec") or {}
    if sandbox.is_host_network:
        text = "# Kubernetes-managed hosts file (host network).\n" + _read("/etc/hosts")
    else:
        short = sandbox.hostname.partition(".")[0]
        names = dict.fromkeys([_whole(pod, short), short])
        own = f"{sandbox.ip or '127.0.0.1'}\t{chr(9).join(names)}\n"
        text = f"# Kubernetes-managed hosts file.\n{_LOCAL}{own}"
    aliases = spec.get("hostAliases") or []
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
    for alias in aliases:
        text += f"{alias.get('ip')}\t{chr(9).join(alias.get('hostnames') or [])}\n"
    return text


def _resolv_conf(policy: str, config: Document) -> str:
    """The machine's own, since the cluster has no DNS server, with what the pod adds; with the policy `None`
    only that."""
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    if policy != "None":
        for words in (line.split() for line in _read("/etc/resolv.conf").splitlines()):
            if words[:1] == ["nameserver"]:
                servers += words[1:2]
            elif words[:1] in (["search"], ["domain"]):
                searches = words[1:]
            elif words[:1] == ["options"]:
                options |= {name: value for name, _, value in (word.partition(":") for word in words[1:])}
    servers = list(dict.fromkeys([*servers, *(config.get("nameservers") or [])]))
    searches = list(dict.fromkeys([*searches, *(config.get("searches") or [])]))
    options |= {
        str(entry.get("name")): str(entry.get("value") or "") for entry in config.get("options") or []
    }
    lines = [f"search {' '.join(searches)}"] if searches else []
    lines += [f"nameserver {server}" for server in servers]
    if options:
        lines.append("options " + " ".join(f"{k}:{v}" if v else k for k, v in options.items()))
    return "".join(f"{line}\n" for line in lines)


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace")
    return ""
