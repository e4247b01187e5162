"""Where the files of a pod are: logs and what its containers say at their end."""

from __future__ import annotations

from pathlib import Path

from drakit.node.paths import NodePaths
from drakit.transport import Document

MAX_TERMINATION_MESSAGE = 4096


class PodFiles:
    """The files of the pod `namespace/name` with `uid`."""

    def __init__(self, paths: NodePaths, pod: Document) -> None:
        meta = pod["metadata"]
        self.folder: Path = paths.pods / meta["uid"]
        self.logs = paths.logs / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"

    def log(self, container: str, attempt: int) -> Path:
        """The log of one attempt of a container."""
        return self.logs / container / f"{attempt}.log"

    def attempts(self, container: str) -> list[int]:
        """The attempts of which there is a log, the oldest first."""
        stems = (path.stem for path in (self.logs / container).glob("*.log"))
        return sorted(int(stem) for stem in stems if stem.isdigit())

    def write(self, path: str, text: str) -> Path:
        """The file that all containers of the pod find at `path`, with the content `text`."""
        file = self.folder / "etc" / path.rpartition("/")[2]
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
            file.chmod(0o644)
        return file

    def termination(self, container: str, attempt: int) -> Path:
        """The file the container finds at its terminationMessagePath."""
        return self.folder / "termination" / f"{container}.{attempt}"

    def make_termination(self, container: str, attempt: int) -> Path:
        """That file, empty and for everybody to write."""
        path = self.termination(container, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o666)
        return path

    def termination_message(self, container: Document, attempt: int, *, is_failed: bool) -> str:
        """What the container left at its end, or the last of its log where it asks for that."""
        try:
            with self.termination(container["name"], attempt).open("rb") as file:
                text = file.read(MAX_TERMINATION_MESSAGE).decode(errors="replace")
        except OSError:
            text = ""
        if text or not is_failed or container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return text
        try:
            with self.log(container["name"], attempt).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - 8192))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        said = [line.split(" ", 3)[3] for line in lines if line.count(" ") >= 3]
        return "\n".join(said)[-2048:]
