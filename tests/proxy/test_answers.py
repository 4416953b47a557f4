"""Answers to one exchange after the other: whole, in pieces, twice, unasked; and what becomes of the connection."""

from __future__ import annotations

import socket

import pytest

from hapolicy.net.poll import RECEIVE_BYTES
from tests.proxy.carried import LATE_S, NO_HEDGE, TIMEOUT_S, connections, failed, figures, only_connection, start_pair
from tests.proxy.ends import Client, Link, Service
from tests.proxy.turns import Turns


@pytest.mark.parametrize("tcp", [False, True])
def test_an_answered_service_is_asked_again_on_the_same_connection(turns: Turns, *, tcp: bool) -> None:
    """Whether it was connected at once or a moment later."""
    a, b = start_pair(turns, tcp=tcp)
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
    assert "DUNNO" == client.action()
    client.close()
    turns.wait(1)
    client = turns.client()
    client.sends(instance="m5")
    link.serve("DUNNO another client")
    assert "DUNNO another client" == client.action()
    assert (5, 5, {}, (0, 1)) == figures(turns)
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
    a, b = start_pair(turns)
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
    turns.wait(TIMEOUT_S + LATE_S)
    b.accept().serve()
    assert [failed(a.address, "answer_timeout", "no answer within 3 s", connection="kept")] == turns.told.named(
        "service.failed"
    )
    assert link.has_ended()


def test_a_service_that_says_more_than_its_answer_has_a_connection_for_each_request(turns: Turns) -> None:
    """What else it said may be the answer to the next request: nobody would know. That is told once."""
    a, b = start_pair(turns)
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
    assert (8, 8, {}, (0, 0)) == figures(turns)
    assert b.is_left_alone()


def two_answered(turns: Turns, a: Service) -> tuple[list[Client], list[Link]]:
    """Two clients, each of which was answered on a connection of its own."""
    clients = [turns.client() for _ in range(2)]
    for client in clients:
        client.sends(instance="m")
    links = [a.accept() for _ in clients]
    for link, client in zip(links, clients, strict=True):
        link.serve()
        assert "DUNNO" == client.action()
    return clients, links


def test_a_service_that_speaks_unasked_has_a_connection_for_each_request(turns: Turns) -> None:
    """Nothing that it said so reaches a client."""
    a, b = start_pair(turns)
    clients, links = two_answered(turns, a)
    links[0].answer("REJECT")
    assert [True, True] == [link.has_ended() for link in links]
    clients[0].sends(instance="m")
    link = a.accept()
    link.serve("DUNNO fresh")
    assert "DUNNO fresh" == clients[0].action()
    assert link.has_ended()
    assert [{"service": "A", "address": a.address}] == turns.told.named("service.out_of_turn")
    assert (3, 3, {}, (0, 0)) == figures(turns)
    assert b.is_left_alone()


def test_what_two_idle_connections_bring_at_once_is_told_once(turns: Turns) -> None:
    """The first one that speaks ends both, and the word of the second is heard no more."""
    a, _ = start_pair(turns)
    _, links = two_answered(turns, a)
    for link in links:
        link.send(b"action=REJECT\n\n")
    assert [True, True] == [link.has_ended() for link in links]
    assert [{"service": "A", "address": a.address}] == turns.told.named("service.out_of_turn")


def test_a_service_that_closes_an_idle_connection_is_given_another(turns: Turns) -> None:
    """Without a word: that is its right, and the others stay."""
    a, b = start_pair(turns)
    clients, links = two_answered(turns, a)
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


def test_a_service_that_reads_slowly_gets_the_whole_request(turns: Turns) -> None:
    """What its socket does not take at once is sent when it does; that it has room again later changes nothing."""
    a, _ = start_pair(turns)
    client = turns.client()
    client.sends(instance="m0")
    link = a.accept()
    link.serve()
    assert "DUNNO" == client.action()
    only_connection(turns).sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.sends(instance="m1", helo_name="x" * 60_000)
    assert b"helo_name=" + b"x" * 60_000 in link.request()
    link.answer("DUNNO all of it")
    assert "DUNNO all of it" == client.action()
    client.sends(instance="m2")
    link.answer("DUNNO before it was read")
    assert "DUNNO before it was read" == client.action()
    link.request()
    turns.turn(2)
    client.sends(instance="m3")
    link.serve("DUNNO the same connection")
    assert "DUNNO the same connection" == client.action()


def test_no_connection_is_used_again_after_one_was_spoken_on_out_of_turn(turns: Turns) -> None:
    """Nor one whose answer came in the turn in which the service spoke out of turn on another."""
    a = turns.service()
    turns.start(f"A={a.address}", requests=NO_HEDGE)
    one, two = turns.client(), turns.client()
    one.sends(instance="m1")
    two.sends(instance="m2")
    first, second = a.accept(), a.accept()
    first.request()
    second.request()
    first.send(b"action=DUNNO 1\n\n")
    second.send(b"action=DUNNO 2\n\naction=DUNNO 2\n\n")
    turns.turn(3)
    assert (0, 0) == (turns.status().connections_idle, turns.status().connections_busy)


def test_what_came_before_a_failover_is_not_its_answer(turns: Turns) -> None:
    """An unasked answer is received in the very turn in which a failover lends its idle connection."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}:2", f"B={b.address}:1", requests=NO_HEDGE)
    client = turns.client()
    turns.order(lambda: turns.pool.drain("B"))
    client.sends(instance="m1")
    idle = a.accept()
    idle.serve("DUNNO 1")
    assert "DUNNO 1" == client.action()
    turns.order(lambda: turns.pool.ready("B"))
    client.sends(instance="m2")
    busy = b.accept()
    busy.request()
    busy.sock.close()
    idle.send(b"action=REJECT unasked\n\n")
    turns.turn(2)
    a.asked().serve("DUNNO right")
    assert "DUNNO right" == client.action()


def test_what_came_before_an_order_is_not_its_answer(turns: Turns) -> None:
    """Nor is it when a drain lends it to a request that waits at another service."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}:2", f"B={b.address}:1,max=1", requests=NO_HEDGE)
    client, other, waits = turns.client(), turns.client(), turns.client()
    turns.order(lambda: turns.pool.drain("B"))
    client.sends()
    idle = a.accept()
    idle.serve("DUNNO 1")
    assert "DUNNO 1" == client.action()
    turns.order(lambda: turns.pool.ready("B"))
    turns.order(lambda: turns.pool.drain("A"))
    other.sends(instance="m2")
    b.accept().request()
    waits.sends(instance="m3")
    turns.order(lambda: turns.pool.ready("A"))
    idle.send(b"action=REJECT unasked\n\n")
    turns.worker.post(lambda: turns.pool._services[0].drain("B"))
    turns.turn(2)
    a.asked().serve("DUNNO right")
    assert "DUNNO right" == waits.action()
