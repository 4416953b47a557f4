"""What an operator may see and do while the daemon runs; `control` and `web` put it on the wire."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import hapolicy
from hapolicy.admin.status import ServiceStatus, service_statuses
from hapolicy.config.settings import Warnings
from hapolicy.core.events import Event, Level
from hapolicy.core.protocol import Request, action_of
from hapolicy.log.events import EventLog
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.relay import Affinity
from hapolicy.proxy.upstream import Upstream

# Longer than any argument file takes to read; the operator waits for it.
_RELOAD_TIMEOUT_S = 10.0


class UnknownService(LookupError):
    """There is no service of that name; the text says which there are."""


@dataclass(frozen=True)
class Status:
    """The daemon at one moment."""

    version: str
    pid: int
    uptime_s: float
    clients: int
    max_clients: int
    longest_wait_s: float  # of those who wait for an answer now, 0 when nobody does
    deadline_s: float
    default_action: str
    log_level: str
    log_requests: bool
    log_dropped: int
    requests: list[dict[str, Any]]  # outcome, state, count
    services: list[ServiceStatus]
    changes: list[dict[str, Any]]  # when (seconds since the epoch), event, fields; oldest first

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Answered:
    """The outcome of a query: the action, the service that gave it (None: the default action), and how long it took."""

    action: str
    service: str | None
    took_ms: float


class Operations:
    """Operates the running daemon; thread-safe."""

    def __init__(
        self,
        pool: Callable[[], Pool],
        clients: Callable[[], tuple[int, int, float]],
        log: EventLog,
        reload: Callable[[], Future[Warnings]],
    ) -> None:
        """`clients` gives how many there are and may be, and the longest wait; `reload` is `Daemon.reload`."""
        self._pool = pool
        self._clients = clients
        self._log = log
        self._reload = reload
        self._started_at = time.monotonic()

    def status(self) -> Status:
        """Where everything stands."""
        pool = self._pool()
        clients, max_clients, longest_wait_s = self._clients()
        return Status(
            version=hapolicy.__version__,
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._started_at, 3),
            clients=clients,
            max_clients=max_clients,
            longest_wait_s=longest_wait_s,
            deadline_s=pool.settings.deadline_s,
            default_action=pool.settings.default_action,
            log_level=self._log.level.name.lower(),
            log_requests=pool.settings.log_requests,
            log_dropped=self._log.dropped,
            requests=[
                {"outcome": outcome, "state": state, "count": count}
                for (outcome, state), count in sorted(pool.tally.counts().items())
            ],
            services=service_statuses(pool),
            changes=[dataclasses.asdict(change) for change in pool.changes],
        )

    def drain(self, name: str) -> None:
        """Ask the service nothing new; what it was asked ends well. Raises `UnknownService`."""
        upstream = self._find(name)
        if not upstream.draining:
            upstream.draining = True
            upstream.tell([Event(Level.INFO, "service.draining")])

    def ready(self, name: str) -> None:
        """End `drain`. Raises `UnknownService`."""
        upstream = self._find(name)
        if upstream.draining:
            upstream.draining = False
            upstream.give_credit()
            upstream.tell([Event(Level.INFO, "service.ready")])

    def trip(self, name: str) -> None:
        """Count the service as down; probes find out when it is well. Raises `UnknownService`."""
        upstream = self._find(name)
        upstream.tell(upstream.gate.trip())

    def reset(self, name: str) -> None:
        """Count the service as up, no failure counted. Raises `UnknownService`."""
        upstream = self._find(name)
        upstream.give_credit()
        upstream.tell(upstream.gate.reset())

    def set_log_level(self, level: Level) -> None:
        """Log from this level on, until the next reload."""
        self._log.level = level

    def reload(self) -> Warnings:
        """Read the configuration again; returns what is doubtful about it.

        Raises `SettingsError`, or TimeoutError; nothing has changed then.
        """
        return self._reload().result(_RELOAD_TIMEOUT_S)

    def query(self, request: Request, name: str | None = None) -> Answered:
        """Ask as a client would or, with `name`, that service alone, whatever its health.

        Raises `UnknownService`; with `name` also `ServiceFailure`.
        """
        start = time.monotonic()
        if name is None:
            affinity = Affinity()
            answer = self._pool().relay.answer(request, affinity)
            service = affinity.upstream.name if affinity.upstream else None
        else:
            answer = self._find(name).try_out(request.raw)
            service = name
        return Answered(action_of(answer), service, round((time.monotonic() - start) * 1000, 3))

    def _find(self, name: str) -> Upstream:
        upstreams = self._pool().upstreams
        for upstream in upstreams:
            if upstream.name == name:
                return upstream
        known = ", ".join(upstream.name for upstream in upstreams)
        raise UnknownService(f"no service {name!r}; there are: {known}")
