"""Which functions exist, for a Kubernetes version: names, overloads, types.

An environment is put together from `drakit.cel.signatures`, once per version and gates.

Source: k8s.io/apiserver/pkg/cel/environment and k8s.io/dynamic-resource-allocation/cel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from drakit.cel import signatures, types
from drakit.cel.types import Type
from drakit.profile import Gate, Profile


class Overload(NamedTuple):
    id: str
    is_method: bool
    args: tuple[Type, ...]
    result: Type
    params: tuple[str, ...]
    """The type parameters that occur in it."""


class Environment(NamedTuple):
    """What an expression may use. `objects` has the fields of object types by the types' names, `roots` the
    variables that have a value at run time; the others are names of types."""

    functions: dict[str, tuple[Overload, ...]]
    variables: dict[str, Type]
    roots: frozenset[str]
    objects: Mapping[str, Mapping[str, Type]]
    attribute: Type
    attribute_size: int
    has_optionals: bool
    has_two_variables: bool
    has_sort_by: bool
    has_bind: bool = False
    """Whether there is `cel.bind`: for devices alone."""
    has_patches: bool = False
    """Whether `Object{...}` and `JSONPatch{...}` may be made."""


_PATCH = {"JSONPatch": {"op": types.STRING, "path": types.STRING, "from": types.STRING, "value": types.DYN}}
_NAMED = {
    "dyn": types.DYN, "any": types.ANY, "bool": types.BOOL, "int": types.INT, "uint": types.UINT,
    "double": types.DOUBLE, "string": types.STRING, "bytes": types.BYTES, "timestamp": types.TIMESTAMP,
    "duration": types.DURATION, "Quantity": types.QUANTITY, "Semver": types.SEMVER, "URL": types.URL,
    "IP": types.IP, "CIDR": types.CIDR, "NamedFormat": types.NAMED_FORMAT,
    "Authorizer": types.AUTHORIZER, "PathCheck": types.PATH_CHECK, "GroupCheck": types.GROUP_CHECK,
    "ResourceCheck": types.RESOURCE_CHECK, "Decision": types.DECISION,
}  # fmt: skip
_TYPE_NAMES = {
    "bool": types.BOOL, "bytes": types.BYTES, "double": types.DOUBLE, "int": types.INT,
    "list": types.list_of(types.DYN), "map": types.map_of(types.DYN, types.DYN), "null_type": types.NULL,
    "string": types.STRING, "uint": types.UINT, "type": Type("type", "type"),
    "google.protobuf.Duration": types.DURATION, "google.protobuf.Timestamp": types.TIMESTAMP,
    "optional_type": types.optional_of(types.DYN), "net.IP": types.IP, "net.CIDR": types.CIDR,
}  # fmt: skip
_LINE = re.compile(r"(\.?)(\S+?)\((.*)\) -> (.+) = (\S+)")
_WORD = re.compile(r"\w+")


def environment(profile: Profile, *, is_new: bool = False) -> Environment:
    """The environment of a Kubernetes.

    Expressions that are stored already, which the scheduler runs, may use everything the version knows.
    With `is_new` it is what the API server lets into new objects: the libraries that the version before
    already knew, and the gates that are on.
    """
    has_multiple = profile.at_least("1.34") and (not is_new or profile.is_on(Gate.CONSUMABLE_CAPACITY))
    has_lists = profile.is_on(Gate.LIST_ATTRIBUTES)
    has_includes = profile.at_least("1.36") and (not is_new or has_lists)
    # 1.36 went by the gate alone, later versions by what the environment knows.
    is_dynamic = has_includes if profile.at_least("1.37") else has_lists
    known, has_first = _known(profile, is_new), profile.at_least("1.33")
    return _build(known, has_first, has_multiple, has_includes, is_dynamic)


def _known(profile: Profile, is_new: bool) -> tuple[int, ...]:
    """The Kubernetes whose libraries there are."""
    major, minor = (int(part) for part in profile.version.split("."))
    return major, minor - is_new


@lru_cache(maxsize=32)
def _build(
    known: tuple[int, ...], has_first: bool, has_multiple: bool, has_includes: bool, is_dynamic: bool
) -> Environment:
    # The order counts: a type that is still open becomes that of the first overload.
    text = signatures.generated() + signatures.STANDARD + signatures.ALWAYS + signatures.AUTHORIZATION
    if has_first:
        text += signatures.OPTIONALS_2
    if known >= (1, 32):
        text += signatures.TWO_VARIABLES
    if known >= (1, 33):
        text += signatures.SEMVER_1
    if known >= (1, 34):
        text += signatures.LISTS_3 + signatures.sorting()
    if has_includes:
        text += signatures.INCLUDES
    attribute = types.DYN if is_dynamic else types.ANY
    fields = {
        "driver": types.STRING,
        "attributes": types.map_of(types.STRING, types.map_of(types.STRING, attribute)),
        "capacity": types.map_of(types.STRING, types.map_of(types.STRING, types.QUANTITY)),
    }
    if has_multiple:
        fields["allowMultipleAllocations"] = types.BOOL
    variables = {"device": types.DEVICE} | {name: types.type_of(type_) for name, type_ in _TYPE_NAMES.items()}
    return Environment(
        functions=_functions(text), variables=variables, roots=frozenset(("device",)),
        objects={types.DEVICE.name: fields}, attribute=attribute, attribute_size=64,
        has_optionals=True, has_two_variables=known >= (1, 32), has_sort_by=known >= (1, 34), has_bind=True,
    )  # fmt: skip


def declared(
    profile: Profile,
    variables: Mapping[str, Type],
    objects: Mapping[str, Mapping[str, Type]],
    *,
    is_new: bool,
    has_patches: bool = False,
) -> Environment:
    """The environment of everything that is not about devices: what Kubernetes gives to admission policies
    and to the rules of custom resources, with these variables and object types. `is_new` as above."""
    base = _base(_known(profile, is_new), profile.at_least("1.33"))
    functions = {**base.functions, **_functions(signatures.PATCHES)} if has_patches else base.functions
    return base._replace(
        functions=functions,
        variables={**base.variables, **variables},
        roots=frozenset(variables),
        objects={**objects, **_PATCH} if has_patches else objects,
        has_patches=has_patches,
    )


@lru_cache(maxsize=32)
def _base(known: tuple[int, ...], has_first: bool) -> Environment:
    environment = _build(known, has_first, False, False, False)
    functions = environment.functions
    if known < (1, 33):
        # Until then semver was for devices alone.
        functions = {
            name: kept
            for name, overloads in functions.items()
            if (kept := tuple(row for row in overloads if "semver" not in row.id))
        }
    variables = {name: type_ for name, type_ in environment.variables.items() if name != "device"}
    return environment._replace(functions=functions, variables=variables, objects={}, has_bind=False)


def _functions(text: str) -> dict[str, tuple[Overload, ...]]:
    functions: dict[str, list[Overload]] = {}
    for line in filter(None, text.splitlines()):
        match = _LINE.fullmatch(line)
        assert match is not None, line
        dot, name, args, result, id_ = match.groups()
        parsed = tuple(_type(arg) for arg in _split(args))
        words = _WORD.findall(args + " " + result)
        params = tuple(param for param in ("A", "B", "T") if param in words)
        functions.setdefault(name, []).append(Overload(id_, bool(dot), parsed, _type(result), params))
    return {name: tuple(overloads) for name, overloads in functions.items()}


def _split(text: str) -> list[str]:
    """At the commas outside parentheses."""
    parts, depth = [""], 0
    for c in text:
        depth += (c == "(") - (c == ")")
        if c == "," and not depth:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts if part.strip()]


@lru_cache(maxsize=256)
def _type(text: str) -> Type:
    name, _, rest = text.partition("(")
    if not rest:
        return _NAMED.get(name) or Type("param", name)
    params = tuple(_type(part) for part in _split(rest[:-1]))
    if name == "optional":
        return types.optional_of(*params)
    return Type(name, name, params)
