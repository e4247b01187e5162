"""A command in a running container, by the OCI runtime's `exec`.

The runtime ends with the command's exit code, or with one of its own where the command could not be started.
To tell these apart it writes its own errors into a pipe: then the code is what a shell would give, 127 for a
program that is not there and 126 for one that cannot be run, and stderr says which.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from drakit.node.session import Session, open_session

NOT_FOUND, NOT_EXECUTABLE = 127, 126
_LOG = 9
_MAX_LOG = 64 << 10


class ExecSession:
    """A started command; `errors` is where the runtime tells why it could not start it."""

    def __init__(self, session: Session, errors: int) -> None:
        self._session = session
        self._errors = errors
        self.read = session.read
        self.write = session.write
        self.close_stdin = session.close_stdin
        self.resize = session.resize

    async def wait(self) -> int:
        code = await self._session.wait()
        said = self._said()
        if code == 0 or not said:
            return code
        is_missing = "not found" in said or "no such file" in said
        return NOT_FOUND if is_missing else NOT_EXECUTABLE

    async def kill(self) -> None:
        await self._session.kill()
        self._said()

    def _said(self) -> str:
        """What the runtime had to say, once."""
        if self._errors < 0:
            return ""
        try:
            return os.read(self._errors, _MAX_LOG).decode(errors="replace")
        except BlockingIOError:
            return ""
        finally:
            os.close(self._errors)
            self._errors = -1


def open_exec(
    runc: str, state: str, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool
) -> ExecSession:
    """Start `command`. Raises ProgramFailed when the runtime itself cannot be run."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    argv = [runc, "--root", state, "--log", f"/proc/self/fd/{_LOG}", "--log-format", "json", "exec"]
    argv += [*(["-t"] if tty else []), container_id, *command]
    try:
        session = open_session(argv, stdin=stdin, tty=tty, descriptors={_LOG: writer})
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return ExecSession(session, reader)
