"""The errors of drakit, drawn once.

    DRAError
      APIError             a Kubernetes Status, one class per reason; the server raises and encodes it,
                           the client decodes and raises the same class
        BadRequest Unauthorized Forbidden NotFound MethodNotAllowed NotAcceptable AlreadyExists Conflict
        Expired Invalid UnsupportedMediaType TooManyRequests RequestTooLarge InternalError
        ServiceUnavailable Timeout InsufficientStorage
      CELError             an expression that does not compile or fails on a device
      AllocationError      bad input: stop this pod everywhere
        FailedOnNode       only this node cannot be used
        SearchGaveUp       no answer within the budget of steps
      RecoverableError     a driver's "not yet": the caller tries again
      UsageError           the person at the keyboard can fix it; printed as one line

"Does not fit" is an answer of the allocator, not an error. A bug is no DRAError: it keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class DRAError(Exception):
    """What drakit raises on purpose; its text is one line fit for a person."""


class UsageError(DRAError):
    """Wrong command line, file or environment: the text says what to do about it."""


class RecoverableError(DRAError):
    """A driver cannot do it now but may later; the kubelet's side retries."""


class CELError(DRAError):
    """A CEL expression that does not compile, or that failed while it was evaluated.

    `position` is the 0-based offset into `source` where the trouble starts (None when it has none),
    `message` the bare text without the source excerpt.
    """

    def __init__(self, message: str, *, source: str = "", position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.source = source
        self.position = position


class AllocationError(DRAError):
    """Input that no node can help: unknown class, broken selector, limits. Stops the pod everywhere."""


class FailedOnNode(AllocationError):
    """This node cannot be used (for example an invalid pool); others may."""


class SearchGaveUp(AllocationError):
    """The search used up its steps without an answer; counted, never a hang."""


class FieldError:
    """One field of an object that breaks a rule, in the terms of a Status cause.

    `reason` is a Kubernetes cause reason (FieldValueRequired, FieldValueInvalid, ...), `field` the path
    (`spec.devices.requests[0].name`), `message` the text behind the path.
    """

    __slots__ = ("field", "message", "reason")

    def __init__(self, reason: str, field: str, message: str) -> None:
        self.reason = reason
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"

    __repr__ = __str__


class APIError(DRAError):
    """A Kubernetes Status of failure. `code` is the HTTP status, `details` the Status' own details."""

    reason: ClassVar[str] = ""
    default_code: ClassVar[int] = 500

    def __init__(
        self, message: str, *, code: int | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code if code is not None else self.default_code
        self.details = details

    def status(self) -> dict[str, Any]:
        """The Status document as it goes over the wire."""
        document: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            document["reason"] = self.reason
        if self.details is not None:
            document["details"] = self.details
        document["code"] = self.code
        return document


class BadRequest(APIError):
    reason = "BadRequest"
    default_code = 400


class Unauthorized(APIError):
    reason = "Unauthorized"
    default_code = 401


class Forbidden(APIError):
    reason = "Forbidden"
    default_code = 403


class NotFound(APIError):
    reason = "NotFound"
    default_code = 404


class MethodNotAllowed(APIError):
    reason = "MethodNotAllowed"
    default_code = 405


class NotAcceptable(APIError):
    reason = "NotAcceptable"
    default_code = 406


class AlreadyExists(APIError):
    reason = "AlreadyExists"
    default_code = 409


class Conflict(APIError):
    reason = "Conflict"
    default_code = 409


class Expired(APIError):
    """The resourceVersion or continue token is older than the history kept: list again. `continue_token`
    goes on with a list regardless of what changed meanwhile."""

    reason = "Expired"
    default_code = 410
    continue_token = ""

    def status(self) -> dict[str, Any]:
        document = super().status()
        if self.continue_token:
            document["metadata"] = {"continue": self.continue_token}
        return document


class RequestTooLarge(APIError):
    reason = "RequestEntityTooLarge"
    default_code = 413


class UnsupportedMediaType(APIError):
    reason = "UnsupportedMediaType"
    default_code = 415


class Invalid(APIError):
    """An object that breaks rules; every broken field is among the causes."""

    reason = "Invalid"
    default_code = 422

    @classmethod
    def of(cls, group: str, kind: str, name: str, errors: Sequence[FieldError]) -> Invalid:
        """The Status Kubernetes gives for `errors` on the object `kind.group` called `name`."""
        kind_text = f"{kind}.{group}" if group else kind
        texts = list(dict.fromkeys(str(error) for error in errors))
        body = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
        causes = [{"reason": e.reason, "message": e.message, "field": e.field} for e in errors]
        details: dict[str, Any] = {"name": name, "group": group, "kind": kind, "causes": causes}
        details = {key: value for key, value in details.items() if value}
        return cls(f'{kind_text} "{name}" is invalid: {body}', details=details)


class TooManyRequests(APIError):
    reason = "TooManyRequests"
    default_code = 429


class InternalError(APIError):
    reason = "InternalError"
    default_code = 500


class ServiceUnavailable(APIError):
    reason = "ServiceUnavailable"
    default_code = 503


class Timeout(APIError):
    reason = "Timeout"
    default_code = 504


class InsufficientStorage(APIError):
    """The disk is full: nothing was written; free space and try again."""

    reason = "InsufficientStorage"
    default_code = 507


_BY_REASON: dict[str, type[APIError]] = {cls.reason: cls for cls in APIError.__subclasses__() if cls.reason}
_BY_CODE: dict[int, type[APIError]] = {cls.default_code: cls for cls in reversed(APIError.__subclasses__())}


def from_status(document: Any, code: int) -> APIError:
    """The error a server meant by `document` (a Status, or whatever came) with HTTP status `code`."""
    if not isinstance(document, dict):
        document = {"message": str(document)[:500]}
    cls = _BY_REASON.get(str(document.get("reason", ""))) or _BY_CODE.get(code, APIError)
    details = document.get("details")
    return cls(
        str(document.get("message") or f"the server answered {code}"),
        code=code,
        details=details if isinstance(details, dict) else None,
    )
