"""Making one attempt of a container: its image, environment, mounts and specification put together."""

from __future__ import annotations

from drakit.node.container_spec import build_spec
from drakit.node.env import Facts, build_env
from drakit.node.image import Image
from drakit.node.pod_files import PodFiles
from drakit.node.pod_names import name_files
from drakit.node.pull_secret import PullSecrets
from drakit.node.runtime import Container, Mount, Sandbox
from drakit.node.surroundings import Surroundings
from drakit.node.tell import Tell
from drakit.node.volume import Volumes
from drakit.transport import Document


class ContainerMaker:
    """Makes the containers of one pod."""

    def __init__(self, around: Surroundings, files: PodFiles, volumes: Volumes) -> None:
        self._around = around
        self._files = files
        self._volumes = volumes

    async def find_image(self, pod: Document, spec: Document, tell: Tell) -> tuple[Image, str]:
        """The container's image, and what to say about it. Raises ImageNotFound."""
        reference = str(spec.get("image") or "")
        policy = spec.get("imagePullPolicy") or "IfNotPresent"
        secrets = PullSecrets(self._around.client, pod, tell)
        image = await self._around.runtime.ensure_image(reference, policy, secrets.logins)
        origin = f" ({image.origin})" if image.origin else ""
        text = f'Container image "{reference}" already present on machine and can be accessed by the pod'
        return image, text + origin

    async def create(
        self,
        pod: Document,
        spec: Document,
        image: Image,
        attempt: int,
        sandbox: Sandbox,
        facts: Facts,
        *,
        target: str,
    ) -> Container:
        """The container, ready to start, beside the processes of the container `target` if there is one.
        Raises ConfigFailed, UnresolvableCDI, RuntimeFailed or OSError."""
        env = await build_env(self._around.client, pod, spec, facts)
        mounts = self._volumes.mounts(spec, env)
        message_file = self._files.make_termination(spec["name"], attempt)
        message_path = spec.get("terminationMessagePath") or "/dev/termination-log"
        mounts.append(Mount(source=str(message_file), target=message_path))
        request = build_spec(
            pod,
            spec,
            attempt=attempt,
            image=image,
            env=env,
            mounts=[*self._name_mounts(pod, sandbox, {mount.target for mount in mounts}), *mounts],
            cdi_devices=self._around.claims.cdi_devices(pod, spec),
            log_path=str(self._files.log(spec["name"], attempt)),
            target=target,
        )
        return await self._around.runtime.create(sandbox, request)

    def _name_mounts(self, pod: Document, sandbox: Sandbox, taken: set[str]) -> list[Mount]:
        """The files with names, where the container does not mount its own; a runtime without a network for
        each pod leaves it the host's names too."""
        if "netns" not in self._around.runtime.info.features:
            return []
        files = {path: text for path, text in name_files(pod, sandbox).items() if path not in taken}
        return [Mount(source=str(self._files.write(path, text)), target=path) for path, text in files.items()]
