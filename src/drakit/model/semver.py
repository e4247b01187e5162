"""Semantic versions as DRA attributes have them.

Source: github.com/blang/semver/v4 for parsing, order and error texts; `normalize` is that of the
Kubernetes CEL library. Build metadata takes no part in comparison, equality or hash.
"""

from __future__ import annotations

import re
from functools import lru_cache, total_ordering

from drakit.model.quote import quoted

_UINT64_MAX = (1 << 64) - 1
_ALPHANUMERIC = re.compile(r"[0-9A-Za-z-]*", re.ASCII)
_NUMERIC = re.compile(r"[0-9]*", re.ASCII)

_Identifier = tuple[int, int, str]
"""A prerelease part in its order: numbers first, then text, as (is text, number, text)."""


@total_ordering
class Version:
    """An immutable version; `key` orders it. Major, minor and patch are below 2^64."""

    __slots__ = ("_build", "_prerelease", "key", "major", "minor", "patch")

    key: tuple[int, int, int, bool, tuple[_Identifier, ...]]

    def __init__(
        self,
        major: int,
        minor: int,
        patch: int,
        prerelease: tuple[str, ...] = (),
        build: tuple[str, ...] = (),
    ) -> None:
        """The parts must be valid already; text comes in through `parse`."""
        self.major = major
        self.minor = minor
        self.patch = patch
        self._prerelease = prerelease
        self._build = build
        self.key = (major, minor, patch, not prerelease, tuple(_identifier(part) for part in prerelease))

    @staticmethod
    def parse(text: str, normalize: bool = False) -> Version:
        """The version `text` stands for. Raises ValueError with the upstream text.

        `normalize` first drops a leading "v" and leading zeros and fills up missing parts.
        """
        return parse_text(_normalized(text) if normalize else text)

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        if self._prerelease:
            text += "-" + ".".join(self._prerelease)
        if self._build:
            text += "+" + ".".join(self._build)
        return text

    def __repr__(self) -> str:
        return f"Version({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: Version) -> bool:
        return self.key < other.key

    def __gt__(self, other: Version) -> bool:
        return self.key > other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=4096)
def parse_text(text: str) -> Version:
    """`Version.parse` without normalization, remembered."""
    if not text:
        raise ValueError("Version string empty")
    parts = text.split(".", 2)
    if len(parts) != 3:
        raise ValueError("No Major.Minor.Patch elements found")
    major = _number(parts[0], "major")
    minor = _number(parts[1], "minor")
    rest, has_build, build_text = parts[2].partition("+")
    rest, has_prerelease, prerelease_text = rest.partition("-")
    patch = _number(rest, "patch")
    prerelease = tuple(prerelease_text.split(".")) if has_prerelease else ()
    build = tuple(build_text.split(".")) if has_build else ()
    for part in prerelease:
        _check_prerelease(part)
    for part in build:
        if not part:
            raise ValueError("Build meta data is empty")
        if not _ALPHANUMERIC.fullmatch(part):
            raise ValueError(f"Invalid character(s) found in build meta data {quoted(part)}")
    return Version(major, minor, patch, prerelease, build)


def _number(text: str, name: str) -> int:
    if not _NUMERIC.fullmatch(text):
        raise ValueError(f"Invalid character(s) found in {name} number {quoted(text)}")
    if len(text) > 1 and text[0] == "0":
        raise ValueError(f"{name.capitalize()} number must not contain leading zeroes {quoted(text)}")
    return _uint64(text)


def _uint64(text: str) -> int:
    if not text:
        raise ValueError('strconv.ParseUint: parsing "": invalid syntax')
    if len(text) > 20 or int(text) > _UINT64_MAX:
        raise ValueError(f"strconv.ParseUint: parsing {quoted(text)}: value out of range")
    return int(text)


def _check_prerelease(text: str) -> None:
    if not text:
        raise ValueError("Prerelease is empty")
    if _NUMERIC.fullmatch(text):
        if len(text) > 1 and text[0] == "0":
            raise ValueError(f"Numeric PreRelease version must not contain leading zeroes {quoted(text)}")
        _uint64(text)
    elif not _ALPHANUMERIC.fullmatch(text):
        raise ValueError(f"Invalid character(s) found in prerelease {quoted(text)}")


def _identifier(part: str) -> _Identifier:
    return (0, int(part), "") if _NUMERIC.fullmatch(part) else (1, 0, part)


def _normalized(text: str) -> str:
    parts = text.removeprefix("v").split(".", 2)
    for i, part in enumerate(parts):
        if len(part) > 1 or not part.isascii():
            stripped = part.lstrip("0")
            parts[i] = stripped if _NUMERIC.fullmatch(stripped[:1]) and stripped else "0" + stripped
    if len(parts) < 3:
        if any(c in "+-" for c in parts[-1]):
            raise ValueError("short version cannot contain PreRelease/Build meta data")
        parts += ["0"] * (3 - len(parts))
    return ".".join(parts)
