"""Costs of the libraries, as Kubernetes' own tests of them have it: (greatest, actual).

Lists of literals are made once here, as in DRA, and cost nothing when they are read.
"""

from __future__ import annotations

import pytest

from drakit import cel
from drakit.model.resource import Device

DEVICE = Device(name="d")
IPV6 = "2001:db8:3333:4444:5555:6666:7777:8888"
MOST = 1844674407370955266
TEXT = "'abc 123 def 123'"

COSTS = {
    "ip('192.168.0.1')": (2, 2), f"ip('{IPV6}')": (4, 4), "ip('192.168.0.1').family()": (3, 3),
    f"ip('{IPV6}').isLoopback()": (5, 5), "isIP('192.168.0.1')": (2, 2), "isCIDR('192.168.0.0/16')": (2, 2),
    "ip.isCanonical('192.168.0.1')": (3, 3), f"ip.isCanonical('{IPV6}')": (8, 8),
    "ip.isCanonical('2001:db8::abcd')": (3, 3), "cidr('192.168.0.0/16')": (2, 2),
    "cidr('192.168.0.0/16').ip()": (3, 3), "cidr('2001:db8::/32').masked()": (3, 3),
    "cidr('192.168.0.0/16').containsCIDR(cidr('192.0.0.0/30'))": (11, 7),
    "cidr('192.168.0.0/16').containsCIDR('192.168.0.0/16')": (11, 7),
    "cidr('192.168.0.0/16').containsIP(ip('192.0.0.1'))": (7, 4),
    "cidr('192.168.0.0/16').containsIP('192.169.0.1')": (8, 5),
    f"cidr('2001:db8::/32').containsIP(ip('{IPV6}'))": (10, 7),
    "cidr('2001:db8::/32').containsCIDR('2001:db8::/126')": (11, 7),
    "'ABCDEFGHIJ abcdefghij'.lowerAscii()": (3, 3),
    "'ABCDEFGHIJ abcdefghij'.upperAscii() == 'abcdefghij ABCDEFGHIJ'.upperAscii()": (9, 9),
    "strings.quote('ABCDEFGHIJ abcdefghij')": (3, 3),
    "strings.quote('ABCDEFGHIJ abcdefghij') == strings.quote('ABCDEFGHIJ abcdefghij')": (11, 9),
    f"{TEXT}.replace('123', '456')": (3, 3), f"{TEXT}.replace('', 'x')": (3, 3),
    f"{TEXT}.split(' ', 1)": (3, 3), f"{TEXT}.substring(5, 8)": (2, 2), f"{TEXT}.find('123')": (2, 2),
    f"{TEXT}.findAll('123', 1)": (2, 2), "url('https:://kubernetes.io/').getQuery()": (4, 4),
    "quantity('200M') == quantity('200M')": (3, 3), "quantity('50M').isLessThan(quantity('50Mi'))": (3, 3),
    "quantity('50k').add(20).sub(quantity('100k')).sub(-50000).asInteger() > 0": (7, 7),
    "sets.contains([1, 2, 3, 4], [2, 3])": (29, 9), "sets.contains([1], [1, 1])": (23, 3),
    "sets.equivalent([1, 2, 3], [3, 2, 1])": (39, 19), "!sets.intersects([1], [2])": (23, 3),
    # Not in those tests: checking with a pattern of 30 characters.
    "format.dns1123Label().validate('a')": (33, 9),
    "optional.of('aaaaaaaaaaaaaaaaaaaaaaaaa') == optional.of('aaaaaaaaaaaaaaaaaaaaaaaaa')": (MOST, 5),
}  # fmt: skip


@pytest.mark.parametrize("text", COSTS)
def test_costs(text: str) -> None:
    """What is no condition compiles as `dyn`, which costs 1."""
    is_bool = any(sign in text for sign in ("==", "> 0", "sets.", "is", "contains"))
    program = cel.compile(text if is_bool else f"dyn({text})")
    extra = 0 if is_bool else 1
    assert (program.max_cost - extra, program.explain(DEVICE, "x").cost - extra) == COSTS[text]
