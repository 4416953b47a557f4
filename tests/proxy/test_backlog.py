"""Services with few workers: who waits in a listen backlog is taken over, and no more is offered than is served."""

from __future__ import annotations

import pytest

from hapolicy.proxy.connections import Connection
from hapolicy.proxy.crowding import CAPPED_S, TAKE_OVER_AFTER_S, Crowding
from tests.core.world import World
from tests.proxy.house import House


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
