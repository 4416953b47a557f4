"""Workers with real sockets: connections, limits, names, reloads, and clients that are no Postfix."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from examples.policy_service import SampleService
from hapolicy.core.address import TcpAddress
from hapolicy.core.rules import HEDGE_OFF, RequestRules
from hapolicy.core.service import parse_service
from hapolicy.net import connect, resolver
from hapolicy.net.connect import SocketAddress
from hapolicy.net.resolver import Resolution
from hapolicy.proxy import carrier
from hapolicy.proxy.pool import Pool
from tests.proxy.scripted import Peer, Scripted
from tests.support.capture import Capture
from tests.support.client import PolicyClient, request
from tests.support.fixtures import MakePool
from tests.support.procs import wait_until


@contextlib.contextmanager
def client_of(pool: Pool) -> Iterator[PolicyClient]:
    """A client of a pool."""
    ours, theirs = socket.socketpair()
    pool.hand_over(ours, "client")
    with PolicyClient(theirs) as client:
        yield client


def ask_at_once(pool: Pool, count: int) -> list[str]:
    """So many clients ask at the same time; returns their answers."""

    def ask(number: int) -> str:
        with client_of(pool) as client:
            return client.ask(instance=f"n{number}")

    with ThreadPoolExecutor(count) as clients:
        return list(clients.map(ask, range(count)))


def service_of(pool: Pool, name: str = "A"):  # type: ignore[no-untyped-def]
    """One service's status."""
    return next(service for service in pool.status().services if service.name == name)


def test_no_more_connections_than_max(make_pool: MakePool) -> None:
    """The requests beyond wait inside, in order, and all are answered."""
    service = SampleService("A")
    service.set_fault("slow", 0.02)
    pool = make_pool(f"A={service.listen},max=2")
    most = 0
    ending = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ending.is_set():
            most = max(most, int(str(service.stats()["open"])))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    answers = ask_at_once(pool, 20)
    ending.set()
    watcher.join()
    assert sorted(f"DUNNO A n{number}" for number in range(20)) == sorted(answers)
    assert 2 == most
    assert (20, 20, 0) == (service_of(pool).queries, service_of(pool).answers, service_of(pool).queued)


def test_a_full_service_is_passed_over(make_pool: MakePool) -> None:
    """While another one, of its tier or the next, has room."""
    a, b = SampleService("A"), SampleService("B")
    a.set_fault("slow", 1)
    pool = make_pool(f"A={a.listen}:1,max=1", f"B={b.listen}:2", requests=RequestRules(hedge=HEDGE_OFF))
    answers = [answer.split()[1] for answer in ask_at_once(pool, 8)]
    assert (1, 7) == (answers.count("A"), answers.count("B"))


def test_who_waits_in_vain_for_a_connection_charges_nobody(make_pool: MakePool) -> None:
    """The deadline comes first: the default action, and the service was never asked."""
    service = SampleService("A")
    service.set_fault("slow", 1.5)
    pool = make_pool(f"A={service.listen},max=1", requests=RequestRules(deadline_s=0.4, hedge=HEDGE_OFF))
    assert ["dunno"] * 5 == ask_at_once(pool, 5)
    wait_until(lambda: service_of(pool).in_flight == 0, "the one that was asked to answer")
    assert (1, 1, 0, "up") == (
        service_of(pool).queries,
        service_of(pool).answers,
        service_of(pool).failed,
        service_of(pool).state,
    )


def test_a_full_backlog_is_waited_for(make_pool: MakePool, tmp_path: Path) -> None:
    """connect(2) to a unix socket fails at once with EAGAIN: it is tried again, and nobody is charged."""
    path = str(tmp_path / "service")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)
        pool = make_pool(f"A=unix:{path}")
        with ThreadPoolExecutor(1) as asking:
            answers = asking.submit(ask_at_once, pool, 30)
            time.sleep(0.4)
            ending = threading.Event()
            threading.Thread(target=_accept_and_answer, args=(listening, ending), daemon=True).start()
            assert ["DUNNO"] * 30 == answers.result(30)
            ending.set()
        assert ({}, "up") == (service_of(pool).failures, service_of(pool).state)


