"""Silent and slow services, turn by turn: when a second one is asked, too, and how often; slow starts."""

from __future__ import annotations

import pytest

from hapolicy.core.rules import HEDGE_OFF, HealthRules, Hedge, Probe, RequestRules
from hapolicy.core.silence import SILENT_MIN_S, SILENT_UNKNOWN_S
from hapolicy.proxy import housekeeping
from tests.proxy.ends import Client, Link
from tests.proxy.turns import Turns

AFTER_S = 0.125  # exact in floating point, and before anybody counts as silent
LOOKS_S = 0.06  # longer than it takes to look again
RULES = RequestRules(hedge=Hedge(after_s=AFTER_S))


def _pass(turns: Turns, seconds: float) -> None:
    """Time passes in one go, and the worker has a look at what is due by then."""
    turns.stand_still(seconds)
    turns.turn()
    turns.stand_still(LOOKS_S)
    turns.turn(2)


def _ask(client: Client, link: Link, times: int) -> None:
    """So many requests that are answered at once."""
    for _ in range(times):
        client.sends()
        link.serve()
        assert "DUNNO" == client.action()


def test_a_slow_request_is_asked_of_a_second_service_after_the_time(turns: Turns) -> None:
    """Of one, however long that one takes, too; the first answer counts."""
    slow, other, third = (turns.service() for _ in range(3))
    turns.start(f"A={slow.address}:1", f"B={other.address}:2", f"C={third.address}:3", requests=RULES)
    client = turns.client()
    client.sends(instance="m1")
    link = slow.accept()
    turns.stand_still(0.1)
    assert other.is_left_alone()
    _pass(turns, 0.10012345)
    second = other.accept()
    assert [
        {"service": "A", "address": slow.address, "instance": b"m1", "next": "B", "after_ms": 200.123}
    ] == turns.told.named("request.hedged")
    turns.wait(0.5)
    assert third.is_left_alone()
    assert second.request() == link.request()
    link.answer("DUNNO A after all")
    second.answer("DUNNO B")
    assert "DUNNO A after all" == client.action()
    assert client.hears_nothing()
    status = turns.status()
    assert (1, 0, 1) == (status.hedges_sent, status.hedges_won, status.hedges_lost)


def test_of_few_requests_ten_are_hedged(turns: Turns) -> None:
    """A pool that is slow must not get twice the load."""
    slow, other = turns.service(), turns.service()
    turns.start(f"A={slow.address}:1", f"B={other.address}:2", requests=RULES)
    for number in range(housekeeping.HEDGE_LEAST + 2):
        turns.client().sends(instance=f"m{number}")
        slow.accept()
    _pass(turns, AFTER_S)
    hedged = [event["instance"] for event in turns.told.named("request.hedged")]
    assert [f"m{number}".encode() for number in range(housekeeping.HEDGE_LEAST)] == hedged
    for _ in hedged:
        assert other.accept().serve()
    assert other.is_left_alone()


