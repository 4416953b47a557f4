"""Tells the service manager that the daemon works, only while it does (sd_watchdog_enabled(3)).

What is checked before each WATCHDOG=1, every half of the time that the service manager grants, and again a second
after a check that failed:

1. Each worker's loop turns.
2. Each listener takes a real connection, hands it to a worker, and the worker ends it when we do. (Not while --max-
clients is reached: then not to accept is right. Nor on a unix socket whose mode keeps us out.)
3. No client waits for an answer beyond the deadline that held when it asked.

No service is asked. A check that hangs ends the WATCHDOG=1 as surely as one that fails.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import Any

from hapolicy.core import events
from hapolicy.core.text import counted
from hapolicy.daemon import systemd
from hapolicy.log.eventlog import EventLog
from hapolicy.proxy.pool import Pool

# Far more than a connection on this host needs under load, far less than the usual WatchdogSec= of 30 s.
_CONNECT_TIMEOUT_S = 5.0
_OVERDUE_S = 5.0
_STALLED_S = 5.0
_TURN_S = 0.1  # when the process stood still the loops turn in no time

# A check that failed may have met a passing want. Half of the time that is granted has passed since the last one, so
# the next one must not come another half later.
_AGAIN_S = 1.0


class Watchdog:
    """Watches over the daemon on a thread of its own."""

    def __init__(self, sockets: Sequence[socket.socket], pool: Pool, log: EventLog) -> None:
        self._sockets = sockets
        self._pool = pool
        self._log = log
        self._stop = threading.Event()

    def start(self, interval_s: float) -> None:
        """Begin to send WATCHDOG=1, at least one in `interval_s` seconds."""
        threading.Thread(target=self._run, args=(interval_s / 2,), name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()

    def status_line(self) -> str:
        """What ``systemctl status`` shows. Raises TimeoutError."""
        status = self._pool.status()
        up = sum(service.state in ("up", "draining") for service in status.services)
        services, clients = counted(len(status.services), "service"), counted(status.clients, "client")
        return f"STATUS={up} of {services} up, {clients}"

    def _run(self, period_s: float) -> None:
        well = self._try()
        while not self._stop.wait(period_s if well else min(period_s, _AGAIN_S)):
            well = self._try()

    def _try(self) -> bool:
        """Check, and tell the service manager that all is well; returns whether it is."""
        try:
            self.check()
            systemd.notify("WATCHDOG=1", self.status_line())
        except (OSError, RuntimeError) as error:
            if not self._stop.is_set():  # at the end nobody accepts
                self._log.emit(events.WATCHDOG_FAILED(error=str(error)))
            return False
        except Exception:  # noqa: BLE001 - the outermost guard: an unknown fault is no reason to end the watch
            self._log.fault()
            return False
        return True

    def check(self) -> None:
        """Return when all works; raise OSError or RuntimeError, or hang, when not."""
        if self._stalled():
            self._stop.wait(_TURN_S)
        for name, age_s in self._stalled().items():
            raise RuntimeError(f"the loop of {name} has not turned for {age_s:.1f} s")
        if self._pool.has_room():
            for sock in self._sockets:
                _connect_and_leave(sock)
        overdue_s = self._pool.overdue_s()
        if overdue_s > _OVERDUE_S:
            raise RuntimeError(f"a client waits for an answer {overdue_s:.1f} s beyond its deadline")

    def _stalled(self) -> dict[str, float]:
        return {name: age_s for name, age_s in self._pool.heartbeat_ages_s().items() if age_s > _STALLED_S}


def _connect_and_leave(listening: socket.socket) -> None:
    with socket.socket(listening.family, socket.SOCK_STREAM) as sock:
        sock.settimeout(_CONNECT_TIMEOUT_S)
        try:
            sock.connect(_reachable(listening))
        except PermissionError:
            return  # a unix socket that only Postfix may use
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)


def _reachable(listening: socket.socket) -> Any:
    """Where a listener is found from this host."""
    where = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return where
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where[0], where[0])  # noqa: S104 - what getsockname says
    return (host, *where[1:])
