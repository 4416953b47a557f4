"""Where a worker stands, as plain values, and the sum of several workers'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hapolicy.core.breaker import State
from hapolicy.core.failover import Outcome
from hapolicy.core.latencies import merged_sparkline, quantile
from hapolicy.core.status import ServiceStatus
from hapolicy.core.upstream import Upstream
from hapolicy.proxy.connections import Connections
from hapolicy.proxy.worker import Worker

# The worst that a worker sees is what an operator is shown.
_WORST_FIRST = ("down", "probing", "draining", "up")


@dataclass(frozen=True)
class Snapshot:
    """One worker."""

    clients: int
    longest_wait_s: float
    overdue_s: float  # by how much the most overdue client is past its deadline
    longest_turn_s: float
    requests: Counter[tuple[str, str]]  # outcome, protocol state
    services: list[tuple[ServiceStatus, list[int]]]  # with the answers of the last minute by duration


def take(worker: Worker) -> Snapshot:
    """`worker` as it is; called on its own thread."""
    now = worker.now
    waits = [now - failover.asked_at for failover in worker.waiting]
    overdue = [now - failover.deadline for failover in worker.waiting]
    requests: Counter[tuple[str, str]] = Counter()
    for state, count in worker.ledger.answered_by_state.items():
        requests[Outcome.ANSWERED.value, state.decode()] = count
    for (outcome, state), count in worker.ledger.unanswered.items():
        requests[outcome.value, state.decode()] = count
    return Snapshot(
        clients=len(worker.sessions),
        longest_wait_s=max(waits, default=0.0),
        overdue_s=max([0.0, *overdue]),
        longest_turn_s=worker.longest_turn.seconds,
        requests=requests,
        services=[
            (_service(upstream, worker.connections[upstream], now), upstream.latencies.minute(now))
            for upstream in worker.plan.upstreams
        ],
    )


def _service(upstream: Upstream, connections: Connections, now: float) -> ServiceStatus:
    service, latencies = upstream.service, upstream.latencies
    is_down = upstream.breaker.state is State.DOWN
    queue = [exchange for exchange in connections.queue if exchange.asker.wanted]
    return ServiceStatus(
        name=service.name,
        address=str(service.address),
        prio=service.prio,
        weight=float(service.weight),
        timeout_s=service.timeout_s,
        state=upstream.state,
        draining=upstream.draining,
        available=upstream.available,
        silent=upstream.silent,
        trial_in_s=max(0.0, upstream.breaker.retry_at - now) if is_down else None,
        queries=upstream.queries,
        answers=upstream.answers,
        failed=upstream.failed,
        in_flight=len(upstream.in_flight),
        failures={kind.value: count for kind, count in upstream.failures.items()},
        suspects=upstream.suspects,
        last_error=upstream.last_error,
        last_error_age_s=None if upstream.last_error_at is None else round(now - upstream.last_error_at, 3),
        probes_answered=upstream.probes_answered,
        probes_failed=upstream.probes_failed,
        hedges_sent=upstream.hedges_sent,
        hedges_won=upstream.hedges_won,
        hedges_lost=upstream.hedges_lost,
        connections_busy=connections.busy() - len(connections.unproven),
        connections_idle=len(connections.free) + len(connections.claimed),
        connections_waiting=len(connections.unproven),
        max_connections=service.max_connections,
        queued=len(queue),
        queued_for_s=max([0.0, *(now - getattr(each.asker, "asked_at", now) for each in queue)]),
        share=None,
        p50_s=None,
        p99_s=None,
        sparkline_s=latencies.sparkline(now),
        latency_counts=latencies.counts.copy(),
        latency_sum_s=latencies.sum_s,
    )


def merged(snapshots: Sequence[Snapshot]) -> list[ServiceStatus]:
    """The services, all workers' figures added up, each with its share of the answers of the last minute.

    While settings are being adopted, not every worker has the same services.
    """
    by_name: dict[str, list[tuple[ServiceStatus, list[int]]]] = {}
    for each in snapshots:
        for status, minute in each.services:
            by_name.setdefault(status.name, []).append((status, minute))
    minutes = {name: _added([minute for _, minute in seen]) for name, seen in by_name.items()}
    answered = sum(map(sum, minutes.values()))
    return [_merged_service([status for status, _ in seen], minutes[name], answered) for name, seen in by_name.items()]


_SUMMED = (
    "queries",
    "answers",
    "failed",
    "in_flight",
    "suspects",
    "probes_answered",
    "probes_failed",
    "hedges_sent",
    "hedges_won",
    "hedges_lost",
    "connections_busy",
    "connections_idle",
    "connections_waiting",
    "queued",
    "latency_sum_s",
)


def _merged_service(seen: Sequence[ServiceStatus], minute: Sequence[int], answered: int) -> ServiceStatus:
    worst = min(seen, key=lambda status: _WORST_FIRST.index(status.state))
    latest = min(seen, key=lambda status: float("inf") if status.last_error_age_s is None else status.last_error_age_s)
    failures: Counter[str] = Counter()
    for status in seen:
        failures.update(status.failures)
    fields = {name: getattr(worst, name) for name in worst.__dataclass_fields__}
    fields |= {name: sum(getattr(status, name) for status in seen) for name in _SUMMED}
    return ServiceStatus(
        **fields
        | {
            "available": any(status.available for status in seen),
            "silent": any(status.silent for status in seen),
            "failures": dict(failures),
            "last_error": latest.last_error,
            "last_error_age_s": latest.last_error_age_s,
            "queued_for_s": max(status.queued_for_s for status in seen),
            "latency_counts": _added([status.latency_counts for status in seen]),
            "sparkline_s": merged_sparkline([status.sparkline_s for status in seen]),
            "share": sum(minute) / answered if answered else None,
            "p50_s": quantile(minute, 0.5),
            "p99_s": quantile(minute, 0.99),
        }
    )


def _added(counts: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*counts, strict=True)]
