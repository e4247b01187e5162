"""The process beside each container of the process runtime: `python -I -S shim.py CONFIG` with fd 3 open.

It starts the container's command behind a gate, runs the hooks that want its pid, opens the gate once its
agent has noted the pid, and then does what conmon does for real containers: writes the log in the kubelet's
format and, at the end, a file with the exit code. It belongs to no agent, so containers live on when theirs
dies. It is the subreaper of the command's descendants and ends those that are left when the command has
ended.

Run as a program of its own with nothing but the standard library, since one of these runs per container.
CONFIG is a JSON file: argv, env, cwd, log, exit_file, hooks, state, uses_bwrap, log_limit, stdin, stdin_once,
terminal. Fd 3 is a socket. A line of JSON comes back on it, {"pid": N}; a byte is awaited, without which the
command is ended; then {"pid": N} comes again, when the command runs. {"error": TEXT} comes when it does not.
Beside CONFIG lie the socket `attach` and the pipe `ctl`, by which clients take part (see `attach`).
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from typing import Any

SYNC = 3
_PR_SET_CHILD_SUBREAPER = 36
_MAX_LINE = 16384
_DRAIN_SECONDS = 1.0
_HOOK_SECONDS = 30
_EXEC_SECONDS = 5.0
_MAX_CLIENTS = 16
_CLIENT_SECONDS = 10.0
_PACKET = 32768


class Failed(Exception):
    """The container cannot run; the text says why."""


class Log:
    """Lines `<time> <stream> <F or P> <text>`; begun anew when it is too long, the old one kept as `.1`."""

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._file).st_size

    def write(self, stream: bytes, text: bytes, is_partial: bool) -> None:
        nanoseconds = time.time_ns()
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 10**9))
        stamp = f"{second}.{nanoseconds % 10**9:09d}Z".encode()
        line = b"%s %s %s %s\n" % (stamp, stream, b"P" if is_partial else b"F", text)
        if self._size + len(line) > self._limit:
            os.replace(self._path, self._path + ".1")
            os.close(self._file)
            self._open()
        with contextlib.suppress(OSError):  # a full disk must not stop the container
            self._size += os.write(self._file, line)


class Door:
    """Lets clients in: each gets the command's output from then on and may send input.

    `stdin` is where input goes, -1 where the command takes none; `terminal` the command's, -1 without one.
    """

    def __init__(self, folder: str, stdin: int, terminal: int, is_once: bool) -> None:
        self._stdin, self._terminal, self._is_once = stdin, terminal, is_once
        self._waiting = b""
        self._clients: dict[int, socket.socket] = {}
        self._deaf: set[int] = set()
        if stdin >= 0:
            os.set_blocking(stdin, False)
        os.mkfifo(os.path.join(folder, "ctl"), 0o600)
        self._sizes = os.open(os.path.join(folder, "ctl"), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        self._server.bind(f"/proc/self/fd/{here}/attach")
        os.close(here)
        self._server.listen(_MAX_CLIENTS)

    def wanted(self) -> dict[int, int]:
        """What to poll for now, by descriptor."""
        wanted = {self._server.fileno(): select.POLLIN, self._sizes: select.POLLIN}
        if self._waiting:
            wanted[self._stdin] = select.POLLOUT
        else:
            wanted |= dict.fromkeys(self._clients.keys() - self._deaf, select.POLLIN)
        return wanted

    def on_event(self, descriptor: int) -> None:
        if descriptor == self._server.fileno():
            client, _ = self._server.accept()
            client.settimeout(_CLIENT_SECONDS)
            if len(self._clients) >= _MAX_CLIENTS:
                client.close()
            else:
                self._clients[client.fileno()] = client
        elif descriptor == self._sizes:
            for line in os.read(self._sizes, 4096).split(b"\n"):
                self._resize(line.split())
        elif descriptor in self._clients:
            self._receive(descriptor)
        elif descriptor == self._stdin:
            self._feed()

    def show(self, stream: bytes, data: bytes) -> None:
        """Send output to every client; one that does not take it is let go."""
        tag = b"\x03" if stream == b"stderr" else b"\x02"
        for descriptor, client in list(self._clients.items()):
            try:
                for start in range(0, len(data), _PACKET):
                    client.send(tag + data[start : start + _PACKET])
            except OSError:
                self._drop(descriptor)

    def _receive(self, descriptor: int) -> None:
        try:
            data = self._clients[descriptor].recv(65536)
        except OSError:
            data = b""
        if data:
            self._waiting = data if self._stdin >= 0 else b""
            self._feed()
            return
        self._deaf.add(descriptor)  # it sends no more; whether it still listens shows at the next output
        if self._is_once and self._terminal < 0 and self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def _feed(self) -> None:
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._stdin, self._waiting) :]
        except BlockingIOError:
            pass
        except OSError:
            self._waiting = b""

    def _resize(self, words: list[bytes]) -> None:
        if self._terminal >= 0 and len(words) == 3 and all(word.isdigit() for word in words):
            size = struct.pack("HHHH", min(int(words[1]), 65535), min(int(words[2]), 65535), 0, 0)
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def _drop(self, descriptor: int) -> None:
        self._clients.pop(descriptor).close()
        self._deaf.discard(descriptor)


class Stream:
    """One output of the command on its way into the log, and to the clients behind `door`."""

    def __init__(self, descriptor: int, name: bytes, log: Log, door: Door) -> None:
        self.descriptor = descriptor
        self._name = name
        self._log = log
        self._door = door
        self._rest = b""

    def read(self) -> bool:
        """Take in what is there; whether more may come."""
        try:
            data = os.read(self.descriptor, 65536)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        self._door.show(self._name, data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._put(line, False)
        while len(self._rest) >= _MAX_LINE or (self._rest and not data):
            self._put(self._rest[:_MAX_LINE], True)
            self._rest = self._rest[_MAX_LINE:]
        return bool(data)

    def _put(self, line: bytes, is_partial: bool) -> None:
        while len(line) > _MAX_LINE:
            self._log.write(self._name, line[:_MAX_LINE], True)
            line = line[_MAX_LINE:]
        self._log.write(self._name, line, is_partial)


def start_plain(config: dict[str, Any], ends: tuple[int, int, int]) -> tuple[int, int, int]:
    """Fork the command behind a gate: (its pid, the gate's end to open, where a failed exec is told)."""
    gate, opener = os.pipe()
    failure, failed = os.pipe()
    pid = os.fork()
    if pid:
        os.close(gate)
        os.close(failed)
        return pid, opener, failure
    try:
        os.setsid()
        os.close(opener)
        for number, source in enumerate(ends):
            os.dup2(source, number)
        if config["terminal"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.set_inheritable(failed, False)
        if not os.read(gate, 1):
            os._exit(127)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(config["cwd"])
        os.execvpe(config["argv"][0], config["argv"], config["env"])
    except OSError as error:
        os.write(failed, f"{error.filename or config['argv'][0]}: {error.strerror}".encode())
    os._exit(127)


def start_bwrap(config: dict[str, Any], ends: tuple[int, int, int]) -> tuple[int, int, int]:
    """Start bubblewrap behind its gate: (pid of bubblewrap, of the command, the gate's end to open)."""
    gate, opener = os.pipe()
    info, told = os.pipe()
    for descriptor in (gate, told):
        os.set_inheritable(descriptor, True)
    argv = [config["argv"][0], "--info-fd", str(told), "--block-fd", str(gate), *config["argv"][1:]]
    actions: list[Any] = [(os.POSIX_SPAWN_DUP2, source, number) for number, source in enumerate(ends)]
    defaults = [signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    pid = os.posix_spawn(argv[0], argv, config["env"], file_actions=actions, setsid=True, setsigdef=defaults)
    os.close(gate)
    os.close(told)
    said = b""
    while data := os.read(info, 4096):
        said += data
        if said.rstrip().endswith(b"}"):
            break
    if not said:
        raise Failed("bubblewrap did not start")
    os.close(info)
    return pid, int(json.loads(said)["child-pid"]), opener


def await_exec(pid: int, name: str) -> None:
    """Return when `pid` no longer is the program `name`: bubblewrap has become the command, or has ended."""
    deadline = time.monotonic() + _EXEC_SECONDS
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                if file.read().strip() != name[:15]:
                    return
        except OSError:
            return
        time.sleep(0.001)


def run_hooks(config: dict[str, Any], names: tuple[str, ...], pid: int, status: str) -> None:
    """Run the hooks of the steps `names` with the OCI state on stdin. Raises Failed when one fails."""
    state = json.dumps(config["state"] | {"pid": pid, "status": status}).encode()
    for name in names:
        for hook in config["hooks"].get(name, []):
            try:
                done = subprocess.run(
                    hook["args"] or [hook["path"]],
                    executable=hook["path"],
                    env=dict(entry.split("=", 1) for entry in hook["env"]),
                    input=state,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=hook["timeout"] or _HOOK_SECONDS,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise Failed(f"{name} hook {hook['path']}: {error}") from None
            if done.returncode != 0:
                text = done.stdout.decode(errors="replace").strip()[-500:]
                raise Failed(f"{name} hook {hook['path']}: exit code {done.returncode}: {text}")


def tell(answer: dict[str, Any]) -> None:
    os.write(SYNC, json.dumps(answer).encode() + b"\n")


def exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def watch(pid: int, streams: list[Stream], door: Door) -> int:
    """Write the log and let clients in until the command has ended; its exit code."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer)
    by_descriptor = {stream.descriptor: stream for stream in streams}
    for descriptor in by_descriptor:
        os.set_blocking(descriptor, False)
    code, deadline = None, 0.0
    while True:
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if child == 0:
                break
            if child == pid:
                code, deadline = exit_code(status), time.monotonic() + _DRAIN_SECONDS
                end_descendants()
        if code is not None and (not by_descriptor or time.monotonic() > deadline):
            return code
        poll = select.poll()
        for descriptor in (reader, *by_descriptor):
            poll.register(descriptor, select.POLLIN)
        for descriptor, events in door.wanted().items():
            # The terminal is one descriptor for both ways.
            poll.register(descriptor, events | (select.POLLIN if descriptor in by_descriptor else 0))
        for descriptor, found in poll.poll(None if code is None else 50):
            if descriptor == reader:
                os.read(reader, 512)
            elif descriptor in by_descriptor and found & ~select.POLLOUT:
                if not by_descriptor[descriptor].read():
                    del by_descriptor[descriptor]
            else:
                door.on_event(descriptor)


def end_descendants() -> None:
    """Kill what the command left behind; all of it has this process as its parent or ancestor."""
    for _ in range(100):
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
                children = [int(pid) for pid in file.read().split()]
        except OSError:
            return
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except OSError as error:
                if error.errno not in (errno.ESRCH, errno.ECHILD):
                    return
        if not children:
            return


def connections(config: dict[str, Any]) -> tuple[tuple[int, int, int], int, int, int]:
    """The command's stdin, stdout and stderr; our ends of them: where input goes (-1: nowhere), stdout,
    stderr."""
    if config["terminal"]:
        master, slave = os.openpty()
        return (slave, slave, slave), master if config["stdin"] else -1, master, master
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    if config["stdin"]:
        in_end, stdin = os.pipe()
    else:
        in_end, stdin = os.open("/dev/null", os.O_RDONLY), -1
    return (in_end, out_end, err_end), stdin, out, err


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    os.set_inheritable(SYNC, False)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    log = Log(config["log"], config["log_limit"])
    ends, stdin, out, err = connections(config)
    child, pid, failure = 0, 0, None
    try:
        terminal = out if config["terminal"] else -1
        door = Door(os.path.dirname(path), stdin, terminal, config["stdin_once"])
        if config["uses_bwrap"]:
            child, pid, opener = start_bwrap(config, ends)
        else:
            child, opener, failure = start_plain(config, ends)
            pid = child
        for descriptor in set(ends):
            os.close(descriptor)
        run_hooks(config, ("prestart", "createRuntime"), pid, "creating")
        tell({"pid": pid})
        if not os.read(SYNC, 1):
            raise Failed("its agent died")
        os.write(opener, b"x")
        os.close(opener)
        if failure is None:
            await_exec(pid, os.path.basename(config["argv"][0]))
        elif text := os.read(failure, 4096):
            raise Failed(text.decode(errors="replace"))
        run_hooks(config, ("poststart",), pid, "running")
    except (Failed, OSError, ValueError) as error:
        for started in {pid, child} - {0}:  # before the gate closes: bubblewrap would run the command then
            with contextlib.suppress(ProcessLookupError):
                os.kill(started, signal.SIGKILL)
        end_descendants()
        said = os.read(err, 4096) if select.select([err], [], [], 0)[0] else b""
        with contextlib.suppress(OSError):
            tell({"error": " ".join([str(error), said.decode(errors="replace").strip()]).strip()})
        return
    with contextlib.suppress(OSError):
        tell({"pid": pid})
    os.close(SYNC)
    streams = [Stream(out, b"stdout", log, door)]
    if err != out:
        streams.append(Stream(err, b"stderr", log, door))
    code = watch(child, streams, door)
    temporary = config["exit_file"] + ".tmp"
    with open(temporary, "w", encoding="ascii") as result:
        result.write(str(code))
    os.replace(temporary, config["exit_file"])
    run_hooks(config, ("poststop",), 0, "stopped")


if __name__ == "__main__":
    main(sys.argv[1])
