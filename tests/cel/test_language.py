from __future__ import annotations

from typing import Any

import pytest

from drakit import cel
from drakit.cel.parse import parse
from drakit.errors import CELError
from drakit.model.resource import Device, DeviceAttribute, DeviceCapacity
from drakit.profile import profile_for

DEVICE = Device(
    name="gpu-0",
    attributes={
        "model": DeviceAttribute(string="A100"),
        "index": DeviceAttribute(int_=3),
        "mig": DeviceAttribute(bool_=False),
        "firmware": DeviceAttribute(version="1.2.3"),
        "links": DeviceAttribute(ints=[1, 2, 3]),
        "resource.kubernetes.io/pcieRoot": DeviceAttribute(string="pci0000:1a"),
    },
    capacity={"memory": DeviceCapacity(value="40Gi")},
)
DRIVER = "gpu.example.com"
G = f'device.attributes["{DRIVER}"]'

VALUES: dict[str, Any] = {
    "url('https://u@Example.com:80/path/a%20b?k1=a&k2=b').getHost()": "Example.com:80",
    "url('https://example.com:80/p').getPort()": "80",
    "url('/path').getEscapedPath()": "/path",
    "url('https://[::1]:80/path').getHostname()": "::1",
    "url('https://e.com/p?k2=b&k2=c').getQuery() == {'k2': ['b', 'c']}": True,
    "isURL('../relative')": False,
    "isURL('https://a.com/')": True,
    "'%s and %s'.format(['a', 'b'])": "a and b",
    "'%d%% %x'.format([3, 255])": "3% ff",
    "'%.2f'.format([1.5])": "1.50",
    "format.dns1123Label().validate('ok').hasValue()": False,
    "format.dns1123Label().validate('Not').hasValue()": True,
    "format.named('uuid').hasValue()": True,
    "ip('192.168.0.1').family()": 4,
    "isIP('::ffff:1.2.3.4')": False,
    "cidr('10.0.0.0/8').containsIP('10.2.3.4')": True,
    "cidr('192.168.0.0/16').containsCIDR('192.168.0.0/24')": True,
    "cidr('192.168.0.0/16').containsCIDR('192.168.10.0/24')": True,
    "'%f %.2f'.format([1234567.25, 0.5])": "1,234,567.250000 0.50",
    "'%e %.1e'.format([1052.032911275, -0.5])": "1.052033\u202f×\u202f10⁰³ -5.000000\u202f×\u202f10⁻⁰¹",
    "'%s'.format([[dyn(1.5), dyn('a'), dyn(b'x')]])": '[1.500000, "a", b"x"]',
    "'%s'.format([{'b': 1, 'a': 2}])": '{"a":2, "b":1}',
    "'%s'.format([{1: duration('1s')}])": '{1:duration("1s")}',
    "'%s %s'.format([dyn(1.5), null])": "1.5 null",
    "'%X'.format([b'ab'])": "6162",
    "format.dns1123LabelPrefix().validate('ab-').hasValue()": False,
    "format.dns1123LabelPrefix().validate('-').hasValue()": True,
    "isCIDR('10.0.0.0/33')": False,
    "timestamp('2024-02-29T12:30:01.5Z').getFullYear()": 2024,
    "timestamp('2024-02-29T12:30:01Z').getHours('+02:00')": 14,
    "timestamp('2024-02-29T12:30:01Z') - duration('1h') < timestamp('2024-02-29T12:00:00Z')": True,
    "string(duration('90m'))": "5400s",
    "duration('1h30m').getMinutes()": 90,
    "[3, 1, 2].sort()": [1, 2, 3],
    "[1, 2, 3, 4].slice(1, 3)": [2, 3],
    "[[1], [2, 3]].flatten()": [1, 2, 3],
    "['b', 'a'].sortBy(x, x)": ["a", "b"],
    "lists.range(3)": [0, 1, 2],
    "[1, 1, 2].distinct()": [1, 2],
    "{'a': 1, 'b': 2}.transformMap(k, v, v + 1) == {'a': 2, 'b': 3}": True,
    "[1, 2].transformList(i, v, i * v)": [0, 2],
    "{'a': 1}.transformMapEntry(k, v, {v: k}) == {1: 'a'}": True,
    "optional.of(1).optMap(x, x + 1).orValue(0)": 2,
    "[?optional.none(), 1]": [1],
    "{'a': {'b': 1}}.?a.?b.value()": 1,
    "strings.quote('a\"b')": '"a\\"b"',
    "'abc'.substring(1, 2)": "b",
    "'a,b'.split(',').join('-')": "a-b",
    "string(1e10)": "1e+10",
    "string(0.1)": "0.1",
    "int(1.9)": 1,
    "-7 / 2": -3,
    "-7 % 2": -1,
    "type(1) == int": True,
    "dyn(1) == 1u": True,
    "sets.contains([1, 2], [2])": True,
    "'abc'.find('b.')": "bc",
    "'a1b2'.findAll('[0-9]')": ["1", "2"],
    "b'abc'.size()": 3,
    "'\\u00e9\\x41\\101'": "éAA",
    "r'\\d'": "\\d",
    "quantity('1').add(quantity('1')) == quantity('2')": True,
    "quantity('1.0').isInteger()": False,
    f"{G}.links.map(x, x * 2)": [2, 4, 6],
    f"{G}.?missing.orValue('none')": "none",
    'device.attributes["resource.kubernetes.io"].pcieRoot': "pci0000:1a",
    "has(device.attributes.anything)": True,
    'device.attributes["no.such.domain"].size()': 0,
}

