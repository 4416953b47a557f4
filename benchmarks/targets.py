"""What hapolicy 2 set out to reach, as ratios within one run, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.speed import Rounds, median

NEW, OLD, HAPROXY, DIRECT = "hapolicy 2", "hapolicy 1.00", "HAProxy", "direct"


@dataclass(frozen=True)
class Target:
    """`at_least` or at most `limit`; `value` is None where it was not measured."""

    text: str
    value: float | None
    limit: float
    unit: str
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """Reached, missed or not measured."""
        if self.value is None:
            return "not measured"
        reached = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "reached" if reached else "**missed**"


def judge(found: Mapping[str, Any]) -> list[Target]:
    """Each target with its value."""
    speed: Rounds = found["speed"]

    def rate(name: str, connections: int) -> float | None:
        return median(speed, name, connections, "per_second")

    def against(name: str, connections: int) -> float | None:
        return _ratio(rate(NEW, connections), rate(name, connections))

    p999 = _ratio(median(speed, NEW, 200, "p999_us"), median(speed, HAPROXY, 200, "p999_us"))
    added = _ratio(added_us(speed, NEW), added_us(speed, HAPROXY))
    logged = found["logging"]["-l, full"]
    first = found["first_answer_ms"]
    return [
        Target("requests a second at 32 connections, to hapolicy 1.00's", against(OLD, 32), 12, "×", at_least=True),
        Target("requests a second at 32 connections, to HAProxy's", against(HAPROXY, 32), 0.65, "×", at_least=True),
        Target("requests a second at 200 connections, to HAProxy's", against(HAPROXY, 200), 0.6, "×", at_least=True),
        Target("requests a second at 1,000 connections, to HAProxy's", against(HAPROXY, 1000), 0.4, "×", at_least=True),
        Target("added latency at 1 connection (median), to HAProxy's", added, 1, "×"),
        Target("p999 at 200 connections, to HAProxy's", p999, 4, "×"),
        Target("processor time a request at 32 connections", median(speed, NEW, 32, "cpu_us"), 30, "µs"),
        Target(f"the same with -l to {logged['sink']}", logged.get("cpu_us"), 45, "µs"),
        Target("memory of an idle connection", found["idle_memory"][NEW]["each_kb"], 25, "kB"),
        Target("200 connections at once, all answered within", median(speed, NEW, 200, "ramp_s"), 0.5, "s"),
        Target("start to READY", found["start_ms"][NEW], 250, "ms"),
        Target("spawned: first answer, to hapolicy 1.00's", _ratio(first[NEW], first.get(OLD)), 2, "×"),
    ]


def added_us(speed: Rounds, name: str) -> float | None:
    """How much later than without a proxy the median answer at one connection is, in microseconds."""
    one, bare = median(speed, name, 1, "p50_us"), median(speed, DIRECT, 1, "p50_us")
    return None if one is None or bare is None else one - bare


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None
