"""The checked-in descriptor set is what the .proto files compile to, field numbers are the kubelet's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from drakit.pluginapi import wire

ROOT = Path(__file__).resolve().parents[2]


def test_descriptor_set_is_up_to_date(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("protos_script", ROOT / "scripts" / "protos.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.compile_protos(tmp_path / "protocol.binpb")

    def files(path: Path) -> list[descriptor_pb2.FileDescriptorProto]:
        found = descriptor_pb2.FileDescriptorSet()
        found.ParseFromString(path.read_bytes())
        return list(found.file)

    assert files(script.PROTOS / "protocol.binpb") == files(tmp_path / "protocol.binpb")


FIELDS = {
    "pluginregistration.PluginInfo": {"type": 1, "name": 2, "endpoint": 3, "supported_versions": 4},
    "pluginregistration.RegistrationStatus": {"plugin_registered": 1, "error": 2},
    "k8s.io.kubelet.pkg.apis.dra.v1.Claim": {"namespace": 1, "uid": 2, "name": 3},
    "k8s.io.kubelet.pkg.apis.dra.v1beta1.Device": {
        "request_names": 1,
        "pool_name": 2,
        "device_name": 3,
        "cdi_device_ids": 4,
        "share_id": 5,
    },
    "k8s.io.kubelet.pkg.apis.dra.v1.NodePrepareResourceResponse": {"devices": 1, "error": 2},
    "v1.DeviceHealth": {
        "device": 1,
        "health": 2,
        "last_updated_time": 3,
        "health_check_timeout_seconds": 4,
        "message": 5,
    },
}


@pytest.mark.parametrize("name", FIELDS)
def test_field_numbers(name: str) -> None:
    descriptor = wire.message(name)().DESCRIPTOR
    assert {field.name: field.number for field in descriptor.fields} == FIELDS[name]


def test_bytes_on_the_wire() -> None:
    claim = wire.message("k8s.io.kubelet.pkg.apis.dra.v1.Claim")(namespace="n", uid="u", name="c")
    assert claim.SerializeToString() == b"\x0a\x01n\x12\x01u\x1a\x01c"
