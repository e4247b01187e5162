"""The real kubectl, three minors of it, with custom resources and with lists of objects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.test_kubectl import MINORS, Kubectl, binary, start

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gpuplans.vendor.example.com}
spec:
  group: vendor.example.com
  scope: Namespaced
  names: {plural: gpuplans, singular: gpuplan, kind: GPUPlan, shortNames: [gp], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        description: How the GPUs of a node are cut.
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, minimum: 1, description: Devices in a part.}
              mode: {type: string, default: exclusive}
              replicas: {type: integer}
          status:
            type: object
            properties:
              replicas: {type: integer}
              phase: {type: string}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Phase, type: string, jsonPath: .status.phase}
"""
PLAN = """
apiVersion: vendor.example.com/v1
kind: GPUPlan
metadata: {name: half}
spec: {size: 2, replicas: 1}
"""
LIST = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: one}, data: {a: b}}
- {apiVersion: vendor.example.com/v1, kind: GPUPlan, metadata: {name: listed}, spec: {size: 1}}
"""


@pytest.fixture(params=MINORS)
async def kubectl(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kubectl]:
    found = binary(request.param)
    api, server = await start(tmp_path, "1.37")
    yield Kubectl(found, tmp_path)
    await server.stop()
    await api.close()


async def _define(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=DEFINITION)
    await kubectl("wait", "--for=condition=Established", "crd/gpuplans.vendor.example.com", "--timeout=10s")


async def test_a_custom_resource_from_apply_to_delete(kubectl: Kubectl, tmp_path: Path) -> None:
    await _define(kubectl)
    assert "gpuplans" in await kubectl("api-resources", "--api-group=vendor.example.com")
    text = await kubectl("explain", "gpuplan.spec")
    assert "size\t<integer> -required-" in text
    assert "Devices in a part." in text

    assert "gpuplan.vendor.example.com/half created" in await kubectl("apply", "-f", "-", stdin=PLAN)
    assert "unchanged" in await kubectl("apply", "-f", "-", stdin=PLAN)
    assert "configured" in await kubectl("apply", "-f", "-", stdin=PLAN.replace("size: 2", "size: 3"))
    await kubectl(
        "patch", "gp", "half", "--type=merge", "--subresource=status", "-p", '{"status":{"phase":"Cut"}}'
    )
    rows = (await kubectl("get", "gp")).splitlines()
    assert (rows[0].split(), rows[1].split()) == (["NAME", "SIZE", "PHASE"], ["half", "3", "Cut"])
    assert "gpuplan.vendor.example.com/half" in await kubectl("get", "all", "-o", "name")
    await kubectl("wait", "gp/half", "--for=jsonpath={.status.phase}=Cut", "--timeout=10s")
    await kubectl("scale", "gp", "half", "--replicas=4")
    found = json.loads(await kubectl("get", "gpuplan", "half", "-o", "json"))
    assert found["spec"] == {"size": 3, "replicas": 4, "mode": "exclusive"}

    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/mode: exclusive/mode: shared/" "$1"\n')
    editor.chmod(0o755)
    assert "edited" in await kubectl("edit", "gp", "half")
    assert "Mode:      shared" in await kubectl("describe", "gp", "half")
    assert "serverside-applied" in await kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=PLAN
    )
    wrong = PLAN.replace("size: 2", "size: 0, shape: round")
    assert 'unknown field "spec.shape"' in await kubectl.refused("apply", "-f", "-", stdin=wrong)
    assert "spec.size in body should be greater than or equal to 1" in await kubectl.refused(
        "apply", "-f", "-", "--validate=false", stdin=wrong
    )

    watcher = await kubectl.start("get", "gp", "-w", "--no-headers")
    assert watcher.stdout is not None
    assert b"half" in await asyncio.wait_for(watcher.stdout.readline(), 20)
    await kubectl("delete", "crd", "gpuplans.vendor.example.com", "--timeout=10s")
    assert "(NotFound)" in await kubectl.refused("get", "gp")
    assert await asyncio.wait_for(watcher.wait(), 20) is not None


async def test_a_list_is_checked_and_applied(kubectl: Kubectl) -> None:
    await _define(kubectl)
    done = await kubectl("apply", "-f", "-", stdin=LIST)
    assert done.splitlines() == ["configmap/one created", "gpuplan.vendor.example.com/listed created"]
    assert "unchanged" in await kubectl("apply", "-f", "-", stdin=LIST)
    wrong = LIST.replace("data: {a: b}", "data: {a: b}, dota: {}")
    assert "dota" in await kubectl.refused("apply", "-f", "-", stdin=wrong)
