"""What the agent asks of a container runtime, and the values that travel between them.

A runtime keeps its own records on disk, so that `containers()` of a new process finds every container of the
old one: the agent holds no state a restart could lose. A container goes created -> running -> exited and
is never started twice; a restart is a new container with the next `attempt`.

Calls of a pod come in this order: `ensure_image`, `run_sandbox`, (claims are prepared), `create`,
`start`, ..., `stop`, `remove`, `remove_sandbox`. Every call may be repeated after a crash: what is already
done is not an error.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Protocol

from msgspec import Struct, field

from drakit.errors import DRAError
from drakit.node.image import Image
from drakit.podio import ExecSession

State = Literal["created", "running", "exited", "unknown"]

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class RuntimeFailed(DRAError):
    """The runtime could not do it; the text says what and why."""


class UnresolvableCDI(RuntimeFailed):
    """A CDI device of the container does not exist or its file is not valid. Nothing was started."""


class NotRunning(RuntimeFailed):
    """The container is not running (any more)."""


class Info(Struct, frozen=True):
    """`name` stands before container ids. `features` holds what the runtime really does: hooks, netns,
    cgroups, images, devices, mounts.

    `not_isolated` are sentences for a person about what it leaves open, empty for a full runtime. `address`
    is where a runtime answers that is a program of its own."""

    name: str
    version: str
    cdi_versions: str
    features: frozenset[str]
    not_isolated: tuple[str, ...] = ()
    address: str = ""

    @property
    def title(self) -> str:
        """For a person who asks what runs containers here."""
        return f"cri: {self.name} {self.version} at {self.address}" if self.address else self.name


class SandboxSpec(Struct, frozen=True, kw_only=True):
    """A pod's sandbox. `log_folder` is the one above the logs of its containers; `is_privileged` when any of
    them is; with `shares_processes` they see each other's processes."""

    uid: str
    namespace: str
    name: str
    hostname: str
    log_folder: str = ""
    is_host_network: bool = False
    is_host_pid: bool = False
    is_host_ipc: bool = False
    is_privileged: bool = False
    shares_processes: bool = False
    sysctls: dict[str, str] = field(default_factory=dict)


class Sandbox(Struct, frozen=True, kw_only=True):
    """What the containers of a pod share. `pid` holds the namespaces (0 where there are none); `ip` is its
    address in a network of its own, "" where it has none or shares the host's."""

    uid: str
    namespace: str
    name: str
    hostname: str = ""
    pid: int = 0
    pid_started: int = 0
    ip: str = ""
    is_host_network: bool = False
    is_host_pid: bool = False
    is_host_ipc: bool = False
    shares_processes: bool = False
    sysctls: dict[str, str] = field(default_factory=dict)


class Mount(Struct, frozen=True, kw_only=True):
    """A bind mount of a file or folder of the host. `propagation` is Kubernetes' word for it."""

    source: str
    target: str
    is_read_only: bool = False
    propagation: str = "None"


class Limits(Struct, frozen=True, kw_only=True):
    """CPU in thousandths of a core, memory in bytes, huge pages in bytes by page size ("2MB"); None is no
    limit."""

    cpu_request: int | None = None
    cpu_limit: int | None = None
    memory_limit: int | None = None
    huge_pages: dict[str, int] = field(default_factory=dict)


class Security(Struct, frozen=True, kw_only=True):
    """The part of the security context that runtimes apply; None leaves the image's choice. `seccomp` is
    "Unconfined", "RuntimeDefault" or the path of a profile on this machine."""

    user: int | None = None
    group: int | None = None
    groups: list[int] = field(default_factory=list)
    is_privileged: bool = False
    is_root_read_only: bool = False
    allows_escalation: bool = True
    added_capabilities: list[str] = field(default_factory=list)
    dropped_capabilities: list[str] = field(default_factory=list)
    seccomp: str = "Unconfined"


