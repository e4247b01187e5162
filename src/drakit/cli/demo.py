"""`dra demo`: the three roles of DRA, played with real commands on an embedded cluster of its own.

A story is data: what a role says and the commands it types. Each command is run as it is printed; one
that fails ends the demo with its exit code, after the cluster is gone.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from importlib.resources import as_file, files
from pathlib import Path

import click
from msgspec import Struct

from drakit.cli.kubectl import find_or_fetch
from drakit.errors import DRAError, UsageError


class Step(Struct, frozen=True):
    """One command of a story, with the sentence that leads to it; a role's name starts its part."""

    command: str
    say: str = ""
    role: str = ""


_DRIVER = "driver developer"
_ADMIN = "cluster admin"
_APP = "app developer"

_EVENTS = (
    "kubectl get events --field-selector involvedObject.name={pod},reason=FailedScheduling"
    " -o custom-columns=EVENT:.reason,MESSAGE:.message"
)
_WAITING = (
    "kubectl wait --for=jsonpath='{{.status.conditions[0].reason}}'=Unschedulable pod/{pod} --timeout=30s"
)

_PIZZA = [
    Step("kubectl get resourceslices", "The pizza driver publishes what its kitchen has:", _DRIVER),
    Step("kubectl apply -f pizza/1-class.yaml", "A class names what guests may order:", _ADMIN),
    Step(
        "kubectl apply -f pizza/2-claim.yaml -f pizza/3-pod.yaml",
        "A claim is the order, the pod is the table:",
        _APP,
    ),
    Step("kubectl wait --for=condition=Ready pod/pizza-table --timeout=30s"),
    Step("kubectl get resourceclaim my-pizza-order", "The scheduler chose a device and reserved it:"),
    Step("kubectl logs pizza-table", "The container got what was ordered:"),
    Step("kubectl delete -f pizza/3-pod.yaml -f pizza/2-claim.yaml"),
]
_GPU = [
    Step(
        "kubectl get resourceslices -o custom-columns="
        "'NODE:.spec.nodeName,DRIVER:.spec.driver,DEVICES:.spec.devices[*].name'"
        " --field-selector spec.driver=gpu.example.com",
        "The GPU driver publishes four (simulated) GPUs a node:",
        _DRIVER,
    ),
    Step("kubectl apply -f gpu/00-class.yaml", "A class makes them available by name:", _ADMIN),
    Step(
        "kubectl apply -f gpu/01-one-per-pod.yaml -f gpu/04-several-requests.yaml",
        "Three pods ask for GPUs:",
        _APP,
    ),
    Step("kubectl wait --for=condition=Ready pod/one-gpu-a pod/one-gpu-b --timeout=30s"),
    Step("kubectl logs one-gpu-a", "Each container sees its own GPU and no other:"),
    Step("kubectl logs one-gpu-b"),
    Step(
        _WAITING.format(pod="train-and-render"),
        "The third wants three, and two are left. It waits and says why:",
    ),
    Step(_EVENTS.format(pod="train-and-render")),
    Step("kubectl delete pod one-gpu-a", "One GPU comes back, and the waiting pod starts by itself:"),
    Step("kubectl wait --for=condition=Ready pod/train-and-render --timeout=30s"),
    Step("kubectl logs train-and-render -c train"),
    Step("kubectl get resourceclaims"),
    Step("kubectl delete -f gpu/01-one-per-pod.yaml -f gpu/04-several-requests.yaml --ignore-not-found"),
]
_CPU = [
    Step(
        "kubectl get resourceslices -o custom-columns="
        "'NODE:.spec.nodeName,DRIVER:.spec.driver,DEVICES:.spec.devices[*].name'"
        " --field-selector spec.driver=dra.cpu",
        "The CPU driver publishes this machine's real cores:",
        _DRIVER,
    ),
    Step("kubectl apply -f cpu/1-classes.yaml", "Classes by architecture and vendor:", _ADMIN),
    Step("kubectl apply -f cpu/2-one-core.yaml", "A pod asks for one core of its own:", _APP),
    Step("kubectl wait --for=condition=Ready pod/one-core --timeout=30s"),
    Step("nproc", f"This machine has {os.cpu_count()}:"),
    Step("kubectl exec one-core -- nproc", "The container has:"),
    Step("kubectl exec one-core -- sh -c 'taskset -p $$'"),
    Step("kubectl delete -f cpu/2-one-core.yaml"),
]
_STORIES = {"pizza": _PIZZA, "gpu": _GPU, "cpu": _CPU}


