"""Events about objects, for the people who look at them.

Recording is a synchronous call that never waits and never fails: events queue up, bounded, and a task
that lives only while there is something to write sends them. What repeats becomes a count: the same
words about the same object raise the count of the event already there, many different words for one
reason become one "combined" event, and an object that floods is cut off for a while, as client-go's
event correlator does. Repeats that arrive while a write is under way are written together.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from typing import Literal

from msgspec import Struct, field

from drakit.client.api import EVENTS, Client
from drakit.client.clock import Clock, timestamp
from drakit.errors import DRAError, NotFound
from drakit.transport import Document

WAITING = 1000
"""Events that may wait to be written; beyond them the oldest is dropped."""
AT_ONCE = 16
"""Events written side by side; one event is in a batch only once, so its writes keep their order."""
REMEMBERED = 4096
SIMILAR, SIMILAR_SECONDS = 10, 600.0
"""From so many different messages of one reason in that time on, they share one event."""
BURST, REFILL_SECONDS = 25, 300.0
"""Writes about one object: that many at once, then one each so many seconds."""
MESSAGE_BYTES = 1024
"""The API's limit for an event's note."""

EventType = Literal["Normal", "Warning"]
_Key = tuple[str, ...]

_log = logging.getLogger(__name__)


class _Repeat(Struct):
    """An event that was seen `count` times, last at `last`."""

    event: Document
    message: str
    count: int = 0
    last: float = 0.0
    is_waiting: bool = False
    is_written: bool = False


class _Similar(Struct):
    last: float = 0.0
    messages: set[str] = field(default_factory=set)


class _Bucket(Struct):
    tokens: float
    last: float


class EventRecorder:
    """Records events as `component`, on `host` where it stands for a machine."""

    def __init__(self, client: Client, component: str, host: str = "", *, clock: Clock | None = None) -> None:
        self._client = client
        self._component = component
        self._host = host
        self._clock = clock or Clock()
        self._repeats: OrderedDict[_Key, _Repeat] = OrderedDict()
        self._similar: OrderedDict[_Key, _Similar] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._waiting: deque[_Repeat] = deque()
        self._task: asyncio.Task[None] | None = None

    def event(self, about: Document, type: EventType, reason: str, message: str, *, action: str = "") -> None:
        """Something happened to the object `about`. Called on the event loop."""
        now = self._clock.now()
        meta = about.get("metadata") or {}
        identity = str(meta.get("uid") or meta.get("name"))
        message = _short(message)
        key: _Key = (identity, type, reason, message)
        if self._is_one_of_many(key, now):
            key, message = (identity, type, reason), _short(f"(combined from similar events): {message}")
        repeat = self._repeats.get(key)
        if repeat is None:
            repeat = self._remember(key, self._document(about, type, reason, message, action, now))
        self._repeats.move_to_end(key)
        repeat.message = message
        repeat.count += 1
        repeat.last = now
        if not repeat.is_waiting and self._may_write(identity, now):
            self._enqueue(repeat)

    async def flush(self) -> None:
        """Return when what was recorded so far has been written or given up."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Stop writing; what still waits is lost."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _enqueue(self, repeat: _Repeat) -> None:
        if len(self._waiting) >= WAITING:
            self._waiting.popleft().is_waiting = False
        self._waiting.append(repeat)
        repeat.is_waiting = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write_all())

    def _is_one_of_many(self, key: _Key, now: float) -> bool:
        similar = self._similar.setdefault(key[:3], _Similar())
        self._similar.move_to_end(key[:3])
        if len(self._similar) > REMEMBERED:
            self._similar.popitem(last=False)
        if now - similar.last > SIMILAR_SECONDS:
            similar.messages.clear()
        similar.last = now
        if key[3] in similar.messages:
            return False
        if len(similar.messages) >= SIMILAR:
            return True
        similar.messages.add(key[3])
        return False

    def _may_write(self, uid: str, now: float) -> bool:
        bucket = self._buckets.setdefault(uid, _Bucket(float(BURST), now))
        self._buckets.move_to_end(uid)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        bucket.tokens = min(bucket.tokens + (now - bucket.last) / REFILL_SECONDS, float(BURST))
        bucket.last = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _remember(self, key: _Key, event: Document) -> _Repeat:
        repeat = self._repeats[key] = _Repeat(event, event["message"])
        if len(self._repeats) > REMEMBERED:
            self._repeats.popitem(last=False)
        return repeat

    def _document(
        self, about: Document, type: str, reason: str, message: str, action: str, now: float
    ) -> Document:
        meta = about.get("metadata") or {}
        name, namespace = str(meta.get("name", "unknown")), str(meta.get("namespace") or "default")
        involved = {
            "apiVersion": about.get("apiVersion"),
            "kind": about.get("kind"),
            "name": name,
            "namespace": meta.get("namespace"),
            "uid": meta.get("uid"),
            "resourceVersion": meta.get("resourceVersion"),
        }
        source = {"component": self._component, "host": self._host}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{int(now * 1e9):x}{len(self._repeats):x}", "namespace": namespace},
            "involvedObject": {key: value for key, value in involved.items() if value},
            "type": type,
            "reason": reason,
            "message": message,
            "source": {key: value for key, value in source.items() if value},
            "reportingComponent": self._component,
            "reportingInstance": self._host,
            "firstTimestamp": timestamp(now),
        }
        return event | ({"action": action} if action else {})

    async def _write_all(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), AT_ONCE))]
            for repeat in batch:
                repeat.is_waiting = False
            await asyncio.gather(*(self._try_to_write(repeat) for repeat in batch))

    async def _try_to_write(self, repeat: _Repeat) -> None:
        try:
            await self._write(repeat)
        except DRAError as error:
            _log.info("event %s lost: %s", repeat.event["metadata"]["name"], error)
        except Exception:
            _log.exception("event %s lost: a bug", repeat.event["metadata"]["name"])

    async def _write(self, repeat: _Repeat) -> None:
        count, namespace = repeat.count, repeat.event["metadata"]["namespace"]
        latest = {"count": count, "lastTimestamp": timestamp(repeat.last), "message": repeat.message}
        if repeat.is_written:
            try:
                await self._client.patch(EVENTS, repeat.event["metadata"]["name"], latest, namespace)
                return
            except NotFound:
                repeat.is_written = False
        await self._client.create(EVENTS, repeat.event | latest, namespace)
        repeat.is_written = True


def _short(message: str) -> str:
    """`message` cut to what the API takes."""
    data = message.encode()
    if len(data) <= MESSAGE_BYTES:
        return message
    return data[: MESSAGE_BYTES - 3].decode(errors="ignore") + "..."
