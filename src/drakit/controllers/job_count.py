"""The pods of a Job sorted and counted, and what follows for the Job.

Which failures count is the Job's to say (`podFailurePolicy`), and how many an index may have
(`backoffLimitPerIndex`). Nothing here acts: `drakit.controllers.job` does.
"""

from __future__ import annotations

from collections.abc import Iterable

from drakit.controllers.pod import is_active, is_deleting, is_ready, is_terminal, phase
from drakit.transport import Document

TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
_UNLIMITED = (1 << 31) - 1


class Count:
    """`counted` are ends that are in the status being written, or need not be, and still carry the
    finalizer; `terminating` pods are on their way out."""

    def __init__(self, job: Document, pods: list[Document]) -> None:
        self._spec, status = job["spec"], job.get("status") or {}
        self.completions: int | None = self._spec.get("completions")
        self.is_indexed = self._spec.get("completionMode") == "Indexed"
        self.per_index: int | None = self._spec.get("backoffLimitPerIndex")
        self.active = [pod for pod in pods if is_active(pod)]
        self.terminating = [pod for pod in pods if is_deleting(pod) and not is_terminal(pod)]
        over = [pod for pod in pods if is_terminal(pod) or (is_deleting(pod) and not self.waits_for_end)]
        self.counted = [pod for pod in over if is_tracked(pod)]
        self.ready = sum(is_ready(pod) for pod in self.active)
        self.fail_job = next(filter(None, map(self._fail_job, self.counted)), "")
        self._done = read_indexes(status.get("completedIndexes") or "")
        self._failed_indexes = read_indexes(status.get("failedIndexes") or "")
        self._count(status)
        if self.is_indexed:
            self._done |= {index_of(p) for p in self.counted if phase(p) == "Succeeded"} - {-1}
            self.succeeded = len(self._done)
        if self.per_index is not None:
            self._failed_indexes |= {index_of(p) for p in self.counted if self._fails_index(p)} - self._done

    def _count(self, status: Document) -> None:
        held = {pod["metadata"]["uid"] for pod in self.counted}
        uncounted = status.get("uncountedTerminatedPods") or {}
        good = {p["metadata"]["uid"] for p in self.counted if phase(p) == "Succeeded"}
        bad = {p["metadata"]["uid"] for p in self.counted if phase(p) != "Succeeded" and self._counts(p)}
        known_good = held & set(uncounted.get("succeeded") or ())
        known_bad = held & set(uncounted.get("failed") or ())
        self.succeeded = int(status.get("succeeded") or 0) + len(good - known_good)
        self.failed = int(status.get("failed") or 0) + len(bad - known_bad)
        self._uncounted = {"succeeded": sorted(good | known_good), "failed": sorted(bad | known_bad)}

    @property
    def waits_for_end(self) -> bool:
        """Whether a pod is replaced only when it has ended, not already when it is told to go."""
        default = "Failed" if self._spec.get("podFailurePolicy") else "TerminatingOrFailed"
        return bool((self._spec.get("podReplacementPolicy") or default) == "Failed")

    # --- the policy of failures -------------------------------------------------------------------

    def _rule(self, pod: Document) -> tuple[int, Document, str] | None:
        """The first rule of the policy that the failed `pod` matches: its place, itself and why."""
        if phase(pod) == "Succeeded":
            return None
        for place, rule in enumerate((self._spec.get("podFailurePolicy") or {}).get("rules") or ()):
            why = _matches(rule, pod)
            if why:
                return place, rule, why
        return None

    def _action(self, pod: Document) -> str:
        found = self._rule(pod)
        return str(found[1]["action"]) if found else "Count"

    def _counts(self, pod: Document) -> bool:
        return self._action(pod) != "Ignore"

    def _fail_job(self, pod: Document) -> str:
        """Why `pod` fails the whole job; "" if it does not."""
        found = self._rule(pod)
        if found is None or found[1]["action"] != "FailJob":
            return ""
        return f"{found[2]} matching FailJob rule at index {found[0]}"

    # --- indexes ----------------------------------------------------------------------------------

    def _fails_index(self, pod: Document) -> bool:
        if phase(pod) == "Succeeded" or self.per_index is None:
            return False
        action = self._action(pod)
        return action == "FailIndex" or (action != "Ignore" and _failures_of(pod) + 1 > self.per_index)

    def failures_before(self, index: int, pods: Iterable[Document]) -> int:
        """How often the index has failed, by what its ended pods say."""
        ended = [p for p in pods if index_of(p) == index and not is_active(p) and phase(p) != "Succeeded"]
        return max((_failures_of(pod) + self._counts(pod) for pod in ended), default=0)

    def free_indexes(self) -> list[int]:
        """The indexes that are neither done nor failed nor taken, in order."""
        busy = [*self.active, *(self.terminating if self.waits_for_end else ())]
        taken = self._done | self._failed_indexes | {index_of(pod) for pod in busy}
        return [index for index in range(self.completions or 0) if index not in taken]

    @property
    def left(self) -> int:
        """How many pods still have to succeed."""
        assert self.completions is not None
        return self.completions - self.succeeded - len(self._failed_indexes)

    # --- what follows -----------------------------------------------------------------------------

    @property
    def is_complete(self) -> bool:
        if self.completions is None:
            return self.succeeded > 0 and not self.active
        return self.left <= 0

    @property
    def failed_indexes(self) -> int:
        return len(self._failed_indexes)

    def is_beyond_backoff(self) -> bool:
        """Whether more pods failed, or containers started anew, than `backoffLimit` allows."""
        limit: int = self._spec.get("backoffLimit", 6 if self.per_index is None else _UNLIMITED)
        if self.failed > limit:
            return True
        if (self._spec["template"].get("spec") or {}).get("restartPolicy") != "OnFailure":
            return False
        restarts = sum(
            int(row.get("restartCount") or 0)
            for pod in self.active
            for field in ("containerStatuses", "initContainerStatuses")
            for row in (pod.get("status") or {}).get(field) or ()
        )
        return restarts > 0 if limit == 0 else restarts >= limit

    def success_rule(self) -> int | None:
        """The place of the rule of `successPolicy` that is met."""
        if not self.is_indexed:
            return None
        for place, rule in enumerate((self._spec.get("successPolicy") or {}).get("rules") or ()):
            wanted, done = rule.get("succeededIndexes"), self._done
            if wanted is not None:
                among = read_indexes(wanted)
                done = done & among
                needed = rule.get("succeededCount") or len(among)
            else:
                needed = rule.get("succeededCount") or _UNLIMITED
            if len(done) >= needed:
                return place
        return None

    def status(self) -> Document:
        return {
            "active": len(self.active) or None,
            "ready": self.ready,
            "terminating": len(self.terminating),
            "succeeded": self.succeeded or None,
            "failed": self.failed or None,
            "completedIndexes": write_indexes(self._done) or None,
            "failedIndexes": write_indexes(self._failed_indexes) if self.per_index is not None else None,
            "uncountedTerminatedPods": {k: v for k, v in self._uncounted.items() if v},
        }


