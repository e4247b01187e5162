"""Clients that people write programs with, against a running `dra up`: the official Python client, lightkube
and curl. kubectl and helm have tests of their own."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client as official
from kubernetes import config as official_config
from kubernetes import watch as official_watch
from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer
from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.models.core_v1 import Container, PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Node, Pod

from tests.e2e.cluster import Cluster, need, wait_for

pytestmark = pytest.mark.e2e

NS = "default"
CLASS: dict[str, Any] = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "DeviceClass",
    "metadata": {"name": "from-a-client"},
    "spec": {"selectors": [{"cel": {"expression": 'device.driver == "gpu.example.com"'}}]},
}
CLAIM: dict[str, Any] = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaim",
    "metadata": {"name": "one"},
    "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "from-a-client"}}]}},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(
        tmp_path_factory.mktemp("clients"), "--nodes", "0", "--fake-nodes", "2", "--driver", "gpu"
    )
    cluster.up()
    yield cluster
    cluster.down()


@pytest.fixture
def api_client(cluster: Cluster) -> Iterator[official.ApiClient]:
    """The official client, configured by the kubeconfig as anybody would."""
    with official_config.new_client_from_config(cluster.environment["KUBECONFIG"]) as client:
        yield client


@pytest.fixture
def lightkube(cluster: Cluster) -> Iterator[Client]:
    client = Client(config=KubeConfig.from_file(cluster.environment["KUBECONFIG"]))
    yield client
    client.close()


def pod(name: str) -> dict[str, Any]:
    containers = [{"name": "c", "image": "busybox"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers}}


def test_the_official_client_creates_changes_and_deletes(api_client: official.ApiClient) -> None:
    resource = official.ResourceV1Api(api_client)
    assert official.VersionApi(api_client).get_code().minor == "37"
    resource.create_device_class(CLASS)
    resource.create_namespaced_resource_claim(NS, CLAIM)
    body = {"metadata": {"labels": {"team": "blue"}}}
    patched = resource.patch_namespaced_resource_claim("one", NS, body)
    assert patched.metadata.labels == {"team": "blue"}
    (found,) = resource.list_namespaced_resource_claim(NS, label_selector="team=blue").items
    assert found.spec.devices.requests[0].exactly.device_class_name == "from-a-client"
    assert found.spec.devices.requests[0].exactly.count == 1
    slices = resource.list_resource_slice(field_selector="spec.driver=gpu.example.com").items
    assert {entry.spec.node_name for entry in slices} == {"fake-0", "fake-1"}
    with pytest.raises(official.ApiException) as caught:
        resource.create_namespaced_resource_claim(NS, CLAIM)
    assert (caught.value.status, json.loads(caught.value.body)["reason"]) == (409, "AlreadyExists")
    resource.delete_namespaced_resource_claim("one", NS)
    resource.delete_device_class("from-a-client")
    with pytest.raises(official.ApiException, match="Not Found"):
        resource.read_device_class("from-a-client")


def test_the_official_client_pages_and_watches(api_client: official.ApiClient) -> None:
    core = official.CoreV1Api(api_client)
    for number in range(5):
        core.create_namespaced_config_map(
            NS, {"metadata": {"name": f"page-{number}", "labels": {"a": "page"}}}
        )
    first = core.list_namespaced_config_map(NS, label_selector="a=page", limit=2)
    names = [entry.metadata.name for entry in first.items]
    rest = core.list_namespaced_config_map(
        NS, label_selector="a=page", limit=10, _continue=first.metadata._continue
    )
    names += [entry.metadata.name for entry in rest.items]
    assert names == [f"page-{number}" for number in range(5)]
    core.delete_collection_namespaced_config_map(NS, label_selector="a=page")
    events = official_watch.Watch().stream(
        core.list_namespaced_config_map,
        NS,
        label_selector="a=page",
        resource_version=first.metadata.resource_version,
        timeout_seconds=1,
    )
    assert [event["type"] for event in events] == ["DELETED"] * 5


def test_the_official_informer_follows(api_client: official.ApiClient) -> None:
    core = official.CoreV1Api(api_client)
    informer = SharedInformer(core.list_namespaced_pod, namespace=NS, label_selector="a=informer")
    seen: list[tuple[str, str]] = []
    for kind in (ADDED, MODIFIED, DELETED):
        informer.add_event_handler(kind, lambda found, kind=kind: seen.append((kind, _name(found))))
    core.create_namespaced_pod(NS, _labelled("before"))
    informer.start()
    try:
        wait_for(lambda: (ADDED, "before") in seen, "the pod that was there")
        core.create_namespaced_pod(NS, _labelled("after"))
        wait_for(lambda: (ADDED, "after") in seen, "the new pod")
        wait_for(lambda: (MODIFIED, "after") in seen, "what becomes of it")
        core.delete_namespaced_pod("before", NS, grace_period_seconds=0)
        wait_for(lambda: (DELETED, "before") in seen, "the end of the old pod")
        assert {_name(found) for found in informer.cache.list()} == {"after"}
    finally:
        informer.stop()
        core.delete_namespaced_pod("after", NS, grace_period_seconds=0)


def _labelled(name: str) -> dict[str, Any]:
    found = pod(name)
    found["metadata"]["labels"] = {"a": "informer"}
    return found


def _name(found: Any) -> str:
    return str(found["metadata"]["name"] if isinstance(found, dict) else found.metadata.name)


def test_lightkube_creates_applies_and_deletes(lightkube: Client) -> None:
    made = lightkube.create(
        Pod(
            metadata=ObjectMeta(name="light", namespace=NS),
            spec=PodSpec(containers=[Container(name="c", image="busybox")]),
        )
    )
    assert made.spec is not None
    assert made.spec.schedulerName == "default-scheduler"
    config = ConfigMap(
        apiVersion="v1",
        kind="ConfigMap",
        metadata=ObjectMeta(name="light", namespace=NS),
        data={"a": "1", "b": "2"},
    )
    lightkube.apply(config, field_manager="light")
    config.data = {"a": "3"}
    assert lightkube.apply(config, field_manager="light").data == {"a": "3"}
    config.data = {"a": "4"}
    with pytest.raises(ApiError, match='conflict with "light"') as caught:
        lightkube.apply(config, field_manager="heavy")
    assert caught.value.status.code == 409
    patched = lightkube.patch(ConfigMap, "light", {"data": {"c": "5"}}, namespace=NS)
    assert patched.data == {"a": "3", "c": "5"}
    assert [node.metadata.name for node in lightkube.list(Node)] == ["fake-0", "fake-1"]
    lightkube.delete(Pod, "light", namespace=NS, grace_period=0)
    lightkube.delete(ConfigMap, "light", namespace=NS)
    with pytest.raises(ApiError, match='pods "light" not found'):
        lightkube.get(Pod, "light", namespace=NS)


def test_lightkube_watches_generic_kinds(lightkube: Client) -> None:
    classes = create_global_resource("resource.k8s.io", "v1", "DeviceClass", "deviceclasses")
    claims = create_namespaced_resource("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims")
    seen: list[str] = []

    def follow() -> None:
        for kind, found in lightkube.watch(claims, namespace=NS, server_timeout=5):
            seen.append(f"{kind} {found.metadata.name}")
            if kind == "DELETED":
                return

    following = threading.Thread(target=follow)
    following.start()
    lightkube.create(classes(CLASS))
    lightkube.create(claims(CLAIM), namespace=NS)
    wait_for(lambda: "ADDED one" in seen, "the claim")
    lightkube.delete(claims, "one", namespace=NS)
    lightkube.delete(classes, "from-a-client")
    following.join(10)
    assert seen[-1] == "DELETED one"


class Curl:
    def __init__(self, cluster: Cluster, folder: Path) -> None:
        config = yaml.safe_load(Path(cluster.environment["KUBECONFIG"]).read_text())
        self.server = config["clusters"][0]["cluster"]["server"]
        ca = folder / "ca.crt"
        ca.write_bytes(base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]))
        self._base = [need("curl"), "--silent", "--show-error", "--max-time", "20", "--cacert", str(ca)]
        self.token = config["users"][0]["user"]["token"]

    def __call__(self, path: str, *arguments: str, token: str | None = None) -> tuple[int, str]:
        """The status and the body."""
        bearer = f"Authorization: Bearer {self.token if token is None else token}"
        command = [*self._base, "-H", bearer, "-w", "\n%{http_code}", *arguments, self.server + path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode in (0, 28), done.stderr
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body


@pytest.fixture
def curl(cluster: Cluster, tmp_path: Path) -> Curl:
    return Curl(cluster, tmp_path)


CLAIMS = f"/apis/resource.k8s.io/v1/namespaces/{NS}/resourceclaims"
YAML = ["-H", "Content-Type: application/yaml", "--data-binary"]


def test_curl_reads_and_writes(curl: Curl) -> None:
    assert curl("/readyz") == (200, "ok")
    assert json.loads(curl("/version")[1])["gitVersion"].startswith("v1.37.")
    assert curl(CLAIMS, token="wrong")[0] == 401
    status, body = curl(CLAIMS, *YAML, yaml.safe_dump(CLAIM))
    assert (status, json.loads(body)["metadata"]["name"]) == (201, "one")
    status, body = curl(CLAIMS, "-H", "Accept: application/yaml")
    assert (status, yaml.safe_load(body)["items"][0]["metadata"]["name"]) == (200, "one")
    patch = ["-X", "PATCH", "-H", "Content-Type: application/merge-patch+json", "-d"]
    status, body = curl(f"{CLAIMS}/one", *patch, '{"metadata": {"labels": {"a": "b"}}}')
    assert (status, json.loads(body)["metadata"]["labels"]) == (200, {"a": "b"})
    table = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io"
    columns = json.loads(curl(CLAIMS, "-H", table)[1])["columnDefinitions"]
    assert [column["name"] for column in columns] == ["Name", "State", "Age"]
    assert curl(CLAIMS, *YAML, "kind: {")[0] == 400
    status, body = curl(CLAIMS, "-d", "form=data")
    assert (status, json.loads(body)["reason"]) == (415, "UnsupportedMediaType")
    assert curl(f"{CLAIMS}/one", "-X", "DELETE")[0] == 200
    assert curl(f"{CLAIMS}/one")[0] == 404


def test_curl_watches_over_http_1(curl: Curl) -> None:
    version = json.loads(curl(CLAIMS)[1])["metadata"]["resourceVersion"]
    curl(CLAIMS, *YAML, yaml.safe_dump(CLAIM))
    curl(f"{CLAIMS}/one", "-X", "DELETE")
    status, body = curl(f"{CLAIMS}?watch=1&resourceVersion={version}&timeoutSeconds=1", "--no-buffer")
    assert status == 200
    assert [json.loads(line)["type"] for line in body.splitlines()] == ["ADDED", "DELETED"]
