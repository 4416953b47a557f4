"""What becomes of one exchange on its connection: answered, in pieces or twice, broken off, or over for want of time."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from hapolicy.core.event import Level
from hapolicy.core.protocol import ANSWER_MAX_BYTES
from hapolicy.core.rules import HEDGE_OFF, HealthRules, Probe, RequestRules
from hapolicy.net.poll import RECEIVE_BYTES
from hapolicy.proxy.carrier import STALE_WITHIN_S
from hapolicy.proxy.connections import Connection
from hapolicy.proxy.worker import TICK_S
from tests.proxy.turns import Service, Turns

CLOSED = "closed before a whole answer"
TIMEOUT_S = 3


def start(turns: Turns, *, tcp: bool = False, **settings: Any) -> tuple[Service, Service]:
    """A service, and a second one for what it leaves unanswered; nothing is asked but what clients ask."""
    a, b = turns.service(tcp=tcp), turns.service()
    turns.start(
        f"A={a.address}:1:1:{TIMEOUT_S}",
        f"B={b.address}:2",
        requests=RequestRules(hedge=HEDGE_OFF),
        health=HealthRules(probe=Probe.OFF),
        **settings,
    )
    return a, b


def failed(service: Service, kind: str, error: str, *, connection: str = "fresh") -> dict[str, Any]:
    """service.failed as a whole, for the mail m1."""
    return {
        "service": "A",
        "address": service.address,
        "kind": kind,
        "error": error,
        "connection": connection,
        "instance": b"m1",
    }


def figures(turns: Turns) -> tuple[int, int, dict[str, int]]:
    """What A was asked and has answered, and its failures; nothing of it is under way."""
    status = turns.status()
    assert (0, status.queries) == (status.in_flight, status.answers + status.failed)
    return status.queries, status.answers, status.failures


def connections(turns: Turns) -> tuple[int, int]:
    """How many connections to A are busy, and how many are idle."""
    status = turns.status()
    return status.connections_busy + status.connections_waiting, status.connections_idle


# Answers


@pytest.mark.parametrize("tcp", [False, True])
def test_an_answered_service_is_asked_again_on_the_same_connection(turns: Turns, *, tcp: bool) -> None:
    """Whether it was connected at once or a moment later."""
    a, b = start(turns, tcp=tcp)
    client = turns.client()
    client.sends(instance="m1")
    link = a.accept()
    for mail in ("m2", "m3", "m4"):
        link.serve(f"DUNNO {mail}")
        assert f"DUNNO {mail}" == client.action()
        assert (0, 1) == connections(turns)
        client.sends(instance=mail)
        assert (1, 0) == connections(turns)
    link.serve()
    assert (4, 4, {}) == figures(turns)
    assert a.is_left_alone()
    assert b.is_left_alone()
    assert [] == turns.told.names


@pytest.mark.parametrize(
    "pieces",
    [
        [b"a", b"ction=", b"REJECT", b"\n", b"\n"],
        [b"action=REJECT\r", b"\n\r", b"\n"],
        [b"action=" + (RECEIVE_BYTES - 13) * b" ", b"REJECT\n\n"],  # the first is a receive's fill
        [b"action=" + 3 * RECEIVE_BYTES * b" " + b"REJECT\n\n"],  # more than a receive at once
    ],
)
def test_an_answer_may_come_in_pieces(turns: Turns, pieces: list[bytes]) -> None:
    """The connection is as good as before, and what comes of its next request is told as of any other."""
    a, b = start(turns)
    client = turns.client()
    client.sends(instance="m0")
    link = a.accept()
    link.request()
    for piece in pieces:
        assert client.hears_nothing()
        link.send(piece)
    assert "REJECT" == client.action().strip()
    turns.turn(2)
    client.sends(instance="m1")
    link.request()
    turns.wait(TIMEOUT_S + TICK_S)
    b.accept().serve()
    assert [failed(a, "answer_timeout", "no answer within 3 s", connection="kept")] == turns.told.named(
        "service.failed"
    )
    assert link.has_ended()


def test_a_service_that_says_more_than_its_answer_has_a_connection_for_each_request(turns: Turns) -> None:
    """What else it said may be the answer to the next request: nobody would know. That is told once."""
    a, b = start(turns)
    clients = [turns.client() for _ in range(4)]
    for client in clients:
        client.sends(instance="m")
    links = [a.accept() for _ in clients]
    links[2].serve("DUNNO idle")
    assert "DUNNO idle" == clients[2].action()
    links[0].request()
    links[0].send(b"action=DUNNO first\n\naction=REJECT\n\n")
    assert "DUNNO first" == clients[0].action()
    assert links[0].has_ended()
    assert links[2].has_ended()
    links[1].request()
    links[1].send(b"action=DUNNO as well\n\n\n")
    assert "DUNNO as well" == clients[1].action()
    assert links[1].has_ended()
    links[3].serve("DUNNO well-behaved")
    assert "DUNNO well-behaved" == clients[3].action()
    assert links[3].has_ended()
    for client in clients:
        client.sends(instance="m")
        link = a.accept()
        link.serve("DUNNO fresh")
        assert "DUNNO fresh" == client.action()
        assert link.has_ended()
    assert [{"service": "A", "address": a.address}] == turns.told.named("service.out_of_turn")
    assert ["service.out_of_turn"] == turns.told.names
    assert (8, 8, {}) == figures(turns)
    assert b.is_left_alone()


def test_a_service_that_speaks_unasked_has_a_connection_for_each_request(turns: Turns) -> None:
    """Nothing that it said so reaches a client."""
    a, b = start(turns)
    clients = [turns.client() for _ in range(2)]
    for client in clients:
        client.sends(instance="m")
    links = [a.accept() for _ in clients]
    for link, client in zip(links, clients, strict=True):
        link.serve()
        assert "DUNNO" == client.action()
    links[0].answer("REJECT")
    assert [True, True] == [link.has_ended() for link in links]
    clients[0].sends(instance="m")
    link = a.accept()
    link.serve("DUNNO fresh")
    assert "DUNNO fresh" == clients[0].action()
    assert link.has_ended()
    assert [{"service": "A", "address": a.address}] == turns.told.named("service.out_of_turn")
    assert (3, 3, {}) == figures(turns)
    assert b.is_left_alone()


def test_what_two_idle_connections_bring_at_once_is_told_once(turns: Turns) -> None:
    """The first one that speaks ends both, and the word of the second is heard no more."""
    a, _ = start(turns)
    clients = [turns.client() for _ in range(2)]
    for client in clients:
        client.sends(instance="m")
    links = [a.accept() for _ in clients]
    for link in links:
        link.serve()
    for link in links:
        link.send(b"action=REJECT\n\n")
    assert [True, True] == [link.has_ended() for link in links]
    assert [{"service": "A", "address": a.address}] == turns.told.named("service.out_of_turn")


def test_a_service_that_closes_an_idle_connection_is_given_another(turns: Turns) -> None:
    """Without a word: that is its right, and the others stay."""
    a, b = start(turns)
    clients = [turns.client() for _ in range(2)]
    for client in clients:
        client.sends(instance="m")
    links = [a.accept() for _ in clients]
    for link, client in zip(links, clients, strict=True):
        link.serve()
        assert "DUNNO" == client.action()
    assert (0, 2) == connections(turns)
    links[0].end()
    assert (0, 1) == connections(turns)
    for client in clients:
        client.sends(instance="m")
    a.accept().serve("DUNNO fresh")
    links[1].serve("DUNNO kept")
    assert ["DUNNO fresh", "DUNNO kept"] == [client.action() for client in clients]
    assert [] == turns.told.names
    assert b.is_left_alone()


# Connections that break


@pytest.mark.parametrize("said", [b"", b"action=DUNNO\n"])
def test_a_connection_that_ends_before_the_answer_is_a_failure(turns: Turns, said: bytes) -> None:
    """The next service is asked at once, and the failure is told once."""
    a, b = start(turns)
    client = turns.client()
    client.sends(instance="m1")
    link = a.accept()
    link.request()
    link.send(said)
    link.end()
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a, "closed", CLOSED)] == turns.told.named("service.failed")
    assert ((0, 0), (1, 0, {"closed": 1})) == (connections(turns), figures(turns))
    assert "closed: closed before a whole answer" == turns.status().last_error


def test_a_reset_is_told_as_a_close(turns: Turns) -> None:
    """It depends on what was unread which of the two the kernel makes of a close."""
    a, b = start(turns, tcp=True)
    client = turns.client()
    client.sends(instance="m1")
    link = a.accept()
    link.request()
    link.reset()
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a, "closed", CLOSED)] == turns.told.named("service.failed")


def test_a_host_that_vanishes_is_told_as_such(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel notices that nothing is acknowledged any more; no host here can vanish, so its word is made up."""

    def receive(size: int) -> bytes:
        raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))

    a, b = start(turns)
    client = turns.client()
    client.sends(instance="m1")
    link = a.accept()
    monkeypatch.setattr(only_connection(turns), "recv", receive)
    link.end()
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a, "unreachable", "No route to host")] == turns.told.named("service.failed")


