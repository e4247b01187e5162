"""What TAB offers."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from drakit.cli import dra
from drakit.drivers import NAMES
from drakit.profile import VERSIONS


def offered(*words: str) -> list[str]:
    """What completes the last of `words`."""
    shell = BashComplete(dra, {}, "dra", "_DRA_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


CASES = [
    (("wh",), ["why"]),
    (("driver", "run", "p"), ["pizza"]),
    (("up", "--driver", ""), list(NAMES)),
    (("up", "--kubernetes-version", "1.3"), list(VERSIONS)),
    (("completion", "b"), ["bash"]),
    (("driver", "test", "--only", "health"), ["health", "health-repeated"]),
    (("up", "--feature-gates", "DRADeviceTaints=true,DRAAd"), ["DRADeviceTaints=true,DRAAdminAccess="]),
    (("why", "--gates", "DRAAdmin"), ["DRAAdminAccess="]),
]


@pytest.mark.parametrize(("words", "offers"), CASES)
def test_words(words: tuple[str, ...], offers: list[str]) -> None:
    assert offered(*words) == offers


def test_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert offered("why", "pod/") == []
    assert offered("why", "-n", "") == []
