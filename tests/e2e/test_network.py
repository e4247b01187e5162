"""Networks of pods in a real cluster: their own, the way to the API server, and interfaces by claims."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from pathlib import Path

import msgspec
import pytest

from drakit.driver import Claim, PreparedClaim
from drakit.drivers import build
from drakit.drivers.net.plan import bridge_name
from drakit.netlink import Netlink
from tests.e2e.cluster import Cluster, need, wait_for
from tests.e2e.containerd import Containerd
from tests.e2e.test_runtime_cri import containerd, host  # noqa: F401

pytestmark = [pytest.mark.e2e, pytest.mark.needs_root]

SERVER = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  nodeName: node-1
  containers:
  - name: ctr
    image: localhost/busybox:latest
    command: [sh, -c, "httpd -f -p $IP:8080 -h /var/run/secrets/kubernetes.io/serviceaccount"]
    env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
    readinessProbe: {httpGet: {port: 8080, path: /namespace}, periodSeconds: 1}
"""


def nodes_seen_from(cluster: Cluster, pod: str) -> str:
    """What kubectl says in the network of `pod`, of the API server that its environment names."""
    ask = 'echo "$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT"'
    server = cluster.kubectl("exec", pod, "--", "sh", "-c", ask).strip()
    uid = cluster.get("pod", pod)["metadata"]["uid"]
    (record,) = (cluster.folder / "data" / "nodes").glob(f"*/runtime/oci/sandboxes/{uid}.json")
    namespace = f"--net=/proc/{json.loads(record.read_text())['pid']}/ns/net"
    kubectl = [need("kubectl"), "--server", f"https://{server}", "get", "nodes", "-o", "name"]
    done = subprocess.run(
        ["nsenter", namespace, *kubectl], env=cluster.environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def has_bridge(subnet: str) -> bool:
    """Whether something is left on the host for the veth pairs of `subnet`: the bridge goes after them."""
    with Netlink() as host:
        return host.link(bridge_name(ipaddress.IPv4Network(subnet))) is not None


def ready(cluster: Cluster, claim: str) -> dict[str, object]:
    """What is said of the interface of `claim` once it is there."""

    def look() -> dict[str, object] | None:
        for entry in cluster.get("resourceclaim", claim)["status"].get("devices") or []:
            if [c["status"] for c in entry["conditions"] if c["type"] == "Ready"] == ["True"]:
                return dict(entry["networkData"])
        return None

    return dict(wait_for(look, f"the interface of {claim}"))


def test_networks_of_pods(tmp_path: Path) -> None:
    for tool in ("runc", "conmon", "busybox"):
        need(tool)
    cluster = Cluster(tmp_path, "--nodes", "2", "--runtime", "oci", "--driver", "net:interfaces=drkit-none")
    cluster.up()
    try:
        cluster.kubectl("apply", "-f", "net/1-classes.yaml", "-f", "net/2-veth.yaml")
        cluster.kubectl("apply", "-f", "-", stdin=SERVER)
        cluster.wait_ready("server", "client", "web")
        data = ready(cluster, "server")
        assert (data["interfaceName"], data["ips"]) == ("fast0", ["10.213.0.200/24"])
        assert has_bridge("10.213.0.0/24")
        wait_for(lambda: "1 packets received" in cluster.kubectl("logs", "client"), "an answer to the client")

        address = cluster.get("pod", "web")["status"]["podIP"]
        assert address.startswith("10.244.1.")
        fetch = ["exec", "server", "--", "wget", "-qO-", f"http://{address}:8080/namespace"]
        assert cluster.kubectl(*fetch) == "default"
        assert nodes_seen_from(cluster, "client").split() == ["node/node-0", "node/node-1"]
        cluster.kubectl("delete", "pod", "client")
        again = cluster.kubectl("exec", "server", "--", "ip", "address", "show", "fast0")
        assert "10.213.0.200/24" in again
    finally:
        cluster.down()
    assert not has_bridge("10.213.0.0/24")


@pytest.mark.anyio
async def test_an_interface_in_a_pod_of_containerd(
    containerd: Containerd,  # noqa: F811
    tmp_path: Path,
) -> None:
    driver = build("net", {"veth": "192.0.2.128/30"}, "node-1")
    driver.folder = tmp_path / "driver"
    result = {"request": "nic", "driver": "dra.net", "pool": "node-1", "device": "veth", "shareID": "s"}
    meta = {"namespace": "default", "name": "c", "uid": "u1"}
    document = {"metadata": meta, "status": {"allocation": {"devices": {"results": [result]}}}}
    async with host(containerd, tmp_path) as here:
        (nic,) = driver.prepare(Claim.of(document, driver.name))  # type: ignore[misc]
        name = here.write_cdi("nic", **msgspec.to_builtins(nic.edits))
        script = "ls /sys/class/net; cat /sys/class/net/net1/address /sys/class/net/net1/operstate"
        text = await here.output(script, cdi_devices=[name])
        assert text == ["lo", "net1", nic.network_data.hardware_address, "up"]
        assert has_bridge("192.0.2.128/30")
        driver.unprepare(PreparedClaim(namespace="default", name="c", uid="u1", devices=[nic]))
        assert await here.output("ls /sys/class/net", "later") == ["lo"]
    assert not has_bridge("192.0.2.128/30")
