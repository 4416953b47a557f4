"""What the log is told of requests and failed exchanges: every field, in which order, and when."""

from __future__ import annotations

from hapolicy.core.event import Event
from hapolicy.core.protocol import Request
from hapolicy.core.rules import HEDGE_OFF, HealthRules, RequestRules
from hapolicy.proxy.ledger import STATES
from tests.proxy.carried import NO_HEDGE, NO_PROBE
from tests.proxy.ends import Client, is_readable
from tests.proxy.turns import Told, Turns
from tests.support.client import request

MAIL = {
    "client_name": "relay.example.net",
    "client_address": "192.0.2.25",
    "helo_name": "helo.example.net",
    "sender": "sender@example.net",
    "recipient": "recipient@example.org",
    "protocol_state": "DATA",
    "instance": "m1",
    "queue_id": "4XyZ",
}
MAIL_TOLD = {
    "client": "relay.example.net[192.0.2.25]",
    "helo": "helo.example.net",
    "from": "sender@example.net",
    "to": "recipient@example.org",
    "protocol_state": "DATA",
    "instance": "m1",
    "queue_id": "4XyZ",
}


# Requests


def test_an_answered_request(turns: Turns) -> None:
    """Its service with its counters first, then the mail, the action and how long it took."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}:5:1.5", f"B={b.address}", requests=NO_HEDGE, health=NO_PROBE, log_requests=True)
    client = turns.client()
    client.sends(instance="m0")
    a.accept().end()
    b.accept().serve()
    assert "DUNNO" == client.action()
    client.sends(**MAIL)
    link = a.accept()
    turns.client().sends(instance="m2")
    a.accept()
    turns.wait(0.2504321)
    link.serve("PREPEND X-Checked: yes")
    client.action()
    expected = {
        "service": "A",
        "address": a.address,
        "prio": 5,
        "weight": 1.5,
        "queries": 3,
        "answers": 1,
        "failed": 1,
        "delay_ms": 250.432,
        **MAIL_TOLD,
        "action": "PREPEND X-Checked: yes",
        "attempts": 1,
    }
    first, told = turns.told.named("request.answered")
    assert expected == told
    assert list(expected) == list(told)
    assert ("B", 2) == (first["service"], first["attempts"])


def test_answered_requests_are_told_only_when_asked_for(turns: Turns) -> None:
    """A request that was not answered by a service always is."""
    a = turns.service()
    turns.start(f"A={a.address}", requests=NO_HEDGE, health=NO_PROBE)
    client = turns.client()
    client.sends()
    link = a.accept()
    link.serve()
    client.action()
    assert [] == turns.told.events
    a.listener.close()
    turns.client().sends()
    client.sends()
    turns.turn(2)
    assert ["service.failed", "request.defaulted"] == turns.told.names


def test_a_defaulted_request(turns: Turns) -> None:
    """With why each service gave no answer."""
    a, b, c = turns.service(), turns.service(), turns.service()
    services = [f"A={a.address}:::0.5", f"B={b.address}:20", f"C={c.address}:30"]
    rules = RequestRules(hedge=HEDGE_OFF, deadline_s=2.0, default_action="450 4.7.1 later")
    turns.start(*services, requests=rules, health=NO_PROBE)
    turns.order(lambda: turns.pool.drain("C"))
    client = turns.client()
    client.sends(**MAIL)
    a.accept()
    turns.wait(1.0)
    b.accept()
    turns.wait(1.0)
    turns.wait(0.1)
    assert "450 4.7.1 later" == client.action()
    (told,) = turns.told.named("request.defaulted")
    delay_ms = told["delay_ms"]
    assert 2000 <= delay_ms < 2100
    expected = {
        "action": "450 4.7.1 later",
        "failures": {"A": "answer_timeout", "B": "pending", "C": "draining"},
        "delay_ms": delay_ms,
        **MAIL_TOLD,
        "attempts": 2,
    }
    assert expected == told


def test_a_suspect_request(turns: Turns) -> None:
    """Two services broke on it."""
    a, b = turns.service(), turns.service()
    rules = RequestRules(hedge=HEDGE_OFF, suspect_action="DEFER broken")
    turns.start(f"A={a.address}", f"B={b.address}:20", requests=rules, health=NO_PROBE)
    client = turns.client()
    client.sends(**MAIL)
    turns.wait(0.125)
    a.accept().end()
    b.accept().answer("")
    assert "DEFER broken" == client.action()
    expected = {
        "action": "DEFER broken",
        "failures": {"A": "closed", "B": "malformed"},
        "delay_ms": 125.0,
        **MAIL_TOLD,
        "attempts": 2,
    }
    assert [expected] == turns.told.named("request.suspect")


def test_a_request_without_attributes(turns: Turns) -> None:
    """What a client does not say is left empty."""
    a = turns.service()
    turns.start(f"A={a.address}", log_requests=True)
    client = turns.client()
    client.send(b"request=smtpd_access_policy\n\n")
    a.accept().serve("OK")
    client.action()
    nothing = dict.fromkeys(MAIL_TOLD, "")
    (told,) = turns.told.named("request.answered")
    assert {**nothing, "client": "[]"} == {name: told[name] for name in nothing}


# Failed exchanges


def test_a_failed_exchange(turns: Turns) -> None:
    """On a new connection or on one that was used before, and of which mail."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}", f"B={b.address}:20", requests=NO_HEDGE, health=NO_PROBE)
    client = turns.client()
    client.sends(instance="m1")
    link = a.accept()
    link.serve()
    client.action()
    client.sends(instance="m2")
    link.request()
    link.answer("")
    other = b.accept()
    other.serve()
    client.action()
    client.sends(instance="m3")
    a.accept().end()
    other.serve()
    client.action()
    kept = {
        "service": "A",
        "address": a.address,
        "kind": "malformed",
        "error": "empty action: 'action=\\n\\n'",
        "connection": "kept",
        "instance": b"m2",
    }
    fresh = {
        "service": "A",
        "address": a.address,
        "kind": "closed",
        "error": "closed before a whole answer",
        "connection": "fresh",
        "instance": b"m3",
    }
    assert [kept, fresh] == turns.told.named("service.failed")


