"""The daemon at one moment: what SIGUSR1 logs, and what people and machines are shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hapolicy.core import events
from hapolicy.core.event import Event
from hapolicy.core.status import Change, ServiceStatus


@dataclass(frozen=True)
class Status:
    """The daemon, its clients and its services."""

    version: str
    pid: int
    uptime_s: float
    clients: int
    max_clients: int
    workers: int
    longest_wait_s: float  # of the clients that wait for an answer now; 0 when none does
    longest_turn_s: float  # of a worker's loop in the last minute
    deadline_s: float
    default_action: str
    suspect_action: str
    hedge: str
    affinity: list[str]
    log_level: str
    log_requests: bool
    log_dropped: int
    requests: list[dict[str, Any]]  # outcome, state, count
    services: list[ServiceStatus]
    changes: list[Change]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return dataclasses.asdict(self)


_LOGGED = (
    "state",
    "prio",
    "weight",
    "queries",
    "answers",
    "failed",
    "in_flight",
    "failures",
    "hedges_sent",
    "last_error",
)


def status_events(services: list[ServiceStatus]) -> Iterator[Event]:
    """One event a service."""
    for service in services:
        fields = {name: getattr(service, name) for name in _LOGGED}
        if service.trial_in_s is not None:
            fields["probe_in_s"] = round(service.trial_in_s, 3)
        yield events.SERVICE_STATUS(
            service=service.name, address=service.address, last_error_age_s=service.last_error_age_s, **fields
        )
