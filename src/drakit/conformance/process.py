"""The driver under test as a process with everything it starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from drakit.errors import UsageError

_TAIL_BYTES = 8192
_KILL_SECONDS = 20.0


class Usage(Struct, frozen=True):
    """What the processes hold together; `memory` is resident, in bytes."""

    files: int
    threads: int
    memory: int


class Process:
    """A started driver. It is the leader of a session, so that its children are found and killed with it."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, killing: Sequence[str]) -> None:
        self._process = process
        self._log = log
        self._killing = killing

    @classmethod
    async def start(
        cls, command: Sequence[str], env: Mapping[str, str], log: Path, killing: Sequence[str] = ()
    ) -> Process:
        """Run `command`; what it prints goes to the end of the file `log`. `killing` is a command that kills
        what does not run below it, such as a container. Raises UsageError."""
        with log.open("ab") as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    env={**os.environ, **env},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                raise UsageError(f"cannot start the driver {command[0]!r}: {error.strerror}") from None
        return cls(process, log, killing)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    async def kill(self) -> None:
        """kill -9, with all its children."""
        if self._killing and self._process.returncode is None:
            helper = await Process.start(self._killing, {}, self._log)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_KILL_SECONDS):
                    await helper._process.wait()
            await helper.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def terminate(self, seconds: float) -> bool:
        """SIGTERM; whether it ended within `seconds`. It is killed if it did not."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
            return True
        except TimeoutError:
            return False
        finally:
            await self.kill()

    def usage(self) -> Usage:
        """What the process and its children hold now."""
        files = threads = memory = 0
        for folder in self._processes():
            with contextlib.suppress(OSError, ValueError, IndexError):
                pages = int((folder / "statm").read_text().split()[1])
                count = len(os.listdir(folder / "fd"))
                tasks = len(os.listdir(folder / "task"))
                files, threads, memory = files + count, threads + tasks, memory + pages
        return Usage(files, threads, memory * os.sysconf("SC_PAGE_SIZE"))

    def _processes(self) -> Iterator[Path]:
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == self._process.pid:
                        yield folder

    def tail(self, lines: int = 10) -> list[str]:
        """The last lines it printed."""
        with contextlib.suppress(OSError), self._log.open("rb") as file:
            file.seek(max(self._log.stat().st_size - _TAIL_BYTES, 0))
            return file.read().decode(errors="replace").splitlines()[-lines:]
        return []
