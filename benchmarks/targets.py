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

    def ratio(field: str, connections: int) -> float | None:
        return _ratio(median(speed, NEW, connections, field), median(speed, HAPROXY, connections, field))

    added = _ratio(added_us(speed, NEW), added_us(speed, HAPROXY))
    logged = found["logging"]["-l, full"]
    first = found["first_answer_ms"]
    crowds = found["crowds"]
    more_us = None
    if logged.get("cpu_us") is not None:
        more_us = logged["cpu_us"] - found["logging"]["off, full"]["cpu_us"]
    log_p99 = _ratio(found["logging"]["-l, 5,000/s"]["p99_us"], found["logging"]["off, 5,000/s"]["p99_us"])
    return [
        Target("requests a second at 32 connections, to HAProxy's", against(HAPROXY, 32), 0.75, "×", at_least=True),
        Target("requests a second at 200 connections, to HAProxy's", against(HAPROXY, 200), 0.75, "×", at_least=True),
        Target(
            "requests a second at 1,000 connections, to HAProxy's", against(HAPROXY, 1000), 0.75, "×", at_least=True
        ),
        Target("requests a second at 32 connections, to hapolicy 1.00's", against(OLD, 32), 12, "×", at_least=True),
        Target("added latency at 1 connection (median), to HAProxy's", added, 1.1, "×"),
        Target("p999 at 200 connections, to HAProxy's", ratio("p999_us", 200), 2, "×"),
        Target("p999 at 1,000 connections, to HAProxy's", ratio("p999_us", 1000), 2, "×"),
        Target("CPU a request at 32 connections, to HAProxy's", ratio("cpu_us", 32), 1.5, "×"),
        Target("CPU a request at 200 connections, to HAProxy's", ratio("cpu_us", 200), 1.5, "×"),
        Target("memory of an idle client, of 5,000", found["idle_memory"][NEW]["each_kb"], 3, "kB"),
        Target("threads in all", found["idle_memory"][NEW].get("threads"), 12, ""),
        Target("200 newcomers at once under load, all answered within", crowds["newcomers"]["seconds"], 0.1, "s"),
        Target(
            "200 busy of 10,000 connected, to 200 alone", crowds["10,000 connected"]["ratio"], 0.9, "×", at_least=True
        ),
        Target("p99 of 32 beside rude clients, to 32 alone", crowds["rude clients"]["p99"], 3, "×"),
        Target(f"-l to {logged['sink']}: CPU more a request", more_us, 15, "µs"),
        Target(f"-l to {logged['sink']} at 5,000/s: p99, to without", log_p99, 1.5, "×"),
        Target("-l at 5,000/s: logged", found["logging"]["-l, 5,000/s"].get("logged"), 1, "", at_least=True),
        Target("--hedge auto to off at 32", crowds["hedge auto to off"]["32"], 0.97, "×", at_least=True),
        Target("--hedge auto to off at 200", crowds["hedge auto to off"]["200"], 0.97, "×", at_least=True),
        Target("start to READY", found["start_ms"][NEW], 130, "ms"),
        Target("spawned: first answer, to hapolicy 1.00's", _ratio(first[NEW], first.get(OLD)), 1.3, "×"),
    ]


def added_us(speed: Rounds, name: str) -> float | None:
    """How much later than without a proxy the median answer at one connection is, in microseconds."""
    one, bare = median(speed, name, 1, "p50_us"), median(speed, DIRECT, 1, "p50_us")
    return None if one is None or bare is None else one - bare


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None