def is_tracked(pod: Document) -> bool:
    return TRACKING in (pod["metadata"].get("finalizers") or ())


def _matches(rule: Document, pod: Document) -> str:
    """Why a failed pod matches a rule of `podFailurePolicy`; "" if it does not."""
    meta, status = pod["metadata"], pod.get("status") or {}
    key = f"{meta['namespace']}/{meta['name']}"
    codes = rule.get("onExitCodes")
    if codes is not None:
        for field in ("containerStatuses", "initContainerStatuses"):
            for row in status.get(field) or ():
                ended = (row.get("state") or {}).get("terminated") or {}
                code = ended.get("exitCode", 0)
                if not code or codes.get("containerName") not in (None, row.get("name")):
                    continue
                if (code in (codes.get("values") or ())) == (codes.get("operator") == "In"):
                    return f"Container {row.get('name')} for pod {key} failed with exit code {code}"
        return ""
    for wanted in rule.get("onPodConditions") or ():
        for row in status.get("conditions") or ():
            if row.get("type") == wanted.get("type") and row.get("status") == (
                wanted.get("status") or "True"
            ):
                return f"Pod {key} has condition {row['type']}"
    return ""


def _failures_of(pod: Document) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(INDEX_FAILURES, "0")
    return int(text) if text.isdigit() else 0


def index_of(pod: Document) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdigit() else -1


def read_indexes(text: str) -> set[int]:
    """The numbers of "0,3-5"."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def write_indexes(indexes: set[int]) -> str:
    parts: list[list[int]] = []
    for index in sorted(indexes):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a},{b}" if b == a + 1 else f"{a}-{b}" for a, b in parts)