def _accept_and_answer(listening: socket.socket, ending: threading.Event) -> None:
    listening.settimeout(0.1)
    while not ending.is_set():
        with contextlib.suppress(TimeoutError):
            sock, _ = listening.accept()
            threading.Thread(target=_answer, args=(sock,), daemon=True).start()


def _answer(sock: socket.socket) -> None:
    with sock:
        while sock.recv(65_536):
            sock.sendall(b"action=DUNNO\n\n")


def test_no_local_port_left_is_nobodys_fault(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, capture: Capture
) -> None:
    """EADDRNOTAVAIL: the next service is asked, and the first one stays up."""
    service = SampleService("B")
    pool = make_pool("A=127.0.0.1:9:1", f"B={service.listen}:2")
    begin_connect = carrier.begin_connect

    def without_ports(address):  # type: ignore[no-untyped-def]
        if address[1][1] == 9:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return begin_connect(address)

    monkeypatch.setattr(carrier, "begin_connect", without_ports)
    with client_of(pool) as client:
        for _ in range(10):
            assert client.ask().startswith("DUNNO B")
    assert ("up", {"local": 10}) == (service_of(pool).state, service_of(pool).failures)


def test_stale_is_only_what_closes_promptly(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept connection that hangs, and then closes, is a failure."""
    monkeypatch.setattr(carrier, "STALE_WITHIN_S", 0.2)

    def serve(peer) -> None:  # type: ignore[no-untyped-def]
        peer.request()
        peer.answer()
        if peer.request():
            time.sleep(0.5 if peer.number == 1 else 0)

    with Scripted(serve) as service:
        pool = make_pool(f"A={service.address}", requests=RequestRules(hedge=HEDGE_OFF))
        with client_of(pool) as client:
            assert client.ask().startswith("DUNNO")
            assert client.ask().startswith("DUNNO")  # the first connection hung: again, on a fresh one
            assert {"closed": 1} == service_of(pool).failures
            assert client.ask().startswith("DUNNO")  # the second one closed at once: stale
            assert {"closed": 1} == service_of(pool).failures


def test_a_name_that_moves_is_followed(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the old host still answers; and its connections end."""
    old, new = SampleService("old"), SampleService("new")
    where = [old]

    def look_up(address: TcpAddress) -> Resolution:
        host, _, port = where[0].listen.rpartition(":")
        return Resolution(((socket.AF_INET, (host, int(port))),))

    monkeypatch.setattr(resolver, "look_up", look_up)
    monkeypatch.setattr(resolver, "FRESH_S", 0.1)
    pool = make_pool("A=service.test:25")
    with client_of(pool) as client:
        assert client.ask().startswith("DUNNO old")
        where[0] = new
        wait_until(lambda: client.ask().startswith("DUNNO new"), "the new host to be asked")
        wait_until(lambda: old.stats()["open"] == 0, "the old host's connections to end")
    assert {} == service_of(pool).failures


def test_the_second_address_of_a_name_is_tried(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the same request, when nobody listens at the first one."""
    service = SampleService("A")
    host, _, port = service.listen.rpartition(":")
    found = Resolution(((socket.AF_INET, ("127.0.0.1", 9)), (socket.AF_INET, (host, int(port)))))
    monkeypatch.setattr(resolver, "look_up", lambda address: found)
    pool = make_pool("A=service.test:25")
    assert ["A"] * 6 == [answer.split()[1] for answer in ask_at_once(pool, 6)]
    assert ({}, "up") == (service_of(pool).failures, service_of(pool).state)


def test_a_slow_first_look_up_charges_nobody(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the name service has answered, the next service is asked; then this one has its share."""
    slow, other = SampleService("slow"), SampleService("other")
    host, _, port = slow.listen.rpartition(":")
    known = threading.Event()

    by_name_service = resolver.look_up

    def look_up(address: TcpAddress) -> Resolution:
        if address.is_literal:
            return by_name_service(address)
        known.wait(10)
        return Resolution(((socket.AF_INET, (host, int(port))),))

    monkeypatch.setattr(resolver, "look_up", look_up)
    pool = make_pool("A=service.test:25:1", f"B={other.listen}:2", connect_timeout_s=0.1)
    with client_of(pool) as client:
        for _ in range(5):
            assert client.ask().startswith("DUNNO other")
        assert ("up", {"unresolved": 5}) == (service_of(pool).state, service_of(pool).failures)
        known.set()
        wait_until(lambda: client.ask().startswith("DUNNO slow"), "the name's own service")


def test_a_drain_survives_a_changed_address(make_pool: MakePool) -> None:
    """A reload keeps what an operator has decided; and health where the address stays."""
    a, moved, b = SampleService("A"), SampleService("moved"), SampleService("B")
    pool = make_pool(f"A={a.listen}", f"B={b.listen}")
    pool.drain("A")
    pool.trip("B")
    services = (parse_service(f"A={moved.listen}"), parse_service(f"B={b.listen}:5"))
    pool.adopt(replace(pool.settings, services=services))
    assert ("draining", 5) == (service_of(pool).state, service_of(pool, "B").prio)
    assert service_of(pool, "B").state in ("down", "probing", "up")
    pool.ready("A")
    wait_until(lambda: service_of(pool, "B").state == "up", "a probe")
    assert {"B"} == {answer.split()[1] for answer in ask_at_once(pool, 4)}


def test_a_service_that_is_configured_no_more_ends(make_pool: MakePool) -> None:
    """What it was asked is answered; then no connection to it is left, and nothing of it is kept."""
    a, b = SampleService("A"), SampleService("B")
    a.set_fault("slow", 0.3)
    pool = make_pool(f"A={a.listen}", f"B={b.listen}:20")
    with client_of(pool) as client:
        client.send(request(instance="last"))
        wait_until(lambda: a.stats()["requests"] == 1, "A to be asked")
        pool.adopt(replace(pool.settings, services=(parse_service(f"B={b.listen}:20"),)))
        assert "DUNNO A last" == client.action()
        assert client.ask().startswith("DUNNO B")
    wait_until(lambda: a.stats()["open"] == 0, "its connections' end")
    wait_until(lambda: len(pool.workers[0].connections) == 1, "it to be forgotten")


@pytest.mark.parametrize("workers", [1, 3])
def test_several_workers(make_pool: MakePool, workers: int) -> None:
    """Each has its own clients; what they say is added up, and orders reach all of them."""
    services = [SampleService(name) for name in "AB"]
    pool = make_pool(*(f"{service.name}={service.listen}" for service in services), workers=workers)
    ask_at_once(pool, 30)
    status = pool.status()
    assert (workers, 30) == (status.workers, sum(service.answers for service in status.services))
    assert [("answered", "RCPT", 30)] == status.requests
    pool.drain("A")
    assert {"B"} == {answer.split()[1] for answer in ask_at_once(pool, 12)}
    assert set(pool.heartbeat_ages_s()) == {f"worker-{number}" for number in range(workers)}


def test_a_client_that_pipelines_and_reads_nothing_is_bounded(make_pool: MakePool) -> None:
    """It is not read while its answers are not: neither its requests nor its answers pile up here."""
    service = SampleService("A")
    pool = make_pool(f"A={service.listen}")
    with client_of(pool) as rude, client_of(pool) as polite:
        rude.link.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            for _ in range(2000):
                rude.send(request(instance=f"{sent}") * 10)
                sent += 10
        for _ in range(50):
            assert polite.ask().startswith("DUNNO A")
        (session,) = (s for s in pool.workers[0].sessions.values() if s.reader is not None or s.unsent)
        assert len(session.unsent) < 1000
        assert session.reader is None or len(session.reader._buffer) <= 64 * 1024 + 4096
        rude.link.settimeout(10)
        for number in range(100):
            assert f"DUNNO A {number // 10 * 10}" == rude.action()


def test_requests_of_64_kib_come_in_many_pieces(make_pool: MakePool) -> None:
    """And are forwarded whole."""
    service = SampleService("A")
    pool = make_pool(f"A={service.listen}")
    with client_of(pool) as client:
        for number in range(3):
            assert f"DUNNO A {number}" == client.ask(instance=str(number), helo_name="x" * 64_000)
        client.send(b"request=smtpd_access_policy\n" + b"x=" + b"y" * 70_000)
        assert b"" == client.rest()


def test_half_closed_clients_have_their_answer(make_pool: MakePool) -> None:
    """Also where the end comes with the request, or before the answer."""
    service = SampleService("A")
    service.set_fault("slow", 0.05)
    pool = make_pool(f"A={service.listen}")
    for _ in range(10):
        with client_of(pool) as client:
            client.send(request(instance="half"))
            client.link.shutdown(socket.SHUT_WR)
            assert b"action=DUNNO A half\n\n" == client.rest()
    wait_until(lambda: pool.clients == 0, "no client")


def test_a_query_goes_past_the_health_of_a_service(make_pool: MakePool) -> None:
    """And counts for nothing."""
    service = SampleService("A")
    pool = make_pool(f"A={service.listen}")
    pool.trip("A")
    from hapolicy.core.protocol import Request

    answered = pool.query(Request(request(instance="q")), "A")
    assert ("DUNNO A q", "A") == (answered.action, answered.service)
    assert 0 == service_of(pool).queries
    wait_until(lambda: pool.query(Request(request(instance="r"))).service == "A", "a probe to bring it back")


def test_nothing_is_left_open_after_the_end(make_pool: MakePool) -> None:
    """No socket, no thread."""
    import os

    before = len(os.listdir("/proc/self/fd"))
    service = SampleService("A")
    pool = make_pool(f"A={service.listen}")
    ask_at_once(pool, 10)
    pool.stop()
    service.set_fault("refuse")
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, "as many descriptors as before")
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("worker")]


