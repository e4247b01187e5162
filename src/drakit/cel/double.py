"""Doubles as text."""

from __future__ import annotations

import math


def string_of_double(value: float) -> str:
    """As Go's %g: the shortest digits that read back, an exponent below 1e-4 and from 1e6 on."""
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    mantissa, exponent_text = f"{abs(value):.17e}".split("e")
    for precision in range(17):
        shortest = f"{abs(value):.{precision}e}"
        if float(shortest) == abs(value):
            mantissa, exponent_text = shortest.split("e")
            break
    exponent = int(exponent_text)
    digits = mantissa.replace(".", "")
    if exponent < -4 or exponent >= 6:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole, fraction = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return sign + whole + (f".{fraction}" if fraction else "")
