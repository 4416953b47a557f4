"""A worker: a thread with an event loop that owns its clients and its connections to the services.

Each turn: wait and receive; answers, requests, posted calls; what is due by the clock; send all; close; log. The usual
path of a request is here: `_on_client`, `begin`, `carry_out`, `answered`, `Session.reply`; see `session` and `carrier`.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from hapolicy.config.settings import Settings
from hapolicy.core import events
from hapolicy.core.deadlines import Deadlines
from hapolicy.core.event import Level
from hapolicy.core.exchange import Exchange, sent_late
from hapolicy.core.failover import Client, Failover
from hapolicy.core.failures import ServiceFailure
from hapolicy.core.plan import Plan
from hapolicy.core.protocol import Request, is_one_answer, is_one_request
from hapolicy.core.upstream import Upstream
from hapolicy.log.eventlog import EventLog
from hapolicy.net.loop import Loop
from hapolicy.net.poll import WRITABLE, Event, Peer, receive
from hapolicy.proxy.carrier import Carrier
from hapolicy.proxy.connections import Connection, Connections
from hapolicy.proxy.ledger import Ledger
from hapolicy.proxy.session import Session

TICK_S = 0.025  # how late a timeout may be noticed


class Worker(Loop):
    """Serves its clients until it is stopped."""

    def __init__(self, number: int, settings: Settings, log: EventLog, on_empty: Callable[[], None]) -> None:
        """`on_empty` is called on the worker's thread when its last client has gone, or the thread ends unasked."""
        super().__init__()
        self.number = number
        self.log = log
        self.settings = settings
        self.sessions: dict[int, Session] = {}
        self.ready: dict[Session, None] = {}  # were answered, and have more to be answered or read
        self.again: dict[Peer, None] = {}  # to be read once more, though no event will tell
        self.partial: Deadlines[Session] = Deadlines()  # whose request has come in part
        self.waiting: Deadlines[Failover] = Deadlines()  # requests that have no answer yet
        self.begun = 0  # requests, ever
        self.ledger = Ledger(log, settings)
        self.tell = self.ledger.tell
        self.connections: dict[Upstream, Connections] = {}
        self.carrier = Carrier(self, self, settings.connect_timeout_s)
        self.plan = Plan(settings.requests, ())
        self.on_tick: Callable[[float], float] = lambda now: TICK_S  # by the clock; returns when to be called again
        self.finishing = False
        self._on_empty = on_empty
        self.stopped = threading.Event()
        self.stopped.set()
        self._stopping = False
        self._returned: list[Connection] = []  # lent again only after a wait has seen them quiet
        self._hurry = False
        self._next_tick = 0.0

    # Life

    def start(self) -> None:
        """Begin to serve, on a thread of its own."""
        self.stopped.clear()
        threading.Thread(target=self.run, name=f"worker-{self.number}", daemon=True).start()

    def run(self) -> None:
        """Serve until `stop`."""
        try:
            while not self._stopping:
                try:
                    self.turn()
                except Exception:  # noqa: BLE001 - whatever is wrong with one turn, mail goes on
                    self.log.fault()
        finally:
            self.stopped.set()
            if not self._stopping:
                self._on_empty()  # under --stdio: a process that serves nobody must not stay

    def configure(self, settings: Settings, plan: Plan) -> None:
        """Go by these from now on."""
        if settings.requests.deadline_s != self.settings.requests.deadline_s:
            self.waiting.ordered = False
        self.settings, self.plan = settings, plan
        self.ledger.log_requests = settings.log_requests
        self.carrier.connect_timeout_s = settings.connect_timeout_s

    def stop(self) -> None:
        """End the loop; call from any thread."""
        self._stopping = True
        self.post(lambda: None)  # wakes it

    def finish(self) -> None:
        """Read no new requests; clients end when what they have asked is answered."""
        self.finishing = True
        self.again.update(dict.fromkeys(self.sessions.values()))  # what had come before is answered

    def _close_finished(self) -> None:
        for session in list(self.sessions.values()):
            if not (session.waits or session.unsent or session.unread or session.reader is not None):
                self.close(session)

    # Clients

    def adopt(self, sock: socket.socket, name: str) -> None:
        """Serve a client from now on. Call from any thread: the loop need not be woken for it."""
        session = Session(sock, name, self)
        self.sessions[session.fd] = session
        self.register(session)

    def begin(self, session: Session, request: Request) -> None:
        """Find the answer to a request."""
        session.waits = True
        if self.log.level <= Level.DEBUG:
            self.tell(events.REQUEST_RECEIVED(attributes=request.attributes))
        favourite = None
        if request.instance and request.instance == session.instance:
            favourite = session.upstream if session.upstream in self.plan.upstreams else None  # configured still
        elif session.connection is not None:
            session.leave_mail()
        failover = session.failover = Failover(request, self.plan, self.now, session)
        self._start(failover, favourite, session)

    def _start(self, failover: Failover, favourite: Upstream | None, session: Session | None) -> None:
        self.begun += 1
        if self._next_tick > self.now + TICK_S:
            self._next_tick = self.now + TICK_S
        self.waiting[failover] = failover.deadline
        if (exchange := failover.begin(favourite, self.now)) is not None:
            self.carry_out(exchange, session)

    def ask(self, request: Request, client: Client) -> None:
        """Find the answer to a request that no session made."""
        self._start(Failover(request, self.plan, self.now, client), None, None)

    def reject(self, session: Session, reason: str) -> None:
        """Part with a client that does not speak the protocol."""
        self.tell(events.CLIENT_REJECTED(client=session.name, reason=reason))
        self.close(session)

    def close(self, peer: Peer) -> None:
        """Close `peer` at the end of the turn."""
        super().close(peer)
        if isinstance(peer, Session):
            peer.gone = True
            peer.leave_mail()
            self.partial.pop(peer, None)
            if self.sessions.pop(peer.fd, None) is not None and not self.sessions:
                self._on_empty()
        elif isinstance(peer, Connection):
            peer.connections.closed(peer)

    # Exchanges

    def carry_out(self, exchange: Exchange, claimant: Session | None = None) -> None:
        """Have `exchange` made on a connection to its service."""
        connection = self.connections[exchange.upstream].lend(exchange, claimant)
        if connection is not None:
            self.carry_on(connection, exchange)

    def carry_on(self, connection: Connection, exchange: Exchange) -> None:
        """Have `exchange` made on `connection`, which was idle."""
        connection.exchange, exchange.carrier = exchange, connection
        exchange.kept = True
        if exchange.began < 0:  # else it was sent before, and has waited in a backlog
            exchange.begin(self.now)
        self.out.append((connection, exchange.raw))

    def answered(self, connection: Connection, exchange: Exchange, answer: bytes) -> None:
        """A whole answer came on `connection`."""
        connection.exchange = None
        if not connection.proven:
            connection.connections.proved(connection, self.now - exchange.began)
        exchange.answered(answer, self.now)
        if connection.ending or connection.unsent or connection.retired or not connection.connections.reuse:
            self.close(connection)
        else:
            self._returned.append(connection)
            if connection.connections.queue or connection.connections.unproven:
                self._hurry = True  # somebody waits for it

    def failed(self, exchange: Exchange, failure: ServiceFailure) -> None:
        """`exchange` came to nothing; whoever asked decides what comes next."""
        self.ledger.failed(exchange, failure)
        following = exchange.failed(failure, self.now)
        if following is not None:
            self.carry_out(following)
        self._next_tick = self.now  # there may be a reason for a probe

    def decided(self, failover: Failover) -> None:
        """A request has its answer."""
        self.waiting.pop(failover, None)
        self.ledger.decided(failover)

    def _lend_again(self, returned: list[Connection]) -> None:
        """Connections whose answer came a turn ago: the wait since has seen them quiet, or they are retired."""
        for connection in returned:
            if (exchange := connection.connections.take_back(connection, self.received_until)) is not None:
                self.carry_on(connection, exchange)

    # The turn

    def turn(self) -> None:
        """What `run` does again and again."""
        happened = self.wait(self._timeout_s())
        if self.again:
            happened += self._read_again({event[0] for event in happened})
        returned, self._returned = self._returned, []
        clients, services = list[Event](), list[Event]()
        for event in happened:
            peer = event[0]
            if type(peer) is not Connection:
                clients.append(event)
            elif peer.exchange is None:
                services.insert(0, event)  # nobody is lent an idle connection that has spoken or ended
            else:
                services.append(event)
        self._look_at(services, self._on_service)
        if returned:
            self._lend_again(returned)
        self._look_at(clients, self._on_client)
        self.make_posted_calls()
        if self.ready:
            self._go_on_with_ready()
        # Long after it is due it goes by an older time: a loop that has not caught up has more to do than to judge.
        if self.received_until >= self._next_tick or self.now >= self._next_tick + TICK_S:
            self._next_tick = self.now + TICK_S  # whatever becomes of this one
            self._next_tick = self.now + self.on_tick(self.received_until)
        if self.out:
            for peer in self.send_out():
                peer.waits = peer.waits or isinstance(peer, Session)  # not served while it does not read
        if self.finishing and not self.again:
            self._close_finished()
        self.close_doomed()
        self.ledger.write(self.now)
        if self.end_turn() > TICK_S:  # the process stood still in it, perhaps before it had sent anything
            sent_late(self.connections, self.now, self.turn_ended_at)

    def _look_at(self, events: list[Event], look: Callable[[Any, int, bytes | None], None]) -> None:
        for peer, flags, data in events:
            try:
                look(peer, flags, data)
            except Exception:  # noqa: BLE001 - nobody else of this turn would be looked at
                self.log.fault()
                self.close(peer)  # Postfix asks again on another connection; a service's exchange has its timeout

    def _on_service(self, connection: Connection, flags: int, data: bytes | None) -> None:
        exchange = connection.exchange
        if data and exchange and connection.reader is None and is_one_answer(data) and not connection.unread:
            self.answered(connection, exchange, data)
        else:
            self.carrier.on_event(connection, data)

    def _on_client(self, session: Session, flags: int, data: bytes | None) -> None:
        if session.gone:
            return
        if session.unsent and flags & WRITABLE:
            self.flush(session)
            if not session.unsent:
                self.ready[session] = None
        if data is None:
            return
        if session.reader is None and is_one_request(data):
            self.begin(session, Request(data))
        else:
            session.on_event(data)
        if session.unread and not (session.waits or session.gone):
            self.again[session] = None

    def _go_on_with_ready(self) -> None:
        """Clients that were answered and have more: one request each, so that none starves the others."""
        ready, self.ready = self.ready, {}
        for session in ready:
            if session.gone or session.unsent or session.failover is not None:
                continue
            session.waits = False
            if session.reader is not None:
                session.next_request()
            if session.unread and not (session.waits or session.gone):
                self.again[session] = None

    def _timeout_s(self) -> float:
        if self.ready or self.again or self._hurry:
            self._hurry = False
            return 0.0
        return max(0.0, self._next_tick - self.now)

    def _read_again(self, read: set[Peer]) -> list[Event]:
        """Once a turn is enough: what else `read` peers have is asked for when what came has been looked at."""
        again, self.again = [peer for peer in self.again if peer not in read], {}
        return [(peer, 0, receive(peer)) for peer in again if self.peers.get(peer.fd) is peer and not peer.waits]

    def read_again(self, peer: Peer) -> None:
        """Read `peer` once more in the next turn: an edge that told of two things was one event."""
        self.again[peer] = None
