"""URLs as Go's net/url reads them.

Kubernetes reads a text twice: as a request's URI, which must be absolute or an absolute path, and then as any
reference, which is where `#` ends the rest. Bytes that are no UTF-8 become U+FFFD.

Source: Go's net/url, k8s.io/apiserver/pkg/cel/library/urls.go.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from drakit.cel.charge import register_unit_equality
from drakit.cel.equality import register_refusing
from drakit.cel.library.address import Unreadable, parse_address
from drakit.cel.value import Fault, register_kind
from drakit.model.quote import quoted

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPE = re.compile(r"%(?:[0-9A-Fa-f]{2})?")
_PORT = re.compile(r"(?::[0-9]*)?", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*", re.ASCII)
_NOT_IN_HOST = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=:\[\]<>\"%\x80-\U0010ffff]")
_ESCAPED_IN_HOST = re.compile(r"%(?!25)[0-7]")
_IN_PATH = "$&+,/:;=@-_.~"
_VALID_PATH = re.compile(r"[A-Za-z0-9!$&'()*+,;=:@/\-_.~\[\]%]*", re.ASCII)
_IN_FRAGMENT = "$&+,/:;=?@-_.~!()*"


class _Wrong(Exception):
    """What is wrong with a URL."""


class URL:
    """A parsed URL. `path` is as it was written; `host` has the port with it."""

    __slots__ = ("fragment", "has_query", "host", "opaque", "path", "query", "scheme", "user")

    def __init__(self, scheme: str, opaque: str, user: str | None, host: str, path: str, query: str,
                 has_query: bool) -> None:  # fmt: skip
        self.scheme = scheme
        self.opaque = opaque
        self.user = user
        self.host = host
        self.path = path
        self.query = query
        self.has_query = has_query
        self.fragment = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URL) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        text = f"{self.scheme}:" if self.scheme else ""
        if self.opaque:
            text += self.opaque
        else:
            if self.host or self.user is not None:
                text += "//" + ("" if self.user is None else f"{self.user}@") + self.host
            text += escaped_path(self)
        text += f"?{self.query}" if self.has_query else ""
        return f"{text}#{self.fragment}" if self.fragment else text


def parse(text: str) -> URL:
    """Raises Fault."""
    problem = refusal(text)
    if problem is not None:
        raise Fault(f"URL parse error during conversion from string: {problem}")
    reference, _, fragment = text.partition("#")
    try:
        url = _parse(reference, is_request=False)
        _check_escapes(fragment)
    except _Wrong as wrong:
        raise Fault(
            f"URL parse error during conversion from string: parse {quoted(reference)}: {wrong}"
        ) from None
    url.fragment = quote_from_bytes(_unescaped(fragment), safe=_IN_FRAGMENT)
    return url


def refusal(text: str) -> str | None:
    """Go's error for a text that is no request's URI; None for one that is."""
    try:
        _parse(text, is_request=True)
    except _Wrong as wrong:
        return f"parse {quoted(text)}: {wrong}"
    return None


def _parse(text: str, is_request: bool) -> URL:
    if _CONTROL.search(text):
        raise _Wrong("net/url: invalid control character in URL")
    if not text and is_request:
        raise _Wrong("empty url")
    if text == "*":
        return URL("", "", None, "", "*", "", False)
    if text.startswith(":"):
        raise _Wrong("missing protocol scheme")
    match = _SCHEME.match(text)
    scheme, rest = (match[1].lower(), text[match.end() :]) if match else ("", text)
    rest, question, query = rest.partition("?")
    if not rest.startswith("/"):
        if scheme:
            return URL(scheme, rest, None, "", "", query, bool(question))
        if is_request:
            raise _Wrong("invalid URI for request")
        if ":" in rest.partition("/")[0]:
            raise _Wrong("first path segment in URL cannot contain colon")
    user, host = None, ""
    has_authority = scheme or (not is_request and not rest.startswith("///"))
    if has_authority and rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        user, host = _authority(authority)
        rest = slash + path
    _check_escapes(rest)
    return URL(scheme, "", user, host, rest, query, bool(question))


def _check_escapes(text: str) -> None:
    for match in _ESCAPE.finditer(text):
        if len(match.group()) < 3:
            raise _Wrong(f"invalid URL escape {quoted(text[match.start() : match.start() + 3])}")


def _authority(text: str) -> tuple[str | None, str]:
    """User and host."""
    user, at, host = text.rpartition("@")
    host = _host(host)
    if not at:
        return None, host
    if not _USER.fullmatch(user):
        raise _Wrong("net/url: invalid userinfo")
    _check_escapes(user)
    return user, host


def _host(text: str) -> str:
    if text.startswith("["):
        return _bracketed(text)
    colon = text.find(":")
    if colon >= 0 and not _PORT.fullmatch(text, colon):
        raise _Wrong(f"invalid port {quoted(text[colon:])} after host")
    return _unescaped_host(text)


def _bracketed(text: str) -> str:
    """An IPv6 address in brackets, and a port."""
    end = text.rfind("]")
    if end < 0:
        raise _Wrong("missing ']' in host")
    if not _PORT.fullmatch(text, end + 1):
        raise _Wrong(f"invalid port {quoted(text[end + 1 :])} after host")
    name, percent, zone = text[1:end].partition("%25")
    name = _unescaped_host(name)
    if percent:
        _check_escapes(zone)
        name += "%" + _unescaped(zone).decode("utf-8", "replace")
    try:
        address = parse_address(name).address
    except Unreadable as error:
        raise _Wrong(f"invalid host: {error}") from None
    if isinstance(address, ipaddress.IPv4Address):
        raise _Wrong("invalid IP-literal")
    return f"[{name}]{text[end + 1 :]}"


def _unescaped_host(text: str) -> str:
    """Escapes may only stand for bytes that are not ASCII, or for a percent sign."""
    _check_escapes(text)
    match = _ESCAPED_IN_HOST.search(text)
    if match is not None:
        raise _Wrong(f"invalid URL escape {quoted(text[match.start() : match.start() + 3])}")
    match = _NOT_IN_HOST.search(text)
    if match is not None:
        raise _Wrong(f"invalid character {quoted(match.group())} in host name")
    return _unescaped(text).decode("utf-8", "replace")


def _unescaped(text: str) -> bytes:
    return unquote_to_bytes(text.encode("utf-8", "surrogatepass"))


def is_url(text: str) -> bool:
    return refusal(text) is None


def _host_and_port(url: URL) -> tuple[str, str]:
    host, colon, port = url.host.rpartition(":")
    if not colon or not (port.isdecimal() or not port):
        host, port = url.host, ""
    is_bracketed = host.startswith("[") and host.endswith("]")
    return (host[1:-1] if is_bracketed else host), port


def escaped_path(url: URL) -> str:
    if url.path == "*" or _VALID_PATH.fullmatch(url.path):
        return url.path
    return quote_from_bytes(_unescaped(url.path), safe=_IN_PATH)


def query(url: URL) -> dict[str, list[str]]:
    """The parameters; what is malformed is left out."""
    values: dict[str, list[str]] = {}
    for pair in url.query.split("&"):
        name, _, value = pair.partition("=")
        if pair and ";" not in pair and all(len(match.group()) == 3 for match in _ESCAPE.finditer(pair)):
            values.setdefault(_plain(name), []).append(_plain(value))
    return values


def _plain(text: str) -> str:
    return _unescaped(text.replace("+", " ")).decode("utf-8", "replace")


register_kind(URL, "kubernetes.URL")
register_refusing(URL)
register_unit_equality(URL)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "string_to_url": parse, "is_url_string": is_url, "url_get_scheme": lambda url: url.scheme,
    "url_get_host": lambda url: url.host, "url_get_hostname": lambda url: _host_and_port(url)[0],
    "url_get_port": lambda url: _host_and_port(url)[1], "url_get_escaped_path": escaped_path,
    "url_get_query": query,
}  # fmt: skip
