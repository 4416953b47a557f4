"""Tells the service manager that the daemon works, only while it does (sd_watchdog_enabled(3)).

What is checked before each WATCHDOG=1, every half of the time that the service manager grants:

1. Each listener takes a real connection, gives it a session, and the session ends when we end it: the accept loop,
   the start of a thread, and the register of clients work. (Not while --max-clients is reached: then not to accept
   is right. Nor on a unix socket whose mode keeps us out.)
2. Whose turn it is can be told, and the counters can be read: no lock on a request's walk is stuck.
3. No client waits for an answer longer than the deadline allows.

No service is asked. A check that hangs ends the WATCHDOG=1 as surely as one that fails.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from hapolicy.core.breaker import State
from hapolicy.core.events import Level
from hapolicy.core.text import counted
from hapolicy.daemon import systemd
from hapolicy.log.events import EventLog
from hapolicy.proxy.clients import Clients
from hapolicy.proxy.pool import Pool

# Far more than a connection on this host needs under load, far less than the usual WatchdogSec= of 30 s.
_CONNECT_TIMEOUT_S = 5.0
_OVERDUE_S = 5.0


class Watchdog:
    """Watches over the daemon on a thread of its own."""

    def __init__(
        self, sockets: Sequence[socket.socket], clients: Clients, pool: Callable[[], Pool], log: EventLog
    ) -> None:
        self._sockets = sockets
        self._clients = clients
        self._pool = pool
        self._log = log
        self._stop = threading.Event()

    def start(self, interval_s: float) -> None:
        """Begin to send WATCHDOG=1, at least one in `interval_s` seconds."""
        threading.Thread(target=self._run, args=(interval_s / 2,), name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """No more."""
        self._stop.set()

    def status_line(self) -> str:
        """What ``systemctl status`` shows."""
        upstreams = self._pool().upstreams
        up = sum(upstream.gate.state is State.UP for upstream in upstreams)
        return f"STATUS={up} of {counted(len(upstreams), 'service')} up, {counted(len(self._clients), 'client')}"

    def _run(self, period_s: float) -> None:
        while True:
            try:
                self.check()
                systemd.notify("WATCHDOG=1", self.status_line())
            except (OSError, RuntimeError) as error:
                self._log.emit(Level.ERROR, "watchdog.failed", error=str(error))
            if self._stop.wait(period_s):
                return

    def check(self) -> None:
        """Return when all works; raise OSError or RuntimeError, or hang, when not."""
        pool = self._pool()
        if len(self._clients) < self._clients.limit:
            for sock in self._sockets:
                _connect_and_leave(sock)
        pool.relay.rehearse()
        if self._clients.longest_wait_s() > pool.settings.deadline_s + _OVERDUE_S:
            raise RuntimeError("a client waits for an answer beyond the deadline")


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
