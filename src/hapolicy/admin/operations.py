"""What an operator may see and do while the daemon runs; the control socket and HTTP put it on the wire."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future

import hapolicy
from hapolicy.admin.status import Status
from hapolicy.config.settings import Warnings
from hapolicy.core.event import Level
from hapolicy.core.protocol import Request
from hapolicy.log.eventlog import EventLog
from hapolicy.proxy.pool import Answered, Pool

# Longer than any argument file takes to read; the operator waits for it.
_RELOAD_TIMEOUT_S = 10.0


class Operations:
    """Operates the running daemon; thread-safe."""

    def __init__(self, pool: Pool, log: EventLog, reload: Callable[[], Future[Warnings]]) -> None:
        """`reload` has the daemon read its configuration again."""
        self._pool = pool
        self._log = log
        self._reload = reload
        self._started_at = time.monotonic()

    def status(self) -> Status:
        """Where everything stands. Raises TimeoutError."""
        now = self._pool.status()
        settings = self._pool.settings
        return Status(
            version=hapolicy.__version__,
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._started_at, 3),
            clients=now.clients,
            max_clients=now.max_clients,
            workers=now.workers,
            longest_wait_s=now.longest_wait_s,
            longest_turn_s=now.longest_turn_s,
            deadline_s=settings.requests.deadline_s,
            default_action=settings.requests.default_action,
            suspect_action=settings.requests.suspect_action,
            hedge=str(settings.requests.hedge),
            affinity=list(settings.requests.affinity),
            log_level=self._log.level.name.lower(),
            log_requests=settings.log_requests,
            log_dropped=self._log.dropped,
            requests=[{"outcome": outcome, "state": state, "count": count} for outcome, state, count in now.requests],
            services=now.services,
            changes=now.changes,
        )

    def drain(self, name: str) -> None:
        """Ask the service nothing new; what it was asked finishes. Raises `UnknownService`."""
        self._pool.drain(name)

    def ready(self, name: str) -> None:
        """End `drain`. Raises `UnknownService`."""
        self._pool.ready(name)

    def trip(self, name: str) -> None:
        """Count the service as down; probes find out when it is well. Raises `UnknownService`."""
        self._pool.trip(name)

    def reset(self, name: str) -> None:
        """Count the service as up, no failure counted. Raises `UnknownService`."""
        self._pool.reset(name)

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

        Raises `UnknownService` and TimeoutError; with `name` also `ServiceFailure`.
        """
        return self._pool.query(request, name)
