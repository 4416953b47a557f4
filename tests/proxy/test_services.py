"""The services of a worker, turn by turn: kept, moved and retired by a reload, and names that move."""

from __future__ import annotations

import pytest

from hapolicy.core.rules import HealthRules, Hedge, Probe, RequestRules
from tests.proxy.carried import NO_HEDGE
from tests.proxy.told_names import ToldNames
from tests.proxy.turns import Turns

NO_PROBE = HealthRules(cooldown_s=60, probe=Probe.TCP)
NAME = "service.test:25"


# A reload


def test_a_service_whose_address_stays_is_kept(turns: Turns) -> None:
    """With its connections and counters; all else is as the new definition and rules have it."""
    service, other = turns.service(), turns.service()
    turns.start(f"A={service.address}:5", f"B={other.address}:9", requests=NO_HEDGE)
    client, more = turns.client(), turns.client()
    client.sends()
    link = service.accept()
    link.serve()
    assert "DUNNO" == client.action()
    turns.reload(
        f"A={service.address}:4:7:2,max=1",
        f"B={other.address}:9",
        requests=RequestRules(hedge=Hedge(after_s=0.2), default_action="defer", deadline_s=1),
        health=HealthRules(fail_max=1, probe=Probe.TCP),
    )
    status = turns.status()
    assert (4, 7.0, 2.0, 1, 1) == (status.prio, status.weight, status.timeout_s, status.max_connections, status.queries)
    client.sends(instance="m1")
    assert b"instance=m1" in link.request()
    more.sends(instance="m2")
    assert b"instance=m2" in other.accept().serve("DUNNO B")  # A has one connection now
    assert "DUNNO B" == more.action()
    turns.wait(0.3)
    assert [b"m1"] == [event["instance"] for event in turns.told.named("request.hedged")]
    link.send(b"no answer\n\n")
    turns.wait(1)
    assert "defer" == client.action()
    assert [1] == [event["failures"] for event in turns.told.named("service.down")]


def test_a_limit_is_divided_over_the_workers(turns: Turns) -> None:
    """So that all of them together hold no more connections than it says."""
    service = turns.service()
    turns.start(f"A={service.address}:1:1:30,max=3", workers=2, requests=NO_HEDGE)
    clients = [turns.client() for _ in range(4)]
    for client in clients:
        client.sends()
    links = [service.accept(), service.accept()]
    assert service.is_left_alone()
    assert (2, 2, 3) == (turns.status().queued, turns.status().in_flight, turns.status().max_connections)
    turns.reload(f"A={service.address}:1:1:30,max=4", workers=2, requests=NO_HEDGE)
    turns.wait(0.1)
    for link in (*links, service.accept(), service.accept()):
        link.serve()
    assert ["DUNNO"] * 4 == [client.action() for client in clients]


def test_a_service_that_moves_is_another_one_but_for_its_drain(turns: Turns) -> None:
    """What it was asked where it was is answered there; idle connections end, and it is asked where it is now."""
    before, now, other = turns.service(), turns.service(), turns.service()
    turns.start(f"A={before.address}", f"B={other.address}", requests=NO_HEDGE)
    asked, client = turns.client(), turns.client()
    asked.sends()
    link = before.accept()
    turns.order(lambda: turns.pool.drain("A"))
    turns.order(lambda: turns.pool.drain("B"))
    turns.reload(f"A={now.address}", f"B={other.address}", requests=NO_HEDGE)
    assert ("draining", True, 0) == (turns.status().state, turns.status().draining, turns.status().queries)
    turns.order(lambda: turns.pool.ready("A"))
    client.sends()
    now.accept().serve("DUNNO there")
    assert "DUNNO there" == client.action()
    link.serve("DUNNO here")
    assert ("DUNNO here", True) == (asked.action(), link.has_ended())
    assert (("up", False), "draining") == ((turns.status().state, turns.status().draining), turns.status("B").state)


def test_a_service_that_is_configured_no_more_finishes_and_is_forgotten(turns: Turns) -> None:
    """What waits for a connection to it asks another one; what is idle ends; nothing of it is kept."""
    gone, stays = turns.service(), turns.service()
    turns.start(f"A={gone.address}:1:1:30,max=2", f"B={stays.address}:2", requests=NO_HEDGE)
    clients = [turns.client() for _ in range(2)]
    for client in clients:
        client.sends()
    busy, idle = gone.accept(), gone.accept()
    idle.serve()
    assert "DUNNO" == clients[1].action()
    turns.reload(f"B={stays.address}:2", requests=NO_HEDGE)
    assert idle.has_ended()
    turns.wait(1.5)
    assert 2 == len(turns.worker.connections)
    busy.serve("DUNNO to the last")
    assert ("DUNNO to the last", True) == (clients[0].action(), busy.has_ended())
    turns.wait(1.5)
    assert 1 == len(turns.worker.connections)
    clients[0].sends()
    stays.accept().serve("DUNNO B")
    assert "DUNNO B" == clients[0].action()


