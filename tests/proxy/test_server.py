"""Where Postfix connects: a real listener, a real pool, and no more clients than --max-clients."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from hapolicy.net import accept
from hapolicy.proxy.server import _FULL_POLL_S, PolicyServer
from tests.support.capture import Capture
from tests.support.client import PolicyClient, request
from tests.support.fixtures import MakePool
from tests.support.procs import PATIENCE_S, wait_until

NOBODY = "A=unix:/nowhere"  # a service that is not there: all clients get the default action
MAX_CLIENTS = 20
ALLOWED = ipaddress.ip_network("192.0.2.0/24")


class Front:
    """A server, and the clients that have connected to it."""

    def __init__(self, make_pool: MakePool, capture: Capture) -> None:
        self.capture = capture
        self.polls = 0  # how often it has looked whether there is room
        self.pool = make_pool(NOBODY, max_clients=MAX_CLIENTS)
        self.clients: list[PolicyClient] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.server = PolicyServer(self._listening, self.pool, capture.log, (ALLOWED,))
        self.server.start()

    def sleep(self, seconds: float) -> None:
        """Sleep less than asked for, so that the test need not wait."""
        assert _FULL_POLL_S == seconds
        self.polls += 1
        time.sleep(0.001)

    def connect(self, count: int) -> list[PolicyClient]:
        """So many more clients, each with a request."""
        host, port = self._listening.getsockname()
        clients = [PolicyClient(f"{host}:{port}", PATIENCE_S) for _ in range(count)]
        for client in clients:
            client.send(request())
        self.clients += clients
        return clients

    def serves(self, count: int) -> list[PolicyClient]:
        """So many more clients, which are answered."""
        clients = self.connect(count)
        assert ["dunno"] * count == [client.action() for client in clients]
        return clients

    def leave(self, *clients: PolicyClient) -> None:
        """Some end; returns when that is known."""
        left = self.pool.clients - len(clients)
        for client in clients:
            client.close()
        wait_until(lambda: self.pool.clients <= left, "clients to be gone")

    def has_looked(self) -> None:
        """Wait until the server has looked for room, and found none, a few times more."""
        before = self.polls
        wait_until(lambda: self.polls > before + 2, "the server to look for room")

    @property
    def told(self) -> list[int]:
        """What it has told of being full."""
        return [event["max_clients"] for event in self.capture.named("server.full")]

    def close(self) -> None:
        """End all of it."""
        for client in self.clients:
            client.close()
        self.server.shutdown()
        self._listening.close()


@pytest.fixture
def front(make_pool: MakePool, capture: Capture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """A server that listens."""
    monkeypatch.setattr(accept, "_POLL_S", 0.02)
    front = Front(make_pool, capture)
    monkeypatch.setattr("hapolicy.proxy.server.time", SimpleNamespace(sleep=front.sleep))
    with contextlib.closing(front):
        yield front


def test_more_clients_than_the_greatest_number_wait_for_room(front: Front) -> None:
    """In the listen backlog, without loss; that is told once."""
    first, second, *_ = front.serves(MAX_CLIENTS)
    assert MAX_CLIENTS == front.pool.clients
    third, fourth = front.connect(2)
    front.has_looked()
    assert MAX_CLIENTS == front.pool.clients
    first.close()
    assert "dunno" == third.action()
    front.has_looked()
    second.close()
    assert "dunno" == fourth.action()
    front.has_looked()
    wait_until(lambda: front.told, "server.full")
    assert [MAX_CLIENTS] == front.told


def test_it_is_told_again_when_it_is_full_after_there_was_room(front: Front) -> None:
    """A tenth of the places must have been free meanwhile; one that is free now and then is no news."""
    first, second, third, *_ = front.serves(MAX_CLIENTS)
    front.has_looked()
    front.leave(first)
    front.serves(1)
    front.has_looked()
    front.leave(second, third)
    wait_until(lambda: front.told, "server.full")
    assert [MAX_CLIENTS] == front.told
    assert MAX_CLIENTS * 0.9 == front.pool.clients
    front.serves(2)
    front.has_looked()
    wait_until(lambda: len(front.told) == 2, "server.full")
    assert [MAX_CLIENTS] * 2 == front.told


def test_a_full_server_can_be_ended(front: Front) -> None:
    """Those who wait for room are not waited for."""
    front.serves(MAX_CLIENTS)
    front.connect(1)
    front.has_looked()
    ending = threading.Thread(target=front.server.shutdown, daemon=True)
    ending.start()
    ending.join(PATIENCE_S)
    assert not ending.is_alive()
    assert MAX_CLIENTS == front.pool.clients


def test_a_client_is_known_by_its_address(front: Front) -> None:
    """And has its answers without delay."""
    (client,) = front.serves(1)
    (session,) = front.pool.workers[0].sessions.values()
    assert session.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    client.send(b"EHLO example.com\r\n")
    assert b"" == client.rest()
    rejected = front.capture.wait("client.rejected")
    assert (client.name, "line is not name=value: 'EHLO example.com'") == (rejected["client"], rejected["reason"])


def test_from_afar_only_those_may_connect_who_are_allowed(front: Front) -> None:
    """Who is not is told of."""
    (client,) = front.serves(1)
    assert front.server.verify_request(client.link, ("192.0.2.7", 1025))
    assert not front.server.verify_request(client.link, ("198.51.100.7", 1025))
    rejected = front.capture.wait("client.rejected")
    assert ("198.51.100.7:1025", "not in --allow") == (rejected["client"], rejected["reason"])
