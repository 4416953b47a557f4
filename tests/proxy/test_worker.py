"""A worker, turn by turn: which service and connection a mail has, and what is told of a request."""

from __future__ import annotations

import sys

import pytest

from hapolicy.core.event import Level
from hapolicy.core.exchange import Exchange
from hapolicy.core.protocol import Request
from hapolicy.core.rules import HEDGE_OFF, RequestRules
from hapolicy.proxy import snapshot
from hapolicy.proxy.connections import Connection
from hapolicy.proxy.pool import Answered
from hapolicy.proxy.session import Session
from tests.proxy.turns import Turns
from tests.support.client import request

NOBODY = "A=unix:/nowhere"  # a service that is not there


# A mail


def test_a_mail_stays_with_its_service_and_connection(turns: Turns) -> None:
    """Though it is another service's turn, and other connections are idle; the next mail is as any other."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}", f"B={b.address}")
    other, client = turns.client("other"), turns.client("client")
    links = []
    for service, asking, instance in ((a, client, "m1"), (b, other, "o1"), (a, other, "o2")):
        asking.sends(instance=instance)
        links.append(service.accept())
        links[-1].serve()
        assert "DUNNO" == asking.action()
    for number in range(3):
        client.sends(instance="m1")
        assert request(instance="m1") == links[0].serve(f"DUNNO {number}")
        assert f"DUNNO {number}" == client.action()
    client.sends(instance="m2")
    assert request(instance="m2") == links[1].serve("DUNNO B")
    assert "DUNNO B" == client.action()
    client.sends(instance="m2")
    assert request(instance="m2") == links[1].serve("DUNNO B again")
    assert "DUNNO B again" == client.action()
    assert a.hears_nothing()
    assert b.hears_nothing()


def test_a_mail_whose_service_went_down_goes_on_at_another(turns: Turns) -> None:
    """And stays there, when that has answered."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}", f"B={b.address}:20")
    client = turns.client()
    client.sends(instance="m")
    a.accept().serve("DUNNO A")
    assert "DUNNO A" == client.action()
    turns.upstream("A").trip(turns.clock.now)
    for _ in range(2):
        client.sends(instance="m")
        b.asked().serve("DUNNO B")
        assert "DUNNO B" == client.action()
        turns.upstream("A").reset(turns.clock.now)