@pytest.mark.parametrize("order", ["drain", "trip", "reload"])
def test_what_waits_for_a_connection_asks_another_service(turns: Turns, order: str) -> None:
    """When its service is drained, goes down or is configured no more; nobody has failed."""
    service, other = turns.service(), turns.service()
    turns.start(f"A={service.address}:1:1:30,max=1", f"B={other.address}:2,max=1", requests=NO_HEDGE, health=NO_PROBE)
    clients = [turns.client() for _ in range(3)]
    for client in clients:
        client.sends()
    link, other_link = service.accept(), other.accept()
    assert (1, 0) == (turns.status("A").queued, turns.status("B").queued)
    if order == "reload":
        turns.reload(f"B={other.address}:2,max=1", requests=NO_HEDGE, health=NO_PROBE)
    else:
        turns.order(lambda: getattr(turns.pool, order)("A"))
        assert (0, 0) == (turns.status("A").queued, turns.status("A").failed)
    assert 1 == turns.status("B").queued
    other_link.serve("DUNNO B")
    other_link.serve("DUNNO B, too")
    link.serve("DUNNO A")
    assert ["DUNNO A", "DUNNO B", "DUNNO B, too"] == [client.action() for client in clients]
    assert [] == turns.told.named("service.failed")


# Names


@pytest.fixture
def names(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> ToldNames:
    """A name service."""
    return ToldNames(turns, monkeypatch)


def test_a_request_goes_on_when_its_service_has_been_looked_up(turns: Turns, names: ToldNames) -> None:
    """And fails at once, with the name service's own words, where the name has no address."""
    service, other = turns.service(), turns.service()
    turns.start(f"A={NAME}:1", f"B={other.address}:2", requests=NO_HEDGE)
    client = turns.client()
    client.sends()
    names.tell(NAME, error="Name or service not known")
    other.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    (failed,) = turns.told.named("service.failed")
    assert ("unresolvable", "Name or service not known") == (failed["kind"], failed["error"])
    names.tell(NAME, service)
    client.sends()
    service.accept().serve("DUNNO A")
    assert "DUNNO A" == client.action()


def test_a_name_that_moves_takes_its_connections_along(turns: Turns, names: ToldNames) -> None:
    """Where nothing has changed, they stay; a look-up that fails changes nothing."""
    before, now = turns.service(), turns.service()
    turns.start(f"A={NAME}", requests=NO_HEDGE)
    names.tell(NAME, before)
    client = turns.client()
    client.sends()
    link = before.accept()
    link.serve()
    assert "DUNNO" == client.action()
    names.tell(NAME, before)
    names.tell(NAME, before, error="Temporary failure in name resolution")
    client.sends()
    link.serve("DUNNO still")
    assert "DUNNO still" == client.action()
    names.tell(NAME, now)
    assert link.has_ended()
    client.sends()
    now.accept().serve("DUNNO there")
    assert "DUNNO there" == client.action()


def test_a_service_that_moved_is_probed_before_its_cooldown_is_over(turns: Turns, names: ToldNames) -> None:
    """It may have moved to where it is well; where it stays, there is no reason."""
    before, now = turns.service(), turns.service()
    turns.start(f"A={NAME}", health=HealthRules(cooldown_s=30))
    names.tell(NAME, before)
    turns.order(lambda: turns.pool.trip("A"))
    names.tell(NAME, before)
    turns.wait(1)
    assert before.is_left_alone()
    names.tell(NAME, now)
    turns.wait(1)
    now.accept().serve()
    assert "up" == turns.status().state


def test_the_name_of_a_service_that_is_gone_is_looked_up_no_more(turns: Turns, names: ToldNames) -> None:
    """Nor is a former address's."""
    service = turns.service()
    turns.start(f"A={NAME}", "B=other.test:25", "C=third.test:25")
    assert {NAME, "other.test:25", "third.test:25"} == names.watched.keys()
    turns.reload(f"A={service.address}", "C=third.test:25")
    assert {"third.test:25"} == names.watched.keys()