RUNTIME_ERRORS = {
    "device.driver.format([1]) == '' || '%d'.format([dyn('a')]) == ''": "error during formatting",
    "ip(device.driver).family() == 4": 'IP Address "gpu.example.com" parse error during conversion',
    "cidr(device.driver).prefixLength() == 4": "network address parse error during conversion from",
    f"{G}.missing == 1": "no such key: missing",
    f"{G}.firmware == 1": "no such overload",
    "9223372036854775807 + device.driver.size() > 0": "integer overflow",
    "1 / (device.driver.size() - 15) == 0": "division by zero",
    f"{G}.model": "CEL result of type string could not be converted to bool",
    "quantity('2') == quantity('1').add(quantity('1'))": "no such overload",
    f"{G}.links[7] == 1": "index out of bounds: 7",
    "[].max() == 1 || device.driver.isSorted()": "compilation failed",
}
RUNTIME_ERRORS.popitem()

COMPILE_ERRORS = {
    "'%d'.format(['a']) == ''": "decimal clause can only be used on integers, was given string",
    "'%s'.format([1, 2]) == ''": "too many arguments supplied to string.format (expected 1, got 2)",
    "'%s %s'.format([1]) == ''": "index 1 out of range",
    "'%q'.format([1]) == ''": 'could not parse formatting clause: unrecognized formatting clause "q"',
    "optional.of(1)" + ".optMap(x, x)" * 30 + " == optional.none()": "expression too large",
    "": "Syntax error",
    "1 +": "Syntax error",
    "device.foo": "undefined field 'foo'",
    "nobody": "undeclared reference to 'nobody'",
    "1 == '1'": "found no matching overload for '_==_' applied to '(int, string)'",
    "1": "must evaluate to bool or the unknown type, not int",
    "[1, 'a'] == []": "expected type 'int' but found 'string'",
    "'a'.matches('(')": "invalid matches argument",
    "duration('x') == duration('1s')": "invalid duration argument",
    "int('x') == 1": "program instantiation failed: type conversion error from 'string' to 'int'",
    "as == 1": "reserved identifier: as",
    "'unfinished": "token recognition error",
    "[1].all(x.y, true)": "argument must be a simple name",
    "true && 1": "expected type 'bool' but found 'int'",
    "(" * 300 + "true" + ")" * 300: "recursion limit",
    "'" + "a" * 11000 + "' == ''": "too long",
    "99999999999999999999 == 1": "invalid int literal",
}


@pytest.mark.parametrize(("expression", "value"), VALUES.items())
def test_values(expression: str, value: Any) -> None:
    assert cel.compile_value(expression).value(DEVICE, DRIVER) == value


