"""Kubernetes' named string formats: `format.dns1123Label().validate(text)`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any

from drakit.cel.charge import register_unit_equality
from drakit.cel.equality import register_refusing
from drakit.cel.library.regex import compiled
from drakit.cel.library.url import refusal
from drakit.cel.value import NONE, Optional, register_kind

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_UUID = re.compile(r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})", re.ASCII)
_TIME = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:.[0-9]+)?(?:z|[+-][0-9]{2}:[0-9]{2})", re.ASCII)
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"

_EXAMPLES = {
    _LABEL: (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must "
        "start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for "
        f"validation is '{_LABEL}')"
    ),
    _SUBDOMAIN: (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and "
        "must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
        f"'{_SUBDOMAIN}')"
    ),
    _DNS1035: (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
        "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex "
        f"used for validation is '{_DNS1035}')"
    ),
}


class NamedFormat:
    """A format: `check` gives what is wrong with a text, `pattern_size` is what Kubernetes goes by to tell
    the cost of checking."""

    __slots__ = ("check", "name", "pattern_size")

    def __init__(self, name: str, pattern_size: int, check: Callable[[str], list[str]]) -> None:
        self.name = name
        self.pattern_size = pattern_size
        self.check = check

    def __str__(self) -> str:
        return self.name


def _matches(pattern: str, text: str) -> bool:
    return compiled(pattern).fullmatch(text) is not None


def _by_pattern(pattern: str, longest: int, is_prefix: bool = False) -> Callable[[str], list[str]]:
    def check(text: str) -> list[str]:
        # A generated suffix follows a prefix, so it may end in what a name may not.
        whole = text[:-2] + "a" if is_prefix and len(text) > 1 and text.endswith("-") else text
        errors = [] if len(whole.encode("utf-8", "replace")) <= longest else [_too_long(longest)]
        if not _matches(pattern, whole):
            is_dotted = pattern == _LABEL and _matches(_SUBDOMAIN, whole)
            errors.append("must not contain dots" if is_dotted else _EXAMPLES[pattern])
        return errors

    return check


def _too_long(longest: int) -> str:
    return f"must be no more than {longest} characters"


_NAME_EXAMPLES = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED}')"
)


def _qualified_name(text: str) -> list[str]:
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        return [
            f"a qualified name {_NAME_EXAMPLES} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')"
        ]
    errors = []
    if slash and not prefix:
        errors.append("prefix part must be non-empty")
    elif slash:
        errors += [f"prefix part {error}" for error in _by_pattern(_SUBDOMAIN, 253)(prefix)]
    if not name:
        errors.append("name part must be non-empty")
    elif len(name) > 63:
        errors.append(f"name part {_too_long(63)}")
    if not _matches(_QUALIFIED, name):
        errors.append(f"name part {_NAME_EXAMPLES}")
    return errors


def _label_value(text: str) -> list[str]:
    errors = [] if len(text) <= 63 else [_too_long(63)]
    if text and not _matches(_QUALIFIED, text):
        errors.append(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or "
            f"'12345', regex used for validation is '({_QUALIFIED})?')"
        )
    return errors


def _uri(text: str) -> list[str]:
    problem = refusal(text)
    return [] if problem is None else [problem]


def _uuid(text: str) -> list[str]:
    return [] if _UUID.fullmatch(text) else ["does not match the UUID format"]


def _byte(text: str) -> list[str]:
    return [] if _matches(_BASE64, text) else ["invalid base64"]


def _is_date(text: str) -> bool:
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    try:
        # The year 0, which Python does not know, was a leap year.
        date(int(match[1]) or 2000, int(match[2]), int(match[3]))
    except ValueError:
        return False
    return True


def _date(text: str) -> list[str]:
    return [] if _is_date(text) else ["invalid date"]


def _datetime(text: str) -> list[str]:
    """As go-openapi reads it: lower case will do, and what follows another `t` does not count."""
    day, *times = text.lower().split("t")
    match = _TIME.fullmatch(times[0]) if times else None
    is_valid = match and _is_date(day) and match[1] < "24" and match[2] < "60" and match[3] < "60"
    return [] if is_valid else ["invalid datetime"]


FORMATS = {
    "dns1123Label": NamedFormat("DNS1123Label", 30, _by_pattern(_LABEL, 63)),
    "dns1123Subdomain": NamedFormat("DNS1123Subdomain", 60, _by_pattern(_SUBDOMAIN, 253)),
    "dns1035Label": NamedFormat("DNS1035Label", 30, _by_pattern(_DNS1035, 63)),
    "qualifiedName": NamedFormat("QualifiedName", 60, _qualified_name),
    "dns1123LabelPrefix": NamedFormat("DNS1123LabelPrefix", 30, _by_pattern(_LABEL, 63, True)),
    "dns1123SubdomainPrefix": NamedFormat("DNS1123SubdomainPrefix", 60, _by_pattern(_SUBDOMAIN, 253, True)),
    "dns1035LabelPrefix": NamedFormat("DNS1035LabelPrefix", 30, _by_pattern(_DNS1035, 63, True)),
    "labelValue": NamedFormat("LabelValue", 40, _label_value), "uri": NamedFormat("URI", 1103, _uri),
    "uuid": NamedFormat("uuid", 70, _uuid), "byte": NamedFormat("byte", 84, _byte),
    "date": NamedFormat("date", 71, _date), "datetime": NamedFormat("datetime", 71, _datetime),
}  # fmt: skip


def named(name: str) -> Optional:
    found = FORMATS.get(name)
    return NONE if found is None else Optional(found)


def validate(format: NamedFormat, text: str) -> Optional:
    errors = format.check(text)
    return Optional(errors) if errors else NONE


register_kind(NamedFormat, "kubernetes.NamedFormat")
register_refusing(NamedFormat)
register_unit_equality(NamedFormat)


def _constant(format: NamedFormat) -> Callable[[], NamedFormat]:
    return lambda: format


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "format-named": named, "format-validate": validate,
    **{f"format.{name}": _constant(format) for name, format in FORMATS.items()},
}  # fmt: skip
