"""What makes a name, a label or a key valid: each function gives the texts of what is wrong.

The lists are shared: they are not to be changed.
Source: apimachinery/pkg/util/validation/validation.go.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache, wraps

Names = Callable[[str], list[str]]

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = rf"({_QUALIFIED})?"
_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"

_LABEL_RE = re.compile(_LABEL, re.ASCII)
_SUBDOMAIN_RE = re.compile(_SUBDOMAIN, re.ASCII)
_LABEL_1035_RE = re.compile(_LABEL_1035, re.ASCII)
_QUALIFIED_RE = re.compile(_QUALIFIED, re.ASCII)
_VALUE_RE = re.compile(_VALUE, re.ASCII)
_IDENTIFIER_RE = re.compile(_IDENTIFIER, re.ASCII)
_CONFIG_KEY_RE = re.compile(_CONFIG_KEY, re.ASCII)


def _remembered(rule: Names) -> Names:
    """`rule`, asked once for each of the short texts that come again and again."""
    known = lru_cache(maxsize=4096)(rule)

    @wraps(rule)
    def check(value: str) -> list[str]:
        return known(value) if len(value) <= 253 else rule(value)

    return check


def too_long(limit: int) -> str:
    return f"must be no more than {limit} characters"


def _wrong(text: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


_LABEL_TEXT = _wrong(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character",
    _LABEL,
    "my-name",
    "123-abc",
)
_SUBDOMAIN_TEXT = _wrong(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character",
    _SUBDOMAIN,
    "example.com",
)
_CASELESS_TEXT = _wrong(
    "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with "
    "an alphanumeric character",
    f"(?i){_SUBDOMAIN}",
    "example.com",
)
_LABEL_1035_TEXT = _wrong(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character",
    _LABEL_1035,
    "my-name",
    "abc-123",
)
_QUALIFIED_TEXT = _wrong(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character",
    _QUALIFIED,
    "MyName",
    "my.name",
    "123-abc",
)
_VALUE_TEXT = _wrong(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character",
    _VALUE,
    "MyValue",
    "my_value",
    "12345",
)
_IDENTIFIER_TEXT = _wrong(
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric "
    "characters or '_'",
    _IDENTIFIER,
    "my_name",
    "MY_NAME",
    "MyName",
)
_CONFIG_KEY_TEXT = _wrong(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)


@_remembered
def dns_label(value: str) -> list[str]:
    """RFC 1123 label."""
    wrong = [too_long(63)] if len(value.encode()) > 63 else []
    if _LABEL_RE.fullmatch(value):
        return wrong
    return [*wrong, "must not contain dots" if _SUBDOMAIN_RE.fullmatch(value) else _LABEL_TEXT]


@_remembered
def dns_subdomain(value: str) -> list[str]:
    """RFC 1123 subdomain: what most objects are named."""
    wrong = [too_long(253)] if len(value.encode()) > 253 else []
    return wrong if _SUBDOMAIN_RE.fullmatch(value) else [*wrong, _SUBDOMAIN_TEXT]


def long_name(value: str) -> list[str]:
    """A subdomain as declarative validation words it, which counts bytes: names of DeviceClasses."""
    wrong = ["must be no more than 253 bytes"] if len(value.encode()) > 253 else []
    return wrong if _SUBDOMAIN_RE.fullmatch(value) else [*wrong, _SUBDOMAIN_TEXT]


def caseless_long_name(value: str) -> list[str]:
    """A subdomain that may have capitals, in the words of declarative validation."""
    wrong = ["must be no more than 253 bytes"] if len(value.encode()) > 253 else []
    return wrong if _SUBDOMAIN_RE.fullmatch(value.lower()) else [*wrong, _CASELESS_TEXT]


def dns_1035_label(value: str) -> list[str]:
    """RFC 1035 label: services."""
    wrong = [too_long(63)] if len(value.encode()) > 63 else []
    return wrong if _LABEL_1035_RE.fullmatch(value) else [*wrong, _LABEL_1035_TEXT]


def path_segment(value: str) -> list[str]:
    """What can be part of a URL path: RBAC objects and others."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in value]


@_remembered
def qualified_name(value: str) -> list[str]:
    """A label key: a name, or a DNS subdomain, a slash and a name."""
    parts = value.split("/")
    if len(parts) > 2:
        return [
            f"a valid label key {_QUALIFIED_TEXT} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')"
        ]
    wrong: list[str] = []
    if len(parts) == 2:
        if not parts[0]:
            wrong.append("prefix part must be non-empty")
        else:
            wrong += [f"prefix part {text}" for text in long_name(parts[0])]
    name = parts[-1]
    if not name:
        wrong.append("name part must be non-empty")
    elif len(name.encode()) > 63:
        wrong.append("name part must be no more than 63 bytes")
    if not _QUALIFIED_RE.fullmatch(name):
        wrong.append(f"name part {_QUALIFIED_TEXT}")
    return wrong


@_remembered
def label_value(value: str) -> list[str]:
    wrong = ["must be no more than 63 bytes"] if len(value.encode()) > 63 else []
    return wrong if _VALUE_RE.fullmatch(value) else [*wrong, _VALUE_TEXT]


def c_identifier(value: str) -> list[str]:
    return [] if _IDENTIFIER_RE.fullmatch(value) else [_IDENTIFIER_TEXT]


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret."""
    wrong = [too_long(253)] if len(value.encode()) > 253 else []
    if not _CONFIG_KEY_RE.fullmatch(value):
        wrong.append(_CONFIG_KEY_TEXT)
    if value in (".", ".."):
        wrong.append(f"must not be '{value}'")
    elif value.startswith(".."):
        wrong.append("must not start with '..'")
    return wrong


def env_name(value: str) -> list[str]:
    """The relaxed rule for names of environment variables."""
    if not value:
        return ["environment variable name must be non-empty"]
    if all(" " <= char <= "~" and char != "=" for char in value):
        return []
    return [
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
    ]


def port_name(value: str) -> list[str]:
    wrong: list[str] = []
    if len(value.encode()) > 15:
        wrong.append("must be no more than 15 characters")
    if not re.fullmatch(r"[-a-z0-9]+", value, re.ASCII):
        wrong.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", value):
        wrong.append("must contain at least one letter (a-z)")
    if "--" in value:
        wrong.append("must not contain consecutive hyphens")
    if value[:1] == "-" or value[-1:] == "-":
        wrong.append("must not begin or end with a hyphen")
    return wrong


def interface_address(value: str) -> list[str]:
    """An address with the length of its prefix, in canonical form ("192.0.2.5/24")."""
    text = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
    try:
        address = ipaddress.ip_interface(value)
    except ValueError:
        return [text]
    if "/" not in value:
        return [text]
    if str(address) != value:
        return [f'must be in canonical form ("{address}")']
    return []


def extended_resource_name(value: str) -> bool:
    """Whether `value` names an extended resource: qualified, outside kubernetes.io, no `requests.`."""
    if "/" not in value or "kubernetes.io/" in value or value.startswith("requests."):
        return False
    return not qualified_name(f"requests.{value}")


def prefixed(rule: Names) -> Names:
    """`rule` for a generateName: a dash at the end is fine, a random part follows. What stands before the
    dash is not looked at, as upstream has it."""

    def check(value: str) -> list[str]:
        return rule(value[:-2] + "a" if len(value) > 1 and value.endswith("-") else value)

    return check
