"""Logs, exec, attach and port-forward: bytes between a client and the node that runs the pod.

exec and attach speak the WebSocket protocols v5.channel.k8s.io and v4.channel.k8s.io: the first byte of every
binary frame is the channel (0 stdin, 1 stdout, 2 stderr, 3 the final Status, 4 terminal sizes; v5 adds 255
with a channel's number to close it). Older SPDY upgrades are not served: kubectl falls back to them only.
Source: apimachinery/pkg/util/remotecommand, KEP-4006.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from drakit.apiserver import forward
from drakit.apiserver.app import API, internal
from drakit.apiserver.auth import User
from drakit.apiserver.impersonate import impersonated
from drakit.apiserver.incoming import Incoming, certificate_of
from drakit.apiserver.read import is_true
from drakit.apiserver.registry import Call
from drakit.apiserver.route import find_target
from drakit.apiserver.view import stored_document
from drakit.errors import APIError, BadRequest, DRAError, InternalError, NotFound
from drakit.podio import Connection, ExecSession, LogOptions, PodIO
from drakit.spdy import SPDYError
from drakit.transport import Document

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Serve = Callable[[Receive, Send], Awaitable[None]]

SOCKETS = ("exec", "attach", "portforward")
"""The subresources of a pod that are served through a WebSocket."""

_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _ERROR, _RESIZE, _CLOSE = 0, 3, 4, 255
_NO_PROTOCOL, _DONE, _BROKEN = 4400, 1000, 1002


def _pod_and_node(api: API, call: Call) -> tuple[Document, PodIO]:
    """The pod and the node that runs it. Raises BadRequest or NotFound if nothing can be asked yet."""
    entry = api.store.get(call.target.kind.collection, call.target.key)
    if entry is None:
        raise call.target.missing()
    stored = stored_document(entry)
    name = stored["spec"].get("nodeName")
    if not name:
        raise BadRequest(f"pod {call.target.name} does not have a host assigned")
    node = api.pod_io(name)
    if node is None:
        raise NotFound(f'node "{name}" of pod {call.target.name} is not reachable from this server')
    return {"kind": "Pod", "apiVersion": "v1", **stored}, node


def _container(pod: Document, wanted: str) -> str:
    """The container asked for, or the pod's only one. Raises BadRequest as upstream does."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    names = [row["name"] for row in spec.get("containers") or ()]
    others = [
        row["name"] for field in ("initContainers", "ephemeralContainers") for row in spec.get(field) or ()
    ]
    if wanted:
        if wanted not in names + others:
            raise BadRequest(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(names) == 1:
        return str(names[0])
    default = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    if default in names:
        return str(default)
    raise BadRequest(f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]")


# --- logs -----------------------------------------------------------------------------------------


def log_options(pod: Document, query: Mapping[str, str]) -> LogOptions:
    """What `query` asks for. Raises BadRequest."""

    def number(name: str) -> int | None:
        text = query.get(name, "")
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise BadRequest(f"{name} must be a whole number that is not negative, not {text!r}")
        return int(text)

    return LogOptions(
        container=_container(pod, query.get("container", "")),
        follow=is_true(query, "follow"),
        previous=is_true(query, "previous"),
        timestamps=is_true(query, "timestamps"),
        tail_lines=number("tailLines"),
        since_seconds=number("sinceSeconds"),
        since_time=query.get("sinceTime") or None,
        limit_bytes=number("limitBytes"),
    )


async def logs(api: API, call: Call, request: Incoming) -> None:
    """Answer GET pods/NAME/log, as long as it lasts."""
    pod, node = _pod_and_node(api, call)
    chunks = node.logs(pod, log_options(pod, call.query))
    iterator = chunks.__aiter__()
    first: bytes | None
    try:
        first = await iterator.__anext__()
    except StopAsyncIteration:
        first = None
    await request.start(200, "text/plain")
    if first is not None:
        copy = asyncio.ensure_future(_copy(iterator, first, request))
        gone = asyncio.ensure_future(_until_disconnect(request.receive))
        await asyncio.wait([copy, gone], return_when=asyncio.FIRST_COMPLETED)
        for task in (copy, gone):
            task.cancel()
        await asyncio.gather(copy, gone, return_exceptions=True)
    await request.write(b"", is_last=True)


async def _copy(iterator: Any, first: bytes, request: Incoming) -> None:
    await request.write(first)
    async for chunk in iterator:
        await request.write(chunk)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# --- exec, attach, port-forward --------------------------------------------------------------------


async def websocket(api: API, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Answer a WebSocket: with a stream, or a refusal."""
    await receive()
    headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    try:
        user = api.authenticate(headers.get(b"authorization", ""), certificate_of(scope))
        user = impersonated(user, scope["headers"], api.authorizer)
        protocol, serve = await _open(api, user, scope, pairs)
    except APIError as error:
        await _refuse(scope, send, error)
        return
    except Exception as error:
        await _refuse(scope, send, internal(error))
        raise
    await send({"type": "websocket.accept", "subprotocol": protocol})
    await serve(receive, send)


async def _open(
    api: API, user: User, scope: MutableMapping[str, Any], pairs: list[tuple[str, str]]
) -> tuple[str, Serve]:
    """The protocol, and what serves the client in it."""
    query = dict(pairs)
    target = find_target(scope["path"], api.registry.kinds)
    if target.subresource not in SOCKETS:
        raise BadRequest(f"only {', '.join(SOCKETS)} are served over WebSocket")
    api.authorizer.check(user, target.attributes("create"))
    is_forward = target.subresource == "portforward"
    spoken = (forward.TUNNEL, forward.CHANNELS) if is_forward else _PROTOCOLS
    protocol = next((name for name in spoken if name in scope["subprotocols"]), None)
    if protocol is None:
        raise BadRequest(f"the client offers none of the protocols {', '.join(spoken)}")
    call = Call(user=user, verb="create", target=target, query=query)
    pod, node = _pod_and_node(api, call)
    if is_forward:
        return protocol, _forward(pod, node, protocol, pairs)
    container = _container(pod, query.get("container", ""))
    stdin, tty = is_true(query, "stdin"), is_true(query, "tty")
    if target.subresource == "attach":
        session = await node.attach(pod, container, stdin=stdin, tty=tty)
    else:
        command = [value for key, value in pairs if key == "command"]
        if not command:
            raise BadRequest("you must specify a command for the container")
        session = await node.exec(pod, container, command, stdin=stdin, tty=tty)

    async def serve(receive: Receive, send: Send) -> None:
        await _Exec(session, receive, send, stdin=stdin).run()

    return protocol, serve


def _forward(pod: Document, node: PodIO, protocol: str, pairs: list[tuple[str, str]]) -> Serve:
    def connect(port: int) -> Awaitable[Connection]:
        return node.connect(pod, port)

    is_tunnel = protocol == forward.TUNNEL
    numbers = [] if is_tunnel else forward.ports([value for key, value in pairs if key == "ports"])

    async def serve(receive: Receive, send: Send) -> None:
        async def take() -> bytes | None:
            message = await receive()
            return None if message["type"] == "websocket.disconnect" else message.get("bytes") or b""

        async def give(data: bytes) -> None:
            await send({"type": "websocket.send", "bytes": data})

        code = _DONE
        try:
            if is_tunnel:
                await forward.Tunnel(connect, give).run(take)
            else:
                await forward.serve_channels(numbers, connect, take, give)
        except SPDYError:
            code = _BROKEN
        await send({"type": "websocket.close", "code": code})

    return serve


def without_upgrade(api: API, call: Call) -> APIError:
    """The answer to an exec, attach or port-forward that does not ask for a WebSocket.

    kubectl repeats a refused WebSocket this way and prints only what it hears the second time: so the
    refusal is found again here.
    """
    pod, _ = _pod_and_node(api, call)
    if call.target.subresource == "portforward":
        return BadRequest("Upgrade request required")
    container = _container(pod, call.query.get("container", ""))
    status = pod.get("status") or {}
    fields = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    rows = [row for field in fields for row in status.get(field) or ()]
    if not any(row.get("name") == container and "running" in (row.get("state") or {}) for row in rows):
        return NotFound(f'container not found ("{container}")')
    return BadRequest("Upgrade request required")


async def _refuse(scope: MutableMapping[str, Any], send: Send, error: APIError) -> None:
    """Answer the handshake with the Status, which is what kubectl prints."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": _NO_PROTOCOL, "reason": error.message[:120]})
        return
    headers = [(b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": error.code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": msgspec.json.encode(error.status())})


