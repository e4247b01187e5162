"""`dra driver poke`: give a simulated device a taint or bad health."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from drakit.cluster.place import Place, default_data_dir
from drakit.drivers.gpu.pokes import SOCKET, Poke, Taint, poke
from drakit.errors import UsageError

_KUBELET = Path("/var/lib/kubelet/plugins")


@click.command("poke")
@click.argument("device", metavar="DEVICE")
@click.option("--taint", metavar="KEY=VALUE:EFFECT", help="Add a taint: None, NoSchedule or NoExecute.")
@click.option("--untaint", metavar="[KEY]", is_flag=False, flag_value="", help="Remove this taint, or all.")
@click.option(
    "--unhealthy/--healthy", "is_unhealthy", default=None, help="What the driver says of its health."
)
@click.option("--node-name", help="Of the embedded cluster's node, if it has several.")
@click.option(
    "--plugins-dir",
    type=click.Path(path_type=Path),
    help="The driver's. Default: the running embedded cluster's, else a kubelet's.",
)
def command(
    device: str,
    taint: str | None,
    untaint: str | None,
    is_unhealthy: bool | None,
    node_name: str | None,
    plugins_dir: Path | None,
) -> None:
    """Make trouble with DEVICE of the driver gpu. It lasts, across restarts too, until it is taken back.

    \b
    dra driver poke gpu-0 --taint example.com/broken=yes:NoExecute
    dra driver poke gpu-0 --unhealthy
    dra driver poke gpu-0 --untaint --healthy
    """
    if taint is None and untaint is None and is_unhealthy is None:
        raise UsageError("nothing to do: give --taint, --untaint, --unhealthy or --healthy")
    what = Poke(
        device,
        taint=None if taint is None else Taint.parse(taint),
        untaint=untaint,
        is_healthy=None if is_unhealthy is None else not is_unhealthy,
    )
    socket = _find(node_name, plugins_dir)
    try:
        asyncio.run(poke(socket, what))
    except OSError as error:
        raise UsageError(f"no driver answers at {socket}: {error.strerror}") from None
    click.echo(f"{device} poked")


def _find(node_name: str | None, plugins_dir: Path | None) -> Path:
    """The one socket to poke at."""
    place = default_data_dir()
    if plugins_dir is not None:
        folders = [plugins_dir]
    elif Place(place).running():
        folders = sorted((place / "nodes").glob(f"{node_name or '*'}/plugins"))
    else:
        folders = [_KUBELET]
    found = [socket for folder in folders for socket in sorted(folder.glob(f"*/{SOCKET}"))]
    if not found:
        where = ", ".join(map(str, folders)) or f"node {node_name}"
        raise UsageError(f"there is no driver to poke in {where}: only the driver gpu can be")
    if len(found) > 1:
        nodes = ", ".join(socket.parts[-4] for socket in found)
        raise UsageError(f"several drivers can be poked, choose one with --node-name: {nodes}")
    return found[0]