@click.command()
@click.argument("story", required=False, type=click.Choice(list(_STORIES)))
@click.option(
    "--runtime",
    type=click.Choice(["oci", "process", "bubblewrap", "plain"]),
    help="How containers run. Default: the best that works here.",
)
def command(story: str | None, runtime: str | None) -> None:
    """Play the roles of DRA on an embedded cluster: all stories, or pizza, gpu or cpu alone."""
    began = time.monotonic()
    names = [story] if story else list(_STORIES)
    kubectl = find_or_fetch()
    with as_file(_examples()) as examples, tempfile.TemporaryDirectory(prefix="drakit-demo-") as folder:
        stage = _Stage(examples, Path(folder), kubectl)
        up = "dra up --detach" + "".join(f" --driver {_driver(name)}" for name in names)
        up += f" --runtime {runtime}" if runtime else ""
        try:
            stage.play(Step(up, "An embedded cluster, in one process, with the drivers on its node:"))
            stage.play(Step("kubectl get nodes"))
            for name in names:
                click.secho(f"\n{'=' * 8} {name} {'=' * 8}", bold=True)
                for step in _STORIES[name]:
                    stage.play(step)
        finally:
            stage.end()
    click.echo(f"\nThat was DRA, end to end, in {time.monotonic() - began:.0f} s. Next: dra up --driver gpu")


def _driver(name: str) -> str:
    return "gpu:count=4" if name == "gpu" else name


def _examples() -> Path:
    """The examples of the checkout, or the ones packed into the wheel."""
    checkout = Path(__file__).parents[3] / "examples"
    if (checkout / "pizza").is_dir():
        return checkout
    packed = files("drakit") / "examples"
    if not packed.is_dir():
        raise UsageError("the examples are not installed: run the demo from a checkout")
    with as_file(packed) as path:
        return path


class _Stage:
    """Runs commands where the examples are, against a cluster in `folder`."""

    def __init__(self, examples: Path, folder: Path, kubectl: str) -> None:
        self._cwd = examples
        binaries = folder / "bin"
        binaries.mkdir()
        for name, target in (
            ("kubectl", shlex.quote(kubectl)),
            ("dra", f"{shlex.quote(sys.executable)} -m drakit"),
        ):
            (binaries / name).write_text(f'#!/bin/sh\nexec {target} "$@"\n')
            (binaries / name).chmod(0o755)
        data = folder / "cluster"
        self._environment = os.environ | {
            "DRAKIT_DATA_DIR": str(data),
            "KUBECONFIG": str(data / "kubeconfig"),
            "KUBECACHEDIR": str(folder / "kubectl-cache"),
            "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def play(self, step: Step) -> None:
        """Print and run one step; DRAError if its command fails."""
        if step.role:
            click.secho(f"\n-- {step.role} --", fg="cyan", bold=True)
        if step.say:
            click.echo(f"\n{step.say}")
        click.secho(f"$ {step.command}", fg="green")
        sys.stdout.flush()
        code = self._run(step.command)
        if code:
            raise DRAError(f"`{step.command}` ended with code {code}")

    def end(self) -> None:
        """Stop the cluster if it runs; quiet, since it may never have started."""
        click.secho("\n$ dra down --delete", fg="green")
        sys.stdout.flush()
        self._run("dra down --delete")

    def _run(self, command: str) -> int:
        return subprocess.run(
            ["sh", "-c", command], cwd=self._cwd, env=self._environment, check=False
        ).returncode
