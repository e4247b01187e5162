from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakit.model.semver import Version

ORDER = ["0.0.0", "0.0.1", "0.1.0", "1.0.0-0", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1",
         "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1",
         "2.0.0", "10.0.0", "18446744073709551615.0.0"]  # fmt: skip

INVALID = {
    "": "Version string empty",
    "1": "No Major.Minor.Patch elements found",
    "1.2": "No Major.Minor.Patch elements found",
    "v1.0.0": 'Invalid character(s) found in major number "v1"',
    "01.0.0": 'Major number must not contain leading zeroes "01"',
    "1.00.0": 'Minor number must not contain leading zeroes "00"',
    "1.0.00": 'Patch number must not contain leading zeroes "00"',
    "1.0.0.0": 'Invalid character(s) found in patch number "0.0"',
    "1.0.": 'strconv.ParseUint: parsing "": invalid syntax',
    "1.0.18446744073709551616": ('strconv.ParseUint: parsing "18446744073709551616": value out of range'),
    "1.0.0-": "Prerelease is empty",
    "1.0.0-01": 'Numeric PreRelease version must not contain leading zeroes "01"',
    "1.0.0-a_b": 'Invalid character(s) found in prerelease "a_b"',
    "1.0.0+": "Build meta data is empty",
    "1.0.0+a..b": "Build meta data is empty",
    "1.0.0+a+b": 'Invalid character(s) found in build meta data "a+b"',
    "١.0.0": 'Invalid character(s) found in major number "١"',
}


def test_order() -> None:
    versions = [Version.parse(text) for text in ORDER]
    assert sorted(versions) == versions
    for low, high in pairwise(versions):
        assert low < high
        assert high > low


@pytest.mark.parametrize(("text", "message"), INVALID.items())
def test_invalid(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Version.parse(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    {"v1.0.0": "1.0.0", "1": "1.0.0", "1.2": "1.2.0", "01.01.01": "1.1.1", "v01": "1.0.0",
     "1.2.03-x": "1.2.3-x", "00.0.0": "0.0.0", "1.2.00-rc": "1.2.0-rc"}.items(),
)  # fmt: skip
def test_normalize(text: str, normal: str) -> None:
    assert str(Version.parse(text, normalize=True)) == normal


def test_short_version_takes_no_prerelease() -> None:
    with pytest.raises(ValueError, match="short version cannot contain"):
        Version.parse("1.2-rc", normalize=True)


def test_build_is_kept_but_not_compared() -> None:
    a, b = Version.parse("1.0.0+a.1"), Version.parse("1.0.0+b")
    assert a == b
    assert hash(a) == hash(b)
    assert str(a) == "1.0.0+a.1"


PART = st.from_regex(r"(0|[1-9][0-9]{0,8})", fullmatch=True)
IDENTIFIERS = st.lists(
    st.from_regex(r"(0|[1-9][0-9]{0,5}|[a-z-][0-9a-zA-Z-]{0,5})", fullmatch=True), max_size=3
)


@given(PART, PART, PART, IDENTIFIERS, IDENTIFIERS)
def test_text_reads_back(major: str, minor: str, patch: str, prerelease: list[str], build: list[str]) -> None:
    text = f"{major}.{minor}.{patch}"
    text += "-" + ".".join(prerelease) if prerelease else ""
    text += "+" + ".".join(build) if build else ""
    version = Version.parse(text)
    assert str(version) == text
    assert Version.parse(str(version)) == version


@given(st.text(max_size=20), st.booleans())
def test_any_text_is_a_version_or_a_value_error(text: str, normalize: bool) -> None:
    try:
        version = Version.parse(text, normalize)
    except ValueError:
        return
    assert str(version)
