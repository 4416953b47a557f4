"""Services with few workers: one connection a worker, and the others wait unanswered in the listen backlog.

mtpolicyd, postfwd2 and dovecot's quota-status are such. A connection that has never been answered on, while others have
since it was opened, waits in a backlog. Its request is taken over by the next connection that falls idle, and for a
minute the service is offered no more connections than it has proven to serve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hapolicy.core.latencies import quantile

if TYPE_CHECKING:
    from hapolicy.core.exchange import Exchange
    from hapolicy.proxy.connection import Connection
    from hapolicy.proxy.connections import Connections

TAKE_OVER_AFTER_S = 0.1
TAKE_OVER_UNKNOWN_S = 1.0
TAKE_OVER_TIMES = 3.0
CAPPED_S = 60.0


class Crowding:
    """Notices that a service serves fewer connections than it is offered."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.unproven: dict[Connection, None] = {}  # asked, and not known to be served; the first is the oldest
        self.cap: int | None = None
        self._capped_until = 0.0
        # How long the first answer on a connection takes: a service that starts a process for each needs its time.
        self._first_answer_s = TAKE_OVER_UNKNOWN_S / TAKE_OVER_TIMES
        self.noticed = False  # a cap that was not told yet

    def opened(self, connection: Connection) -> None:
        """A new connection carries an exchange."""
        self.unproven[connection] = None

    def proved(self, connection: Connection, took_s: float) -> None:
        """The service has answered on it for the first time."""
        self._first_answer_s = max(took_s, 0.9 * self._first_answer_s)
        self.unproven.pop(connection, None)

    def closed(self, connection: Connection) -> None:
        """It is closed."""
        self.unproven.pop(connection, None)

    def waiting_exchange(self, now: float) -> Exchange | None:
        """The exchange that has waited in the backlog for too long, oldest first; its connection is given up."""
        upstream = self._connections.upstream
        for connection in self.unproven:  # but for the first, only those that carry nothing are passed
            exchange = connection.exchange
            if exchange is None:
                continue
            waited_s = now - exchange.began
            if waited_s < self._take_over_after_s(now) or upstream.heard_at <= exchange.began:
                return None
            self._limit(now)
            self._connections.give_up(connection)
            return exchange
        return None

    def tick(self, now: float) -> None:
        """The cap ends after its time."""
        if self.cap is not None and now >= self._capped_until:
            self.cap = None

    def _take_over_after_s(self, now: float) -> float:
        median_s = quantile(self._connections.upstream.latencies.minute(now), 0.5) or 0.0
        return max(TAKE_OVER_AFTER_S, TAKE_OVER_TIMES * median_s, TAKE_OVER_TIMES * self._first_answer_s)

    def _limit(self, now: float) -> None:
        proven = sum(connection.proven for connection in self._connections.all)
        self.noticed = self.cap is None
        self.cap = max(1, proven)
        self._capped_until = now + CAPPED_S