class ContainerSpec(Struct, frozen=True, kw_only=True):
    """One container to create. `command` and `args` take the place of the image's entrypoint and command as
    in a pod. `env` are `NAME=value` texts, later ones win over the image's. `sees_processes_of` is the id of
    a running container."""

    name: str
    attempt: int
    image: Image
    command: list[str] = field(default_factory=list)
    args: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    cwd: str = ""
    mounts: list[Mount] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    security: Security = field(default_factory=Security)
    cdi_devices: list[str] = field(default_factory=list)
    log_path: str
    has_terminal: bool = False
    has_stdin: bool = False
    sees_processes_of: str = ""
    is_stdin_once: bool = False

    @property
    def argv(self) -> list[str]:
        """What runs, as far as the image is known here."""
        default = [] if self.command else self.image.cmd
        return [*(self.command or self.image.entrypoint), *(self.args or default)]


class Container(Struct, frozen=True, kw_only=True):
    """A container as the runtime knows it. Times are seconds since the epoch, 0 when not reached.

    `not_isolated` says what of the spec this container runs without; `error` why it could not run.
    """

    id: str
    pod_uid: str
    pod_namespace: str
    pod_name: str
    name: str
    attempt: int
    image: str
    image_id: str
    log_path: str
    cdi_devices: list[str] = field(default_factory=list)
    state: State = "created"
    pid: int = 0
    pid_started: int = 0
    exit_code: int = 0
    is_oom_killed: bool = False
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    not_isolated: list[str] = field(default_factory=list)
    error: str = ""


class Stats(Struct, frozen=True, kw_only=True):
    """CPU seconds used so far and bytes of memory in use now."""

    cpu_seconds: float
    memory_bytes: int


class Login(Struct, frozen=True):
    """Who to be at a registry; fields as in CRI's AuthConfig."""

    username: str
    password: str


Logins = Callable[[str], Awaitable[Sequence[Login]]]
"""The logins to try for an image, by its normalized name."""


class Runtime(Protocol):
    """Raises RuntimeFailed, with a text for the pod's events, from every call that may fail."""

    @property
    def info(self) -> Info: ...

    async def ensure_image(
        self, reference: str, policy: str = "IfNotPresent", logins: Logins | None = None
    ) -> Image:
        """The image `reference` names, by the pull policy `policy` and with `logins` where the runtime can
        pull. Raises ImageNotFound, saying where it was looked for."""
        ...

    async def run_sandbox(self, spec: SandboxSpec) -> Sandbox: ...

    async def remove_sandbox(self, uid: str) -> None:
        """Forget the sandbox; all containers of it must have been removed."""
        ...

    async def create(self, sandbox: Sandbox, spec: ContainerSpec) -> Container:
        """Make the container ready to start. Raises UnresolvableCDI before anything runs."""
        ...

    async def start(self, container_id: str) -> Container:
        """Start it, and return once its command runs (hooks done)."""
        ...

    async def stop(self, container_id: str, grace_seconds: float) -> Container:
        """SIGTERM, then SIGKILL after `grace_seconds`; returns when it has exited."""
        ...

    async def remove(self, container_id: str) -> None:
        """Kill it if it runs and drop its files, the log excepted."""
        ...

    async def status(self, container_id: str) -> Container | None: ...

    async def containers(self) -> list[Container]:
        """Every container this runtime keeps, of all pods, from its records on disk."""
        ...

    async def sandboxes(self) -> list[Sandbox]: ...

    async def wait(self, container_id: str) -> Container:
        """Return when it has exited; costs nothing meanwhile."""
        ...

    async def exec(
        self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> ExecSession: ...

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> ExecSession:
        """The container's own input and output from now on; ends, with code 0, when the container does.
        `tty` says whether it has a terminal."""
        ...

    async def stats(self, container_id: str) -> Stats: ...


_SAFE = re.compile(r"[^a-zA-Z0-9_.-]")


def container_id(pod_uid: str, name: str, attempt: int) -> str:
    """The id of a container: the same again after a restart of the agent."""
    return _SAFE.sub("_", f"{pod_uid}.{name}.{attempt}")


def merged_env(*parts: Sequence[str]) -> list[str]:
    """The variables of all `parts`; of the same name the last one, at its first place."""
    values: dict[str, str] = {}
    for part in parts:
        for entry in part:
            values[entry.partition("=")[0]] = entry
    return list(values.values())
