"""Compiles the kubelet's plugin protocol into one FileDescriptorSet.

    python scripts/protos.py [OUTPUT]

Reads src/drakit/pluginapi/protos/*.proto and writes protocol.binpb beside them (or OUTPUT). No Python is
generated: code made by protoc refuses older protobuf runtimes, a descriptor set works with all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent.parent / "src" / "drakit" / "pluginapi" / "protos"


def compile_protos(output: Path) -> None:
    """Write the descriptor set of every .proto file to `output`; raises RuntimeError where protoc fails."""
    sources = [path.name for path in sorted(PROTOS.glob("*.proto"))]
    code = protoc.main(["protoc", f"-I{PROTOS}", f"--descriptor_set_out={output}", *sources])
    if code:
        raise RuntimeError(f"protoc failed with exit code {code}")


if __name__ == "__main__":
    compile_protos(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTOS / "protocol.binpb")
