"""Whether a service with max=1 has room: a request that finds none is the next service's, not one that waits."""

from __future__ import annotations

import pytest

from hapolicy.core.rules import HEDGE_OFF, HealthRules, Probe, RequestRules
from tests.proxy.carried import LATE_S, NO_HEDGE, ask
from tests.proxy.ends import Service
from tests.proxy.house import House
from tests.proxy.told_names import ToldNames
from tests.proxy.turns import Turns

NAME = "service.test:25"


def start(turns: Turns, address: str) -> Service:
    """A with max=1; returns B."""
    b = turns.service()
    rules = {"requests": RequestRules(hedge=HEDGE_OFF), "health": HealthRules(probe=Probe.OFF)}
    turns.start(f"A={address}:1:1:30,max=1", f"B={b.address}:9", **rules)
    return b


def check_next(turns: Turns, b: Service) -> None:
    """Another request is B's."""
    client = ask(turns, "next")
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()


def test_there_is_none_once_the_name_is_told(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has waited for it has the connection."""
    names = ToldNames(turns, monkeypatch)
    a = turns.service()
    b = start(turns, NAME)
    ask(turns)
    names.tell(NAME, a)
    a.accept()
    check_next(turns, b)


def test_there_is_none_once_the_backlog_has_some(turns: Turns) -> None:
    """Who has waited for it has the connection."""
    a = turns.service()
    b = start(turns, a.address)
    a.fill_up()
    ask(turns)
    a.make_room()
    turns.wait(LATE_S)
    a.accept()
    check_next(turns, b)


def test_there_is_none_when_a_stale_connection_is_replaced(turns: Turns) -> None:
    """By the new one."""
    a = turns.service()
    b = start(turns, a.address)
    client = ask(turns)
    link = a.accept()
    link.serve()
    assert "DUNNO" == client.action()
    client.sends(instance="m1")
    link.request()
    link.end()
    a.accept()
    check_next(turns, b)


def test_there_is_some_after_crowding(house: House) -> None:
    """The cap ends by the clock, whether or not a connection comes or goes."""
    house.connections.crowding.cap = 1
    served = house.idle()
    assert house.connections.lend(house.exchange(), None) is served
    assert house.upstream.full
    house.connections.tick(house.world.now)
    assert (None, False) == (house.connections.limit, house.upstream.full)


def test_a_probe_beside_max_leaves_no_connection(turns: Turns) -> None:
    """max=N is the most that mails use; the probe of a silent service comes on top, and goes."""
    a = turns.service()
    turns.start(f"A={a.address},max=1", requests=NO_HEDGE)
    client, other = turns.client(), turns.client()
    client.sends(instance="m1")
    link = a.accept()
    link.request()
    turns.wait(1.1)  # silent
    probe = a.accept()
    probe.serve()
    other.sends(instance="m2")
    assert a.hears_nothing(), "two requests at once, though max=1"
    link.answer("DUNNO 1")
    assert "DUNNO 1" == client.action()


def test_a_smaller_max_holds_though_requests_wait(turns: Turns) -> None:
    """What is too many is closed once it is idle, though requests wait."""
    a = turns.service()
    turns.start(f"A={a.address},max=3", requests=NO_HEDGE)
    clients = [turns.client() for _ in range(6)]
    for client in clients:
        client.sends(instance="m")
    links = [a.accept() for _ in range(3)]
    turns.reload(f"A={a.address},max=1", requests=NO_HEDGE)
    for link in links:
        link.serve()
    turns.turn(3)
    assert 1 >= turns.status().connections_busy
