"""One client, turn by turn: what it is answered, in which order, and when it is parted with."""

from __future__ import annotations

import socket

import pytest

from hapolicy.proxy.session import IDLE_MAX_S, REQUEST_MAX_S
from tests.proxy.carried import NO_HEDGE
from tests.proxy.ends import Service
from tests.proxy.turns import Turns
from tests.support.client import request

NOBODY = "A=unix:/nowhere"  # a service that is not there
LONG = "PREPEND X-Long: " + "x" * 16_000
SMALL = 2048  # a send buffer that a long answer does not fit into


@pytest.fixture
def service(turns: Turns) -> Service:
    """A worker's only service."""
    service = turns.service()
    turns.start(f"A={service.address}")
    return service


# Requests in pieces, and what is none


def test_a_request_that_comes_in_pieces_has_ten_seconds(turns: Turns, service: Service) -> None:
    """From its first byte; the pieces that follow give it no more time."""
    whole, cut = turns.client("whole"), turns.client("cut")
    for client in (whole, cut):
        client.send(request(instance="x")[:20])
        turns.turn()
    turns.wait(REQUEST_MAX_S - 0.5)
    cut.send(request(instance="x")[20:40])
    whole.send(request(instance="x")[20:])
    service.accept().serve("DUNNO in time")
    assert "DUNNO in time" == whole.action()
    assert cut.hears_nothing()
    turns.wait(0.6)
    assert cut.has_ended()
    assert whole.hears_nothing()
    assert [{"client": "cut", "reason": "request not complete 10 s after its first byte"}] == turns.told.named(
        "client.rejected"
    )


def test_the_next_request_has_its_own_ten_seconds(turns: Turns, service: Service) -> None:
    """Also where its beginning came with the end of the one before."""
    first, second = request(instance="1"), request(instance="2")
    client = turns.client()
    client.send(first[:20])
    turns.live(REQUEST_MAX_S - 1)
    client.send(first[20:] + second[:20])
    link = service.accept()
    assert first == link.serve("DUNNO 1")
    assert "DUNNO 1" == client.action()
    turns.live(REQUEST_MAX_S - 1)
    client.send(second[20:])
    assert second == link.serve("DUNNO 2")
    assert "DUNNO 2" == client.action()


def test_a_long_request_is_read_whole_at_once(turns: Turns, service: Service) -> None:
    """It comes in more pieces than one turn receives; nobody else's request is lost over it, and no time."""
    long, short = request(instance="long", helo_name="x" * 20_000), request(instance="short")
    client, other = turns.client(), turns.client()
    client.send(long)
    turns.turn()
    other.send(short)
    turns.live(0)
    links = [service.accept(), service.accept()]
    assert {long, short} == {link.serve() for link in links}
    assert ("DUNNO", "DUNNO") == (client.action(), other.action())


def test_what_looks_like_a_request_within_one_is_part_of_it(turns: Turns, service: Service) -> None:
    """Whatever the pieces it comes in."""
    inner = request(instance="inner")
    client = turns.client()
    client.send(b"request=smtpd_access_policy\nhelo_name=")
    turns.turn()
    client.send(inner)
    assert b"request=smtpd_access_policy\nhelo_name=" + inner == service.accept().request()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"EHLO example.com\r\n", "line is not name=value: 'EHLO example.com'"),
        (request(instance="x")[:-1], "request cut off"),
        (request(instance="x")[:20], "request cut off"),
    ],
)
def test_who_does_not_speak_the_protocol_is_turned_away(
    turns: Turns, service: Service, sent: bytes, reason: str
) -> None:
    """At once, and told once; no service hears of it."""
    client = turns.client("stranger")
    client.send(sent)
    client.link.shutdown(socket.SHUT_WR)
    assert client.has_ended()
    turns.live(REQUEST_MAX_S + 1)
    assert [{"client": "stranger", "reason": reason}] == turns.told.named("client.rejected")
    assert (0, 1) == (turns.pool.clients, turns.emptied)
    assert service.is_left_alone()


# The end


def test_a_client_that_has_nothing_more_to_ask_goes_quietly(turns: Turns, service: Service) -> None:
    """Whether it has asked anything or not; who stays is served on."""
    silent, client, stays = turns.client(), turns.client(), turns.client()
    client.sends(instance="m")
    service.accept().serve()
    assert "DUNNO" == client.action()
    for leaves in (silent, client):
        leaves.close()
        turns.turn()
    assert (1, 0, []) == (turns.pool.clients, turns.emptied, turns.told.names)
    stays.close()
    turns.turn()
    assert (0, 1, []) == (turns.pool.clients, turns.emptied, turns.told.names)


def test_a_client_that_is_lost_is_told_of(turns: Turns, service: Service) -> None:
    """Its connection was reset: it had not read its answer."""
    client = turns.client("lost")
    client.sends()
    service.accept().serve()
    client.close()
    turns.turn()
    assert [{"client": "lost", "error": "Connection reset by peer"}] == turns.told.named("client.lost")
    assert 0 == turns.pool.clients


def test_a_client_may_be_idle_for_longer_than_postfix_will(turns: Turns, service: Service) -> None:
    """Since its latest answer, or since it connected."""
    silent, client = turns.client(), turns.client()
    turns.live(100)
    client.sends()
    service.accept().serve()
    assert "DUNNO" == client.action()
    turns.live(IDLE_MAX_S - 100)
    assert silent.hears_nothing()
    turns.live(20)
    assert silent.has_ended()
    assert client.hears_nothing()
    turns.live(100)
    assert client.has_ended()


