"""Reading a container's log, which is in the kubelet's format: `<time> <stream> <F or P> <text>`.

`P` marks a part of a line that goes on in the next entry. A log that grew too long was begun anew; a reader
that follows notices and goes on with the new file.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

from drakit.client.clock import Clock, parse_timestamp
from drakit.errors import BadRequest
from drakit.podio import LogOptions

_BLOCK = 64 * 1024
_FOLLOW_SECONDS = 0.2


class LogReader:
    """Reads the log at `path` as `options` say. `is_running` tells whether more may come."""

    def __init__(
        self, path: Path, options: LogOptions, *, is_running: Callable[[], bool], clock: Clock
    ) -> None:
        self._path = path
        self._options = options
        self._is_running = is_running
        self._clock = clock
        self._left = options.limit_bytes
        self._since = self._earliest()

    async def read(self) -> AsyncIterator[bytes]:
        """The text of the log in pieces, for as long as `follow` asks and the container runs."""
        try:
            file: IO[bytes] = self._path.open("rb")
        except FileNotFoundError:
            return
        try:
            if self._options.tail_lines is not None:
                file.seek(_tail_offset(file, self._options.tail_lines))
            rest = b""
            while True:
                was_running = self._is_running()
                data = file.read(_BLOCK)
                *lines, rest = (rest + data).split(b"\n")
                text = b"".join(self._shown(line) for line in lines)
                if self._left is not None:
                    text = text[: self._left]
                    self._left -= len(text)
                if text:
                    yield text
                if self._left == 0:
                    return
                if len(data) == _BLOCK:
                    continue
                if not self._options.follow or not (was_running or data):
                    return
                file = self._reopened(file)
                await self._clock.sleep(_FOLLOW_SECONDS)
        finally:
            file.close()

    def _earliest(self) -> float:
        try:
            if self._options.since_seconds is not None:
                return self._clock.now() - self._options.since_seconds
            return parse_timestamp(self._options.since_time) if self._options.since_time else 0.0
        except ValueError:
            raise BadRequest(f"sinceTime {self._options.since_time!r} is not a time") from None

    def _shown(self, line: bytes) -> bytes:
        """What a reader sees of one entry."""
        parts = line.split(b" ", 3)
        if len(parts) < 4:
            return b""
        stamp, _, tag, text = parts
        if self._since:
            try:
                if parse_timestamp(_whole_microseconds(stamp.decode())) < self._since:
                    return b""
            except ValueError:
                return b""
        shown = text if tag.startswith(b"P") else text + b"\n"
        # conmon writes an offset where the kubelet prints Z.
        return stamp.replace(b"+00:00", b"Z") + b" " + shown if self._options.timestamps else shown

    def _reopened(self, file: IO[bytes]) -> IO[bytes]:
        """`file`, or the one that has taken its place once `file` is read to its end."""
        try:
            here, there = os.fstat(file.fileno()), self._path.stat()
        except OSError:
            return file
        if here.st_ino == there.st_ino and here.st_size >= file.tell():
            return file
        if here.st_ino == there.st_ino:  # truncated
            file.seek(0)
            return file
        file.close()
        return self._path.open("rb")


def _whole_microseconds(stamp: str) -> str:
    """`stamp` with at most six decimals, the most Python reads."""
    whole, dot, rest = stamp.partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{whole}.{rest[: min(digits, 6)]}{rest[digits:]}" if dot else stamp


def _tail_offset(file: IO[bytes], count: int) -> int:
    """Where the last `count` lines of `file` begin."""
    position = end = file.seek(0, os.SEEK_END)
    found = 0
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            if position + at == end - 1:
                continue
            if _is_part(block, at):
                continue
            found += 1
            if found >= count:
                return position + at + 1 if count > 0 else end
    return 0 if count > 0 else end


def _is_part(block: bytes, at: int) -> bool:
    """Whether the entry that ends at `at` is only a part of a line."""
    start = block.rfind(b"\n", 0, at) + 1
    return block[start:at].split(b" ", 3)[2:3] == [b"P"]
