"""What a driver counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)

_HELP = {
    "dra_driver_prepare_seconds": ("histogram", "Time to prepare one claim."),
    "dra_driver_unprepare_seconds": ("histogram", "Time to unprepare one claim."),
    "dra_driver_errors_total": ("counter", "Failures by operation."),
    "dra_driver_prepared_claims": ("gauge", "Claims that are prepared."),
    "dra_driver_published_devices": ("gauge", "Devices published in ResourceSlices."),
    "dra_driver_slice_writes_total": ("counter", "Writes of ResourceSlices by verb."),
}


class _Histogram(Struct):
    buckets: list[int] = field(default_factory=lambda: [0] * len(_BUCKETS))
    count: int = 0
    sum: float = 0.0


class Metrics:
    """Counters of one driver; `name` must be one this module knows."""

    def __init__(self, driver: str) -> None:
        self._driver = driver
        self._values: dict[tuple[str, str], float] = {}
        self._histograms: dict[str, _Histogram] = {}

    def add(self, name: str, label: str = "", amount: float = 1) -> None:
        """Raise the counter `name`; `label` is the operation or verb."""
        self._values[name, label] = self._values.get((name, label), 0) + amount

    def set(self, name: str, value: float) -> None:
        """Set the gauge `name`."""
        self._values[name, ""] = value

    def observe(self, name: str, seconds: float) -> None:
        """Count `seconds` in the histogram `name`."""
        histogram = self._histograms.setdefault(name, _Histogram())
        histogram.count += 1
        histogram.sum += seconds
        for index, bound in enumerate(_BUCKETS):
            histogram.buckets[index] += seconds <= bound

    def value(self, name: str, label: str = "") -> float:
        """The value of a counter or gauge, 0 before the first; the count of a histogram."""
        if name in self._histograms:
            return self._histograms[name].count
        return self._values.get((name, label), 0)

    def text(self) -> str:
        """All of it in Prometheus' text format."""
        lines: list[str] = []
        for name, (kind, help_) in _HELP.items():
            lines += [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]
            lines += self._histogram_lines(name) if kind == "histogram" else self._value_lines(name)
        return "\n".join(lines) + "\n"

    def _value_lines(self, name: str) -> list[str]:
        return [
            f"{name}{self._labels({'operation': label} if label else {})} {value:g}"
            for (found, label), value in sorted(self._values.items())
            if found == name
        ]

    def _histogram_lines(self, name: str) -> list[str]:
        histogram = self._histograms.get(name)
        if histogram is None:
            return []
        bounds = [*(f"{bound:g}" for bound in _BUCKETS), "+Inf"]
        counts = [*histogram.buckets, histogram.count]
        lines = [
            f"{name}_bucket{self._labels({'le': bound})} {count}"
            for bound, count in zip(bounds, counts, strict=True)
        ]
        labels = self._labels({})
        return [*lines, f"{name}_sum{labels} {histogram.sum:g}", f"{name}_count{labels} {histogram.count}"]

    def _labels(self, more: Mapping[str, str]) -> str:
        pairs = ",".join(f'{key}="{value}"' for key, value in {"driver": self._driver, **more}.items())
        return "{" + pairs + "}"
