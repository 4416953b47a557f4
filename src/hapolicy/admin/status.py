"""Where everything stands at one moment: what SIGUSR1 logs, and what people and machines are shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hapolicy.core.counters import quantile
from hapolicy.core.events import Event, Level
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.upstream import Counters, Upstream


@dataclass(frozen=True)
class ServiceStatus:
    """One service. Durations in seconds; `share` of all answers of the last minute, None when there were none."""

    name: str
    address: str
    prio: int
    weight: float
    timeout_s: float
    state: str  # up, down, probing, draining
    draining: bool  # told so, whatever its state
    available: bool  # whether the next request may go to it
    stalled: bool  # whether it owes answers and gives none: its equals are asked first
    trial_in_s: float | None  # seconds until the next probe, while down
    queries: int
    answers: int
    failed: int
    in_flight: int
    failures: dict[str, int]  # by kind
    last_error: str
    last_error_age_s: float | None  # None when there was none
    probes_answered: int
    probes_failed: int
    share: float | None
    p50_s: float | None  # of the last minute
    p99_s: float | None
    sparkline_s: list[float | None]  # medians over the last minute, oldest first
    latency_counts: list[int]  # since the start, within stats.BOUNDS_S
    latency_sum_s: float


def service_statuses(pool: Pool) -> list[ServiceStatus]:
    """All services of `pool`, in the order in which they are asked."""
    upstreams = sorted(pool.upstreams, key=lambda upstream: upstream.prio)
    counters = [upstream.counters() for upstream in upstreams]
    minutes = [counted.latencies.minute() for counted in counters]
    answered = sum(map(sum, minutes))
    return [_service(*each, answered) for each in zip(upstreams, counters, minutes, strict=True)]


def _service(upstream: Upstream, counters: Counters, minute: Sequence[int], answered: int) -> ServiceStatus:
    service, latencies = upstream.service, counters.latencies
    return ServiceStatus(
        name=service.name,
        address=str(service.address),
        prio=service.prio,
        weight=float(service.weight),
        timeout_s=service.timeout_s,
        state=upstream.state,
        draining=upstream.draining,
        available=upstream.available,
        stalled=upstream.stalled,
        trial_in_s=upstream.gate.trial_in_s,
        queries=counters.queries,
        answers=counters.answers,
        failed=counters.failed,
        in_flight=counters.in_flight,
        failures={kind.value: count for kind, count in counters.failures.items()},
        last_error=counters.last_error,
        last_error_age_s=_age_s(counters.last_error_at),
        probes_answered=counters.probes_answered,
        probes_failed=counters.probes_failed,
        share=sum(minute) / answered if answered else None,
        p50_s=quantile(minute, 0.5),
        p99_s=quantile(minute, 0.99),
        sparkline_s=latencies.sparkline(),
        latency_counts=latencies.counts,
        latency_sum_s=latencies.sum_s,
    )


def _age_s(at: float | None) -> float | None:
    return None if at is None else round(time.monotonic() - at, 3)


def log_status(pool: Pool) -> None:
    """One event a service."""
    for upstream in pool.upstreams:
        status = _service(upstream, upstream.counters(), (), 0)
        fields = {
            name: getattr(status, name)
            for name in (
                "state",
                "prio",
                "weight",
                "queries",
                "answers",
                "failed",
                "in_flight",
                "failures",
                "last_error",
                "last_error_age_s",
            )
        }
        if status.trial_in_s is not None:
            fields["probe_in_s"] = round(status.trial_in_s, 3)
        upstream.tell([Event(Level.INFO, "service.status", fields)])