class _Exec:
    """One command, or a container's own input and output, and its WebSocket."""

    def __init__(self, session: ExecSession, receive: Receive, send: Send, *, stdin: bool) -> None:
        self._session = session
        self._receive = receive
        self._send = send
        self._takes_stdin = stdin

    async def run(self) -> None:
        """Carry bytes both ways until the command ends or the client goes; then the command is gone."""
        output = asyncio.ensure_future(self._output())
        incoming = asyncio.ensure_future(self._input())
        try:
            await asyncio.wait([output, incoming], return_when=asyncio.FIRST_COMPLETED)
            if not output.done():
                await self._session.kill()
                return
            await self._finish(output.exception())
        finally:
            output.cancel()
            incoming.cancel()
            await asyncio.gather(output, incoming, return_exceptions=True)

    async def _output(self) -> None:
        while (found := await self._session.read()) is not None:
            channel, data = found
            await self._frame(channel, data)

    async def _input(self) -> None:
        """Returns when the client has gone."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            data: bytes = message.get("bytes") or (text.encode() if text else b"")
            if not data:
                continue
            channel, rest = data[0], data[1:]
            if channel == _STDIN and self._takes_stdin:
                await self._session.write(rest)
            elif channel == _CLOSE and rest[:1] == bytes([_STDIN]):
                await self._session.close_stdin()
            elif channel == _RESIZE:
                await self._resize(rest)

    async def _resize(self, data: bytes) -> None:
        try:
            size = msgspec.json.decode(data)
            width, height = int(size["Width"]), int(size["Height"])
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            return
        await self._session.resize(width, height)

    async def _frame(self, channel: int, data: bytes) -> None:
        await self._send({"type": "websocket.send", "bytes": bytes([channel]) + data})

    async def _finish(self, failure: BaseException | None) -> None:
        status: Document | None = None
        if failure is None:
            try:
                status = _exit_status(await self._session.wait())
            except DRAError as unknown:  # nothing ran, or nobody knows how it ended
                failure = unknown
        if status is None:
            error = failure if isinstance(failure, APIError) else InternalError(str(failure))
            status = error.status()
        await self._frame(_ERROR, msgspec.json.encode(status))
        await self._send({"type": "websocket.close", "code": _DONE})


def _exit_status(code: int) -> Document:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    cause = {"reason": "ExitCode", "message": str(code)}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [cause]},
    }
