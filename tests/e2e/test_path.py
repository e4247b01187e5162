"""A pod with a claim gets a real device: kubectl, API, scheduler, gRPC driver, CDI and container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, devices_held, need, wait_for

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", params=["oci", "process"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if request.param == "oci":
        if os.geteuid() != 0:
            pytest.skip("the oci runtime needs root")
        for tool in ("runc", "conmon", "busybox"):
            need(tool)
    drivers = ["--driver", "pizza", "--driver", "gpu:count=4", "--driver", "cpu"]
    cluster = Cluster(tmp_path_factory.mktemp("up"), "--runtime", request.param, *drivers)
    cluster.up()
    cluster.kubectl("apply", "-f", "gpu/00-class.yaml", "-f", "cpu/1-classes.yaml")
    yield cluster
    cluster.down()


@pytest.fixture(autouse=True)
def _nothing_leaks(cluster: Cluster) -> Iterator[None]:
    """After every test, once its pods and claims are deleted, no claim and no CDI file is left."""
    yield
    cluster.kubectl("delete", "pods,resourceclaims,resourceclaimtemplates", "--all", "--timeout=60s")
    wait_for(lambda: not cluster.items("resourceclaims"), "the claims to go")
    left = [path for path in (cluster.folder / "data").rglob("cdi/*") if path.is_file()]
    assert not left


of_any_runtime = pytest.mark.parametrize("cluster", ["process"], indirect=True)
"""What the scheduler and the API server do: once is enough."""


def gpus(log: str) -> set[str]:
    """The GPUs a container was given, by the environment its driver sets."""
    return {
        line.split("=", 1)[1]
        for line in log.splitlines()
        if line.startswith("GPU_DEVICE_") and line.split("=")[0][11:].isdigit()
    }


def gpus_of(cluster: Cluster, pod: str, *arguments: str) -> set[str]:
    return wait_for(lambda: gpus(cluster.kubectl("logs", pod, *arguments)), f"the log of {pod}")


def test_a_pizza_is_ordered_and_served(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "pizza")
    cluster.wait_ready("pizza-table")
    claim = cluster.get("resourceclaim", "my-pizza-order")
    assert claim["status"]["reservedFor"][0]["name"] == "pizza-table"
    device = claim["status"]["allocation"]["devices"]["results"][0]["device"]
    log = wait_for(lambda: cluster.kubectl("logs", "pizza-table"), "the log").splitlines()
    prefix = device.replace("-", "_").upper()
    assert f"{prefix}_CHEESE=mozzarella" in log
    assert not any(line.startswith("PIZZA") and not line.startswith(prefix) for line in log)


def test_each_pod_of_a_template_gets_a_gpu_of_its_own(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "gpu/01-one-per-pod.yaml")
    cluster.wait_ready("one-gpu-a", "one-gpu-b")
    a, b = gpus_of(cluster, "one-gpu-a"), gpus_of(cluster, "one-gpu-b")
    assert len(a) == len(b) == 1
    assert a != b
    held = devices_held(cluster)
    assert len(held) == len(set(held)) == 2


def test_containers_of_a_pod_share_a_gpu(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "gpu/02-shared-by-containers.yaml")
    cluster.wait_ready("two-containers")
    trainer = gpus_of(cluster, "two-containers", "-c", "trainer")
    assert trainer == gpus_of(cluster, "two-containers", "-c", "monitor")


def test_pods_share_a_claim(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "gpu/03-shared-by-pods.yaml")
    cluster.wait_ready("share-a", "share-b")
    assert gpus_of(cluster, "share-a") == gpus_of(cluster, "share-b")
    cluster.kubectl("delete", "pod", "share-a")
    status = cluster.get("resourceclaim", "team-gpu")["status"]
    assert status["allocation"]
    wait_for(
        lambda: (
            [c["name"] for c in cluster.get("resourceclaim", "team-gpu")["status"]["reservedFor"]]
            == ["share-b"]
        ),
        "the reservation of share-a to go",
    )


def test_requests_go_to_the_containers_that_name_them(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "gpu/04-several-requests.yaml")
    cluster.wait_ready("train-and-render")
    train = gpus_of(cluster, "train-and-render", "-c", "train")
    render = gpus_of(cluster, "train-and-render", "-c", "render")
    assert (len(train), len(render)) == (2, 1)
    assert not train & render


@of_any_runtime
def test_the_first_alternative_that_fits_is_taken(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "gpu/05-first-available.yaml")
    cluster.wait_ready("big-or-two")
    claim = cluster.items("resourceclaims")[0]
    requests = [result["request"] for result in claim["status"]["allocation"]["devices"]["results"]]
    assert requests == ["gpu/two", "gpu/two"]


@of_any_runtime
def test_matching_attributes_and_opaque_config(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "gpu/06-match-attribute.yaml", "-f", "gpu/07-opaque-config.yaml")
    cluster.wait_ready("twins", "time-sliced")
    assert len(gpus_of(cluster, "twins")) == 2
    assert "TimeSlicing" in wait_for(lambda: cluster.kubectl("logs", "time-sliced"), "the log")


@of_any_runtime
def test_bad_config_is_refused_in_an_event_of_the_pod(cluster: Cluster) -> None:
    text = (
        Path("examples/gpu/07-opaque-config.yaml")
        .read_text()
        .replace("interval: Long", "interval: Sometimes")
    )
    cluster.kubectl("apply", "-f", "-", stdin=text)
    event = wait_for(
        lambda: cluster.items("events", "--field-selector=reason=FailedPrepareDynamicResources"), "the event"
    )[0]
    assert event["involvedObject"]["name"] == "time-sliced"
    assert "Sometimes" in event["message"]


def test_a_core_is_really_pinned(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "cpu/2-one-core.yaml")
    cluster.wait_ready("one-core")
    assert cluster.kubectl("exec", "one-core", "--", "nproc").strip() == "1"
    assert "I run on 1 CPU" in cluster.kubectl("logs", "one-core")
    mask = cluster.kubectl("exec", "one-core", "--", "sh", "-c", "taskset -p $$").rsplit(":", 1)[1]
    assert int(mask, 16).bit_count() == 1


@of_any_runtime
def test_a_pod_that_must_wait_says_why_and_wakes_up(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "gpu/01-one-per-pod.yaml", "-f", "gpu/04-several-requests.yaml")
    pods = ["one-gpu-a", "one-gpu-b", "train-and-render"]

    def waiting() -> list[str]:
        return [
            pod
            for pod in pods
            for condition in cluster.get("pod", pod)["status"].get("conditions", [])
            if condition.get("reason") == "Unschedulable"
        ]

    blocked = wait_for(waiting, "a pod to wait")
    message = cluster.items(
        "events", f"--field-selector=reason=FailedScheduling,involvedObject.name={blocked[0]}"
    )[0]["message"]
    assert message.startswith("0/1 nodes are available")
    assert "request" in message
    cluster.kubectl("delete", "pod", *[pod for pod in pods if pod not in blocked])
    cluster.wait_ready(*blocked)


@of_any_runtime
def test_a_request_no_node_can_serve_waits(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "gpu/08-too-many.yaml")
    event = wait_for(
        lambda: cluster.items(
            "events", "--field-selector=reason=FailedScheduling,involvedObject.name=too-many-gpus"
        ),
        "the event",
    )[0]
    assert "too-many-gpus" in event["message"]
    assert cluster.get("pod", "too-many-gpus")["status"]["phase"] == "Pending"


def test_a_finished_pod_gives_its_device_back(cluster: Cluster) -> None:
    text = Path("examples/gpu/01-one-per-pod.yaml").read_text().replace("; sleep 3600", "")
    text = text.replace(
        "spec:\n  terminationGracePeriodSeconds",
        "spec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds",
    )
    cluster.kubectl("apply", "-f", "-", stdin=text)
    cluster.kubectl(
        "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/one-gpu-a", "pod/one-gpu-b", "--timeout=40s"
    )
    wait_for(lambda: not cluster.items("resourceclaims"), "the claims of finished pods to go")
    assert len(gpus(cluster.kubectl("logs", "one-gpu-a"))) == 1


@of_any_runtime
def test_teaching_material_is_refused_with_the_way_to_write_it(cluster: Cluster) -> None:
    claim = """
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: slide}
spec:
  devices:
    requests:
    - name: pizza
      deviceClassName: pizza-vegetarian
      exactly:
        selectors:
        - cel: {expression: 'attributes["kitchen.pizza.example/cheese"].string == "mozzarella"'}
"""
    told = cluster.kubectl("create", "-f", "-", stdin=claim, check=False)
    assert "deviceClassName" in told
    assert "under exactly" in told
    told = cluster.kubectl(
        "create", "-f", "-", stdin=claim.replace("      deviceClassName: pizza-vegetarian\n", ""), check=False
    )
    assert "spec.devices.requests[0].exactly.deviceClassName: Required value" in told
    assert 'device.attributes["kitchen.pizza.example"].cheese' in told
