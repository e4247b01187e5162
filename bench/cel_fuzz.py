"""Texts nobody would write, as many as fit into the time: does any of them raise or take 100 ms?

    python -m bench.cel_fuzz [--seconds 30] [--seed 1]

Recorded expressions and the worst ones known are cut, spliced, repeated, wrapped in loops and sprinkled with
other words. What takes long is tried again, and its best time counts: these machines are noisy. It is the CPU
time of the slowest of three steps: to compile, to match, to explain.
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import suppress

import click

from bench.cel_worst import DEVICE, SHAPES, WORST
from drakit import cel
from drakit.cel.compile import _compile
from drakit.errors import CELError
from tests.cel.test_any_text import WORDS
from tests.recorded import cases

LIMIT = 0.1
AGAIN = 4
WRAPS = (
    "lists.range(400000).all(x, {})",
    "lists.range(1000).all(y, lists.range(1000).all(x, {}))",
    "[1, 2, 3].map(x, {}).size() > 0",
    "cel.bind(b, {}, b == b)",
    "({}) || ({})",
    "[{}, {}].exists(e, e == {})",
    "has(device.attributes['x'].s) && {}",
)


def mutated(source: random.Random, seeds: list[str]) -> str:
    text = source.choice(seeds)
    for _ in range(source.randint(1, 4)):
        start, end = sorted(source.randrange(len(text) + 1) for _ in range(2))
        match source.randrange(6):
            case 0:
                text = (
                    text[:start] + source.choice(WORDS) + text[min(len(text), start + source.randrange(5)) :]
                )
            case 1:
                other = source.choice(seeds)
                text = text[:start] + other[source.randrange(len(other) + 1) :]
            case 2:
                text = text[:end] + text[start:end] * source.choice((1, 3, 30)) + text[end:]
            case 3:
                text = source.choice(WRAPS).replace("{}", text)
            case 4:
                text = text.replace(source.choice("0123456789"), str(source.choice((0, 7, 999, 1 << 40))), 2)
            case _:
                text = (
                    text[:start]
                    + chr(source.choice((0, 10, 39, 92, 233, 0x301, 0xD800, 0x1F600)))
                    + text[start:]
                )
    return text[:10400]


def seconds_for(text: str) -> float:
    """CPU seconds of the slowest of compiling it, matching and explaining."""
    _compile.cache_clear()
    slowest, began = 0.0, time.process_time()
    with suppress(CELError):
        selector = cel.compile(text)
        for answer in (selector.matches, selector.explain):
            slowest, began = max(slowest, time.process_time() - began), time.process_time()
            with suppress(CELError):
                answer(DEVICE, "x")
    return max(slowest, time.process_time() - began)


@click.command()
@click.option("--seconds", default=30.0, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(seconds: float, seed: int) -> None:
    source = random.Random(seed)
    seeds = [case["expression"] for name in ("cel/upstream", "cel/random") for case in cases(name)]
    seeds += [*WORST.values(), *SHAPES.values()] * 5
    slowest: list[tuple[float, str]] = []
    raised, count, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        text = mutated(source, seeds)
        count += 1
        try:
            taken = seconds_for(text)
            if taken > LIMIT / 2:
                taken = min(taken, *(seconds_for(text) for _ in range(AGAIN)))
        except Exception as error:
            raised += 1
            print(f"raised {type(error).__name__}: {text[:200]!r}")
            continue
        slowest = sorted([*slowest, (taken, text)], reverse=True)[:5]
    print(f"{count} texts, seed {seed}: {raised} raised something else than CELError")
    for taken, text in slowest:
        print(f"{taken * 1000:7.1f} ms  {text[:100]!r} ({len(text)} characters)")
    sys.exit(bool(raised) or slowest[0][0] > LIMIT)


if __name__ == "__main__":
    main()
