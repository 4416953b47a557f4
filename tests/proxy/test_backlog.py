"""Services with few workers: who waits in a listen backlog is taken over, and no more is offered than is served."""

from __future__ import annotations

import pytest

from hapolicy.core.breaker import Permit
from hapolicy.core.exchange import OwnExchange
from hapolicy.core.rules import HEDGE_OFF, HealthRules, Probe, RequestRules
from hapolicy.proxy.connections import Connection
from hapolicy.proxy.crowding import CAPPED_S, TAKE_OVER_AFTER_S, Crowding
from tests.core.world import World
from tests.proxy.house import House
from tests.proxy.turns import Turns


def test_who_waits_in_a_backlog_is_taken_over_by_who_falls_idle(house: House) -> None:
    """After a while in which the service answered others; its own connection is reset, so that it is not served."""
    waits = house.waiting()
    exchange = waits.exchange
    served = house.opened()
    house.connections.proved(served, 0.001)
    house.world.wait(5)
    assert house.connections.take_back(served, house.world.now) is None  # nobody was answered: it may be slow
    del house.connections.free[served]
    house.answered()
    assert house.connections.take_back(served, house.world.now) is exchange
    assert ([waits], None) == (house.closed, waits.exchange)


def test_it_is_no_sooner_taken_over_than_first_answers_take(house: House) -> None:
    """A second while nothing is known of the service, three times as long as its slowest first answer later."""
    waits = house.waiting()
    served = house.opened()
    house.connections.proved(served, 0.5)
    house.world.wait(1.4)
    house.answered()
    assert house.connections.take_back(served, house.world.now) is None
    house.world.wait(0.2)
    house.answered()
    taken = house.connections.relieve(house.world.now)
    assert taken is not None
    assert served is taken[0]
    assert waits in house.closed


@pytest.mark.parametrize(
    ("first_s", "usual_s", "timeout_s", "patience_s"),
    [
        (None, 0.001, 30, 1.0),  # nothing is known of its first answers
        (2.0, 0.001, 30, 6.0),
        (0.001, 0.001, 30, 1.0),  # one quick first answer is no proof that the next one is
        (0.001, 0.6, 30, 1.8),
        (0.001, 0.001, 1, 0.5),  # before its time is over
    ],
)
def test_how_long_a_first_answer_may_take(
    first_s: float | None, usual_s: float, timeout_s: float, patience_s: float
) -> None:
    """Three times what is usual, but not too short, nor too long for another try."""
    world = World(f"A=h:1:1:1:{timeout_s:g}")
    crowding = Crowding(world["A"])
    if first_s is not None:
        crowding.proved(first_s)
    for _ in range(100):
        world.ask()
        world["A"].latencies.add(usual_s, world.now)
    exchange = world.sent[0]
    world.wait(patience_s * 0.8)
    world.answer(world.sent[-1])
    assert not crowding.is_passed_over(exchange, world.now)
    world.wait(patience_s * 0.8)
    assert crowding.is_passed_over(exchange, world.now)
    world["A"].heard_at = exchange.began
    assert not crowding.is_passed_over(exchange, world.now)  # nobody was answered since


def test_slow_first_answers_are_forgotten_over_quick_ones(house: House) -> None:
    """By and by; time alone proves nothing, and less than a tenth of a second is no wait."""
    crowding = house.connections.crowding
    exchange = house.exchange()
    crowding.proved(0.5)
    for _ in range(1000):
        crowding.tick(house.world.now)
    house.world.wait(1.2)
    house.answered()
    assert not crowding.is_passed_over(exchange, house.world.now)
    for _ in range(200):
        crowding.proved(0.001)
        crowding.tick(house.world.now)
    assert crowding.is_passed_over(exchange, house.world.now)
    later = house.exchange()
    house.world.wait(TAKE_OVER_AFTER_S * 0.9)
    house.answered()
    assert not crowding.is_passed_over(later, house.world.now)


def test_without_an_idle_connection_nobody_is_relieved(house: House) -> None:
    """Nor by one while nobody waits."""
    house.idle()
    assert house.connections.relieve(house.world.now) is None
    house.connections.free.clear()
    house.waiting()
    house.world.wait(5)
    house.answered()
    assert house.connections.relieve(house.world.now) is None
    assert [] == house.closed


def crowded(house: House) -> Connection:
    """The service has gone on answering on one connection, while another one waits; that is taken over."""
    waits = house.waiting()
    served = house.opened()
    house.connections.proved(served, 0.001)
    for _ in range(40):
        house.world.wait(TAKE_OVER_AFTER_S)
        house.answered()
        house.connections.crowding.tick(house.world.now)
    assert house.connections.take_back(served, house.world.now) is not None
    assert [waits] == house.closed
    return served


def test_a_crowded_service_is_offered_what_it_serves(house: House) -> None:
    """For a minute; then it is tried again."""
    crowded(house)
    crowding = house.connections.crowding
    assert (1, True, 1) == (crowding.cap, crowding.noticed, house.connections.limit)
    assert [] == list(house.connections.unproven)
    waits = house.exchange()
    assert house.connections.lend(waits, None) is None
    assert ([waits], []) == (list(house.connections.queue), house.opened_for)
    assert house.upstream.full
    house.world.wait(CAPPED_S - 0.1)
    crowding.tick(house.world.now)
    assert 1 == house.connections.limit
    house.world.wait(0.1)
    crowding.tick(house.world.now)
    assert None is house.connections.limit
    assert house.connections.may_open()


