"""Connections to real sockets: how many, which one, and what their end means."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from examples.policy_service import SampleService
from hapolicy.core.exchange import OwnExchange
from hapolicy.core.rules import HEDGE_OFF, HealthRules, RequestRules
from hapolicy.core.service import parse_service
from hapolicy.net import connect
from hapolicy.net.connect import SocketAddress
from hapolicy.proxy import carrier
from hapolicy.proxy.connections import Connection, Connections
from tests.core.world import World
from tests.proxy.asking import ask_at_once, client_of, service_of
from tests.proxy.scripted import Peer, Scripted
from tests.support.capture import Capture
from tests.support.fixtures import MakePool
from tests.support.procs import wait_until


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
            accepting = threading.Thread(target=_accept_and_answer, args=(listening, ending), daemon=True)
            accepting.start()
            assert ["DUNNO"] * 30 == answers.result(30)
            ending.set()
            accepting.join()
        assert ({}, "up") == (service_of(pool).failures, service_of(pool).state)


def _accept_and_answer(listening: socket.socket, ending: threading.Event) -> None:
    listening.settimeout(0.1)
    while not ending.is_set():
        with contextlib.suppress(TimeoutError):
            sock, _ = listening.accept()
            threading.Thread(target=_answer, args=(sock,), daemon=True).start()


def _answer(sock: socket.socket) -> None:
    with sock, contextlib.suppress(OSError):
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


def test_a_probe_that_finds_no_local_port_convicts_nobody(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes to nothing, and is made again later."""

    def without_ports(address: SocketAddress) -> tuple[socket.socket, bool]:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    service = SampleService("A")
    monkeypatch.setattr(carrier, "begin_connect", without_ports)
    pool = make_pool(f"A={service.listen}", health=HealthRules(probe_every_s=0.1))
    time.sleep(1.0)
    assert ("up", 0) == (service_of(pool).state, service_of(pool).probes_failed)


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


def test_a_raised_limit_wakes_who_waits(make_pool: MakePool) -> None:
    """With another max=N those that are queued have connections opened at once, not when one falls idle."""
    service = SampleService("A")
    service.set_fault("slow", 0.8)
    pool = make_pool(f"A={service.listen},max=1", requests=RequestRules(hedge=HEDGE_OFF))
    with ThreadPoolExecutor(1) as asking:
        answers = asking.submit(ask_at_once, pool, 6)
        wait_until(lambda: service_of(pool).queued == 5, "five to be queued")
        began = time.monotonic()
        pool.adopt(replace(pool.settings, services=(parse_service(f"A={service.listen},max=6"),)))
        assert 6 == len(answers.result(20))
        assert time.monotonic() - began < 3 * 0.8


def test_the_connection_that_was_used_last_is_lent_first() -> None:
    """So that those that are not needed fall idle for long, and are closed."""
    world = World("A=h:1")
    connections = Connections(world["A"], None, lambda *_: None, lambda _: None)
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(3):
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            stack.enter_context(theirs)
            made.append(Connection(ours, connections, (), world.now))
            connections.opened(made[-1])
            connections.proved(made[-1], 0.001)
        for connection in made:
            connections.take_back(connection, world.now)
        world.ask()
        assert [made[2], made[1], made[0]] == [connections.lend(world.sent[0], None) for _ in range(3)]


@pytest.mark.parametrize("verifying", [0, 1])
def test_a_probe_that_hangs_is_taken_over_but_where_the_service_fails_too_often(verifying: int) -> None:
    """With few workers it may just wait for one; where too many fail, that others are answered excuses nothing."""
    world = World("A=h:1")
    upstream = world["A"]
    connections = Connections(upstream, None, lambda *_: None, lambda _: None)
    permit = upstream.admit(world.now)
    assert permit is not None
    world.ask()
    probe = OwnExchange(world.sent[0].asker, upstream, permit, fresh=True)
    world.answer_all()
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(end) for _ in range(2) for end in socket.socketpair()]
        hung, idle = (Connection(end, connections, (), world.now) for end in ends[::2])
        for connection in (hung, idle):
            connections.opened(connection)
        hung.exchange, probe.carrier = probe, hung
        probe.begin(world.now)
        connections.proved(idle, 0.001)
        world.wait(10)
        world.ask()
        world.answer_all()
        upstream.verifying = verifying
        assert (None if verifying else probe) is connections.take_back(idle, world.now)
