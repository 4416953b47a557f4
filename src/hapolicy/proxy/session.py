"""One client: its requests are read one at a time, each is answered before the next is read."""

from __future__ import annotations

import socket
from typing import Protocol, cast

from hapolicy.core import events
from hapolicy.core.deadlines import Deadlines
from hapolicy.core.event import Event
from hapolicy.core.exchange import Exchange
from hapolicy.core.failover import Failover
from hapolicy.core.protocol import MalformedRequest, Request, RequestReader
from hapolicy.core.upstream import Upstream
from hapolicy.net.poll import Peer
from hapolicy.proxy.connections import Connection

# Postfix keeps an idle connection for 300 s (smtpd_policy_service_max_idle) and any for 1000 s (max_ttl), and pays a
# second and one of its two tries when we end it first: so we wait longer than both.
IDLE_MAX_S = 1100.0

# Postfix sends a request in one write; anything slower is not Postfix.
REQUEST_MAX_S = 10.0


class Server(Protocol):
    """What a session asks of the worker that serves it."""

    now: float
    out: list[tuple[Peer, bytes]]
    partial: Deadlines[Session]
    ready: dict[Session, None]
    again: dict[Peer, None]

    def begin(self, session: Session, request: Request) -> None:
        """Find the answer to a request; `Session.reply` is told."""

    def decided(self, failover: Failover) -> None:
        """The answer is found."""

    def reject(self, session: Session, reason: str) -> None:
        """Part with a client that does not speak the protocol."""

    def close(self, peer: Peer) -> None:
        """End the connection."""

    def tell(self, event: Event) -> None:
        """Log it."""


class Session(Peer):
    """A client of one worker."""

    __slots__ = ("_worker", "connection", "failover", "gone", "idle_since", "instance", "name", "reader", "upstream")

    def __init__(self, sock: socket.socket, name: str, worker: Server) -> None:
        super().__init__(sock)
        self.name = name
        self._worker = worker
        self.reader: RequestReader | None = None  # while a request has come in part, or more than one
        self.failover: Failover | None = None  # the request that is being answered
        self.idle_since = worker.now
        self.gone = False
        self.instance = b""  # the mail of the latest request, and
        self.upstream: Upstream | None = None  # which service answered it
        self.connection: Connection | None = None  # on which connection: claimed for this mail's next request

    def on_event(self, data: bytes) -> None:
        """Bytes came, or b"": the client has ended."""
        if not data:
            self._end()
            return
        reader = self.reader = self.reader or RequestReader()
        reader.feed(data)
        self.next_request()

    def next_request(self) -> None:
        """Answer the next request that has come whole; without one, read on."""
        reader = self.reader
        assert reader is not None
        try:
            request = reader.next_request()
        except MalformedRequest as error:
            self._worker.reject(self, str(error))
            return
        if not reader.partial:
            self.reader = None
        if request is not None:
            self._worker.partial.pop(self, None)
            self._worker.begin(self, request)
        elif self not in self._worker.partial:
            self._worker.partial[self] = self._worker.now + REQUEST_MAX_S

    def expire(self) -> None:
        """A request has not come whole in time."""
        if self.waits:  # it may have: it is we who do not read on before the client has read
            del self._worker.partial[self]
            self._worker.partial[self] = self._worker.now + REQUEST_MAX_S
            return
        self._worker.reject(self, f"request not complete {REQUEST_MAX_S:g} s after its first byte")

    def reply(self, failover: Failover) -> None:
        """`failover` has the answer (called by it)."""
        worker = self._worker
        worker.decided(failover)
        self.failover = None
        self.waits = self.reader is not None  # not read before what it holds is answered
        self.idle_since = worker.now
        if self.gone:
            return
        winner, instance = failover.winner, failover.request.instance
        if winner is not None and instance:
            self.instance, self.upstream = instance, winner.upstream
            if winner.carrier is not self.connection:
                self._claim(winner)
        assert failover.answer is not None
        worker.out.append((self, failover.answer))
        if self.waits:
            worker.ready[self] = None
        elif self.unread:
            worker.again[self] = None

    def leave_mail(self) -> None:
        """Its next request is of another mail, or it is gone: the connection is free for others."""
        connection, self.connection = self.connection, None
        if connection is not None and connection.claimed_by is self:
            connection.connections.release(connection)

    def _claim(self, winner: Exchange) -> None:
        """The mail's next request is to take the same connection."""
        if self.connection is not None:
            self.leave_mail()
        connection = self.connection = cast("Connection", winner.carrier)
        connection.claimed_by = self

    def _end(self) -> None:
        if self.error is not None:
            self._worker.tell(events.CLIENT_LOST(client=self.name, error=self.error.strerror))
            self._worker.close(self)
        elif self.reader is not None and self.reader.partial:
            self._worker.reject(self, "request cut off")
        else:
            self._worker.close(self)
