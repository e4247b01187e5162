"""`dra up`: an embedded cluster in this process until Ctrl-C, or in the background with --detach."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from drakit.cli import complete
from drakit.cluster.options import (
    LOOPBACK,
    MAX_NODES,
    Options,
    is_loopback,
    parse_drivers,
    parse_gates,
    parse_listen,
)
from drakit.cluster.place import Place, Running, default_data_dir
from drakit.errors import UsageError
from drakit.profile import DEFAULT_VERSION, VERSIONS, profile_for

_DETACH_SECONDS = 60.0


@click.command()
@click.option(
    "--nodes",
    default=1,
    type=click.IntRange(0, MAX_NODES),
    show_default=True,
    help="Nodes that run containers.",
)
@click.option(
    "--fake-nodes",
    default=0,
    type=click.IntRange(0, 5000),
    show_default=True,
    help="Nodes that only look as if they did.",
)
@click.option(
    "--driver",
    "drivers",
    multiple=True,
    metavar="NAME[:K=V,...]",
    shell_complete=complete.driver,
    help="A driver on every node, such as gpu:count=8; `dra driver list` shows them. Repeatable.",
)
@click.option(
    "--kubernetes-version",
    default=DEFAULT_VERSION,
    show_default=True,
    shell_complete=lambda _context, _parameter, typed: [name for name in VERSIONS if name.startswith(typed)],
    help=f"One of {', '.join(VERSIONS)}.",
)
@click.option(
    "--feature-gates",
    multiple=True,
    metavar="NAME=true,...",
    shell_complete=complete.gate,
    help="DRA feature gates; all=true for every one.",
)
@click.option(
    "--runtime",
    type=click.Choice(["oci", "cri", "process", "bubblewrap", "plain"]),
    help="How containers run. Default: the best that works here.",
)
@click.option(
    "--cri-socket",
    metavar="PATH",
    help="Socket of the containerd or CRI-O that runs containers (--runtime cri). Default: the usual ones.",
)
@click.option(
    "--port",
    default=0,
    type=click.IntRange(0, 65535),
    help="Port of the API server. Default: the last one used, or a free one.",
)
@click.option(
    "--listen",
    default=LOOPBACK,
    show_default=True,
    metavar="ADDRESS",
    help="IP address the API server listens on. Others than loopback let other machines in, with a token.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the cluster is kept. Default: $DRAKIT_DATA_DIR or the user's state folder.",
)
@click.option("--ephemeral", is_flag=True, help="Keep nothing: memory, and a temporary folder.")
@click.option(
    "--durability",
    type=click.Choice(["normal", "full"]),
    default="normal",
    show_default=True,
    help="full: an acknowledged write survives power loss.",
)
@click.option("--detach", "-d", is_flag=True, help="Return once it is ready; stop it with `dra down`.")
def command(
    nodes: int,
    fake_nodes: int,
    drivers: tuple[str, ...],
    kubernetes_version: str,
    feature_gates: tuple[str, ...],
    runtime: str | None,
    cri_socket: str | None,
    port: int,
    listen: str,
    data_dir: Path | None,
    ephemeral: bool,
    durability: str,
    detach: bool,
) -> None:
    """Start an embedded cluster: API server, controllers, scheduler, nodes and drivers in one process."""
    if ephemeral and data_dir:
        raise UsageError("--ephemeral keeps nothing, --data-dir keeps it: choose one")
    if ephemeral and detach:
        raise UsageError("--detach needs a folder by which `dra down` finds it: leave out --ephemeral")
    if cri_socket and runtime not in (None, "cri"):
        raise UsageError(f"--cri-socket is for --runtime cri, not for {runtime}")
    options = Options(
        data_dir=None if ephemeral else (data_dir or default_data_dir()),
        nodes=nodes,
        fake_nodes=fake_nodes,
        drivers=parse_drivers(list(drivers)),
        version=kubernetes_version,
        gates=parse_gates(list(feature_gates)),
        port=port,
        listen=parse_listen(listen),
        runtime="cri" if cri_socket and runtime is None else runtime,
        cri_socket=cri_socket,
        is_durable=durability == "full",
    )
    if not is_loopback(options.listen):
        click.echo(
            f"warning: the API server listens on {options.listen}: whoever reaches this machine can try to "
            "log in. Kubeconfigs hold tokens that may do everything; keep them to yourself.",
            err=True,
        )
    if detach:
        _detach(options)
    else:
        _foreground(options)


def _foreground(options: Options) -> None:
    began = time.monotonic()
    import uvloop

    from drakit.cluster.embedded import Embedded
    from drakit.cluster.log import log_to

    cluster = Embedded(options, lambda line: click.echo(f"  {line}"))
    log_to(cluster.place)

    async def main() -> None:
        stop = asyncio.Event()
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, stop.set)
        loaded = time.monotonic()
        running = await cluster.start()
        ready = time.monotonic()
        click.echo(f"Ready in {ready - loaded:.1f} s (and {loaded - began:.1f} s of imports).\n")
        click.echo(_what_next(running, "Ctrl-C"))
        sys.stdout.flush()
        await stop.wait()
        click.echo("\nStopping ...", nl=False)
        await cluster.stop()
        kept = f" The data stay in {cluster.place.root}." if options.data_dir else ""
        click.echo(f" stopped.{kept}")

    uvloop.run(main())


def _what_next(running: Running, stop: str) -> str:
    """What to type now, in a shell as it is printed; `stop` ends the cluster."""
    lines = [f"  export KUBECONFIG={shlex.quote(running.kubeconfig)}", "  kubectl get nodes,resourceslices"]
    examples = [f"examples/{name}" for name in running.drivers if Path("examples", name).is_dir()]
    if examples and "v1" in profile_for(running.version).served:  # they are written in it
        lines.append(f"  kubectl apply -f {examples[0]}")
    return "Next:\n" + "\n".join(lines) + f"\n\nWithout kubectl: `dra kubectl ...`. Stop it with {stop}."


def _detach(options: Options) -> None:
    """Start the same command line in a session of its own and wait until it is ready."""
    assert options.data_dir is not None
    place = Place(options.data_dir)
    if place.running():
        raise place.is_taken()
    place.create()
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--detach", "-d")]
    output = place.root / "up.out"
    with output.open("ab") as sink:  # appended to by another cluster that starts here at this moment, too
        sink.truncate(0)
        child = subprocess.Popen(
            [sys.executable, "-m", "drakit", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            env=os.environ,
        )
    try:
        running = _await_ready(place, child, output)
    except BaseException:  # Ctrl-C as well: nothing may stay that nobody was told of
        child.terminate()
        child.wait()
        raise
    click.echo(f"Kubernetes {running.version} at {running.server}, pid {running.pid}.\n")
    click.echo(_what_next(running, f"`{place.down}`"))


def _await_ready(place: Place, child: subprocess.Popen[bytes], output: Path) -> Running:
    """What the cluster of process `child` says of itself. Raises UsageError: it ended, or takes too long."""
    deadline = time.monotonic() + _DETACH_SECONDS
    while time.monotonic() < deadline:
        if (running := place.running()) and running.pid == child.pid:
            return running
        if child.poll() is not None:
            raise UsageError(_failure(output) or f"it ended with code {child.returncode}; see {place.log}")
        time.sleep(0.02)
    raise UsageError(f"not ready after {_DETACH_SECONDS:.0f} s; see {output} and {place.log}")


def _failure(path: Path) -> str:
    """The last error in the output of a cluster that ended, else its last line."""
    lines = path.read_text(errors="replace").strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]
