"""What a shell may put in place of the words not yet typed: names known here, or in the cluster.

Called by click's completion while a person waits for the TAB key: what takes long, or fails, completes
nothing and says nothing.
"""

from __future__ import annotations

import asyncio

import click
from click.shell_completion import CompletionItem

from drakit.cli.connect import connect
from drakit.client.api import NAMESPACES, NODES, PODS, RESOURCE_CLAIMS, Resource
from drakit.errors import DRAError
from drakit.profile import Gate

_SECONDS = 2.0


def driver(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The drivers that come with dra."""
    from drakit.drivers import NAMES

    return [CompletionItem(name, help=what) for name, what in NAMES.items() if name.startswith(typed)]


def check(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The checks of `dra driver test`."""
    from drakit.conformance.suite import select

    return [CompletionItem(found.id) for found in select() if found.id.startswith(typed)]


def gate(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """NAME= of a feature gate, behind those that are typed."""
    before, comma, last = typed.rpartition(",")
    return [CompletionItem(f"{before}{comma}{name}=") for name in Gate if name.startswith(last)]


def subject(context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """pod/NAME and claim/NAME of the namespace on the command line."""
    place = context.params.get("namespace") or "default"
    found = []
    for kind, resource in (("pod", PODS), ("claim", RESOURCE_CLAIMS)):
        if f"{kind}/".startswith(typed.partition("/")[0]):
            found += [f"{kind}/{name}" for name in _names(context, resource, place)]
    return [CompletionItem(name) for name in found if name.startswith(typed)]


def namespace(context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in _names(context, NAMESPACES) if name.startswith(typed)]


def node(context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in _names(context, NODES) if name.startswith(typed)]


def _names(context: click.Context, resource: Resource, namespace: str | None = None) -> list[str]:
    async def run() -> list[str]:
        async with (
            asyncio.timeout(_SECONDS),
            connect(context.params.get("kubeconfig"), context.params.get("context")) as client,
        ):
            listed = await client.list(resource, namespace=namespace)
            return sorted(item["metadata"]["name"] for item in listed.items)

    try:
        return asyncio.run(run())
    except (DRAError, OSError):
        return []
