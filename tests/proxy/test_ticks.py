"""What a worker does by the clock: not too late, not too often, and not by a clock that ran on while it stood still."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable

import pytest

from hapolicy.core.rules import HEDGE_OFF, HealthRules, Hedge, Probe, RequestRules
from hapolicy.proxy.housekeeping import HEDGE_LEAST, IDLE_TICK_S
from hapolicy.proxy.worker import TICK_S
from tests.proxy.carried import NO_HEDGE
from tests.proxy.ends import Service
from tests.proxy.turns import Turns
from tests.support.client import request

TIMEOUT_S = 0.9  # the service's: before it counts as silent


@pytest.fixture
def service(turns: Turns) -> Service:
    """A worker's only service."""
    service = turns.service()
    turns.start(f"A={service.address}:1:1:{TIMEOUT_S}", requests=NO_HEDGE)
    return service


def count_ticks(turns: Turns, fails: Callable[[], None] = lambda: None) -> list[float]:
    """The times of the ticks from now on."""
    ticks: list[float] = []
    tick = turns.worker.on_tick

    def counted(now: float) -> float:
        ticks.append(turns.clock.now)
        fails()
        return tick(now)

    turns.worker.on_tick = counted
    return ticks


# In time


def test_a_timeout_is_noticed_within_two_ticks(turns: Turns, service: Service) -> None:
    """And not before; the worker turns no more often than it must, and hardly when nobody waits."""
    turns.live(IDLE_TICK_S * 1.5)
    client = turns.client()
    client.sends(instance="m")
    service.accept().request()
    assert turns.live(TIMEOUT_S - TICK_S) < 3 * TIMEOUT_S / TICK_S
    assert [] == turns.told.names
    turns.live(TICK_S * 2)
    assert "dunno" == client.action()
    assert [("answer_timeout", "no answer within 0.9 s")] == [
        (fields["kind"], fields["error"]) for fields in turns.told.named("service.failed")
    ]
    turns.live(30)
    assert turns.live(30) < 5 * 30 / IDLE_TICK_S


def test_a_stream_of_requests_holds_up_no_timeout(turns: Turns, service: Service) -> None:
    """Though each comes sooner after the one before than a tick lasts; the late request is asked anew."""
    slow, client = turns.client("slow"), turns.client("client")
    slow.sends(instance="slow")
    hangs = service.accept()
    hangs.serve()
    slow.action()
    slow.sends(instance="slow")
    hangs.request()
    client.sends(instance="m")
    link = service.accept()
    link.serve()
    client.action()
    for _ in range(int(TIMEOUT_S / TICK_S) * 3):
        turns.live(TICK_S * 0.4)
        client.sends(instance="m")
        link.serve()
        client.action()
    assert [b"slow"] == [fields["instance"] for fields in turns.told.named("service.failed")]
    service.accept().serve("DUNNO at last")
    assert "DUNNO at last" == slow.action()


def test_a_quick_answer_waits_for_no_housekeeping(turns: Turns, service: Service) -> None:
    """However many there are in an instant; what they began is looked at a tick later."""
    turns.live(IDLE_TICK_S * 1.5)
    ticks = count_ticks(turns)
    client = turns.client()
    client.sends(instance="m")
    link = service.accept()
    link.serve()
    client.action()
    for _ in range(20):
        client.sends(instance="m")
        link.serve()
        client.action()
    assert [] == ticks
    turns.live(TICK_S * 2.5)
    assert 1 == len(ticks)


def test_housekeeping_that_fails_is_tried_again_a_tick_later(turns: Turns, service: Service) -> None:
    """No sooner; mail goes on meanwhile."""

    def fail() -> None:
        raise ZeroDivisionError

    turns.live(IDLE_TICK_S * 1.5)
    ticks = count_ticks(turns, fail)
    client = turns.client()
    client.sends(instance="m")
    link = service.accept()
    while len(ticks) < 3:
        with contextlib.suppress(ZeroDivisionError):
            turns.live(TICK_S)
    link.serve()
    assert "DUNNO" == client.action()
    assert [TICK_S] * 2 == pytest.approx([later - sooner for sooner, later in itertools.pairwise(ticks)])


