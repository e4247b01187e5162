"""From what a client sent to what the server keeps, and back.

A request names a version of its kind; the server keeps every resource.k8s.io object in v1 (pool status
requests in v1alpha3, which is all they have). In between: types are checked with Go's own error texts,
unknown and repeated fields found, empty values dropped as Go's encoder drops them, quantities made
canonical, defaults set in the version of the request, and the document converted.
"""

from __future__ import annotations

from msgspec import Struct

from drakit.transport import Document


class Decoded(Struct, frozen=True):
    """`document` in the kept version and the texts for `Warning` headers."""

    document: Document
    warnings: list[str]
