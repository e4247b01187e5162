"""What there is in which Kubernetes, for new expressions and for stored ones; what a result may be."""

from __future__ import annotations

import pytest

from drakit import cel
from drakit.errors import CELError, UsageError
from drakit.model.resource import Device, DeviceAttribute
from drakit.profile import profile_for

DEVICE = Device(
    name="d",
    attributes={"s": DeviceAttribute(string="a"), "l": DeviceAttribute(ints=[1, 2]),
                "v": DeviceAttribute(version="1.2.3")},
)  # fmt: skip
ATTRIBUTE = 'device.attributes["x"].s'

KNOWN = [
    # expression, gates, since when for stored expressions, and for new ones
    ("[1].distinct() == [1]", {}, "1.34", "1.35"),
    ("[1].all(i, v, i < v)", {}, "1.32", "1.33"),
    ("isSemver('v1', true)", {}, "1.33", "1.34"),
    ("device.allowMultipleAllocations", {"DRAConsumableCapacity": False}, "1.34", None),
    ("device.allowMultipleAllocations", {"DRAConsumableCapacity": True}, "1.34", "1.34"),
    (f"{ATTRIBUTE}.includes('a')", {}, "1.36", None),
    (f"{ATTRIBUTE}.includes('a')", {"DRAListTypeAttributes": True}, "1.36", "1.36"),
    (f"{ATTRIBUTE}.exists(x, x == 'a')", {"DRAListTypeAttributes": True}, "1.36", "1.36"),
    (f"{ATTRIBUTE}.exists(x, x == 'a')", {}, "1.37", None),
    (f"dyn({ATTRIBUTE} == 'a')", {}, "1.37", None),
]
VERSIONS = ["1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]


def since(text: str, gates: dict[str, bool], is_new: bool) -> str | None:
    """The first version in which the expression compiles, as it must in all that follow."""
    found = None
    for version in VERSIONS:
        try:
            profile = profile_for(version, gates)
        except UsageError:
            continue
        try:
            cel.compile(text, profile=profile, is_new=is_new)
        except CELError:
            assert found is None, version
        else:
            found = found or version
    return found


@pytest.mark.parametrize(("text", "gates", "stored", "new"), KNOWN)
def test_what_is_known_since_when(text: str, gates: dict[str, bool], stored: str, new: str | None) -> None:
    assert since(text, gates, is_new=False) == stored
    assert since(text, gates, is_new=True) == new


@pytest.mark.parametrize(
    ("text", "value"),
    [(ATTRIBUTE, "a"), ("1", 1), ('device.attributes["x"].l.map(i, i + 1)', [2, 3]), ("[]", []),
     ('device.attributes["x"].v', "1.2.3"), ("[true]", [True])],
)  # fmt: skip
def test_derived_attributes(text: str, value: object) -> None:
    found = cel.compile_value(text).value(DEVICE, "x")
    assert (str(found) if isinstance(value, str) else found) == value


NO_ATTRIBUTES = {
    "1.5": "must evaluate to a primitive scalar (string, integer, boolean, semver) or a list of these "
    "scalars, not double",
    "{'a': 1}": "or a list of these scalars, not map(string, int)",
    "[[1]]": "not list(list(int))",
    "dyn(1.5)": "unsupported CEL return type: float64",
    "dyn([1.5])": "unsupported list element type: float64",
    "[dyn(1), dyn('a')]": "expected list element at index 1 to be int, got string",
}


@pytest.mark.parametrize("text", NO_ATTRIBUTES)
def test_what_is_no_attribute(text: str) -> None:
    with pytest.raises(CELError) as caught:
        cel.compile_value(text).value(DEVICE, "x")
    assert NO_ATTRIBUTES[text] in caught.value.message


def test_lists_of_derived_attributes_are_gated_in_new_objects() -> None:
    with pytest.raises(CELError, match=r"semver\), not list\(int\)"):
        cel.compile_value("[1]", "1.37", is_new=True)
    gated = profile_for("1.37", {"DRAListTypeAttributes": True})
    assert cel.compile_value("[1]", profile=gated, is_new=True).value(DEVICE, "x") == [1]
