"""`dra driver ready`: does a driver on this node answer? For the startup probe of its pod."""

from __future__ import annotations

import socket
from pathlib import Path

import click

from drakit.errors import UsageError
from drakit.pluginapi.sockets import registry_socket


@click.command("ready")
@click.argument("name", metavar="NAME")
@click.option(
    "--registry-dir",
    default="/var/lib/kubelet/plugins_registry",
    show_default=True,
    type=click.Path(path_type=Path),
)
@click.option(
    "--pod-uid",
    envvar="POD_UID",
    default="",
    help="Of the instance, if they are told apart. Default: $POD_UID.",
)
def command(name: str, registry_dir: Path, pod_uid: str) -> None:
    """Make sure that the driver NAME serves its registration socket. The exit code is 1 if it does not.

    It needs neither a cluster nor the driver's own address, so it suits the startup probe of a driver's pod.

    \b
    dra driver ready gpu.example.com
    """
    path = registry_socket(name, registry_dir, pod_uid)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(str(path))
    except OSError as error:
        raise UsageError(f"nobody answers at {path}: {error.strerror or error}") from None
    click.echo(f"{path} is served")
