"""How connections to services come about where that is not yet as it should be: each of these tests shows a fault."""

from __future__ import annotations

import pytest

from hapolicy.core.rules import HEDGE_OFF, HealthRules, Probe, RequestRules
from hapolicy.proxy.housekeeping import IDLE_TICK_S
from tests.proxy.carried import CONNECT_TIMEOUT_S, LATE_S, ask, failed, start
from tests.proxy.name_service import Names, known
from tests.proxy.turns import Turns


@pytest.mark.xfail(raises=ZeroDivisionError, strict=True, reason="grown_share() of a time before the service came up")
def test_a_service_may_come_up_in_any_turn(turns: Turns) -> None:
    """Also in one that looks at slow-start=, by a time before that turn: it has all of its weight at once."""
    a = turns.service()
    start(turns, a.address, health=HealthRules(probe=Probe.TCP))
    turns.turn()
    for _ in range(3):
        turns.upstream().trip(turns.clock.now)
        turns.upstream().breaker.hurry(turns.clock.now)
        turns.wait(IDLE_TICK_S + LATE_S)
        assert "up" == turns.status().state


@pytest.mark.xfail(raises=AssertionError, strict=True, reason="Deadlines forgets ordered=False when it is empty")
def test_a_share_of_the_connect_timeout_is_over_whoever_may_take_longer(turns: Turns, names: Names) -> None:
    """Another service has one address only, and so all of the time."""
    hole, good, slow = [turns.service(tcp=True) for _ in range(3)]
    hole.fill_up()
    slow.fill_up()
    names.tell("a.test", hole, good)
    turns.start(
        f"C={slow.address}:1",
        "A=a.test:25:2",
        requests=RequestRules(hedge=HEDGE_OFF),
        health=HealthRules(probe=Probe.OFF),
        connect_timeout_s=CONNECT_TIMEOUT_S,
    )
    known(turns)
    ask(turns)
    turns.upstream("C").draining = True
    client = ask(turns)
    turns.wait(CONNECT_TIMEOUT_S / 2 + LATE_S)
    assert not good.is_left_alone()
    good.accept().serve("DUNNO good")
    assert "DUNNO good" == client.action()


@pytest.mark.xfail(raises=AssertionError, strict=True, reason="Upstream.full stays when `opening` is counted down")
def test_a_service_whose_name_was_not_told_in_time_is_asked_later(turns: Turns, names: Names) -> None:
    """With max=N, too: nothing of it is busy."""
    a = turns.service(tcp=True)
    b = start(turns, "a.test:25,max=1")
    client = ask(turns)
    turns.wait(CONNECT_TIMEOUT_S + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    names.tell("a.test", a)
    known(turns)
    ask(turns)
    assert not a.is_left_alone()


@pytest.mark.xfail(raises=AssertionError, strict=True, reason="Carrier.expire() takes it for a name that is not told")
def test_a_full_backlog_is_told_as_such_when_the_service_has_less_than_the_connect_timeout(turns: Turns) -> None:
    """It is the service's fault, not the name service's: a unix socket has no name."""
    a = turns.service()
    a.fill_up()
    b = start(turns, f"{a.address}:1:1:2")
    client = ask(turns)
    turns.wait(2 + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a.address, "connect_timeout", "no connection within 2 s")] == turns.told.named("service.failed")
