"""Rules for the request policy of a device's capacity. Source: pkg/apis/resource/validation/validation.go."""

from __future__ import annotations

from typing import Any

from drakit.model.quantity import Quantity
from drakit.model.validation.field import Errors, each, forbidden, invalid, listed, mapped, required
from drakit.profile import Gate, Profile

Document = dict[str, Any]

MAX_OPTIONS = 10
_MAX_INT64 = (1 << 63) - 1
_NEGATIVE = "must be greater than or equal to 0"


def capacity(value: Document, path: str, is_shared: bool, profile: Profile) -> Errors:
    """The rules for one capacity; only devices that allow several allocations may have a policy."""
    policy = value.get("requestPolicy")
    if not isinstance(policy, dict):
        return []
    at = f"{path}.requestPolicy"
    if not is_shared:
        return [forbidden(at, "allowMultipleAllocations must be true")]
    options, valid_range = listed(policy.get("validValues")), policy.get("validRange")
    if options and valid_range is not None:
        text = "exactly one policy can be specified, cannot specify"
        return [forbidden(at, f'{text} "validValues" and "validRange" at the same time')]
    total = Quantity.of(value.get("value") or "0")
    name = "validValues" if options else "validRange"
    if not options and valid_range is None:
        return []
    if policy.get("default") is None:
        return [required(f"{at}.default", f"required when {name} is defined")]
    default = Quantity.of(policy["default"])
    if options:
        return _values(
            default, total, [Quantity.of(option) for option in options], f"{at}.validValues", profile
        )
    return _range(default, total, mapped(valid_range), f"{at}.validRange", profile)


def _values(
    default: Quantity, total: Quantity, options: list[Quantity], path: str, profile: Profile
) -> Errors:
    errors: Errors = []
    for index in range(1, len(options)):
        if options[index - 1] > options[index]:
            text = "values must be sorted in ascending order"
            errors.append(invalid(f"{path}[{index}]", str(options[index]), text))

    def check(option: Quantity, place: str) -> Errors:
        if option > total:
            return [invalid(place, str(option), f"option is larger than capacity value: {total}")]
        return []

    is_exact = profile.is_on(Gate.FRACTIONAL_CAPACITY_RANGE)

    def key(option: Quantity) -> str:
        return str(Quantity(option.nano, -9)) if is_exact else str(option.value())

    errors += each(options, MAX_OPTIONS, check, path, key=key)
    if default not in options or len(options) > MAX_OPTIONS:
        text = "default value is not valid according to the requestPolicy"
        errors.append(invalid(path, str(default), text))
    return errors


def _range(default: Quantity, total: Quantity, given: Document, path: str, profile: Profile) -> Errors:
    if given.get("min") is None:
        return [required(f"{path}.min", "required when validRange is defined")]
    least = Quantity.of(given["min"])
    most = Quantity.of(given["max"]) if given.get("max") is not None else None
    step = Quantity.of(given["step"]) if given.get("step") is not None else None
    names_default = profile.at_least("1.37")
    errors: Errors = []
    if least > total:
        errors.append(invalid(f"{path}.min", str(least), f"min is larger than capacity value: {total}"))
    if default < least:
        at = f"{path}.default" if names_default else f"{path}.min"
        errors.append(invalid(at, str(default), f"default is less than min: {least}"))
    if most is not None:
        if least > most:
            errors.append(invalid(f"{path}.max", str(least), f"min is larger than max: {most}"))
        if most > total:
            errors.append(invalid(f"{path}.max", str(most), f"max is larger than capacity value: {total}"))
        if default > most:
            at = f"{path}.default" if names_default else f"{path}.max"
            errors.append(invalid(at, str(default), f"default is more than max: {most}"))
    named = {"default": default, "min": least, "max": most, "step": step}
    present = {name: quantity for name, quantity in named.items() if quantity is not None}
    is_milli = profile.is_on(Gate.FRACTIONAL_CAPACITY_RANGE) and any(map(_is_fractional, present.values()))
    if is_milli:
        text = "value cannot be represented as a milli value"
        unsafe = [
            invalid(f"{path}.{name}", str(quantity), text)
            for name, quantity in present.items()
            if quantity.milli_value() * 10**6 != quantity.nano
        ]
        if unsafe:
            return errors + unsafe
    return errors if step is None else errors + _step(present, total, path, is_milli)


def _step(present: dict[str, Quantity], total: Quantity, path: str, is_milli: bool) -> Errors:
    least, step = present["min"], present["step"]
    if step.sign <= 0:
        return [invalid(f"{path}.step", str(step), "must be greater than zero")]
    errors: Errors = []
    if least + step > total:
        text = f"one step {least + step} is larger than capacity value: {total}"
        errors.append(invalid(f"{path}.step", str(step), text))
    if not is_milli:
        unsafe: Errors = []
        for name, quantity in present.items():
            if quantity.sign < 0:
                unsafe.append(invalid(f"{path}.{name}", str(quantity), _NEGATIVE))
            elif quantity.nano > _MAX_INT64 * 10**9:
                text = f"must not be larger than {_MAX_INT64}"
                unsafe.append(invalid(f"{path}.{name}", str(quantity), text))
        if unsafe:
            return errors + unsafe
    for name in ("default", "max"):
        value = present.get(name)
        if value is not None and not _is_step(value, least, step, is_milli):
            text = f"value is not a multiple of a given step ({step}) from ({least})"
            errors.append(invalid(f"{path}.step", str(value), text))
    return errors


def _is_step(value: Quantity, least: Quantity, step: Quantity, is_milli: bool) -> bool:
    if is_milli:
        return (value.milli_value() - least.milli_value()) % step.milli_value() == 0
    return (value.value() - least.value()) % step.value() == 0


def _is_fractional(quantity: Quantity) -> bool:
    return quantity.nano % 10**9 != 0