def test_a_probe_or_a_query_that_fails_is_no_failed_exchange(turns: Turns) -> None:
    """An operator's query is told to the operator; a probe has events of its own."""
    a = turns.service()
    turns.start(f"A={a.address}", health=HealthRules(probe_every_s=1.0, fail_max=1))
    query = turns.begin_order(lambda: turns.pool.query(Request(request()), "A"))
    a.accept().end()
    turns.until(query.done)
    assert query.exception() is not None
    assert [] == turns.told.events
    turns.wait(1.1)
    a.accept().end()
    assert ["service.down", "pool.down"] == turns.told.names


def test_who_waited_for_a_connection_when_its_service_went_down_is_no_failed_exchange(turns: Turns) -> None:
    """The service was not asked."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address},max=1", f"B={b.address}:20", requests=NO_HEDGE, health=NO_PROBE)
    clients = [turns.client() for _ in range(2)]
    link = None
    for client in clients:
        client.sends()
        link = link or a.accept()
    turns.order(lambda: turns.pool.drain("A"))
    b.accept().serve()
    assert "DUNNO" == clients[1].action()
    assert ["service.draining"] == turns.told.names


# Order and moment


class Witness(Told):
    """A log that looks whether a client has its answer while it is told something."""

    client: Client

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, bool]] = []

    def emit(self, event: Event) -> None:
        """Look."""
        self.seen.append((event.name, is_readable(self.client.link)))


def test_the_log_keeps_no_client_waiting(turns: Turns) -> None:
    """First the answers are sent; then it is told, once, what happened on the way, and then what became of requests."""
    witness = turns.told = Witness()
    a = turns.service()
    a.listener.close()
    turns.start(f"A={a.address}", health=HealthRules(fail_max=1))
    witness.client = turns.client()
    witness.client.sends()
    turns.turn(5)
    names = ["service.failed", "service.down", "pool.down", "request.defaulted"]
    assert [(name, True) for name in names] == witness.seen


# Counts


def test_requests_are_counted_by_protocol_state(turns: Turns) -> None:
    """By Postfix's own; what strangers write adds no names to the metrics."""
    a = turns.service()
    turns.start(f"A={a.address}", requests=NO_HEDGE, health=NO_PROBE)
    client = turns.client()
    client.sends(protocol_state="RCPT")
    link = a.accept()
    link.serve()
    client.action()
    states = sorted(state.decode() for state in STATES)
    for state in (*states, "rcpt", "X" * 99, ""):
        client.sends(protocol_state=state)
        link.serve()
        client.action()
    a.listener.close()
    link.end()
    for state in ("RCPT", "RCPT", "strange"):
        client.sends(protocol_state=state)
        client.action()
    answered = {**dict.fromkeys(states, 1), "RCPT": 2, "other": 3}
    expected = [("answered", state, count) for state, count in answered.items()]
    assert [*expected, ("defaulted", "RCPT", 2), ("defaulted", "other", 1)] == turns.order(turns.pool.status).requests
