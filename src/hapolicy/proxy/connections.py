"""The connections to one service: which one carries an exchange, how many there are, when an idle one is closed.

A mail stays with its connection. Services such as policyd-spf and policyd-weight remember a mail (`instance`) in the
process that serves the connection; asked on another one they judge it anew. So a client *claims* the connection that
served its mail last, until its next mail.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from hapolicy.core.exchange import Exchange, OwnExchange
from hapolicy.core.protocol import AnswerReader
from hapolicy.core.upstream import Upstream
from hapolicy.net.connect import SocketAddress
from hapolicy.net.poll import Peer
from hapolicy.net.resolver import Watch
from hapolicy.proxy.crowding import Crowding
from hapolicy.proxy.surplus import Surplus


class Claimant(Protocol):
    """A client whose mail is to stay with a connection."""

    connection: Connection | None


class Connection(Peer):
    """A connection to a service: connecting, busy with one exchange, or idle."""

    __slots__ = (
        "addresses",
        "claimed_by",
        "connect_by",
        "connections",
        "exchange",
        "idle_since",
        "opened_at",
        "proven",
        "reader",
        "retired",
    )

    def __init__(
        self, sock: socket.socket, connections: Connections, addresses: tuple[SocketAddress, ...], now: float
    ) -> None:
        super().__init__(sock)
        self.connections = connections
        self.addresses = addresses  # where it leads, and what is to be tried when that fails
        self.opened_at = now
        self.connect_by: float | None = None  # while it is not connected: by when it must be
        self.exchange: Exchange | None = None  # what it is busy with
        self.reader: AnswerReader | None = None  # while an answer has come in part
        self.proven = False  # the service has answered on it: it does not wait in a backlog
        self.retired = False  # not to be used again
        self.claimed_by: Claimant | None = None  # the client whose mail it served last
        self.idle_since = 0.0


class Connections:
    """All connections of one worker to one service."""

    def __init__(
        self,
        upstream: Upstream,
        limit: int | None,
        open_for: Callable[[Connections, Exchange], None],
        close: Callable[[Peer], None],
    ) -> None:
        """`limit` is how many there may be (max=N); `open_for` begins one that carries an exchange."""
        self.upstream = upstream
        self._open_for = open_for
        self._close = close
        self.watched: Watch | None = None  # the service's name, looked up on time
        self.addresses: tuple[SocketAddress, ...] = ()
        self.name_error = ""  # where there are none: why
        self.all: set[Connection] = set()
        self.unproven: dict[Connection, None] = {}  # asked, and not known to be served; the first is the oldest
        # Idle, the longest idle first: nobody's, the last of which is lent first; and those whose client may return.
        self.free: dict[Connection, None] = {}
        self.claimed: dict[Connection, None] = {}
        self.queue: deque[Exchange] = deque()  # exchanges that wait for a connection
        self.opening = 0  # exchanges that have no connection yet: a name or a backlog is awaited
        self.reuse = True  # False when the service speaks out of turn, or is no longer configured
        self.crowding = Crowding(upstream)
        self._limit = limit
        self._surplus = Surplus()

    @property
    def limit(self) -> int | None:
        """How many connections there may be now, None for any number."""
        limits = [limit for limit in (self._limit, self.crowding.cap) if limit is not None]
        return min(limits, default=None)

    def set_limit(self, limit: int | None) -> None:
        """Another max=N: what is too many is closed once it is idle."""
        self._limit = limit
        self._note_room()

    # Lending

    def lend(self, exchange: Exchange, claimant: Claimant | None) -> Connection | None:
        """The connection that carries `exchange`; None when one is being opened for it, or it waits for one.

        `claimant` is the client: its mail stays with the connection that it claims, where that is one of these.
        """
        connection = self._choose(exchange, claimant)
        if self._limit is not None or self.crowding.cap is not None:
            self._note_room()
        return connection

    def _choose(self, exchange: Exchange, claimant: Claimant | None) -> Connection | None:
        if not exchange.fresh:
            if claimant is not None and claimant.connection in self.claimed:
                connection = claimant.connection
                assert connection is not None
                del self.claimed[connection]
                return connection
            if self.free:
                return self.free.popitem()[0]
        limit = self.limit
        if limit is None or len(self.all) + self.opening < limit or (exchange.fresh and self._close_an_idle_one()):
            self._open_for(self, exchange)
        elif self.claimed and not exchange.fresh:
            connection = next(iter(self.claimed))
            del self.claimed[connection]
            return connection
        else:
            self.queue.append(exchange)
        return None

    def take_back(self, connection: Connection, now: float) -> Exchange | None:
        """`connection` is idle, and a wait has seen it quiet. Returns the exchange that it is to carry next."""
        if connection.retired:
            return None
        if not self.reuse or (self._limit is not None and len(self.all) > self._limit):
            self._close(connection)  # it is one of those from before, or a probe's beside max=N others
            return None
        if self.unproven and (passed_over := self._passed_over(now)) is not None:
            return passed_over
        if self.queue and (queued := self.next_queued(now)) is not None:
            return queued
        connection.idle_since = now
        owner = connection.claimed_by
        if owner is not None and owner.connection is connection:
            self.claimed[connection] = None
        else:
            self.free[connection] = None
        if self._limit is not None or self.crowding.cap is not None:
            self._note_room()
        return None

    def release(self, connection: Connection) -> None:
        """The client that claimed it has no more of that mail: it is free for others."""
        connection.claimed_by = None
        if connection in self.claimed:
            del self.claimed[connection]
            self.free[connection] = None

    def tick(self, now: float) -> None:
        """A cap ends after its time: there is room again."""
        capped = self.crowding.cap is not None
        self.crowding.tick(now)
        if capped:
            self._note_room()

    def relieve(self, now: float) -> tuple[Connection, Exchange] | None:
        """An idle connection, and an exchange that waits in the backlog while that one holds a worker."""
        idle = self.free or self.claimed
        exchange = self._passed_over(now) if idle and self.unproven else None
        return None if exchange is None else (idle.popitem()[0], exchange)

    def _passed_over(self, now: float) -> Exchange | None:
        """The exchange that has waited in the backlog for too long, oldest first; its connection is given up."""
        for connection in self.unproven:  # but for the first, only those that carry nothing are passed
            exchange = connection.exchange
            if exchange is None or not exchange.raw or (self.upstream.verifying and isinstance(exchange, OwnExchange)):
                continue  # a service that fails too often is not excused by being busy
            if not self.crowding.is_passed_over(exchange, now):
                return None
            self.crowding.passed_over(exchange, sum(other.proven for other in self.all), now)
            self._give_up(connection)
            return exchange
        return None

    # Coming and going

    def opened(self, connection: Connection) -> None:
        """One more, which carries an exchange."""
        self.all.add(connection)
        self.unproven[connection] = None
        self._note_room()

    def proved(self, connection: Connection, took_s: float) -> None:
        """The service has answered on it for the first time, after so long."""
        connection.proven = True
        self.unproven.pop(connection, None)
        self.crowding.proved(took_s)

    def closed(self, connection: Connection) -> None:
        """It is closed."""
        connection.retired = True
        self.all.discard(connection)
        self.unproven.pop(connection, None)
        self.free.pop(connection, None)
        self.claimed.pop(connection, None)
        self._note_room()

    def count_opening(self, change: int) -> None:
        """So many more exchanges wait for a name or for room in a backlog."""
        self.opening += change
        self._note_room()

    # The queue

    def may_open(self) -> bool:
        """Whether the exchange that waits first can have a connection opened."""
        limit = self.limit
        return bool(self.queue) and (limit is None or len(self.all) + self.opening < limit)

    def next_queued(self, now: float) -> Exchange | None:
        """The exchange that has waited longest for a connection, and is still wanted."""
        while self.queue:
            exchange = self.queue.popleft()
            if exchange.asker.wanted:
                return exchange
            exchange.withdraw(now)
        return None

    def withdraw_queued(self) -> list[Exchange]:
        """Those that wait for a connection wait no longer: the service went down, or is drained."""
        queued = list(self.queue)
        self.queue.clear()
        self._note_room()
        return queued

    def _close_an_idle_one(self) -> bool:
        longest_idle = self.idle()[:1]
        for connection in longest_idle:
            self._close(connection)
        return bool(longest_idle)

    def _note_room(self) -> None:
        limit = self.limit
        has_room = limit is None or len(self.all) + self.opening < limit or self.free or self.claimed
        self.upstream.full = not has_room

    def _give_up(self, connection: Connection) -> None:
        """It waits in a backlog: reset it, so that the service does not answer a request that is asked elsewhere."""
        connection.exchange = None
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close(connection)

    # Addresses

    def refresh(self) -> None:
        """The service may have moved: have its name looked up soon."""
        if self.watched is not None:
            self.watched.refresh()

    def retire(self) -> None:
        """The service is not configured any more: exchanges under way finish, no connection is used again."""
        self.reuse = False
        for connection in self.idle():
            self._close(connection)

    def keep_only(self, addresses: tuple[SocketAddress, ...]) -> None:
        """Connections to other addresses end: at once where they are idle, after their exchange where not."""
        for connection in list(self.all):
            if connection.addresses[0] not in addresses:
                connection.retired = True
                if connection.exchange is None:
                    self._close(connection)

    # Idle connections

    def idle(self) -> list[Connection]:
        """All idle ones."""
        return [*self.free, *self.claimed]

    def busy(self) -> int:
        """How many carry an exchange, or are being opened for one."""
        return len(self.all) - len(self.free) - len(self.claimed)

    def superfluous(self, now: float) -> list[Connection]:
        """Idle connections that are to be closed now. Called several times a second."""
        return self._surplus.look(self.free, self.claimed, self.busy(), now, scarce=self.limit is not None)
