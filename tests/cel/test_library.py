"""Functions at their edges, and their errors, as Go's libraries and Kubernetes have them."""

from __future__ import annotations

import pytest

from drakit import cel
from drakit.errors import CELError
from drakit.model.resource import Device

DEVICE = Device(name="d")
URL = "url('https://user:pw@a.b:80/x%20y?q=1&q=2&%zz=3#frag')"

TRUE = [
    f"{URL}.getEscapedPath() == '/x%20y'", f"{URL}.getHost() == 'a.b:80' && {URL}.getPort() == '80'",
    f"{URL}.getQuery() == {{'q': ['1', '2']}}", f"{URL} == {URL}",
    "url('https://a/#b') != url('https://a/#c')", "url('mailto:x').getScheme() == 'mailto'",
    "isURL('http://[::1]:80/') && url('http://[::1]:80/').getHostname() == '::1'",
    "!isURL('http://[1.2.3.4]/') && !isURL('../a') && !isURL('http://a:b/') && !isURL('%')",
    "string(ip('2001:0db8::0001')) == '2001:db8::1' && ip('1:2:3:4:5:6:7::') == ip('1:2:3:4:5:6:7:0')",
    "!isIP('1.2.3') && !isIP('1:2') && !isIP('::ffff:1.2.3.4') && !isCIDR('1.2.3.4/032')",
    "type(ip('1.1.1.1')) == net.IP && type(cidr('::/0')) == net.CIDR",
    "'baaac'.findAll('a*') == ['', 'aaa', ''] && 'abab'.findAll('ab', 1) == ['ab']",
    "double('0x1p-2') == 0.25 && double('1_000.5') == 1000.5 && double('inf') > 1.0",
    "timestamp('2024-01-01T1:00:00Z') == timestamp('2024-01-01T01:00:00,000Z')",
    "timestamp('0000-12-31T23:00:00-02:00').getFullYear() == 1",
    "string(duration('9223372036.854775807s')) == '9223372036.854776s'",
    "string(duration('-1m0.5s')) == '-60.5s' && string(duration('0')) == '0s'",
    "format.dns1123Label().validate('a.b').value() == ['must not contain dots']",
    "format.qualifiedName().validate('').value().size() == 2",
    "format.qualifiedName().validate('a/b/c').value()[0].startsWith('a qualified name must consist')",
    "!format.datetime().validate('2024-01-01t00:00:00.5z').hasValue()",
    "format.date().validate('2023-02-29').hasValue() && !format.date().validate('0000-02-29').hasValue()",
    "format.byte().validate('').hasValue() && !format.byte().validate('QQ==').hasValue()",
    "[3, 1].isSorted() == false && dyn([2, 1]).isSorted() == false",
]  # fmt: skip


@pytest.mark.parametrize("text", TRUE)
def test_what_holds(text: str) -> None:
    assert cel.compile(text).matches(DEVICE, "x") is True


ERRORS = {
    "ip('1.2.3').family() == 4":
        'IP Address "1.2.3" parse error during conversion from string: ParseAddr("1.2.3"): '
        "IPv4 address too short",
    "isIP(string(ip('1..2.3')))":
        'IP Address "1..2.3" parse error during conversion from string: ParseAddr("1..2.3"): '
        'IPv4 field must have at least one digit (at ".2.3")',
    "ip('::1::2').family() == 6":
        'IP Address "::1::2" parse error during conversion from string: ParseAddr("::1::2"): '
        'multiple :: in address (at ":2")',
    "cidr('::/129').prefixLength() == 1":
        "network address parse error during conversion from string: network address parse error during "
        'conversion from string: netip.ParsePrefix("::/129"): prefix length out of range',
    "cidr('10.0.0.0/8').containsIP('bad')": "no such overload",
    "url('http://a b/').getHost() == ''":
        'URL parse error during conversion from string: parse "http://a b/": '
        'invalid character " " in host name',
    "url('http://a:b/').getHost() == ''":
        'URL parse error during conversion from string: parse "http://a:b/": invalid port ":b" after host',
    "url('/%zz').getHost() == ''":
        'URL parse error during conversion from string: parse "/%zz": invalid URL escape "%zz"',
    "'a'.matches('a' + '(')": "error parsing regexp: missing closing ): `a(`",
    "'a'.find('a' + '**') == ''":
        "Illegal regex: error parsing regexp: invalid nested repetition operator: `**`",
    "'a'.matches('\\\\' + 'C')": "error parsing regexp: invalid escape sequence: `\\C`",
    "''.lastIndexOf('a') == -1": "index out of range: -1",
    "timestamp('0000-' + '01-01T00:00:00Z') == timestamp(0)": "timestamp overflow",
    "dyn({1: 2})[1.23456789] == 2": "no such key: 1.23456789",
    "dyn(1).allowed()": "no such overload: allowed(int)",
}  # fmt: skip


@pytest.mark.parametrize("text", ERRORS)
def test_errors(text: str) -> None:
    with pytest.raises(CELError) as caught:
        cel.compile(text).matches(DEVICE, "x")
    assert caught.value.message == ERRORS[text]


REFUSED = {
    "device.driver = 'x'": [
        "1:15: Syntax error: token recognition error at: '= '",
        "1:17: Syntax error: extraneous input ''x'' expecting <EOF>",
    ],
    "true & false": ["1:6: Syntax error: token recognition error at: '& '", "1:8: Syntax error: extraneous"],
    "Foo{a: 1} == 1": ["1:4: undeclared reference to 'Foo' (in container '')"],
    "'a'.find('a**') == ''": ["error parsing regexp: invalid nested repetition operator: `**`"],
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_does_not_compile(text: str) -> None:
    with pytest.raises(CELError) as caught:
        cel.compile(text)
    for part in REFUSED[text]:
        assert part in caught.value.message