def only_connection(turns: Turns) -> Connection:
    """The one connection to A."""
    (connection,) = turns.worker.connections[turns.upstream()].all
    return connection


@pytest.mark.parametrize(
    ("said", "kind", "error"),
    [
        (b"250 OK\n\n", "malformed", "answer does not begin with action=: '250 OK\\n\\n'"),
        (b"action=\n\n", "malformed", "empty action: 'action=\\n\\n'"),
        (b"action=".ljust(ANSWER_MAX_BYTES, b"x"), "oversized", f"answer longer than {ANSWER_MAX_BYTES} bytes"),
    ],
)
def test_what_is_no_answer_ends_the_connection(turns: Turns, said: bytes, kind: str, error: str) -> None:
    """It never reaches the client, and the failure says what came."""
    a, b = start(turns)
    client = turns.client()
    client.sends(instance="m1")
    link = a.accept()
    link.request()
    link.send(said)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert link.has_ended()
    assert [failed(a, kind, error)] == turns.told.named("service.failed")
    assert ((0, 0), (1, 0, {kind: 1})) == (connections(turns), figures(turns))


# Connections that the service had closed while they were idle


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(turns: Turns) -> None:
    """The request and the close have crossed: it is sent again to the same service, and nobody is charged."""
    a, b = start(turns, log_level=Level.DEBUG)
    client = turns.client()
    client.sends(instance="m0")
    link = a.accept()
    link.serve()
    client.sends(instance="m1")
    turns.wait(STALE_WITHIN_S / 2)
    assert a.is_left_alone()
    link.end()
    a.accept().serve("DUNNO fresh")
    assert ["DUNNO", "DUNNO fresh"] == [client.action(), client.action()]
    assert [{"service": "A"}] == turns.told.named("service.connection_stale")
    assert ["service.connection_stale"] == turns.told.names
    assert ((0, 1), (2, 2, {})) == (connections(turns), figures(turns))
    assert b.is_left_alone()


