"""Where everything stands at one moment, as plain values: what people and machines are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceStatus:
    """One service. Durations in seconds; `share` of all answers of the last minute, None when there were none."""

    name: str
    address: str
    prio: int
    weight: float
    timeout_s: float
    state: str  # up, down, probing, draining
    draining: bool  # drained by an operator, whatever its state
    available: bool  # whether the next request may go to it
    silent: bool  # whether it owes answers and gives none: the others of its tier are asked first
    trial_in_s: float | None  # seconds until the next probe, while down
    queries: int  # queries = answers + failed + in_flight
    answers: int
    failed: int
    in_flight: int
    failures: dict[str, int]  # by kind
    suspects: int  # requests on which it broke, and which got --suspect
    last_error: str
    last_error_age_s: float | None  # None when there was none
    probes_answered: int
    probes_failed: int
    hedges_sent: int  # requests asked of a second service because this one kept them waiting
    hedges_won: int  # of those, answered first by the second service
    hedges_lost: int  # of those, answered first by this one after all
    connections_busy: int
    connections_idle: int
    connections_waiting: int  # asked, and not known to be served: perhaps in the service's backlog
    max_connections: int | None
    queued: int  # requests that wait for a connection (max=N)
    queued_for_s: float  # how long the first of them has waited; 0 when none does
    share: float | None
    p50_s: float | None  # of the last minute
    p99_s: float | None
    sparkline_s: list[float | None]  # medians over the last minute, oldest first
    latency_counts: list[int]  # since the start, within core.latencies.BOUNDS_S
    latency_sum_s: float


@dataclass(frozen=True)
class Change:
    """A service or the whole pool changed its state. `when` in seconds since the epoch."""

    when: float
    event: str  # service.down, service.up, service.draining, service.ready, pool.down, pool.up
    fields: Mapping[str, object]


@dataclass(frozen=True)
class PoolStatus:
    """All services, and the clients that ask them."""

    clients: int
    max_clients: int
    workers: int
    longest_wait_s: float  # of the clients that wait for an answer now; 0 when none does
    longest_turn_s: float  # the longest turn of a worker's loop in the last minute: how long one can delay the others
    requests: list[tuple[str, str, int]]  # outcome (answered, defaulted, suspect), protocol state, count
    services: list[ServiceStatus]  # in the order in which they are asked
    changes: list[Change]  # oldest first
