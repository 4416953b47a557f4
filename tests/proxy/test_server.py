"""The register of clients, and who may connect at all."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hapolicy.log.events import EventLog
from hapolicy.proxy.clients import Clients
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.server import PolicyServer
from tests.proxy.scripted import REQUEST, Scripted, well
from tests.support.capture import Capture
from tests.support.fixtures import MakePool
from tests.support.procs import wait_until


class FakeSession:
    """A session that remembers being told to finish."""

    def __init__(self) -> None:
        self.finished = 0

    def finish(self) -> None:
        """Counts."""
        self.finished += 1


def waiting(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """A thread that calls `function`, and what it returned."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()), daemon=True)
    thread.start()
    return thread, found


def test_room_is_bounded(log: EventLog) -> None:
    """Who comes to a full house waits until somebody leaves."""
    clients = Clients(2, log)
    assert [True, True] == [clients.reserve(), clients.reserve()]
    thread, found = waiting(clients.reserve)
    thread.join(0.1)
    assert ([], 2) == (found, len(clients))
    clients.give_back()
    thread.join(5)
    assert ([True], 2) == (found, len(clients))


def test_a_full_house_is_told_once(log: EventLog, capture: Capture) -> None:
    """Not for everyone who waits; again when it had emptied in between."""
    clients = Clients(1, log)
    clients.reserve()
    threads = [waiting(clients.reserve)[0] for _ in range(3)]
    wait_until(lambda: capture.named("server.full"), "the event")
    for _ in range(4):
        clients.give_back()
        time.sleep(0.02)
    for thread in threads:
        thread.join(5)
    clients.reserve()
    thread, _ = waiting(clients.reserve)
    wait_until(lambda: len(capture.named("server.full")) >= 2, "the event, once more")
    clients.finish()
    thread.join(5)
    assert {1} == {event["max_clients"] for event in capture.named("server.full")}


def test_finish(log: EventLog) -> None:
    """Those who wait go away, those who are there finish, and those who were just coming do, too."""
    clients = Clients(1, log)
    early: Any = FakeSession()
    left: Any = FakeSession()
    late: Any = FakeSession()
    clients.reserve()
    clients.enter(early)
    clients.enter(left)
    clients.leave(left)
    thread, found = waiting(clients.reserve)
    clients.finish()
    thread.join(5)
    clients.enter(late)
    assert ([False], 1, 0, 1) == (found, early.finished, left.finished, late.finished)
    assert not clients.reserve()


def test_a_raised_limit_lets_in(log: EventLog) -> None:
    """Who waits need not wait for somebody to leave."""
    clients = Clients(1, log)
    clients.reserve()
    thread, found = waiting(clients.reserve)
    clients.limit = 2
    thread.join(5)
    assert ([True], 2) == (found, clients.limit)


@contextmanager
def serving(pool: Pool, log: EventLog, limit: int = 10, allow: tuple[Any, ...] = ()) -> Iterator[tuple[str, int]]:
    """A server on a loopback port."""
    clients = Clients(limit, log)
    listening = socket.create_server(("127.0.0.1", 0))
    where: tuple[str, int] = listening.getsockname()
    server = PolicyServer(listening, clients, lambda: pool.relay, log, allow)
    server.start()
    try:
        yield where
    finally:
        clients.finish()
        server.shutdown()
        listening.close()
        wait_until(lambda: len(clients) == 0, "all clients have gone")


def ask(sock: socket.socket) -> bytes:
    """One request on a connection."""
    sock.settimeout(10)
    sock.sendall(REQUEST % b"1")
    return sock.recv(1000)


def test_many_clients(make_pool: MakePool, log: EventLog) -> None:
    """Each has its own session."""
    with Scripted(well("a")) as service, serving(make_pool(f"A={service.address}"), log, 50) as where:
        socks = [socket.create_connection(where, 10) for _ in range(40)]
        for sock in socks:
            assert b"action=a\n\n" == ask(sock)
        for sock in socks:
            sock.close()


def test_one_client_more_than_there_is_room_for(make_pool: MakePool, log: EventLog, capture: Capture) -> None:
    """Waits in the backlog, and is served when another one leaves."""
    with Scripted(well("a")) as service, serving(make_pool(f"A={service.address}"), log, 2) as where:
        first, second, third = (socket.create_connection(where, 10) for _ in range(3))
        assert [b"action=a\n\n"] * 2 == [ask(first), ask(second)]
        third.settimeout(0.2)
        third.sendall(REQUEST % b"1")
        with pytest.raises(TimeoutError):
            third.recv(1000)
        capture.wait("server.full")
        first.close()
        third.settimeout(10)
        assert b"action=a\n\n" == third.recv(1000)
        second.close()
        third.close()


class Arrived:
    """An accepted connection, as far as the decision who may ask needs one."""

    def __init__(self, local: str) -> None:
        self._local = local
        self.sock = self  # an arrival and its socket in one

    def getsockname(self) -> tuple[str, int]:
        """The address that the client connected to."""
        return self._local, 10060


ALLOW = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/24", "2001:db8::/32"))
WHO = {
    "127.0.0.1": True,
    "127.9.9.9": True,
    "::1": True,
    "::ffff:127.0.0.1": True,
    "10.0.0.77": True,
    "::ffff:10.0.0.77": True,
    "2001:db8::1": True,
    "10.0.1.1": False,
    "::ffff:10.0.1.1": False,
    "2001:db9::1": False,
    "fe80::1%eth0": False,
}


@pytest.mark.parametrize(("address", "expected"), WHO.items())
def test_who_may_ask(make_pool: MakePool, log: EventLog, capture: Capture, address: str, expected: bool) -> None:
    """This host and who is in --allow; everyone else is rejected, with a reason."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = PolicyServer(listening, Clients(1, log), lambda: make_pool().relay, log, ALLOW)
        assert expected == server.verify_request(Arrived("192.0.2.1"), (address, 50_000))
    rejected = [event["reason"] for event in capture.close() if event["event"] == "client.rejected"]
    assert ([] if expected else ["not in --allow"]) == rejected
