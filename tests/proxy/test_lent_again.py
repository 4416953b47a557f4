"""After an answer: who is lent its connection next, and when, and what must not come along with it."""

from __future__ import annotations

import socket

import pytest

from hapolicy.core.rules import HealthRules, Probe
from hapolicy.net.poll import RECEIVE_BYTES
from hapolicy.proxy.crowding import TAKE_OVER_UNKNOWN_S
from hapolicy.proxy.worker import TICK_S
from tests.proxy.turns import Turns
from tests.support.client import request

# Answers


def test_a_service_may_close_after_each_answer(turns: Turns) -> None:
    """With it, or later: its connections are not used again, and nothing is told."""
    service = turns.service()
    turns.start(f"A={service.address}")
    client = turns.client()
    for _ in range(2):
        client.sends(instance="m")
        link = service.accept()
        link.request()
        link.send(b"action=DUNNO\n\n")
        link.end()
        assert "DUNNO" == client.action()
        assert 0 == turns.status().connections_idle
    client.sends(instance="m")
    link = service.accept()
    link.serve()
    assert "DUNNO" == client.action()
    link.end()
    assert (0, []) == (turns.status().connections_idle, turns.told.names)


def test_what_comes_with_an_answer_answers_nobody_else(turns: Turns) -> None:
    """Also where the answer is just what one receive takes."""
    service = turns.service()
    turns.start(f"A={service.address}")
    client = turns.client()
    client.sends(instance="m")
    link = service.accept()
    link.request()
    action = "PREPEND X: " + "x" * (RECEIVE_BYTES - len("action=PREPEND X: \n\n"))
    link.send(f"action={action}\n\naction=REJECT unasked\n\n".encode())
    assert action == client.action()
    turns.turn(2)
    client.sends(instance="m")
    service.asked().serve("DUNNO 2")
    assert "DUNNO 2" == client.action()
    assert ["service.out_of_turn"] == turns.told.names


def test_a_service_that_answers_before_it_has_read_is_not_asked_there_again(turns: Turns) -> None:
    """The rest of that request would come before the next one."""
    service = turns.service()
    turns.start(f"A={service.address}")
    client = turns.client()
    client.sends(instance="m")
    link = service.accept()
    link.serve()
    client.action()
    (connection,) = turns.worker.connections[turns.upstream()].all
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    client.sends(instance="m", helo_name="x" * 60_000)
    turns.turn(20)
    link.answer("REJECT early")
    assert "REJECT early" == client.action()
    turns.turn()
    assert 0 == turns.status().connections_idle
    client.sends(instance="m")
    assert request(instance="m") == service.accept().serve()


# Lending


def test_who_waits_for_a_connection_has_it_at_once(turns: Turns) -> None:
    """When its answer has come and it is quiet: no time passes."""
    service = turns.service()
    turns.start(f"A={service.address},max=1")
    first, second = turns.client(), turns.client()
    first.sends(instance="1")
    link = service.accept()
    link.request()
    second.sends(instance="2")
    link.send(b"action=DUNNO 1\n\n")
    turns.live(0)
    assert link.has_more()
    assert request(instance="2") == link.serve("DUNNO 2")
    assert ("DUNNO 1", "DUNNO 2") == (first.action(), second.action())
    assert turns.live(1) < 100
    assert (2, 2) == (turns.status().queries, turns.status().answers)


def test_a_connection_is_not_lent_before_it_was_seen_quiet(turns: Turns) -> None:
    """What comes after an answer, though with a delay, is not taken for the next one's."""
    service = turns.service()
    turns.start(f"A={service.address},max=1")
    first, second = turns.client(), turns.client()
    first.sends(instance="1")
    link = service.accept()
    link.request()
    second.sends(instance="2")
    link.send(b"action=DUNNO 1\n\n")
    turns.turn()
    link.send(b"action=REJECT unasked\n\n")
    turns.wait(TICK_S)
    assert request(instance="2") == service.accept().serve("DUNNO 2")
    assert ("DUNNO 1", "DUNNO 2") == (first.action(), second.action())


@pytest.mark.parametrize(("fields", "patience_s"), [("", TAKE_OVER_UNKNOWN_S), (":::0.4", 0.2)])
def test_who_waits_in_a_services_backlog_is_asked_where_it_is_served(
    turns: Turns, fields: str, patience_s: float
) -> None:
    """Before its time is over, however short that is; and has been asked once."""
    service = turns.service()
    turns.start(f"A={service.address}{fields}", health=HealthRules(probe=Probe.OFF))
    first, second = turns.client(), turns.client()
    first.sends(instance="1")
    link = service.accept()
    link.serve("DUNNO 1")
    first.action()
    first.sends(instance="1")
    link.request()
    second.sends(instance="2")
    link.answer("DUNNO 1 again")
    first.action()
    turns.live(patience_s)
    first.sends(instance="1")
    link.request()
    link.send(b"action=DUNNO 1 once more\n\n")
    turns.live(0)
    assert link.has_more()
    assert request(instance="2") == link.serve("DUNNO 2")
    assert ("DUNNO 1 once more", "DUNNO 2") == (first.action(), second.action())
    status = turns.status()
    assert (4, 4, 0, 0) == (status.queries, status.answers, status.failed, status.in_flight)
    assert (0, 1, 0) == (status.connections_busy, status.connections_idle, status.connections_waiting)
