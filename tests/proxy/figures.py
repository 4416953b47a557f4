"""What a status says of a service of which nothing was asked, and durations in its words."""

from __future__ import annotations

from hapolicy.core.latencies import BOUNDS_S, Latencies
from hapolicy.core.status import ServiceStatus

UNASKED = ServiceStatus(
    name="A",
    address="",
    prio=10,
    weight=1.0,
    timeout_s=30.0,
    state="up",
    draining=False,
    available=True,
    silent=False,
    trial_in_s=None,
    queries=0,
    answers=0,
    failed=0,
    in_flight=0,
    failures={},
    suspects=0,
    last_error="",
    last_error_age_s=None,
    probes_answered=0,
    probes_failed=0,
    hedges_sent=0,
    hedges_won=0,
    hedges_lost=0,
    connections_busy=0,
    connections_idle=0,
    connections_waiting=0,
    max_connections=None,
    queued=0,
    queued_for_s=0.0,
    share=None,
    p50_s=None,
    p99_s=None,
    sparkline_s=Latencies().sparkline(0.0),
    latency_counts=[0] * len(BOUNDS_S),
    latency_sum_s=0.0,
)


def within(bounds_s: dict[float, int]) -> list[int]:
    """So many durations within each of these bounds, and none within the others."""
    return [bounds_s.get(bound_s, 0) for bound_s in BOUNDS_S]


def lately(*medians_s: float | None) -> list[float | None]:
    """A sparkline that ends in these."""
    return [*UNASKED.sparkline_s[len(medians_s) :], *medians_s]