def test_a_tenth_of_the_latest_requests_is_hedged(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was hedged counts until as many requests have come since as are looked at: here 200 instead of 1000."""
    monkeypatch.setattr(housekeeping, "HEDGE_WINDOW", 200)
    service, other = turns.service(), turns.service()
    turns.start(f"A={service.address}:1", f"B={other.address}:2", requests=RULES)
    quick = turns.client("quick")
    quick.sends()
    link = service.accept()
    link.serve()
    assert "DUNNO" == quick.action()
    _ask(quick, link, 179)

    def hedged(*clients: Client) -> int:
        """How many of these clients' requests, sent at once, are asked twice before A answers them."""
        for client in clients:
            client.sends()
        links = [link, *(service.accept() for _ in clients[1:])]
        before = len(turns.told.named("request.hedged"))
        _pass(turns, AFTER_S)
        for each in reversed(links):  # what falls idle last is used first
            each.serve()
        for client in clients:
            assert "DUNNO" == client.action()
        return len(turns.told.named("request.hedged")) - before

    assert 20 == hedged(*(turns.client() for _ in range(20)))  # by the time of the 200th
    assert 0 == hedged(quick)
    _ask(quick, link, 197)
    assert 0 == hedged(quick)  # the 399th
    assert 1 == hedged(quick)


def test_what_cannot_be_hedged_costs_no_budget(turns: Turns) -> None:
    """While nobody else is there it is looked for again and again; once somebody is, it is asked."""
    slow, other = turns.service(), turns.service()
    turns.start(f"A={slow.address}:1", f"B={other.address}:2", requests=RULES)
    turns.order(lambda: turns.pool.drain("B"))
    client = turns.client()
    client.sends(instance="m1")
    slow.accept()
    turns.wait(0.8)
    turns.order(lambda: turns.pool.ready("B"))
    turns.wait(0.1)
    other.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()


def test_a_silent_service_has_all_its_requests_asked_elsewhere(turns: Turns) -> None:
    """And probed, while the other one of its tier is asked first, until it is heard again."""
    silent, other = turns.service(), turns.service()
    turns.start(f"A={silent.address}", f"B={other.address}")
    clients = [turns.client() for _ in range(4)]
    clients[0].sends(instance="m0")
    silent.accept()
    clients[1].sends()
    link = other.accept()
    link.serve()
    clients[2].sends(instance="m2")
    silent.accept()
    _pass(turns, SILENT_UNKNOWN_S + 0.23456 - LOOKS_S)
    expected = {"service": "A", "address": silent.address, "owed": 2, "silent_s": 1.235}
    assert [expected] == turns.told.named("service.silent")
    assert [b"m0", b"m2"] == [event["instance"] for event in turns.told.named("request.hedged")]
    assert turns.status().silent
    for each in (link, other.accept()):
        each.serve("DUNNO B")
    assert ["DUNNO", "DUNNO B", "DUNNO B"] == [clients[number].action() for number in (1, 0, 2)]
    clients[3].sends()
    link = other.accept()
    link.serve("DUNNO B")
    assert "DUNNO B" == clients[3].action()
    for _ in range(3):  # it is nobody's turn to ask A
        clients[3].sends()
        link.serve("DUNNO B")
        assert "DUNNO B" == clients[3].action()
    probe = silent.accept()
    assert silent.is_left_alone()
    probe.serve()
    assert not turns.status().silent
    assert [{"service": "A", "address": silent.address}] == turns.told.named("service.acquitted")


def test_without_hedging_a_silent_service_has_its_time(turns: Turns) -> None:
    """Also when the others hedge."""
    silent, other = turns.service(), turns.service()
    turns.start(f"A={silent.address}:1,hedge=off", f"B={other.address}:2", health=HealthRules(probe=Probe.TCP))
    client = turns.client()
    client.sends(instance="m1")
    link = silent.accept()
    turns.wait(SILENT_UNKNOWN_S + 0.5)
    assert ["service.silent"] == turns.told.names
    assert other.is_left_alone()
    link.serve("DUNNO A")
    assert "DUNNO A" == client.action()


def test_what_is_usual_for_a_service_is_learnt(turns: Turns) -> None:
    """One that answers a hundred requests at once need not be silent for a second."""
    service = turns.service()
    turns.start(f"A={service.address}")
    client = turns.client()
    client.sends()
    link = service.accept()
    link.serve()
    assert "DUNNO" == client.action()
    _ask(client, link, 99)
    turns.wait(1.5)
    client.sends()
    turns.wait(SILENT_MIN_S - 0.05)
    assert not turns.status().silent
    turns.wait(0.1)
    assert turns.status().silent


def test_a_service_that_starts_slowly_takes_its_share_little_by_little(turns: Turns) -> None:
    """A tenth after it came up, all after the time."""
    services = {name: turns.service() for name in "AB"}
    definitions = [f"{name}={service.address},slow-start=10" for name, service in services.items()]
    turns.start(*definitions, requests=RequestRules(hedge=HEDGE_OFF))
    turns.order(lambda: turns.pool.trip("A"))
    turns.order(lambda: turns.pool.reset("A"))
    client = turns.client()

    def asked(times: int) -> tuple[int, int]:
        before = turns.status("A").queries, turns.status("B").queries
        links = {}
        for _ in range(times):
            client.sends()
            name = next(name for name in "AB" if turns.status(name).in_flight)
            if name not in links:
                links[name] = links.get(name) or services[name].accept()
            links[name].serve()
            assert "DUNNO" == client.action()
        for link in links.values():
            link.end()
        return turns.status("A").queries - before[0], turns.status("B").queries - before[1]

    assert (1, 10) == asked(11)
    turns.wait(11)
    assert (5, 5) == asked(10)
