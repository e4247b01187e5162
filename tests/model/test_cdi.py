"""CDI files: versions, strictness, resolution and merging."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakit.model import cdi
from drakit.model.cdi import CDIError, ContainerEdits, Device, DeviceNode, Hook, Mount, NetDevice

KIND = "vendor.example.com/gpu"
ENV = ContainerEdits(env=["GPU=0"])


def spec_document(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "cdiVersion": "0.5.0",
        "kind": KIND,
        "devices": [{"name": "gpu0", "containerEdits": {"env": ["GPU=0"]}}],
    }
    return document | changes


def edits_document(**edits: Any) -> dict[str, Any]:
    return spec_document(devices=[{"name": "gpu0", "containerEdits": edits}])


def decode(document: dict[str, Any], source: str = "gpu.json") -> cdi.Spec:
    return cdi.decode(json.dumps(document).encode(), source)


MINIMUM = {
    "env": (ContainerEdits(env=["A=b"]), "gpu0", "0.5.0", "0.3.0"),
    "mount type": (
        ContainerEdits(mounts=[Mount(host_path="/a", container_path="/b", type="tmpfs")]),
        "gpu0",
        "0.5.0",
        "0.4.0",
    ),
    "host path": (
        ContainerEdits(device_nodes=[DeviceNode(path="/dev/a", host_path="/dev/b")]),
        "gpu0",
        "0.5.0",
        "0.5.0",
    ),
    "name starts with a digit": (ENV, "0", "0.5.0", "0.5.0"),
    "gids": (ContainerEdits(additional_gids=[5]), "gpu0", "0.7.0", "0.7.0"),
    "rdt": (ContainerEdits(intel_rdt=cdi.IntelRdt(clos_id="gold")), "gpu0", "0.7.0", "0.7.0"),
    "rdt monitoring": (
        ContainerEdits(intel_rdt=cdi.IntelRdt(enable_monitoring=True)),
        "gpu0",
        "1.1.0",
        "1.1.0",
    ),
    "net devices": (
        ContainerEdits(net_devices=[NetDevice(host_interface_name="eth1", name="net0")]),
        "gpu0",
        "1.1.0",
        "1.1.0",
    ),
}


@pytest.mark.parametrize("case", MINIMUM)
def test_minimum_version(case: str) -> None:
    edits, name, written, minimum = MINIMUM[case]
    spec = cdi.build(KIND, [Device(name=name, container_edits=edits)])
    assert spec.cdi_version == written
    assert cdi.minimum_version(spec) == minimum
    assert cdi.decode(cdi.encode(spec), "x.json") == spec
    older = cdi.VERSIONS.index(minimum) - 1
    if older >= 0:
        with pytest.raises(CDIError, match=f"too old for what the file uses: {minimum}"):
            decode(json.loads(cdi.encode(spec)) | {"cdiVersion": cdi.VERSIONS[older]})


def test_dots_in_the_class_and_annotations_need_0_6() -> None:
    device = Device(name="gpu0", container_edits=ENV)
    assert cdi.build("vendor.com/a.b", [device]).cdi_version == "0.6.0"
    annotated = Device(name="gpu0", annotations={"a": "b"}, container_edits=ENV)
    assert cdi.build(KIND, [annotated]).cdi_version == "0.6.0"


@pytest.mark.parametrize("version", cdi.VERSIONS)
def test_every_version_is_read(version: str) -> None:
    assert decode(spec_document(cdiVersion=version)).devices[0].name == "gpu0"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "version": (spec_document(cdiVersion="0.2.0"), "cdiVersion '0.2.0' is not one of"),
    "unknown field": (spec_document(extra=1), "unknown field `extra`"),
    "unknown edit": (edits_document(envs=["A=b"]), "unknown field `envs`"),
    "kind": (spec_document(kind="gpu"), "kind 'gpu' is not vendor/class"),
    "no devices": (spec_document(devices=[]), "there are no devices"),
    "no edits": (edits_document(), "containerEdits are empty"),
    "device name": (spec_document(devices=[{"name": "-", "containerEdits": {"env": ["A=b"]}}]), "'-'"),
    "twice": (spec_document(devices=spec_document()["devices"] * 2), "there twice"),
    "env": (edits_document(env=["=b"]), "env '=b' is not NAME=value"),
    "hook name": (edits_document(hooks=[{"hookName": "x", "path": "/x"}]), "hook 'x' is not one of"),
    "hook path": (edits_document(hooks=[{"hookName": "prestart", "path": "x"}]), "not absolute"),
    "node type": (edits_document(deviceNodes=[{"path": "/dev/x", "type": "d"}]), "type 'd'"),
    "node permissions": (edits_document(deviceNodes=[{"path": "/x", "permissions": "q"}]), "permissions 'q'"),
    "mount": (edits_document(mounts=[{"hostPath": "", "containerPath": "/x"}]), "a mount needs"),
    "clos": (spec_document(cdiVersion="0.7.0", containerEdits={"intelRdt": {"closID": "a/b"}}), "closID"),
    "gid": (
        spec_document(cdiVersion="0.7.0", containerEdits={"additionalGids": [-1]}),
        "additionalGids must be",
    ),
    "gone": (
        spec_document(cdiVersion="1.1.0", containerEdits={"intelRdt": {"enableMBM": True}}),
        "enableCMT and enableMBM are gone",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    document, text = REFUSED[case]
    with pytest.raises(CDIError, match=text) as caught:
        decode(document)
    assert str(caught.value).startswith("gpu.json: ")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'"x"', b"[" * 100_000])
@pytest.mark.parametrize("source", ["x.json", "x.yaml"])
def test_nonsense_is_refused(data: bytes, source: str) -> None:
    with pytest.raises(CDIError, match=source):
        cdi.decode(data, source)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.sampled_from(["x.json", "x.yaml"]))
def test_any_bytes_are_read_or_refused(data: bytes, source: str) -> None:
    with suppress(CDIError):
        cdi.decode(data, source)


_SMALL = st.text("ab0.-/=", max_size=4)


@given(
    st.fixed_dictionaries(
        {
            "cdiVersion": st.sampled_from(cdi.VERSIONS),
            "kind": st.just(KIND) | _SMALL,
            "devices": st.lists(
                st.fixed_dictionaries(
                    {
                        "name": _SMALL,
                        "containerEdits": st.fixed_dictionaries(
                            {},
                            optional={
                                "env": st.lists(_SMALL, max_size=2),
                                "additionalGids": st.lists(st.integers(-1, 3), max_size=2),
                                "mounts": st.lists(
                                    st.fixed_dictionaries({"hostPath": _SMALL, "containerPath": _SMALL}),
                                    max_size=2,
                                ),
                            },
                        ),
                    }
                ),
                max_size=2,
            ),
        }
    )
)
def test_what_is_read_can_be_written_again(document: dict[str, Any]) -> None:
    with suppress(CDIError):
        spec = decode(document)
        again = cdi.build(spec.kind, spec.devices, spec.container_edits)
        assert cdi.VERSIONS.index(again.cdi_version) >= cdi.VERSIONS.index("0.5.0")
        assert cdi.decode(cdi.encode(again), "again.json") == again


def test_yaml() -> None:
    text = f"cdiVersion: 0.3.0\nkind: {KIND}\ndevices:\n- name: gpu0\n  containerEdits: {{env: [A=b]}}\n"
    assert cdi.decode(text.encode(), "gpu.yaml").devices[0].container_edits.env == ["A=b"]


def file(source: str, priority: int = 0, **changes: Any) -> cdi.SpecFile:
    return cdi.SpecFile(source, priority, decode(spec_document(**changes), source))


def test_resolve_applies_the_edits_of_a_file_once_and_first() -> None:
    devices = [{"name": f"gpu{i}", "containerEdits": {"env": [f"GPU{i}=y"]}} for i in range(3)]
    registry = cdi.Registry([file("a.json", devices=devices, containerEdits={"env": ["ALL=1"]})])
    edits = registry.resolve([f"{KIND}=gpu2", f"{KIND}=gpu0", f"{KIND}=gpu2"])
    assert edits.env == ["ALL=1", "GPU2=y", "GPU0=y"]


def test_higher_folder_wins_and_conflicts_do_not_resolve() -> None:
    other = [{"name": "gpu0", "containerEdits": {"env": ["GPU=other"]}}]
    name = f"{KIND}=gpu0"
    run_wins = cdi.Registry([file("run.json", 1, devices=other), file("etc.json", 0), file("etc2.json", 0)])
    assert run_wins.resolve([name]).env == ["GPU=other"]
    conflict = cdi.Registry([file("a.json"), file("b.json", devices=other)])
    with pytest.raises(CDIError, match=r"gpu0 \(in several files: a\.json, b\.json\), .*gpu9 \(in no file\)"):
        conflict.resolve([name, f"{KIND}=gpu9"])


@pytest.mark.parametrize("name", ["gpu0", "vendor.com/gpu", "vendor.com=gpu0", "a/b=", "1/b=c", "a/b=c/d"])
def test_bad_names(name: str) -> None:
    with pytest.raises(CDIError, match="is not vendor/class=device"):
        cdi.Registry([]).resolve([name])


def test_merge() -> None:
    hook = Hook(hook_name="createRuntime", path="/bin/true")
    first = ContainerEdits(
        env=["A=1", "B=1"],
        device_nodes=[DeviceNode(path="/dev/a"), DeviceNode(path="/dev/b")],
        mounts=[Mount(host_path="/x", container_path="/a/b/c"), Mount(host_path="/x", container_path="/a")],
        hooks=[hook],
        additional_gids=[0, 5],
    )
    second = ContainerEdits(
        env=["A=2"],
        device_nodes=[DeviceNode(path="/dev/a", permissions="r")],
        mounts=[Mount(host_path="/y", container_path="/a")],
        hooks=[hook],
        additional_gids=[5, 6],
        intel_rdt=cdi.IntelRdt(clos_id="gold"),
    )
    assert cdi.merge([first, second]) == ContainerEdits(
        env=["A=2", "B=1"],
        device_nodes=[DeviceNode(path="/dev/b"), DeviceNode(path="/dev/a", permissions="r")],
        mounts=[Mount(host_path="/y", container_path="/a"), Mount(host_path="/x", container_path="/a/b/c")],
        hooks=[hook, hook],
        additional_gids=[5, 6],
        intel_rdt=cdi.IntelRdt(clos_id="gold"),
    )
    assert first.env == ["A=1", "B=1"]


def test_merge_refuses_two_net_devices_for_one_name() -> None:
    parts = [
        ContainerEdits(net_devices=[NetDevice(host_interface_name=host, name="net0")])
        for host in ("eth1", "eth2")
    ]
    with pytest.raises(CDIError, match="claim the same interface"):
        cdi.merge(parts)
    assert len(cdi.merge([parts[0], parts[0]]).net_devices) == 1
