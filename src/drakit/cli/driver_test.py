"""`dra driver test`: the conformance suite for any driver."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drakit.cli import complete

if TYPE_CHECKING:
    from drakit.conformance.check import Check, Result
    from drakit.conformance.lab import Options


@click.command("test")
@click.argument("driver_command", nargs=-1, metavar="COMMAND...")
@click.option("--driver-name", default="", help="Refuse a driver of another name.")
@click.option("--node-name", default="conformance-node", show_default=True)
@click.option(
    "--claim",
    "claims",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Manifests of the claims to prepare (default: any one device of the driver).",
)
@click.option(
    "--only",
    multiple=True,
    metavar="ID",
    shell_complete=complete.check,
    help="Run this check and what it needs. Repeatable.",
)
@click.option(
    "--skip",
    multiple=True,
    metavar="ID",
    shell_complete=complete.check,
    help="Leave this check out. Repeatable.",
)
@click.option("--list", "lists", is_flag=True, help="Say what the checks are, and run none.")
@click.option(
    "-o", "--output", type=click.Choice(["console", "json", "junit"]), default="console", show_default=True
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    help="Seconds the driver has for each thing it should do.",
)
@click.option(
    "--repair",
    type=click.FloatRange(min=0.1),
    default=120.0,
    show_default=True,
    help="Seconds it has to put right what others did to its slices.",
)
@click.option(
    "--absence",
    type=click.FloatRange(min=0.0),
    default=30.0,
    show_default=True,
    help="Seconds after which the kubelet deletes the slices of a driver that is gone.",
)
@click.option(
    "--cycles", type=click.IntRange(min=1), default=1000, show_default=True, help="For the leak check."
)
@click.option(
    "--cluster-role",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Manifests with the driver's own ClusterRole (default: what drivers need, and no more).",
)
@click.option("--cluster-admin", is_flag=True, help="Let the driver do everything on the API server.")
@click.option("--changed", metavar="COMMAND", default="", help="Starts the driver with other devices.")
@click.option(
    "--kill-command", metavar="COMMAND", default="", help="Kills it where kill -9 of COMMAND does not."
)
@click.option("--rolling-update", is_flag=True, help="Two instances may run, told apart by {pod_uid}.")
def command(
    driver_command: tuple[str, ...],
    driver_name: str,
    node_name: str,
    claims: Path | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    lists: bool,
    output: str,
    timeout: float,
    repair: float,
    absence: float,
    cycles: int,
    cluster_role: Path | None,
    cluster_admin: bool,
    changed: str,
    kill_command: str,
    rolling_update: bool,
) -> int:
    """Judge a DRA driver, in whatever language, by the kubelet's and the API's rules.

    COMMAND starts the driver. It finds its API server by $KUBECONFIG and the kubelet's folders at the
    placeholders {plugins_dir}, {registry_dir} and {cdi_dir} of the command, or in $PLUGINS_DIR, $REGISTRY_DIR
    and $CDI_DIR; also {node_name}, {pod_uid} and {kubeconfig}. Exit code 1 if a check fails.

    \b
    dra driver test -- dra driver run gpu --node-name {node_name} --cdi-dir {cdi_dir} \\
        --plugins-dir {plugins_dir} --registry-dir {registry_dir}
    """
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from drakit.conformance.claim import Manifests, read_manifests, read_rules
    from drakit.conformance.control_plane import RULES
    from drakit.conformance.lab import Options
    from drakit.conformance.suite import select

    checks = select(only, skip)
    if lists:
        for check in checks:
            click.echo(f"{check.id}\n    {check.meaning}\n    Source: {check.source}")
        return 0
    if not driver_command:
        raise click.UsageError("the command that starts the driver is missing: put it behind --")
    options = Options(
        command=tuple(shlex.split(driver_command[0])) if len(driver_command) == 1 else driver_command,
        driver=driver_name,
        node_name=node_name,
        manifests=read_manifests(claims) if claims else Manifests(),
        cycles=cycles,
        timeout=timeout,
        repair=repair,
        absence=absence,
        is_rolling=rolling_update,
        changed=tuple(shlex.split(changed)),
        kill=tuple(shlex.split(kill_command)),
        rules=None if cluster_admin else read_rules(cluster_role) if cluster_role else RULES,
    )
    return asyncio.run(_run(options, checks, output))


async def _run(options: Options, checks: Sequence[Check], output: str) -> int:
    from drakit.conformance import report
    from drakit.conformance.suite import Suite

    def tell(result: Result) -> None:
        click.echo(report.line(result), err=output != "console")

    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    suite = Suite(options, checks, tell)
    results = await suite.run()
    role = report.cluster_role(suite.uses, suite.driver or "driver")
    if output == "console":
        click.echo(
            f"\n{report.summary(results)}\n\nPermissions that were used:\n\n{report.to_yaml(role)}", nl=False
        )
    elif output == "json":
        click.echo(report.to_json(results, role))
    else:
        click.echo(report.to_junit(results, suite.driver or "driver"))
    return int(any(result.status == "fail" for result in results))
