"""System calls a container may make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drakit.node import seccomp as module
from drakit.node.runtime import RuntimeFailed
from drakit.node.seccomp import seccomp


def denied(profile: dict[str, Any] | None) -> set[str]:
    assert profile is not None
    return {name for rule in profile["syscalls"] if "args" not in rule for name in rule["names"]}


def test_no_profile_is_no_limit() -> None:
    assert seccomp("Unconfined", []) is None


def test_the_default_denies_what_no_capability_allows() -> None:
    plain = denied(seccomp("RuntimeDefault", ["CAP_CHOWN"]))
    assert {"mount", "unshare", "setns", "keyctl", "reboot", "clone3"} <= plain
    assert not {"open", "read", "execve", "clone", "socket"} & plain
    admin = denied(seccomp("RuntimeDefault", ["CAP_SYS_ADMIN"]))
    assert plain - admin >= {"mount", "unshare", "setns", "clone3"}
    assert "reboot" in admin


def test_a_profile_of_dockers_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "uname", lambda: type("U", (), {"machine": "x86_64"}))
    rules = [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arm"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
    ]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "archMap": [], "syscalls": rules}))
    found = seccomp(str(path), ["CAP_KILL"])
    assert found is not None
    assert [rule["names"] for rule in found["syscalls"]] == [["read"], ["clone"]]
    assert set(found) == {"defaultAction", "syscalls", "architectures"}
    assert denied(seccomp(str(path), ["CAP_SYS_ADMIN"])) == {"mount"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"defaultAction": 1, "syscalls": [1]}'])
def test_what_is_no_profile(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(RuntimeFailed, match=r"seccomp profile .*p\.json"):
        seccomp(str(path), [])
    with pytest.raises(RuntimeFailed, match="No such file"):
        seccomp(str(tmp_path / "nope"), [])
