"""A running cluster gives everybody the identity it should have, and listens where it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("identities"), "--driver", "gpu", "--nodes", "2")
    made.up()
    yield made
    made.down()


def test_kubeconfig_of_a_node(cluster: Cluster) -> None:
    path = cluster.folder / "data" / "nodes" / "node-0" / "kubeconfig"
    assert path.stat().st_mode & 0o777 == 0o600
    as_node = ("--kubeconfig", str(path))
    who = json.loads(cluster.kubectl(*as_node, "auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert (who["username"], who["groups"]) == (
        "system:node:node-0",
        ["system:nodes", "system:authenticated"],
    )
    own = cluster.kubectl(
        *as_node, "get", "resourceslices", "--field-selector=spec.nodeName=node-0", "-o", "name"
    )
    name = own.strip().removeprefix("resourceslice.resource.k8s.io/")
    assert "node-0" in name
    other = name.replace("node-0", "node-1").rpartition("-")[0]
    assert cluster.kubectl(*as_node, "auth", "can-i", "list", "secrets", check=False).startswith("no")
    slices = cluster.kubectl("get", "resourceslices", "-o", "name").split()
    (stranger,) = [one for one in slices if other in one]
    cluster.kubectl(*as_node, "delete", stranger, check=False)
    assert stranger in cluster.kubectl("get", "resourceslices", "-o", "name")


def test_what_people_may(cluster: Cluster) -> None:
    cluster.kubectl("create", "rolebinding", "jane", "--clusterrole=view", "--user=jane")
    listed = cluster.kubectl("auth", "can-i", "--list", "--as=jane")
    assert "resourceclaims.resource.k8s.io" in listed
    assert "selfsubjectreviews.authentication.k8s.io" in listed
    assert cluster.kubectl("auth", "can-i", "get", "resourceclaims", "--as=jane").startswith("yes")
    assert cluster.kubectl("auth", "can-i", "create", "pods", "--as=jane", check=False).startswith("no")


def test_address_that_is_no_loopback(cluster: Cluster) -> None:
    done = cluster.dra("up", "--ephemeral", "--listen", "everywhere", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: --listen everywhere: give an IP address")
