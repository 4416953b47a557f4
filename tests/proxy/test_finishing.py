"""The end: clients have the answers to what they have asked, and are asked no more."""

from __future__ import annotations

import pytest

from hapolicy.net.poll import EVENTS_A_TURN, RECEIVE_BYTES
from hapolicy.proxy.session import REQUEST_MAX_S
from tests.proxy.ends import Service
from tests.proxy.turns import Turns
from tests.support.client import request

LONG = "PREPEND X-Long: " + "x" * 16_000
SMALL = 2048  # a send buffer that a long answer does not fit into


@pytest.fixture
def service(turns: Turns) -> Service:
    """A worker's only service."""
    service = turns.service()
    turns.start(f"A={service.address}")
    return service


def test_who_has_asked_nothing_is_parted_with_at_once(turns: Turns, service: Service) -> None:
    """Those who wait have their answer first; then the worker is empty."""
    idle, served, waiting = turns.client(), turns.client(), turns.client()
    served.sends(instance="1")
    link = service.accept()
    link.serve()
    served.action()
    waiting.sends(instance="2")
    link = service.asked()
    assert request(instance="2") == link.request()
    turns.pool.finish()
    turns.turn()
    assert idle.has_ended()
    assert served.has_ended()
    assert waiting.hears_nothing()
    assert 0 == turns.emptied
    link.answer("DUNNO 2")
    assert "DUNNO 2" == waiting.action()
    assert waiting.has_ended()
    assert (0, 1, []) == (turns.pool.clients, turns.emptied, turns.told.names)


def test_what_had_come_before_the_end_is_answered(turns: Turns, service: Service) -> None:
    """What was sent ahead, too, one after the other."""
    client = turns.client()
    client.send(request(instance="1") + request(instance="2"))
    turns.turn()
    client.send(request(instance="3"))
    turns.turn()
    turns.pool.finish()
    for instance in "123":
        link = service.asked()
        assert request(instance=instance) == link.request()
        assert service.hears_nothing()
        link.answer(f"DUNNO {instance}")
        assert f"DUNNO {instance}" == client.action()
    assert client.has_ended()
    assert [] == turns.told.names


def test_a_long_request_that_comes_as_the_end_begins_is_answered(turns: Turns, service: Service) -> None:
    """It comes in more pieces than a turn receives."""
    client = turns.client()
    sent = request(instance="m", helo_name="x" * 20_000)
    client.send(sent)
    turns.pool.finish()
    assert sent == service.accept().serve()
    assert "DUNNO" == client.action()
    assert client.has_ended()
    assert [] == turns.told.names


def test_many_have_asked_when_the_end_begins(turns: Turns) -> None:
    """More than one turn reads: each is answered."""
    turns.start("A=unix:/nowhere")
    clients = [turns.client() for _ in range(EVENTS_A_TURN * 2)]
    for client in clients:
        client.send(request())
    turns.pool.finish()
    assert {"dunno"} == {client.action() for client in clients}
    assert all(client.has_ended() for client in clients)
    assert 1 == turns.emptied


def test_a_request_that_has_begun_to_come_may_come_whole(turns: Turns, service: Service) -> None:
    """In its usual time."""
    whole, cut = turns.client("whole"), turns.client("cut")
    for client in (whole, cut):
        client.send(request(instance="m")[:20])
        turns.turn()
    turns.pool.finish()
    turns.live(REQUEST_MAX_S - 1)
    whole.send(request(instance="m")[20:])
    assert request(instance="m") == service.accept().serve()
    assert "DUNNO" == whole.action()
    assert whole.has_ended()
    assert cut.hears_nothing()
    turns.live(2)
    assert cut.has_ended()
    assert 0 == turns.pool.clients


def test_who_reads_slowly_has_the_whole_answer(turns: Turns, service: Service) -> None:
    """And is parted with then."""
    client = turns.client("slow", SMALL)
    client.sends(instance="m")
    link = service.accept()
    link.request()
    turns.pool.finish()
    link.answer(LONG)
    turns.turn(10)
    assert LONG == client.action()
    assert client.has_ended()


def test_who_has_sent_just_what_one_receive_takes_is_not_waited_for(turns: Turns, service: Service) -> None:
    """More might have come, and had not."""
    client = turns.client()
    sent = request(instance="m", helo_name="x" * (RECEIVE_BYTES - len(request(instance="m", helo_name=""))))
    assert RECEIVE_BYTES == len(sent)
    client.send(sent)
    assert sent == service.accept().serve()
    assert "DUNNO" == client.action()
    turns.turn(2)
    turns.pool.finish()
    assert client.has_ended()


def test_who_does_not_read_is_not_waited_for(turns: Turns, service: Service) -> None:
    """Though it has sent a request ahead that a service still works at: its answer is nobody's then."""
    client = turns.client("rude", SMALL)
    client.send(request(instance="1") + request(instance="2"))
    service.accept().serve(LONG)
    link = service.asked()
    link.request()
    turns.pool.finish()
    turns.live(3)
    assert (0, 1) == (turns.pool.clients, turns.emptied)
    link.answer("DUNNO nobody")
    status = turns.status()
    assert (2, 2, 0) == (status.queries, status.answers, status.failed)