def test_a_pause_of_the_service_is_no_crowding(house: House) -> None:
    """All waited alike while it stood still; that it answers again proves nothing yet."""
    house.waiting()
    served = house.opened()
    house.connections.proved(served, 0.001)
    for pause_s in (0.1, 0.1, 5.0):
        house.world.wait(pause_s)
        house.answered()
        if pause_s < 1:
            house.connections.crowding.tick(house.world.now)
    assert house.connections.take_back(served, house.world.now) is not None  # helped all the same
    assert None is house.connections.limit


def test_max_and_crowding_the_smaller_counts(small_house: House) -> None:
    """Neither hides the other."""
    assert 2 == small_house.connections.limit
    small_house.connections.crowding.cap = 1
    assert 1 == small_house.connections.limit
    small_house.connections.crowding.cap = 5
    assert 2 == small_house.connections.limit


def test_what_was_taken_over_is_not_served_where_it_waited(turns: Turns) -> None:
    """That connection is reset: were it only ended, the service would answer a request that was asked elsewhere."""
    a = turns.service(tcp=True)
    turns.start(f"A={a.address}", requests=RequestRules(hedge=HEDGE_OFF), health=HealthRules(probe=Probe.OFF))
    first, second = turns.client(), turns.client()
    first.sends(instance="first")
    served = a.accept()
    served.serve()
    first.action()
    first.sends(instance="first")
    served.request()
    second.sends(instance="second")
    waits = a.accept()
    waits.request()
    turns.wait(1)
    served.answer()
    assert b"instance=second" in served.request()
    with pytest.raises(ConnectionResetError):
        waits.sock.recv(1)


def test_a_service_that_was_heard_by_a_probe_alone_has_a_second(house: House) -> None:
    """From the very first look at it: how long its answers take is not known."""
    house.connections.crowding.tick(house.world.now)
    exchange = house.exchange()
    house.world.wait(0.99)
    house.upstream.heard_at = house.world.now
    assert not house.connections.crowding.is_passed_over(exchange, house.world.now)
    house.world.wait(0.01)
    assert house.connections.crowding.is_passed_over(exchange, house.world.now)


def test_soon_after_a_pause_nothing_is_known(house: House) -> None:
    """Who has waited since before is taken over, but that proves no crowding: the service has just gone on."""
    house.waiting()
    served = house.opened()
    house.connections.proved(served, 0.001)
    house.world.wait(5)
    for _ in range(2):
        house.answered()
        house.connections.crowding.tick(house.world.now)
        house.world.wait(0.1)
    assert house.connections.take_back(served, house.world.now) is not None
    assert None is house.connections.limit


def test_a_crowded_service_is_offered_as_many_as_it_has_proven_to_serve(house: House) -> None:
    """Room that falls free within them is room."""
    second = house.opened()
    house.connections.proved(second, 0.001)
    served = crowded(house)
    assert 2 == house.connections.limit
    house.connections.lend(house.exchange(), None)
    assert house.upstream.full
    house.connections.next_queued(house.world.now)
    house.connections.take_back(served, house.world.now)
    assert not house.upstream.full


def test_a_probe_that_waits_in_a_backlog_is_taken_over(house: House) -> None:
    """Before the mail behind it; but not while it is to be found out whether the service fails too often."""
    house.opened()  # carries nothing
    probing, asking = house.opened(), house.waiting()
    mail = asking.exchange
    assert mail is not None
    probe = probing.exchange = OwnExchange(mail.asker, house.upstream, Permit(0))
    probe.begin(house.world.now)
    served = house.opened()
    house.connections.proved(served, 0.001)
    house.world.wait(5)
    house.answered()
    house.upstream.verifying = 1
    assert house.connections.take_back(served, house.world.now) is mail
    house.upstream.verifying = 0
    assert house.connections.take_back(served, house.world.now) is probe
    assert [asking, probing] == house.closed


def test_a_cap_is_told_though_two_are_taken_over_at_once(house: House) -> None:
    """In one turn."""
    waiting = [house.waiting() for _ in range(2)]
    served = [house.opened() for _ in range(2)]
    for connection in served:
        house.connections.proved(connection, 0.001)
    for _ in range(60):
        house.world.wait(0.1)
        house.answered()
        house.connections.tick(house.world.now)
    assert all(house.connections.take_back(connection, house.world.now) for connection in served)
    assert (2, True, waiting) == (house.connections.crowding.cap, house.connections.crowding.noticed, house.closed)


def test_a_probe_that_only_connects_is_not_taken_over(house: House) -> None:
    """It has nothing to be sent on another connection."""
    waits = house.waiting()
    assert waits.exchange is not None
    waits.exchange.raw = b""
    served = house.opened()
    house.connections.proved(served, 0.001)
    house.world.wait(5)
    house.answered()
    assert house.connections.take_back(served, house.world.now) is None