def test_one_request_in_ten_is_hedged(turns: Turns) -> None:
    """Each of the first ten; from the hundredth on, there may be one more for each ten."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}", f"B={b.address}:20", requests=RequestRules(hedge=Hedge(after_s=0.05)))
    client = turns.client()
    hedged = []
    for number in range(112):
        client.sends()
        link = a.asked()
        link.request()
        turns.live(0.05 + 2 * TICK_S)
        if not b.hears_nothing():
            b.asked().serve()
            hedged.append(number + 1)
        link.answer()
        client.action()
    assert [*range(1, HEDGE_LEAST + 1), 101, 111] == hedged


# A process that stood still


def test_a_request_has_its_time_from_when_it_was_sent(turns: Turns, service: Service) -> None:
    """The process stood still after it had been read: neither the service nor the clock is to blame."""
    client = turns.client()
    client.sends(instance="m")
    link = service.accept()
    link.serve()
    client.action()
    turns.worker.post(lambda: turns.stand_still(TIMEOUT_S * 2))
    client.sends(instance="m")
    assert request(instance="m") == link.request()
    turns.live(TIMEOUT_S - TICK_S)
    assert [] == turns.told.names
    turns.live(TICK_S * 3)
    assert ["service.failed"] == turns.told.names


def test_an_answer_that_came_while_it_stood_still_is_in_time(turns: Turns, service: Service) -> None:
    """It is read before it is missed."""
    client = turns.client()
    client.sends(instance="m")
    link = service.accept()
    link.request()
    turns.live(TIMEOUT_S / 2)
    link.send(b"action=DUNNO in time\n\n")
    turns.stand_still(TIMEOUT_S)
    turns.live(TICK_S)
    assert "DUNNO in time" == client.action()
    assert (1, 0, []) == (turns.status().answers, turns.status().failed, turns.told.names)


# Other settings


def test_a_shorter_deadline_is_for_those_who_ask_from_now_on(turns: Turns) -> None:
    """They do not wait for those who asked before."""
    service = turns.service()
    turns.start(f"A={service.address}", requests=RequestRules(deadline_s=10, hedge=HEDGE_OFF))
    turns.live(IDLE_TICK_S * 1.5)
    before, after = turns.client("before"), turns.client("after")
    before.sends()
    turns.reload(f"A={service.address}", requests=RequestRules(deadline_s=1, hedge=HEDGE_OFF))
    after.sends()
    turns.live(1 + 2 * TICK_S)
    assert "dunno" == after.action()
    assert before.hears_nothing()
    turns.live(9)
    assert "dunno" == before.action()


def test_requests_are_logged_from_a_reload_on(turns: Turns, service: Service) -> None:
    """And no longer from the next one."""
    client = turns.client()
    logged = []
    link = None
    for log_requests in (False, True, False):
        turns.reload(f"A={service.address}", log_requests=log_requests)
        client.sends(instance="m")
        link = link or service.accept()
        link.serve()
        client.action()
        logged.append(len(turns.told.named("request.answered")))
    assert [0, 1, 1] == logged


def test_a_changed_time_to_connect_is_for_those_who_connect_from_now_on(turns: Turns) -> None:
    """Here to a service whose backlog is full."""
    service = turns.service()
    turns.start(f"A={service.address}", connect_timeout_s=5.0, health=HealthRules(probe=Probe.OFF))
    service.listener.listen(0)
    clients = [turns.client() for _ in range(2)]
    clients[0].sends()
    turns.reload(f"A={service.address}", connect_timeout_s=1.0)
    clients[1].sends()
    turns.live(1 + 2 * TICK_S)
    assert ["its backlog was full for 1 s"] == [fields["error"] for fields in turns.told.named("service.failed")]
