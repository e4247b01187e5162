"""gRPC without generated code.

The descriptor set `protos/protocol.binpb` (made by scripts/protos.py) goes into a descriptor pool of our
own, so that a program which also imports somebody's generated modules has no clash of names. Message
classes come from protobuf's message factory; a service is a table of methods.

Failures of a call are `CallFailed`, a `RecoverableError`: a plugin that hangs, dies or answers nonsense may
be back later, and the caller is the one who tries again.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from drakit.errors import RecoverableError, UsageError
from drakit.pluginapi.sockets import check_socket_path

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of a message that the kubelet takes from a plugin: what gRPC in Go does unless told otherwise."""

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.so_reuseport", 0),
)
_CHANNEL = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A new channel to a path must not inherit the failed connection of an old one: plugins come back there.
    ("grpc.use_local_subchannel_pool", 1),
)


def _load() -> descriptor_pool.DescriptorPool:
    files = descriptor_pb2.FileDescriptorSet()
    files.ParseFromString((Path(__file__).parent / "protos" / "protocol.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _load()

Method = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Any]
"""A coroutine function of (request, context), or an async generator function for a stream."""


def message(name: str) -> Callable[..., Any]:
    """The class of the message `name` ("pluginregistration.PluginInfo")."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


def service(name: str) -> ServiceDescriptor:
    """The service `name`, for `handlers` and `unary`/`stream`."""
    return _POOL.FindServiceByName(name)


def _class(method: MethodDescriptor, *, is_input: bool) -> type[Message]:
    return message_factory.GetMessageClass(method.input_type if is_input else method.output_type)


def handlers(of: ServiceDescriptor, methods: Mapping[str, Method]) -> grpc.GenericRpcHandler:
    """What a server needs to serve `of`; `methods` has a callable for each of its methods."""
    table: dict[str, Any] = {}
    for descriptor in of.methods:
        is_stream = descriptor.server_streaming
        make: Any = grpc.unary_stream_rpc_method_handler if is_stream else grpc.unary_unary_rpc_method_handler
        table[descriptor.name] = make(
            methods[descriptor.name],
            request_deserializer=_class(descriptor, is_input=True).FromString,
            response_serializer=_class(descriptor, is_input=False).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(of.full_name, table)


async def unary(
    channel: grpc.aio.Channel, of: ServiceDescriptor, method: str, request: Message, timeout: float
) -> Any:
    """The answer of one call of `method`; raises CallFailed on failure or after `timeout` seconds."""
    descriptor = of.methods_by_name[method]
    call: Any = channel.unary_unary(
        f"/{of.full_name}/{method}",
        request_serializer=_class(descriptor, is_input=True).SerializeToString,
        response_deserializer=_class(descriptor, is_input=False).FromString,
    )
    try:
        return await call(request, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        raise _failure(method, error) from error


async def stream(
    channel: grpc.aio.Channel, of: ServiceDescriptor, method: str, request: Message
) -> AsyncIterator[Any]:
    """The answers of the streaming `method` until the server ends; raises CallFailed when it breaks."""
    descriptor = of.methods_by_name[method]
    call: Any = channel.unary_stream(
        f"/{of.full_name}/{method}",
        request_serializer=_class(descriptor, is_input=True).SerializeToString,
        response_deserializer=_class(descriptor, is_input=False).FromString,
    )(request)
    try:
        async for answer in call:
            yield answer
    except grpc.aio.AioRpcError as error:
        raise _failure(method, error) from error
    finally:
        call.cancel()


class CallFailed(RecoverableError):
    """A call failed with the gRPC `code` ("NOT_FOUND"); `detail` is what the other end said."""

    def __init__(self, method: str, code: str, detail: str) -> None:
        is_late = code == "DEADLINE_EXCEEDED"
        super().__init__(f"{method}: no answer in time" if is_late else f"{method}: {code}: {detail}")
        self.code = code
        self.detail = detail

    @property
    def in_go(self) -> str:
        """The failure as gRPC in Go, and so the kubelet, words it."""
        if self.code == "DEADLINE_EXCEEDED":
            return "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
        code = "Canceled" if self.code == "CANCELLED" else self.code.title().replace("_", "")
        return f"rpc error: code = {code} desc = {self.detail}"


def _failure(method: str, error: grpc.aio.AioRpcError) -> CallFailed:
    return CallFailed(method, error.code().name, " ".join((error.details() or "no details").split())[:500])


def connect(
    path: Path | str, *, max_message: int = MAX_MESSAGE, authority: str = "localhost"
) -> grpc.aio.Channel:
    """A channel to the unix socket at `path`; connects when first used, and again after a loss. Answers of
    more than `max_message` bytes fail the call. `authority` is what the server is called in requests."""
    own = (("grpc.max_receive_message_length", max_message), ("grpc.default_authority", authority))
    return grpc.aio.insecure_channel(f"unix://{os.path.abspath(path)}", options=_OPTIONS + _CHANNEL + own)


class UnixServer:
    """A gRPC server on the unix socket `path`; made by `serve`."""

    def __init__(self, server: grpc.aio.Server, path: Path, inode: int) -> None:
        self.path = path
        self._server = server
        self._inode = inode

    def is_in_place(self) -> bool:
        """Whether the file at `path` still is this server's socket: nobody removed or replaced it."""
        try:
            return self.path.lstat().st_ino == self._inode
        except OSError:
            return False

    async def stop(self, grace: float) -> None:
        """Take no more calls, give those under way `grace` seconds; the socket goes if it is still ours."""
        if self.is_in_place():
            self.path.unlink(missing_ok=True)
        await asyncio.shield(self._server.stop(grace))


async def serve(path: Path, services: Iterable[grpc.GenericRpcHandler]) -> UnixServer:
    """A started server on the unix socket `path`, for its owner alone.

    The socket appears when it answers, and takes the place of one that is there in one step: gRPC binds a
    hidden name, which is then renamed (so gRPC's own removal at the end finds nothing). Raises UsageError
    where no socket can be.
    """
    check_socket_path(path)
    hidden = path.with_name(f".{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(f"{path} is in the way of a socket: it is no socket; remove it")
        server = grpc.aio.server(options=(*_OPTIONS, ("grpc.max_receive_message_length", 4 * MAX_MESSAGE)))
        server.add_generic_rpc_handlers(tuple(services))
        mask = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix://{os.path.abspath(hidden)}")
        finally:
            os.umask(mask)
        await server.start()
        inode = hidden.lstat().st_ino
        hidden.rename(path)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"cannot serve on socket {path}: {error}") from error
    return UnixServer(server, path, inode)
