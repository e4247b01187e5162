"""Kubernetes' named string formats: `format.dns1123Label().validate(text)`."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from drakit.cel.charge import register_unit_equality
from drakit.cel.equality import register_refusing
from drakit.cel.library.moment import parse_timestamp
from drakit.cel.library.url import parse as parse_url
from drakit.cel.value import NONE, Fault, Optional, register_kind

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_UUID = re.compile(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)

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
    """A format: `check` gives what is wrong with a text."""

    __slots__ = ("check", "max_regex_size", "name")

    def __init__(self, name: str, max_regex_size: int, check: Callable[[str], list[str]]) -> None:
        self.name = name
        self.max_regex_size = max_regex_size
        self.check = check

    def __str__(self) -> str:
        return self.name


def _by_pattern(pattern: str, longest: int, is_prefix: bool = False) -> Callable[[str], list[str]]:
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> list[str]:
        # A generated suffix follows a prefix, so it may end in what a name may not.
        whole = text[:-2] + "a" if is_prefix and len(text) > 1 and text.endswith("-") else text
        errors = [] if len(whole) <= longest else [f"must be no more than {longest} characters"]
        if len(text) > 10_000 or not compiled.fullmatch(whole):
            errors.append(_EXAMPLES[pattern])
        return errors

    return check


def _qualified_name(text: str) -> list[str]:
    prefix, slash, name = text.rpartition("/")
    errors = []
    if slash:
        if not prefix:
            errors.append("prefix part must be non-empty")
        else:
            errors += [f"prefix part {error}" for error in _by_pattern(_SUBDOMAIN, 253)(prefix)]
    if not name:
        return [*errors, "name part must be non-empty"]
    if len(name) > 63:
        errors.append("name part must be no more than 63 characters")
    if not re.fullmatch(_QUALIFIED, name):
        errors.append(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
            "an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
            f"validation is '{_QUALIFIED}')"
        )
    return errors


def _label_value(text: str) -> list[str]:
    errors = [] if len(text) <= 63 else ["must be no more than 63 characters"]
    if text and not re.fullmatch(_QUALIFIED, text):
        errors.append(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or "
            f"'12345', regex used for validation is '(({_QUALIFIED})?')"
        )
    return errors


def _uri(text: str) -> list[str]:
    try:
        parse_url(text)
    except Fault as fault:
        return [fault.message.removeprefix("URL parse error during conversion from string: ")]
    return []


def _byte(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ["invalid base64"]
    return [] if text else ["invalid base64"]


def _date(text: str) -> list[str]:
    return [] if _DATE.fullmatch(text) and not _datetime(f"{text}T00:00:00Z") else ["invalid date"]


def _datetime(text: str) -> list[str]:
    try:
        parse_timestamp(text)
    except Fault:
        return ["invalid datetime"]
    return []


FORMATS = {
    "dns1123Label": NamedFormat("DNS1123Label", 30, _by_pattern(_LABEL, 63)),
    "dns1123Subdomain": NamedFormat("DNS1123Subdomain", 60, _by_pattern(_SUBDOMAIN, 253)),
    "dns1035Label": NamedFormat("DNS1035Label", 30, _by_pattern(_DNS1035, 63)),
    "qualifiedName": NamedFormat("QualifiedName", 60, _qualified_name),
    "dns1123LabelPrefix": NamedFormat("DNS1123LabelPrefix", 30, _by_pattern(_LABEL, 63, True)),
    "dns1123SubdomainPrefix": NamedFormat("DNS1123SubdomainPrefix", 60, _by_pattern(_SUBDOMAIN, 253, True)),
    "dns1035LabelPrefix": NamedFormat("DNS1035LabelPrefix", 30, _by_pattern(_DNS1035, 63, True)),
    "labelValue": NamedFormat("LabelValue", 40, _label_value),
    "uri": NamedFormat("URI", 1173, _uri),
    "uuid": NamedFormat(
        "uuid", 82, lambda text: [] if _UUID.fullmatch(text) else ["does not match the UUID format"]
    ),
    "byte": NamedFormat("byte", 71, _byte),
    "date": NamedFormat("date", 111, _date),
    "datetime": NamedFormat("datetime", 111, _datetime),
}


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
