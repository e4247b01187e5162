"""A process that has everything loaded and forks mortal servers: one is born in milliseconds.

`python -m tests.cluster.nursery FD`: each message on that socket names a program of `mortal` and its
arguments, and brings the socket on which the newborn tells its news. The nursery ends with its parent, and
every server ends when nobody listens to it any more.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec

from drakit.apiserver.app import API, User
from drakit.client.api import PODS, Client
from drakit.profile import DEFAULT_VERSION, profile_for
from drakit.store import Store
from tests.cluster import mortal

_ROOT = Path(__file__).parents[2]
_MOST = 64 << 10


class Nursery:
    """The parent's end."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = [sys.executable, "-m", __name__, str(theirs.fileno())]
        self._process = subprocess.Popen(program, pass_fds=[theirs.fileno()], cwd=_ROOT)
        theirs.close()

    def bear(self, program: str, **arguments: object) -> socket.socket:
        """Start `program(**arguments)` of `mortal`; what it tells comes from the socket."""
        ours, theirs = socket.socketpair()
        message = msgspec.json.encode((program, arguments))
        socket.send_fds(self._socket, [message], [theirs.fileno()])
        theirs.close()
        return ours

    def close(self) -> None:
        self._socket.close()
        self._process.wait(10)


def _run(requests: socket.socket) -> None:
    asyncio.run(_load())
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, files, _, _ = socket.recv_fds(requests, _MOST, 1)
        if not message:
            return
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            program, arguments = msgspec.json.decode(message)
            mortal.live(program, arguments, socket.socket(fileno=files[0]))
            os._exit(0)
        os.close(files[0])


async def _load() -> None:
    """Load what only a first request loads."""
    api = API.open(Store(), profile_for(DEFAULT_VERSION))
    await api.start()
    pod = {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    await Client(api.transport(User("admin", ("system:masters",)))).create(PODS, pod)
    await api.close()


if __name__ == "__main__":
    _run(socket.socket(fileno=int(sys.argv[1])))