# One at a time


def test_pipelined_requests_are_asked_one_at_a_time(turns: Turns, service: Service) -> None:
    """In their order, however they come: each when the one before is answered."""
    sizes = (5000, *[9] * 30, 4000, 9)
    requests = [request(instance=str(number), helo_name="x" * size) for number, size in enumerate(sizes)]
    client = turns.client()
    client.send(requests[0][:4500])
    turns.turn()
    client.send(requests[0][4500:] + b"".join(requests[1:-1]))
    for number, expected in enumerate(requests):
        link = service.asked()
        assert expected == link.request()
        if number == 3:
            client.send(requests[-1])
        assert service.hears_nothing()
        link.answer(f"DUNNO {number}")
        assert f"DUNNO {number}" == client.action()


def test_who_pipelines_does_not_keep_the_others_waiting(turns: Turns) -> None:
    """Each has one answer a turn, also where no service needs to be asked; and nobody's time passes meanwhile."""
    turns.start(NOBODY)
    rude, polite = turns.client(), turns.client()
    rude.send(request() * 50)
    turns.turn()
    polite.send(request())
    turns.turn()
    assert "dunno" == polite.action()
    answers = rude.link.recv(65_536)
    assert answers.count(b"\n\n") < 10
    turns.live(0)
    answers += rude.link.recv(65_536)
    assert b"action=dunno\n\n" * 50 == answers


# Back pressure


def test_a_client_that_does_not_read_is_not_read(turns: Turns, service: Service) -> None:
    """What it asks meanwhile is asked, in its order, when it has read its answer."""
    client = turns.client("slow", SMALL)
    client.sends(instance="1")
    link = service.accept()
    link.request()
    client.sends(instance="2")
    link.answer(LONG)
    turns.turn(5)
    client.sends(instance="3")
    assert service.hears_nothing()
    assert LONG == client.action()
    for instance in ("2", "3"):
        link = service.asked()
        assert request(instance=instance) == link.serve(f"DUNNO {instance}")
        assert f"DUNNO {instance}" == client.action()


@pytest.mark.parametrize("reads_first", [True, False])
def test_a_client_that_reads_late_has_its_answers_in_order(turns: Turns, service: Service, reads_first: bool) -> None:
    """What it had sent ahead is not asked while an answer does not fit, but for what was begun before that showed."""
    client = turns.client("slow", SMALL)
    client.send(b"".join(request(instance=instance) for instance in "123"))
    service.accept().serve(LONG)
    second = service.asked()
    assert request(instance="2") == second.request()
    actions = []
    if reads_first:
        actions.append(client.action())
        assert service.hears_nothing()
    second.answer("DUNNO 2")
    if not reads_first:
        assert service.hears_nothing()
        actions.append(client.action())
    assert request(instance="3") == service.asked().serve("DUNNO 3")
    assert [LONG, "DUNNO 2", "DUNNO 3"] == [*actions, *(client.action() for _ in range(3 - len(actions)))]


def test_who_does_not_read_keeps_nobody_else_waiting(turns: Turns, service: Service) -> None:
    """Two are answered in one turn, and both have sent more ahead."""
    slow, quick = turns.client("slow", SMALL), turns.client("quick")
    slow.send(b"".join(request(instance=instance) for instance in "123"))
    service.accept().serve(LONG)
    slows = service.asked()
    slows.request()
    quick.send(request(instance="q1") + request(instance="q2"))
    quicks = service.asked()
    quicks.request()
    slows.send(b"action=DUNNO 2\n\n")
    quicks.send(b"action=DUNNO q1\n\n")
    turns.turn()
    assert request(instance="q2") == service.asked().serve("DUNNO q2")
    assert ("DUNNO q1", "DUNNO q2") == (quick.action(), quick.action())
    assert service.hears_nothing()


def test_who_sends_on_as_an_order_answers_is_read(turns: Turns) -> None:
    """It has sent more (or ended) in the turn in which a drain answers what waits: it is read all the same."""
    a = turns.service()
    turns.start(f"A={a.address},max=1", requests=NO_HEDGE)
    busy, waits, ends = turns.client(), turns.client(), turns.client()
    busy.sends(instance="m1")
    a.accept().request()
    waits.sends(instance="m2")
    ends.sends(instance="m3")
    waits.send(request(instance="m4"))
    ends.close()
    turns.worker.post(lambda: turns.pool._services[0].drain("A"))
    turns.turn(5)
    assert "dunno" == waits.action()
    assert "dunno" == waits.action()
    turns.turn(5)
    assert 2 == turns.pool.clients


def test_who_does_not_read_is_not_late_with_the_next_request(turns: Turns) -> None:
    """It has sent the next request whole; it is we who do not read on before it has taken its answer."""
    a = turns.service()
    turns.start(f"A={a.address}", requests=NO_HEDGE)
    client = turns.client("slow", 2048)
    long = "PREPEND X-Long: " + "x" * 16_000
    client.send(request(instance="1") + request(instance="2", helo_name="x" * 9000))
    a.accept().serve(long)
    turns.wait(15)
    assert long == client.action()
    turns.turn(5)
    a.asked().serve("DUNNO 2")
    assert "DUNNO 2" == client.action()
