"""get, list and watch: pages, versions, selectors, shapes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from drakit.errors import BadRequest, Invalid
from drakit.store import Store
from tests.apiserver.served import Served, config_map, pod

pytestmark = pytest.mark.anyio

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with Served() as server:
        yield server


def names(document: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in document["items"]]


async def take(events: AsyncIterator[dict[str, Any]], count: int) -> list[tuple[str, str]]:
    """The next `count` events as (type, name)."""
    found = []
    async with asyncio.timeout(5):
        for _ in range(count):
            event = await anext(events)
            found.append((event["type"], event["object"]["metadata"].get("name", "")))
    return found


# --- get and list ---------------------------------------------------------------------------------


async def test_an_object_says_its_kind_and_a_list_says_it_once(served: Served) -> None:
    made = await served.ok("POST", MAPS, config_map("a"))
    assert await served.ok("GET", f"{MAPS}/a") == made
    listed = await served.ok("GET", MAPS)
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert "kind" not in listed["items"][0]
    assert listed["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_a_list_goes_over_namespaces_in_order(served: Served) -> None:
    await served.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "b"}})
    await served.ok("POST", "/api/v1/namespaces/b/configmaps", config_map("x"))
    await served.ok("POST", MAPS, config_map("z"))
    assert names(await served.ok("GET", "/api/v1/configmaps")) == ["x", "z"]
    assert names(await served.ok("GET", MAPS)) == ["z"]
    assert names(await served.ok("GET", "/api/v1/namespaces/nowhere/configmaps")) == []


async def test_pages_show_what_was_there_at_the_first(served: Served) -> None:
    for number in range(5):
        await served.ok("POST", MAPS, config_map(f"m{number}"))
    first = await served.ok("GET", MAPS, limit="2")
    assert names(first) == ["m0", "m1"]
    assert first["metadata"]["remainingItemCount"] == 3
    await served.ok("DELETE", f"{MAPS}/m3")
    await served.ok("POST", MAPS, config_map("m2b"))
    token = first["metadata"]["continue"]
    second = await served.ok("GET", MAPS, limit="2", continue_=token)
    assert names(second) == ["m2", "m3"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    third = await served.ok("GET", MAPS, limit="2", continue_=second["metadata"]["continue"])
    assert names(third) == ["m4"]
    assert "continue" not in third["metadata"]
    assert names(await served.ok("GET", MAPS)) == ["m0", "m1", "m2", "m2b", "m4"]


async def test_a_page_too_old_for_the_history_is_expired() -> None:
    async with Served(store=Store(history_changes=4)) as served:
        for number in range(3):
            await served.ok("POST", MAPS, config_map(f"m{number}"))
        token = (await served.ok("GET", MAPS, limit="1"))["metadata"]["continue"]
        for number in range(10):
            await served.ok("PUT", f"{MAPS}/m0", config_map("m0", count=str(number)))
        refused = await served.send("GET", MAPS, limit="1", continue_=token)
        assert (refused.status, refused.document["reason"]) == (410, "Expired")
        assert "start a new list" in refused.document["message"]
        rest = await served.ok("GET", MAPS, continue_=refused.document["metadata"]["continue"])
        assert names(rest) == names(await served.ok("GET", MAPS))[1:]


async def test_resource_versions_of_a_list(served: Served) -> None:
    made = await served.ok("POST", MAPS, config_map("a"))
    then = made["metadata"]["resourceVersion"]
    await served.ok("POST", MAPS, config_map("b"))
    exact = await served.ok("GET", MAPS, resourceVersion=then, resourceVersionMatch="Exact")
    assert (names(exact), exact["metadata"]["resourceVersion"]) == (["a"], then)
    for version in ("0", then):
        assert names(await served.ok("GET", MAPS, resourceVersion=version)) == ["a", "b"]
    code, reason, message = await served.refused("GET", MAPS, resourceVersion="99999")
    assert (code, reason) == (504, "Timeout")
    assert message.startswith("Too large resource version: 99999, current: ")


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ({"resourceVersion": "abc"}, 400, "Invalid value"),
        ({"resourceVersion": "-1"}, 400, "Invalid value"),
        ({"limit": "x"}, 400, "invalid syntax"),
        ({"limit": "-1"}, 400, "negative"),
        ({"continue": "!"}, 400, "continue key is not valid"),
        ({"continue": "bm9uc2Vuc2U"}, 400, "continue key is not valid"),
        ({"resourceVersionMatch": "Exact"}, 422, "forbidden unless resourceVersion is provided"),
        ({"resourceVersionMatch": "Newest", "resourceVersion": "1"}, 422, "Unsupported value"),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, 422, "is forbidden for resourceVersion"),
        ({"sendInitialEvents": "true"}, 422, "forbidden for list"),
        ({"labelSelector": "a in"}, 400, "unable to parse"),
        ({"labelSelector": "a=b=c"}, 400, "found '=', expected: ',' or 'end of string'"),
        ({"fieldSelector": "nonsense"}, 400, "invalid selector: 'nonsense'; can't understand 'nonsense'"),
        ({"fieldSelector": "data.a=b"}, 400, "is not a known field selector"),
    ],
)
async def test_broken_list_options_are_named(
    served: Served, query: dict[str, str], code: int, text: str
) -> None:
    found, _, message = await served.refused("GET", MAPS, **query)
    assert found == code
    assert text in message


async def test_selectors(served: Served) -> None:
    await served.ok("POST", MAPS, config_map("a", {"app": "x"}))
    await served.ok("POST", MAPS, config_map("b", {"app": "y"}))
    await served.ok("POST", MAPS, config_map("c"))
    assert names(await served.ok("GET", MAPS, labelSelector="app in (x,y)")) == ["a", "b"]
    assert names(await served.ok("GET", MAPS, labelSelector="!app")) == ["c"]
    assert names(await served.ok("GET", MAPS, fieldSelector="metadata.name=b")) == ["b"]
    assert names(await served.ok("GET", MAPS, fieldSelector="metadata.name!=b")) == ["a", "c"]
    for name, node in (("p1", "n1"), ("p2", "n2"), ("p3", "")):
        await served.ok("POST", PODS, pod(name, nodeName=node) if node else pod(name))
    assert names(await served.ok("GET", PODS, fieldSelector="spec.nodeName=n1")) == ["p1"]
    assert names(await served.ok("GET", PODS, fieldSelector="spec.nodeName=,status.phase=Pending")) == ["p3"]


async def test_tables_and_metadata(served: Served) -> None:
    await served.ok("POST", MAPS, config_map("a", x="1"))
    table = await served.ok("GET", MAPS, accept=TABLE)
    assert table["kind"] == "Table"
    assert table["rows"][0]["cells"][0] == "a"
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    whole = await served.ok("GET", f"{MAPS}/a", accept=TABLE, includeObject="Object")
    assert whole["rows"][0]["object"]["data"] == {"x": "1"}
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    partial = await served.ok("GET", MAPS, accept=accept)
    assert partial["kind"] == "PartialObjectMetadataList"
    assert set(partial["items"][0]) == {"kind", "apiVersion", "metadata"}
    assert (await served.refused("GET", MAPS, accept="text/x-unknown"))[0] == 406


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/nonsense", 404),
        ("GET", "/api/v2/pods", 404),
        ("GET", "/apis/resource.k8s.io/v9/deviceclasses", 404),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("GET", "/api/v1/namespaces/default/pods/p/nonsense", 404),
        ("GET", "/api/v1/namespaces//pods", 404),
        ("GET", "/api/v1/namespaces/default/pods/p/log/more/and/more", 404),
        ("PUT", "/api/v1/namespaces/default/pods", 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("POST", "/api/v1/namespaces/default/pods/p", 405),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405),
        ("BREW", "/api/v1/pods", 405),
    ],
)
async def test_what_is_not_served(served: Served, method: str, path: str, code: int) -> None:
    assert (await served.refused(method, path, {}))[0] == code


# --- watch ----------------------------------------------------------------------------------------


async def test_a_list_at_n_and_a_watch_from_n_are_the_list_at_m(served: Served) -> None:
    await served.ok("POST", MAPS, config_map("a"))
    listed = await served.ok("GET", MAPS)
    await served.ok("PUT", f"{MAPS}/a", config_map("a", x="1"))
    events = served.watch(MAPS, resourceVersion=listed["metadata"]["resourceVersion"])
    assert await take(events, 1) == [("MODIFIED", "a")]
    await served.ok("POST", MAPS, config_map("b"))
    await served.ok("DELETE", f"{MAPS}/a")
    assert await take(events, 2) == [("ADDED", "b"), ("DELETED", "a")]


async def test_a_deletion_carries_the_last_state_and_its_own_version(served: Served) -> None:
    made = await served.ok("POST", MAPS, config_map("a", x="1"))
    events = served.watch(MAPS, resourceVersion=made["metadata"]["resourceVersion"])
    await served.ok("DELETE", f"{MAPS}/a")
    event = await anext(events)
    assert event["object"]["data"] == {"x": "1"}
    assert int(event["object"]["metadata"]["resourceVersion"]) == int(made["metadata"]["resourceVersion"]) + 1


async def test_objects_come_and_go_with_the_selector(served: Served) -> None:
    version = (await served.ok("GET", MAPS))["metadata"]["resourceVersion"]
    events = served.watch(MAPS, resourceVersion=version, labelSelector="on=yes")
    await served.ok("POST", MAPS, config_map("a"))
    await served.ok("PUT", f"{MAPS}/a", config_map("a", {"on": "yes"}))
    await served.ok("PUT", f"{MAPS}/a", config_map("a", {"on": "yes"}, x="1"))
    await served.ok("PUT", f"{MAPS}/a", config_map("a", {"on": "no"}))
    await served.ok("DELETE", f"{MAPS}/a")
    await served.ok("POST", MAPS, config_map("end", {"on": "yes"}))
    expected = [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "end")]
    assert await take(events, 4) == expected


async def test_a_watch_list_ends_its_beginning_with_a_bookmark(served: Served) -> None:
    await served.ok("POST", MAPS, config_map("a"))
    events = served.watch(
        MAPS, sendInitialEvents="true", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true"
    )
    assert await take(events, 1) == [("ADDED", "a")]
    mark = await anext(events)
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert mark["object"]["kind"] == "ConfigMap"
    await served.ok("POST", MAPS, config_map("b"))
    assert await take(events, 1) == [("ADDED", "b")]


@pytest.mark.parametrize("version", [{}, {"resourceVersion": "0"}])
async def test_a_watch_without_a_version_begins_with_what_is_there(
    served: Served, version: dict[str, str]
) -> None:
    await served.ok("POST", MAPS, config_map("a"))
    events = served.watch(MAPS, **version)
    assert await take(events, 1) == [("ADDED", "a")]


async def test_a_version_too_old_is_an_error_event() -> None:
    async with Served(store=Store(history_changes=4)) as served:
        first = await served.ok("POST", MAPS, config_map("a"))
        for number in range(10):
            await served.ok("PUT", f"{MAPS}/a", config_map("a", count=str(number)))
        event = await anext(served.watch(MAPS, resourceVersion=first["metadata"]["resourceVersion"]))
        assert event["type"] == "ERROR"
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_a_watch_ends_after_its_time(served: Served) -> None:
    async with asyncio.timeout(5):
        assert [event async for event in served.watch(MAPS, resourceVersion="0", timeoutSeconds="1")] == []


async def test_a_watcher_that_does_not_read_is_dropped(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drakit.apiserver.watch.MAX_QUEUE", 3)
    slow = served.watch(MAPS, resourceVersion="0")
    await served.ok("POST", MAPS, config_map("first"))
    assert await take(slow, 1) == [("ADDED", "first")]
    for number in range(5):
        await served.ok("POST", MAPS, config_map(f"m{number}"))
    async with asyncio.timeout(5):
        assert [event async for event in slow] == []
    assert len(served.api.registry.hubs()[0]) == 0


async def test_watches_end_when_the_server_does() -> None:
    async with Served() as served:
        events = served.watch(MAPS, resourceVersion="0")
        await served.ok("POST", MAPS, config_map("a"))
        await take(events, 1)
    async with asyncio.timeout(5):
        assert [event async for event in events] == []


@pytest.mark.parametrize(
    "query",
    [
        {"sendInitialEvents": "true"},
        {"resourceVersionMatch": "NotOlderThan", "resourceVersion": "1"},
        {"resourceVersion": "x"},
        {"timeoutSeconds": "x"},
    ],
)
async def test_broken_watch_options_are_refused(served: Served, query: dict[str, str]) -> None:
    with pytest.raises((BadRequest, Invalid)):
        await anext(served.watch(MAPS, **query))


async def test_events_are_seen_in_the_version_asked_for(served: Served) -> None:
    path = "/apis/resource.k8s.io/{}/resourceslices"
    document = {
        "metadata": {"name": "s"},
        "spec": {
            "driver": "d.example.com",
            "nodeName": "n",
            "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "d0"}],
        },
    }
    await served.ok("POST", path.format("v1"), document)
    old = await anext(served.watch(path.format("v1beta1")))
    assert old["object"]["apiVersion"] == "resource.k8s.io/v1beta1"
    assert old["object"]["spec"]["devices"] == [{"name": "d0", "basic": {}}]


async def test_events_in_both_groups_are_the_same_objects(served: Served) -> None:
    event = {
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Scheduled",
        "action": "Binding",
        "note": "it is there",
        "type": "Normal",
        "reportingController": "s.example.com/x",
        "reportingInstance": "i",
        "eventTime": "2026-11-22T12:00:00.000000Z",
    }
    await served.ok("POST", "/apis/events.k8s.io/v1/namespaces/default/events", event)
    core = await served.ok("GET", "/api/v1/namespaces/default/events", fieldSelector="involvedObject.name=p")
    assert core["items"][0]["message"] == "it is there"
    assert core["items"][0]["involvedObject"]["name"] == "p"
    new = await served.ok("GET", "/apis/events.k8s.io/v1/namespaces/default/events/e")
    assert (new["apiVersion"], new["note"]) == ("events.k8s.io/v1", "it is there")
