"""The connections to one service, without sockets at work: a test of them makes and closes each by hand."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from hapolicy.core.exchange import Exchange
from hapolicy.net.poll import Peer
from hapolicy.proxy.connections import Connection, Connections
from tests.core.world import World


class Client:
    """Whose mail stays with a connection."""

    connection: Connection | None = None


class House:
    """The connections to one service, made and closed by the test; `opened_for` are exchanges that got one."""

    def __init__(self, limit: int | None = None) -> None:
        self.world = World("A=h:1:1:1:30")
        self.upstream = self.world["A"]
        self.opened_for: list[Exchange] = []
        self.closed: list[Peer] = []
        self.connections = Connections(self.upstream, limit, self._open, self._close)
        self.stack = contextlib.ExitStack()

    def _open(self, connections: Connections, exchange: Exchange) -> None:
        assert self.connections is connections
        self.opened_for.append(exchange)

    def _close(self, peer: Peer) -> None:
        self.closed.append(peer)
        assert isinstance(peer, Connection)
        self.connections.closed(peer)

    def exchange(self, *, fresh: bool = False) -> Exchange:
        """One more request for the service, on its way from now on."""
        self.world.ask()
        exchange = self.world.sent[-1]
        exchange.fresh = fresh
        return exchange

    def opened(self, addresses: tuple[tuple[int, str], ...] = ()) -> Connection:
        """A connection that has just been made."""
        ours, theirs = socket.socketpair()
        self.stack.enter_context(ours)
        self.stack.enter_context(theirs)
        connection = Connection(ours, self.connections, addresses, self.world.now)
        self.connections.opened(connection)
        return connection

    def idle(self, client: Client | None = None) -> Connection:
        """A connection that has carried an exchange, perhaps for a client whose mail may go on."""
        connection = self.opened()
        self.connections.proved(connection, 0.001)
        if client is not None:
            connection.claimed_by, client.connection = client, connection
        assert self.connections.take_back(connection, self.world.now) is None
        return connection

    def waiting(self) -> Connection:
        """A connection on which an exchange waits for its first answer."""
        connection = self.opened()
        connection.exchange = self.exchange()
        return connection

    def answered(self) -> None:
        """The service answers somebody, now."""
        self.world.ask()
        self.world.answer(self.world.sent[-1])


@pytest.fixture
def house() -> Iterator[House]:
    """A service without max=."""
    house = House()
    with house.stack:
        yield house


@pytest.fixture
def small_house() -> Iterator[House]:
    """A service with max=2."""
    house = House(limit=2)
    with house.stack:
        yield house
