"""Trouble on command: taints and bad health that somebody wants the simulated GPUs to have.

A running driver listens on the socket `poke.sock` in its folder for one line of JSON, a `Poke`, and answers
with one, a `Reply`. What it was told is kept in `pokes.json` beside it, so that it is still true after a
restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from drakit.driver import DeviceTaint
from drakit.driver.checkpoint import write_file
from drakit.errors import DRAError, UsageError

SOCKET = "poke.sock"
MAX_TAINTS = 16
_MAX_LINE = 64 * 1024
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

Effect = Literal["None", "NoSchedule", "NoExecute"]
_log = logging.getLogger(__name__)


class Taint(Struct, frozen=True):
    key: str
    effect: Effect
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> Taint:
        """`key=value:NoSchedule` or `key:NoSchedule`. Raises UsageError."""
        rest, colon, effect = text.rpartition(":")
        key, _, value = rest.partition("=")
        try:
            taint = msgspec.convert({"key": key, "value": value, "effect": effect}, cls)
        except msgspec.ValidationError:
            raise UsageError(f"taint {text!r}: the effect must be None, NoSchedule or NoExecute") from None
        if not colon or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise UsageError(f"taint {text!r} is not KEY=VALUE:EFFECT or KEY:EFFECT")
        return taint


class Poke(Struct, frozen=True, forbid_unknown_fields=True):
    """What to do to `device`. Taints: `taint` is added, `untaint` removed by key ("" for every one)."""

    device: str
    taint: Taint | None = None
    untaint: str | None = None
    is_healthy: bool | None = None


class Reply(Struct, frozen=True):
    """`error` says what is wrong, "" if nothing is."""

    error: str = ""


class State(Struct, frozen=True):
    """How a device is wanted to be."""

    taints: tuple[Taint, ...] = ()
    is_healthy: bool = True

    def after(self, poke: Poke) -> State:
        """The state that `poke` makes of this. Raises DRAError where there are too many taints."""
        taints = self.taints
        if poke.untaint is not None:
            taints = tuple(taint for taint in taints if poke.untaint not in ("", taint.key))
        if poke.taint is not None:
            new = poke.taint
            taints = (*(t for t in taints if (t.key, t.effect) != (new.key, new.effect)), new)
        if len(taints) > MAX_TAINTS:
            raise DRAError(f"a device can have {MAX_TAINTS} taints")
        is_healthy = self.is_healthy if poke.is_healthy is None else poke.is_healthy
        return State(taints, is_healthy)


NOTHING = State()


def device_taint(taint: Taint) -> DeviceTaint:
    return DeviceTaint(key=taint.key, value=taint.value, effect=taint.effect)


class Pokes:
    """What the devices of a driver were told, kept in `folder`; `names` are the devices there are."""

    def __init__(self, names: Mapping[str, object], on_change: Callable[[], object]) -> None:
        self._names = names
        self._on_change = on_change
        self._folder: Path | None = None
        self._states: dict[str, State] = {}

    def of(self, folder: Path) -> Mapping[str, State]:
        """The state of every device that is not as it should be; read from `folder` the first time."""
        if self._folder != folder:
            self._folder = folder
            try:
                content = (folder / "pokes.json").read_bytes()
                self._states = msgspec.json.decode(content, type=dict[str, State])
            except FileNotFoundError:
                self._states = {}
            except (OSError, msgspec.DecodeError) as error:
                _log.warning("what the devices were told is lost: %s", error)
                self._states = {}
        return self._states

    def apply(self, folder: Path, poke: Poke) -> None:
        """Remember `poke`. Raises DRAError if there is no such device, or it cannot be kept."""
        states = dict(self.of(folder))
        if poke.device not in self._names:
            raise DRAError(f"there is no device {poke.device!r}")
        states[poke.device] = states.get(poke.device, NOTHING).after(poke)
        states = {name: state for name, state in states.items() if state != NOTHING}
        write_file(folder / "pokes.json", msgspec.json.encode(states))
        self._states = states
        self._on_change()

    async def serve(self, folder: Path) -> None:
        """Listen until cancelled."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer):
                reply = Reply()
                try:
                    self.apply(folder, msgspec.json.decode(await reader.readline(), type=Poke))
                except (DRAError, msgspec.DecodeError, ValueError) as error:
                    reply = Reply(str(error))
                writer.write(msgspec.json.encode(reply) + b"\n")
                with contextlib.suppress(OSError):
                    await writer.drain()

        path = folder / SOCKET
        try:
            server = await asyncio.start_unix_server(answer, path, limit=_MAX_LINE)
        except OSError as error:
            raise UsageError(f"cannot listen on {path}: {error}") from None
        path.chmod(0o600)
        try:
            async with server:
                await server.serve_forever()
        finally:
            path.unlink(missing_ok=True)


async def poke(socket: Path, what: Poke) -> None:
    """Have the driver behind `socket` do `what`. DRAError: it does not; OSError: nobody listens."""
    reader, writer = await asyncio.open_unix_connection(socket)
    with contextlib.closing(writer):
        writer.write(msgspec.json.encode(what) + b"\n")
        await writer.drain()
        reply = msgspec.json.decode(await reader.readline() or b"{}", type=Reply)
    if reply.error:
        raise DRAError(reply.error)
