"""SPDY/3.1 framing: what one end writes is what the other reads, and nonsense is refused."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakit.spdy import MAX_FRAME, Event, Framer, SPDYError


def test_a_stream_from_its_opening_to_its_end() -> None:
    client, server = Framer(is_client=True), Framer(is_client=False)
    first, opening = client.open({"streamType": "data", "Port": "80"})
    second, again = client.open({"streamType": "error", "Port": "80"})
    assert (first, second) == (1, 3)
    assert server.receive(opening + again) == [
        Event("open", 1, headers={"streamtype": "data", "port": "80"}),
        Event("open", 3, headers={"streamtype": "error", "port": "80"}),
    ]
    assert client.receive(server.reply(1) + server.data(1, b"hi") + server.end(1)) == [
        Event("reply", 1),
        Event("data", 1, b"hi"),
        Event("end", 1),
    ]
    assert server.receive(client.reset(3)) == [Event("reset", 3)]
    assert server.open({"a": "b"})[0] == 2


def test_a_header_block_of_another_implementation() -> None:
    """The head of the zlib stream names the dictionary that the protocol prescribes."""
    _, opening = Framer(is_client=True).open({"a": "b"})
    assert opening[18:24] == bytes.fromhex("78bbe3c6a7c2")


def test_pings_are_answered() -> None:
    ping = struct.pack(">III", 0x80030006, 4, 7)
    assert Framer(is_client=False).receive(ping) == [Event("send", data=ping)]


@given(st.binary(max_size=100_000), st.lists(st.integers(1, 5000), max_size=30))
def test_data_arrives_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    client, server = Framer(is_client=True), Framer(is_client=False)
    number, opening = client.open({"streamType": "data"})
    sent = opening + client.data(number, data) + client.end(number)
    events: list[Event] = []
    for cut in cuts:
        events += server.receive(sent[:cut])
        sent = sent[cut:]
    events += server.receive(sent)
    assert [event.kind for event in events][:: len(events) - 1] == ["open", "end"]
    assert b"".join(event.data for event in events) == data


BROKEN = {
    "another version": struct.pack(">II", 0x80020001, 0),
    "a frame that is too large": struct.pack(">II", 1, MAX_FRAME + 1),
    "headers that are no zlib": struct.pack(">II", 0x80030001, 14) + bytes(10) + b"nope",
    "a stream without a number": struct.pack(">II", 0x80030003, 0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_nonsense(name: str) -> None:
    with pytest.raises(SPDYError):
        Framer(is_client=False).receive(BROKEN[name])


def test_headers_that_grow_when_they_are_unpacked() -> None:
    client = Framer(is_client=True)
    _, opening = client.open({"a": "x" * 1_000_000})
    with pytest.raises(SPDYError, match="headers of more than"):
        Framer(is_client=False).receive(opening)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(data: bytes) -> None:
    with contextlib.suppress(SPDYError):
        Framer(is_client=False).receive(data)
