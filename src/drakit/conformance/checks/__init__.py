"""The checks, in the order in which they run. Each is a small function that names its source."""

from __future__ import annotations

from drakit.conformance.check import Check
from drakit.conformance.checks import api, files, health, leaks, prepare, registration, restart, slices

CHECKS: tuple[Check, ...] = (
    *registration.CHECKS,
    *slices.CHECKS,
    *prepare.CHECKS,
    *files.CHECKS,
    *health.CHECKS,
    *api.CHECKS,
    *restart.CHECKS,
    slices.changed,
    *leaks.CHECKS,
    slices.generations,
)
