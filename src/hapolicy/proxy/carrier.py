"""Carries exchanges out: connects, sends, reads answers, and reports what became of each.

The odd paths of an exchange are here; the usual one, a request sent and a whole answer received on a kept connection,
is in `worker`.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import Protocol

from hapolicy.core import events
from hapolicy.core.event import Event
from hapolicy.core.exchange import Exchange
from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.core.protocol import AnswerReader, MalformedAnswer, OversizedAnswer
from hapolicy.net.connect import SocketAddress, begin_connect, kind_of, pending_error
from hapolicy.net.loop import Loop
from hapolicy.net.poll import READ, READ_WRITE, Peer
from hapolicy.proxy.connections import Connection, Connections

# A connection that its service had closed while it was idle shows it at once; a close after this is a failure.
STALE_WITHIN_S = 1.0


class Outcomes(Protocol):
    """Who is told what comes of exchanges."""

    def answered(self, connection: Connection, exchange: Exchange, answer: bytes) -> None:
        """A whole answer came on `connection`."""

    def failed(self, exchange: Exchange, failure: ServiceFailure) -> None:
        """It came to nothing; whoever asked decides what comes next."""

    def read_again(self, peer: Peer) -> None:
        """More has come than was read."""

    def tell(self, event: Event) -> None:
        """Log it."""


class Carrier:
    """The odd paths of exchanges, on one loop."""

    def __init__(self, loop: Loop, outcomes: Outcomes, connect_timeout_s: float) -> None:
        self._loop = loop
        self._outcomes = outcomes
        self.connect_timeout_s = connect_timeout_s
        self._connecting: dict[Connection, float] = {}  # until when the address that is tried has time
        self._unresolved: deque[tuple[float, Connections, Exchange]] = deque()
        self._backlogged: deque[tuple[float, Connections, Exchange, tuple[SocketAddress, ...]]] = deque()

    # Opening

    def open(self, connections: Connections, exchange: Exchange) -> None:
        """Begin a connection that carries `exchange`."""
        now = self._loop.now
        if exchange.began < 0:
            exchange.begin(now)
        if connections.addresses:
            first, *rest = connections.addresses
            connections.addresses = (*rest, first)  # new connections go round
            self._connect(connections, exchange, (first, *rest), now + self.connect_timeout_s)
        elif connections.name_error:
            self._outcomes.failed(exchange, ServiceFailure(FailureKind.UNRESOLVABLE, connections.name_error))
        else:
            connections.count_opening(1)
            self._unresolved.append((now + self.connect_timeout_s, connections, exchange))

    def resolved(self, connections: Connections) -> None:
        """The name service has told the addresses, or that there are none: go on with what waited for them."""
        waiting = [entry for entry in self._unresolved if entry[1] is connections]
        for entry in waiting:
            self._unresolved.remove(entry)
            connections.count_opening(-1)
            if not entry[2].over:
                self.open(connections, entry[2])

    def _connect(
        self, connections: Connections, exchange: Exchange, addresses: tuple[SocketAddress, ...], by: float
    ) -> None:
        """Try the first of `addresses`; each has its share of the time until `by`, so one black hole hides no other."""
        now = self._loop.now
        try:
            sock, connected = begin_connect(addresses[0])
        except BlockingIOError:  # the backlog of a unix socket is full
            connections.count_opening(1)
            self._backlogged.append((by, connections, exchange, addresses))
            return
        except OSError as error:
            self._connect_failed(connections, exchange, addresses, by, error)
            return
        connection = Connection(sock, connections, addresses, now)
        connection.exchange, exchange.carrier = exchange, connection
        connection.waits = not connected  # a receive would take the error that tells how the connecting ended
        connections.opened(connection)
        self._loop.register(connection, READ if connected else READ_WRITE)
        if connected:
            self._send(connection, exchange)
        else:
            connection.connect_by = by
            self._connecting[connection] = now + (by - now) / len(addresses)

    def _connect_failed(
        self,
        connections: Connections,
        exchange: Exchange,
        addresses: tuple[SocketAddress, ...],
        by: float,
        error: OSError,
    ) -> None:
        connections.refresh()  # the service may have moved
        if len(addresses) > 1 and self._loop.now < by:
            self._connect(connections, exchange, addresses[1:], by)
            return
        timed_out = error.errno == errno.ETIMEDOUT
        kind = FailureKind.CONNECT_TIMEOUT if timed_out else kind_of(error)
        if kind is FailureKind.CLOSED:
            kind = FailureKind.REFUSED
        self._outcomes.failed(exchange, ServiceFailure(kind, error.strerror or str(error)))

    # Events of a connection

    def on_event(self, connection: Connection, data: bytes | None) -> None:
        """Anything but a whole answer to the exchange that `connection` carries."""
        if connection.connect_by is not None:
            self._on_connect(connection)
            return
        if connection.unsent:
            self._loop.flush(connection)
        exchange = connection.exchange
        if exchange is None:
            if data is not None and not connection.retired:  # else it was given up in this very turn
                self._on_idle_event(connection, unasked=bool(data))
        elif data:
            self._on_answer_bytes(connection, exchange, data)
        elif data is not None:
            self._on_end(connection, exchange)

    def _on_connect(self, connection: Connection) -> None:
        exchange, by = connection.exchange, connection.connect_by
        del self._connecting[connection]
        connection.connect_by = None
        error = pending_error(connection.sock)
        if error is not None:
            self._loop.close(connection)
            if exchange is not None and by is not None:
                connection.exchange = None
                self._connect_failed(connection.connections, exchange, connection.addresses, by, error)
            return
        connection.waits = connection.unread = False
        self._loop.modify(connection, READ)  # tells anew of what has come meanwhile
        if exchange is not None:
            self._send(connection, exchange)

    def _send(self, connection: Connection, exchange: Exchange) -> None:
        """The connection is made."""
        if exchange.raw:
            self._loop.out.append((connection, exchange.raw))
        else:  # to connect was all
            connection.exchange = None
            self._loop.close(connection)
            exchange.answered(b"", self._loop.now)

    def _on_idle_event(self, connection: Connection, *, unasked: bool) -> None:
        if unasked:
            self._speaks_out_of_turn(connection.connections)
        self._loop.close(connection)

    def _on_answer_bytes(self, connection: Connection, exchange: Exchange, data: bytes) -> None:
        reader = connection.reader = connection.reader or AnswerReader()
        try:
            answer = reader.feed(data)
        except MalformedAnswer as error:
            kind = FailureKind.OVERSIZED if isinstance(error, OversizedAnswer) else FailureKind.MALFORMED
            self._lose(connection, exchange, ServiceFailure(kind, str(error)))
            return
        if answer is not None:
            connection.reader = None
            if reader.leftover:
                self._speaks_out_of_turn(connection.connections)  # so this one ends, too
            self._outcomes.answered(connection, exchange, answer)
        if connection.unread and (answer is None or not connection.retired):  # else it was closed with its answer
            self._outcomes.read_again(connection)

    def _on_end(self, connection: Connection, exchange: Exchange) -> None:
        error = connection.error
        lasted_s = self._loop.received_until - exchange.began  # at least
        if exchange.kept and connection.reader is None and lasted_s < STALE_WITHIN_S:
            self._loop.close(connection)
            service = connection.connections.upstream.service
            self._outcomes.tell(events.SERVICE_CONNECTION_STALE(service=service.name, address=str(service.address)))
            connection.exchange = exchange.carrier = None
            exchange.kept, exchange.fresh = False, True
            self.open(connection.connections, exchange)
            return
        kind, text = FailureKind.CLOSED, "closed before a whole answer"
        if error is not None and kind_of(error) is not FailureKind.CLOSED:
            kind, text = kind_of(error), error.strerror or str(error)
        self._lose(connection, exchange, ServiceFailure(kind, text))

    def _speaks_out_of_turn(self, connections: Connections) -> None:
        """The protocol has no ids: only on a connection that ends with its answer is it certain whose answer it is."""
        if connections.reuse:
            connections.reuse = False
            upstream = connections.upstream
            address = str(upstream.service.address)
            self._outcomes.tell(events.SERVICE_OUT_OF_TURN(service=upstream.name, address=address))
        for idle in connections.idle():
            self._loop.close(idle)

    # Failures

    def _lose(self, connection: Connection, exchange: Exchange, failure: ServiceFailure) -> None:
        connection.exchange = None
        self._loop.close(connection)
        self._outcomes.failed(exchange, failure)

    # Time

    def tick(self, now: float) -> None:
        """End what has taken too long to connect; try again where a backlog was full."""
        for connection in [each for each, until in self._connecting.items() if until <= now]:
            del self._connecting[connection]
            exchange, by = connection.exchange, connection.connect_by
            connection.connect_by = connection.exchange = None
            self._loop.close(connection)
            if exchange is not None and by is not None:
                error = OSError(errno.ETIMEDOUT, f"not connected within {self.connect_timeout_s:g} s")
                self._connect_failed(connection.connections, exchange, connection.addresses, by, error)
        for entry in [each for each in self._unresolved if each[0] <= now]:
            self._unresolved.remove(entry)
            _, connections, exchange = entry
            connections.count_opening(-1)
            if not exchange.over:
                self._outcomes.failed(
                    exchange, ServiceFailure(FailureKind.UNRESOLVED, "no answer from the name service yet")
                )
        for _ in range(len(self._backlogged)):
            by, connections, exchange, addresses = self._backlogged.popleft()
            connections.count_opening(-1)
            if exchange.over:
                continue
            if now < by:
                self._connect(connections, exchange, addresses, by)
            else:
                error = OSError(errno.ETIMEDOUT, f"its backlog was full for {self.connect_timeout_s:g} s")
                self._connect_failed(connections, exchange, addresses, by, error)

    def expire(self, exchange: Exchange) -> None:
        """The service's timeout is over."""
        connection = exchange.carrier
        timeout_s = exchange.upstream.service.timeout_s
        kind, what = FailureKind.ANSWER_TIMEOUT, "answer"
        if isinstance(connection, Connection) and connection.exchange is exchange:
            if connection.connect_by is not None:
                kind, what = FailureKind.CONNECT_TIMEOUT, "connection"
                del self._connecting[connection]
                connection.connect_by = None
            elif connection.reader is not None:
                what = "whole answer"
            connection.exchange = None
            self._loop.close(connection)
        elif connection is None:
            waits_for_name = any(waiting is exchange for _, _, waiting in self._unresolved)
            kind, what = FailureKind.UNRESOLVED if waits_for_name else FailureKind.CONNECT_TIMEOUT, "connection"
        self._outcomes.failed(exchange, ServiceFailure(kind, f"no {what} within {timeout_s:g} s"))
