"""URLs as Go's url.ParseRequestURI takes them: absolute, or an absolute path; `#` has no meaning."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from drakit.cel.charge import register_unit_equality
from drakit.cel.equality import register_refusing
from drakit.cel.value import Fault, register_kind

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]*))?", re.ASCII)
_BAD_IN_HOST = re.compile(r"[ \"\\^`{|}#%/?]")
_USER = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*", re.ASCII)
_SAFE_IN_PATH = "$&+,/:;=@-_.~"
_VALID_PATH = re.compile(r"(?:[A-Za-z0-9!$&'()*+,;=:@/\-_.~\[\]]|%[0-9A-Fa-f]{2})*", re.ASCII)


class URL:
    """A parsed URL."""

    __slots__ = ("host", "path", "query", "scheme", "text")

    def __init__(self, text: str, scheme: str, host: str, path: str, query: str) -> None:
        self.text = text
        self.scheme = scheme
        self.host = host
        self.path = path
        self.query = query

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URL) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, ...]:
        return self.scheme, self.host, escaped_path(self), self.query

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> URL:
    """Raises Fault."""
    reason = ""
    match = _SCHEME.match(text)
    if _CONTROL.search(text):
        reason = "net/url: invalid control character in URL"
    elif not text:
        reason = "empty url"
    elif text[0] == ":":
        reason = "missing protocol scheme"
    if reason:
        raise _refuse(text, reason)
    scheme, rest = "", text
    if match is not None and text[match.end() : match.end() + 1] == ":":
        scheme, rest = match.group().lower(), text[match.end() + 1 :]
    rest, _, query = rest.partition("?")
    if not rest.startswith("/"):
        if scheme:
            return URL(text, scheme, "", "", query)
        if text != "*":
            raise _refuse(text, "invalid URI for request")
    host = ""
    if scheme and rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        host, rest = _host(text, authority), slash + path
    if _BAD_ESCAPE.search(rest):
        raise _refuse(text, "invalid URL escape")
    return URL(text, scheme, host, rest, query)


def _refuse(text: str, reason: str) -> Fault:
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return Fault(f"URL parse error during conversion from string: parse {quoted}: {reason}")


def _host(text: str, authority: str) -> str:
    user, at, host = authority.rpartition("@")
    if at and (not _USER.fullmatch(user) or _BAD_ESCAPE.search(user)):
        raise _refuse(text, "net/url: invalid userinfo")
    match = _HOST.fullmatch(host)
    if match is None:
        raise _refuse(text, f'invalid port in host "{host}"')
    if _BAD_IN_HOST.search(match[1]):
        raise _refuse(text, "invalid character in host name")
    return host


def is_url(text: str) -> bool:
    try:
        parse(text)
    except Fault:
        return False
    return True


def hostname(url: URL) -> str:
    match = _HOST.fullmatch(url.host)
    return match[1].removeprefix("[").removesuffix("]") if match else url.host


def port(url: URL) -> str:
    match = _HOST.fullmatch(url.host)
    return (match[2] or "") if match else ""


def escaped_path(url: URL) -> str:
    if _VALID_PATH.fullmatch(url.path):
        return url.path
    return quote(unquote(url.path), safe=_SAFE_IN_PATH)


def query(url: URL) -> dict[str, list[str]]:
    """The parameters; what is malformed is left out."""
    values: dict[str, list[str]] = {}
    for pair in url.query.split("&"):
        name, _, value = pair.partition("=")
        if pair and ";" not in pair and not _BAD_ESCAPE.search(pair):
            values.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return values


register_kind(URL, "kubernetes.URL")
register_refusing(URL)
register_unit_equality(URL)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "string_to_url": parse, "is_url_string": is_url, "url_get_scheme": lambda url: url.scheme,
    "url_get_host": lambda url: url.host, "url_get_hostname": hostname, "url_get_port": port,
    "url_get_escaped_path": escaped_path, "url_get_query": query,
}  # fmt: skip
