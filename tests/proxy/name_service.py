"""A name service of which the test decides what it answers, and when."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from hapolicy.core.address import TcpAddress
from hapolicy.net import resolver
from hapolicy.net.connect import SocketAddress
from hapolicy.net.resolver import Resolution
from tests.proxy.ends import Service
from tests.proxy.turns import Turns
from tests.support.procs import PATIENCE_S


class Names:
    """A name service that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._told: dict[str, Resolution] = {}
        self._changed = threading.Condition()
        self._ended = False

    def tell(self, host: str, *services: Service, error: str = "") -> None:
        """From now on this is the answer: where the services are, or why nothing is known."""
        with self._changed:
            self._told[host] = Resolution(tuple((each.listener.family, each.where) for each in services), error)
            self._changed.notify_all()

    def look_up(self, address: TcpAddress) -> Resolution:
        """In the place of the resolver's."""
        with self._changed:
            self.asked[address.host] += 1
            self._changed.wait_for(lambda: address.host in self._told or self._ended, PATIENCE_S)
            return self._told.get(address.host, Resolution((), "the test is over"))

    def end(self) -> None:
        """Let go who still waits."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """The name service; literal addresses need none."""
    names, by_itself = Names(), resolver.look_up
    monkeypatch.setattr(resolver, "REFRESH_PAUSE_S", 0.01)
    monkeypatch.setattr(
        resolver, "look_up", lambda address: (by_itself if address.is_literal else names.look_up)(address)
    )
    yield names
    names.end()


def known(turns: Turns) -> tuple[SocketAddress, ...]:
    """The addresses of A, once they are known."""
    connections = turns.worker.connections[turns.upstream()]
    return turns.until(lambda: connections.addresses)
