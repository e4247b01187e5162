"""Benchmarks: ratios against a named peer or against doing nothing, measured in one run.

`python -m bench` runs them all, `python -m bench.NAME` one with its options. Never part of the tests.
"""