def test_a_replaced_connection_that_breaks_is_a_fresh_one(turns: Turns) -> None:
    """The same service is not asked a third time."""
    a = turns.service()
    turns.start(f"A={a.address}", health=HealthRules(probe=Probe.OFF))
    client = turns.client()
    client.sends(instance="m0")
    link = a.accept()
    link.serve()
    client.sends(instance="m1")
    link.end()
    a.accept().end()
    assert ["DUNNO", "dunno"] == [client.action(), client.action()]
    assert [failed(a, "closed", CLOSED)] == turns.told.named("service.failed")
    assert (2, 1, {"closed": 1}) == figures(turns)
    assert a.is_left_alone()


@pytest.mark.parametrize(("said", "after_s"), [(b"action=", 0.0), (b"", STALE_WITHIN_S)])
def test_a_kept_connection_that_breaks_later_is_a_failure(turns: Turns, said: bytes, after_s: float) -> None:
    """In the midst of its answer, or after a second without one."""
    a, b = start(turns)
    client = turns.client()
    client.sends(instance="m0")
    link = a.accept()
    link.serve()
    client.sends(instance="m1")
    link.send(said)
    turns.turn()
    turns.wait(after_s)
    link.end()
    b.accept().serve("DUNNO B")
    assert ["DUNNO", "DUNNO B"] == [client.action(), client.action()]
    assert [failed(a, "closed", CLOSED, connection="kept")] == turns.told.named("service.failed")


# The service's timeout


@pytest.mark.parametrize(("said", "what"), [(b"", "answer"), (b"action=DUNNO", "whole answer")])
def test_a_service_that_does_not_answer_in_time_has_failed(turns: Turns, said: bytes, what: str) -> None:
    """When its timeout is over, no sooner; the next one is asked, and what it says later is not heard."""
    a, b = start(turns)
    client = turns.client()
    client.sends(instance="m1")
    link = a.accept()
    link.send(said)
    turns.wait(TIMEOUT_S - 0.1)
    assert b.is_left_alone()
    assert (1, 0) == connections(turns)
    turns.wait(0.1 + TICK_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    link.request()
    assert link.has_ended()
    assert [failed(a, "answer_timeout", f"no {what} within 3 s")] == turns.told.named("service.failed")
    assert ((0, 0), (1, 0, {"answer_timeout": 1})) == (connections(turns), figures(turns))


def test_a_service_that_reads_slowly_gets_the_whole_request(turns: Turns) -> None:
    """What its socket does not take at once is sent when it does."""
    a, _ = start(turns)
    client = turns.client()
    client.sends(instance="m0")
    link = a.accept()
    link.serve()
    only_connection(turns).sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.sends(instance="m1", helo_name="x" * 60_000)
    assert b"helo_name=" + b"x" * 60_000 in link.request()
    link.answer("DUNNO all of it")
    assert ["DUNNO", "DUNNO all of it"] == [client.action(), client.action()]
