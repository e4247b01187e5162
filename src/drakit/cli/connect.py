"""Which cluster a command talks to, and the options by which a person says so.

--kubeconfig first, then $KUBECONFIG, then the embedded cluster that runs on this machine, then
~/.kube/config, then, in a pod, its service account.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from drakit.client.api import Client
from drakit.client.dialect import Dialect
from drakit.client.http import HTTPTransport
from drakit.client.kubeconfig import load
from drakit.cluster.place import Place, default_data_dir
from drakit.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def kubeconfig_path(given: str | None) -> str | None:
    """The kubeconfig to use, None for the service account of this pod; UsageError if there is neither."""
    if given:
        return given
    if path := os.environ.get("KUBECONFIG"):
        return path
    if running := Place(default_data_dir()).running():
        return running.kubeconfig
    home = Path.home() / ".kube" / "config"
    if home.exists():
        return str(home)
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return None
    raise UsageError("no cluster to talk to: start one with `dra up`, or name one with --kubeconfig FILE")


def cluster_options(function: F) -> F:
    """Adds --kubeconfig and --context."""
    function = click.option("--context", help="The kubeconfig's context to use.")(function)
    return click.option(
        "--kubeconfig", type=click.Path(), help="Default: $KUBECONFIG, a running `dra up`, ~/.kube/config."
    )(function)


@asynccontextmanager
async def connect(given: str | None, context: str | None) -> AsyncIterator[Client]:
    """A client of the cluster a person means; raises UsageError when there is none."""
    client = Client(Dialect(HTTPTransport(load(kubeconfig_path(given), context))))
    try:
        yield client
    finally:
        await client.close()