def test_a_shorter_deadline_judges_nobody_who_asked_before(make_pool: MakePool) -> None:
    """A client that waits under the former deadline is not overdue: the watchdog must not end the daemon for it."""
    service = SampleService("A")
    service.set_fault("slow", 1.2)
    pool = make_pool(f"A={service.listen}", requests=RequestRules(deadline_s=10))
    with client_of(pool) as client, client_of(pool) as later:
        client.send(request(instance="before"))
        wait_until(lambda: service_of(pool).in_flight == 1, "the request at its service")
        pool.adopt(replace(pool.settings, requests=RequestRules(deadline_s=0.3)))
        later.send(request(instance="after"))
        assert "dunno" == later.action()
        assert 0 == pool.overdue_s()
        assert "DUNNO A before" == client.action()


def test_a_client_that_reads_late_gets_every_answer_in_order(make_pool: MakePool) -> None:
    """It sends thousands of requests before it reads: it is not served while its answers do not fit, and loses none."""
    service = SampleService("A")
    pool = make_pool(f"A={service.listen}")
    count = 3000
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    pool.hand_over(ours, "late reader")
    with theirs, ThreadPoolExecutor(1) as writer:
        sent = writer.submit(lambda: [theirs.sendall(request(instance=f"n{number}")) for number in range(count)])
        time.sleep(0.5)
        answers = theirs.makefile("rb")
        for number in range(count):
            assert f"action=DUNNO A n{number}\n".encode() == answers.readline()
            assert b"\n" == answers.readline()
        sent.result()


def test_an_answer_before_the_whole_request_ends_the_connection(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is unsent of one request must not run into the next one."""

    def begin_connect(address: SocketAddress) -> tuple[socket.socket, bool]:
        sock, connected = connect.begin_connect(address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return sock, connected

    def hasty(peer: Peer) -> None:
        peer.sock.recv(10)
        peer.answer("DUNNO hasty")
        peer.wait_end()

    monkeypatch.setattr(carrier, "begin_connect", begin_connect)
    with Scripted(hasty, receive_buffer=4096) as service:
        pool = make_pool(f"A={service.address}")
        with client_of(pool) as client:
            for _ in range(3):
                assert "DUNNO hasty" == client.ask(instance="mail", helo_name="x" * 60_000)
        assert 3 == service.connections
