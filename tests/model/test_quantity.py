from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakit.model.quantity import Quantity

CANONICAL = {
    "0": "0",
    "-0": "0",
    "+0": "0",
    "1": "1",
    "1000": "1k",
    "1500": "1500",
    "0.5": "500m",
    "1.5": "1500m",
    "1.5Gi": "1536Mi",
    "0.1m": "100u",
    "1e3": "1e3",
    "1000e3": "1e6",
    "12E6": "12E6",
    "1E": "1E",
    "1024": "1024",
    "1024Ki": "1Mi",
    "1Ki": "1Ki",
    "0.5Ki": "512",
    "1000Ki": "1000Ki",
    "0.0001Ki": "102400u",
    "8Ei": "9223372036854775807",
    "16Ei": "9223372036854775807",
    "-16Ei": "-9223372036854775807",
    "7Ei": "7Ei",
    "1n": "1n",
    "0.1n": "1n",
    "-0.1n": "-1n",
    "1.0000000001": "1000000001n",
    "1e-20": "1e-9",
    "9223372036854775807": "9223372036854775807",
    "10000000000000000001": "10000000000000000001",
    "100000000000000000000": "100E",
    "1e30": "1e30",
    # Text that is canonical enough is kept as written.
    "+1": "+1",
    "1.": "1.",
    "1.500": "1.500",
    # No suffix says 10^21: Kubernetes drops it.
    "1000000000000000000000": "1",
    # More than 18 digits are exact, too.
    "9223372036854775808": "9223372036854775808",
    "9226240000000102400n": "9226240000000102400n",
    # No digits at all read as zero.
    "-": "0",
    ".": "0",
    "Mi": "0",
}
INVALID = ["", " 1", "1 ", "1ki", "1i", ".5i", "1Mb", "0.1mi", "aoeu", "1.1.M", "1+1.0M", "1e", "1e1.5", "Ei",
           "+-1", "١", "1\n", "0x1", "1e99999", "1_000",
           "1" * 4001]  # fmt: skip


@pytest.mark.parametrize(("text", "canonical"), CANONICAL.items())
def test_canonical_form(text: str, canonical: str) -> None:
    assert str(Quantity.parse(text)) == canonical


@pytest.mark.parametrize("text", INVALID)
def test_invalid_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantit"):
        Quantity.parse(text)


@pytest.mark.parametrize(
    ("text", "integer"),
    {"1": 1, "1k": 1000, "1Ti": 1 << 40, "-3": -3, "1.0": None, "1000m": None, "1Pi": None, "1.5Gi": None,
     "999999999999999999": 10**18 - 1, "9223372036854775807": None, "10E": None}.items(),
)  # fmt: skip
def test_integer_goes_by_the_form(text: str, integer: int | None) -> None:
    assert Quantity.parse(text).as_int64() == integer


@pytest.mark.parametrize(
    ("text", "value", "milli"),
    [("1", 1, 1000), ("1.5", 2, 1500), ("-1.5", -2, -1500), ("1n", 1, 1), ("0", 0, 0), ("1Ki", 1024, 1024000),
     ("1e30", (1 << 63) - 1, (1 << 63) - 1), ("-1e30", -(1 << 63), -(1 << 63))],
)  # fmt: skip
def test_rounded_values(text: str, value: int, milli: int) -> None:
    quantity = Quantity.parse(text)
    assert quantity.value() == value
    assert quantity.milli_value() == milli


def test_order_and_equality_go_by_the_number() -> None:
    ordered = ["-1Ki", "-1", "-1n", "0", "1n", "999999999n", "1", "1.5", "1k", "1Ki", "1e30", "1e31"]
    quantities = [Quantity.parse(text) for text in ordered]
    assert sorted(quantities) == quantities
    for low, high in pairwise(quantities):
        assert low < high
        assert high > low
        assert low != high
    assert Quantity.parse("1024Mi") == Quantity.parse("1Gi")
    assert hash(Quantity.parse("1000m")) == hash(Quantity.parse("1"))


@pytest.mark.parametrize(
    ("left", "right", "total", "difference"),
    [
        ("1Gi", "1Mi", "1025Mi", "1023Mi"),
        ("0", "1Gi", "1Gi", "-1Gi"),
        ("1Gi", "0", "1Gi", "1Gi"),
        ("50k", "20", "50020", "49980"),
        ("1", "0.5", "1500m", "500m"),
        ("9223372036854775807", "1", "9223372036854775808", "9223372036854775806"),
        ("1e3", "1", "1001", "999"),
    ],
)
def test_sum_and_difference(left: str, right: str, total: str, difference: str) -> None:
    a, b = Quantity.parse(left), Quantity.parse(right)
    assert str(a + b) == total
    assert str(a - b) == difference
    assert str(a) == str(Quantity.parse(left))


def test_fields_may_be_json_numbers() -> None:
    assert str(Quantity.of(5)) == "5"
    assert str(Quantity.of(0.5)) == "500m"
    assert str(Quantity.of(" 1Gi ")) == "1Gi"
    assert Quantity.of(1e22) == Quantity.parse("1e22")
    assert str(Quantity.of(1e21)) == "1e+21"
    with pytest.raises(ValueError, match="quantities"):
        Quantity.of("1\n")
    with pytest.raises(ValueError, match="quantities"):
        Quantity.of(math.inf)


def test_approximate_float() -> None:
    assert Quantity.parse("1.5").as_approximate_float() == 1.5
    assert Quantity.parse("1Ki").as_approximate_float() == 1024.0
    assert Quantity.parse("1e400").as_approximate_float() == math.inf


NUMBERS = st.from_regex(r"[+-]?[0-9]{1,9}(\.[0-9]{0,9})?", fullmatch=True)
SUFFIXES = st.sampled_from(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E-3", "e9", "e+2"])
FACTORS = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
           "k": Fraction(1000), "M": Fraction(10**6), "G": Fraction(10**9), "Ki": Fraction(1024),
           "Mi": Fraction(1 << 20), "Gi": Fraction(1 << 30), "e3": Fraction(1000), "E-3": Fraction(1, 1000),
           "e9": Fraction(10**9), "e+2": Fraction(100)}  # fmt: skip


@given(NUMBERS, SUFFIXES)
def test_text_reads_back(number: str, suffix: str) -> None:
    quantity = Quantity.parse(number + suffix)
    again = Quantity.parse(str(quantity))
    assert again == quantity
    assert str(again) == str(quantity)


@given(NUMBERS, SUFFIXES)
def test_number_is_exact_and_rounded_away_from_zero(number: str, suffix: str) -> None:
    exact = Fraction(number.rstrip(".")) * FACTORS[suffix] * 10**9
    expected = math.ceil(exact) if exact >= 0 else math.floor(exact)
    assert Quantity.parse(number + suffix).nano == expected


@given(NUMBERS, SUFFIXES, NUMBERS, SUFFIXES)
def test_arithmetic_is_exact(a: str, a_suffix: str, b: str, b_suffix: str) -> None:
    left, right = Quantity.parse(a + a_suffix), Quantity.parse(b + b_suffix)
    assert (left + right).nano == left.nano + right.nano
    assert (left - right).nano == left.nano - right.nano
    assert Quantity.parse(str(left + right)) == left + right
    assert (left < right) == (left.nano < right.nano)


@given(st.text(alphabet="0123456789+-.eEinumkKMGTP", max_size=12))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    try:
        quantity = Quantity.parse(text)
    except ValueError:
        return
    assert str(quantity)