def test_the_connection_a_mail_has_left_is_free(turns: Turns) -> None:
    """Its service was drained, so the mail went on at another; after the drain others may have the connection."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}", f"B={b.address}:20")
    client, other = turns.client(), turns.client()
    client.sends(instance="m")
    link = a.accept()
    link.serve()
    client.action()
    turns.order(lambda: turns.pool.drain("A"))
    client.sends(instance="m")
    b.accept().serve()
    client.action()
    turns.order(lambda: turns.pool.ready("A"))
    other.sends(instance="o")
    link.serve("DUNNO other")
    assert "DUNNO other" == other.action()
    assert a.hears_nothing()


@pytest.mark.parametrize("ends", ["", "goes on to another mail", "goes on without a mail", "leaves"])
def test_a_connection_is_kept_for_its_mail_alone(turns: Turns, ends: str) -> None:
    """It is free for others when its client asks for another mail, or for none, or has left."""
    service = turns.service()
    turns.start(f"A={service.address}")
    client, other = turns.client(), turns.client()
    client.sends(instance="m1")
    link = service.accept()
    link.serve()
    client.action()
    if ends == "leaves":
        client.close()
    elif ends:
        client.sends(**({"instance": "m2"} if "another" in ends else {}))
        link.serve()
        client.action()
    kept = not ends or "another" in ends
    other.sends(instance="o")
    (service.accept() if kept else link).serve()
    assert "DUNNO" == other.action()
    assert service.hears_nothing()


def test_a_request_that_nobody_answers_gets_the_default_though_it_names_a_mail(turns: Turns) -> None:
    """And nobody waits any more, also when its deadline comes."""
    turns.start(NOBODY, requests=RequestRules(default_action="DEFER_IF_PERMIT later"))
    client = turns.client()
    for _ in range(2):
        client.sends(instance="m", queue_id="q", sender="s@example.com", recipient="r@example.com")
        assert "DEFER_IF_PERMIT later" == client.action()
    assert 2 * [
        {
            "action": "DEFER_IF_PERMIT later",
            "attempts": 1,
            "failures": {"A": "refused"},
            "delay_ms": 0.0,
            "client": "mail.example.com[192.0.2.7]",
            "helo": "mail.example.com",
            "from": "s@example.com",
            "to": "r@example.com",
            "protocol_state": "RCPT",
            "instance": "m",
            "queue_id": "q",
        }
    ] == turns.told.named("request.defaulted")
    turns.live(RequestRules().deadline_s + 1)
    taken = snapshot.take(turns.worker)
    assert (0.0, 0.0) == (taken.longest_wait_s, taken.overdue_s)


@pytest.mark.parametrize(("level", "told"), [(Level.DEBUG, [{"instance": "m", "x": "y"}]), (Level.INFO, [])])
def test_with_v_each_request_is_told_as_it_came(turns: Turns, level: Level, told: list[dict[str, str]]) -> None:
    """All its attributes by name."""
    service = turns.service()
    turns.start(f"A={service.address}")
    turns.told.level = level
    turns.client().sends(instance="m", x="y")
    received = [fields["attributes"] for fields in turns.told.named("request.received")]
    assert told == [{name: each[name] for name in ("instance", "x")} for each in received]


def test_an_operator_asks_as_a_client_would(turns: Turns) -> None:
    """And is told which service has answered."""
    service = turns.service()
    turns.start(f"A={service.address}")
    asked = turns.begin_order(lambda: turns.pool.query(Request(request(instance="q"))))
    assert request(instance="q") == service.accept().serve("DUNNO asked")
    turns.until(asked.done)
    assert Answered("DUNNO asked", "A", 0.0) == asked.result()
    assert 1 == turns.status().queries


def test_a_fault_of_ours_costs_nobody_else_anything(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those whose requests and answers came in the same turn; the one is parted with, and asks again."""
    a = turns.service()
    turns.start(f"A={a.address}", requests=RequestRules(hedge=HEDGE_OFF))
    faults: list[BaseException | None] = []
    monkeypatch.setattr(turns.told, "fault", lambda: faults.append(sys.exception()))
    unlucky, waiting, other = turns.client(), turns.client(), turns.client()
    waiting.sends(instance="waiting")
    link = a.accept()
    link.request()
    begin = turns.worker.begin

    def begin_or_fail(session: Session, request: Request) -> None:
        assert request.instance != b"unlucky"
        begin(session, request)

    monkeypatch.setattr(turns.worker, "begin", begin_or_fail)
    unlucky.send(request(instance="unlucky"))
    other.send(request(instance="other"))
    link.answer()
    assert "DUNNO" == waiting.action()
    assert unlucky.has_ended()
    a.asked().serve("DUNNO other")
    assert "DUNNO other" == other.action()
    assert [AssertionError] == [type(fault) for fault in faults]


def test_a_fault_of_ours_with_an_answer_costs_that_answer_only(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's connection ends; when its time is over the next service is asked."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}:1:1:2", f"B={b.address}:9", requests=RequestRules(hedge=HEDGE_OFF))
    faults: list[BaseException | None] = []
    monkeypatch.setattr(turns.told, "fault", lambda: faults.append(sys.exception()))
    clients = [turns.client() for _ in range(2)]
    for number, client in enumerate(clients):
        client.sends(instance=str(number))
    links = [a.accept() for _ in clients]
    answered = turns.worker.answered

    def answer_or_fail(connection: Connection, exchange: Exchange, answer: bytes) -> None:
        assert b"unlucky" not in answer
        answered(connection, exchange, answer)

    monkeypatch.setattr(turns.worker, "answered", answer_or_fail)
    links[0].send(b"action=DUNNO unlucky\n\n")
    links[1].answer()
    assert "DUNNO" == clients[1].action()
    assert links[0].request()
    assert links[0].has_ended()
    turns.wait(2.1)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == clients[0].action()
    assert [AssertionError] == [type(fault) for fault in faults]