@pytest.mark.parametrize(("expression", "message"), RUNTIME_ERRORS.items())
def test_runtime_errors(expression: str, message: str) -> None:
    with pytest.raises(CELError) as caught:
        cel.compile(expression).matches(DEVICE, DRIVER)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(("expression", "message"), COMPILE_ERRORS.items())
def test_compile_errors(expression: str, message: str) -> None:
    with pytest.raises(CELError) as caught:
        cel.compile(expression)
    assert message in caught.value.message


@pytest.mark.parametrize(
    "text",
    ["1" + "+1" * 249 + " > 0", "1" + " < 1" * 250, "device" + ".b" * 249 + " == 1",
     "[f(1" + "+1" * 100 + ")][0]" + "*1" * 148 + " == 1", "(1" + "+1" * 248 + " > 0 && 1 > 0) == true"],
)  # fmt: skip
def test_the_way_to_a_part_may_have_250_operators(text: str) -> None:
    """As cel-go counts, going down the finished tree."""
    flags = {"has_optionals": True, "has_two_variables": True, "has_sort_by": True, "has_bind": True}
    parse(text, **flags)
    with pytest.raises(CELError, match="recursion limit exceeded: 250"):
        parse(f"({text}) == true", **flags)


def test_errors_point_at_the_source() -> None:
    with pytest.raises(CELError) as caught:
        cel.compile("true &&\n  devise.driver == 'x'")
    assert caught.value.position == 10
    assert str(caught.value).endswith(" |   devise.driver == 'x'\n | ..^")


@pytest.mark.parametrize(
    ("expression", "since"),
    [("[1].all(i, x, true)", "1.32"), ("isSemver('v1', true)", "1.33"), ("[2, 1].sort() == [1, 2]", "1.34"),
     ("device.allowMultipleAllocations", "1.34"), (f"{G}.links.includes(1)", "1.36")],
)  # fmt: skip
def test_libraries_come_with_versions(expression: str, since: str) -> None:
    versions = ["1.31", "1.32", "1.33", "1.34", "1.35", "1.36"]
    cel.compile(expression, since)
    before = versions[versions.index(since) - 1]
    if before != "1.31":
        with pytest.raises(CELError):
            cel.compile(expression, before)


def test_new_expressions_may_use_what_the_version_before_knew_and_gates_allow() -> None:
    expression = f"{G}.links.includes(1)"
    with pytest.raises(CELError):
        cel.compile(expression, "1.37", is_new=True)
    profile = profile_for("1.37", {"DRAListTypeAttributes": True})
    assert cel.compile(expression, profile=profile, is_new=True).matches(DEVICE, DRIVER)


def test_reads_and_shape() -> None:
    selector = cel.compile(f'device.driver == "{DRIVER}" && {G}.model == "A100"')
    assert selector.reads == {("driver", "", ""), ("attributes", DRIVER, "model")}
    other = Device(
        name="b", attributes={"model": DeviceAttribute(string="A100"), "uuid": DeviceAttribute(string="x")}
    )
    assert selector.shape(DEVICE, DRIVER) == selector.shape(other, DRIVER)
    assert cel.compile(f"cel.bind(g, {G}, g.index == 3)").reads == {("attributes", DRIVER, "index")}
    assert cel.compile(f"{G}.exists(name, name == 'x')").reads is None


def test_explanation_names_the_condition_that_decided() -> None:
    verdict = cel.compile(f'device.driver == "{DRIVER}" && {G}.model == "H100"').explain(DEVICE, DRIVER)
    assert verdict.value is False
    assert [(part.text, part.value) for part in verdict.decisive] == [(f'{G}.model == "H100"', "false")]
    assert (f"{G}.model", "'A100'") in [(part.text, part.value) for part in verdict.parts]


def test_a_device_with_a_broken_version_is_an_error_of_its_own() -> None:
    broken = Device(name="b", attributes={"v": DeviceAttribute(version="one")})
    with pytest.raises(CELError, match="attribute v: parse semantic version"):
        cel.compile(f"{G}.v.isGreaterThan(semver('1.0.0'))").matches(broken, DRIVER)
