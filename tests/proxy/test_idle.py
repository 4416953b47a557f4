"""Idle connections: how many are kept, for how long, and when one ends with what it led to."""

from __future__ import annotations

import socket

from hapolicy.proxy.surplus import (
    AGE_MAX_S,
    BUSY_WINDOW_S,
    CLAIM_MAX_S,
    CLOSED_AT_ONCE,
    IDLE_MAX_S,
    SCARCE_IDLE_MAX_S,
)
from tests.proxy.house import Client, House


def test_idle_connections_are_kept_as_long_as_they_may_be_of_use(house: House) -> None:
    """Nobody's for half a minute, a client's for ten seconds, none for more than an hour."""
    for _ in range(2):
        house.waiting()  # as many were busy at once lately
    house.connections.superfluous(house.world.now)
    free, claimed = house.idle(), house.idle(Client())
    house.world.wait(CLAIM_MAX_S)
    house.connections.superfluous(house.world.now)
    assert [] == house.connections.superfluous(house.world.now)
    house.world.wait(0.1)
    assert [claimed] == house.connections.superfluous(house.world.now)
    house.connections.closed(claimed)
    house.world.wait(IDLE_MAX_S - CLAIM_MAX_S - 0.2)
    assert [] == house.connections.superfluous(house.world.now)
    house.world.wait(0.2)
    assert [free] == house.connections.superfluous(house.world.now)
    house.world.wait(AGE_MAX_S)
    del house.connections.free[free]
    house.connections.take_back(free, house.world.now)
    assert [free] == house.connections.superfluous(house.world.now)


def test_no_more_idle_ones_are_kept_than_were_busy_at_once(house: House) -> None:
    """Lately; the longest idle go first, after a second, so many at a time."""
    busy = [house.waiting() for _ in range(2)]
    house.connections.superfluous(house.world.now)
    idle = [house.idle() for _ in range(5)]
    assert [] == house.connections.superfluous(house.world.now)
    house.world.wait(1.1)
    assert idle[:3] == house.connections.superfluous(house.world.now)
    for connection in busy:
        house.connections.closed(connection)
    house.world.wait(BUSY_WINDOW_S)
    assert idle[:3] == house.connections.superfluous(house.world.now)  # the window before counts, too
    house.world.wait(BUSY_WINDOW_S)
    house.connections.superfluous(house.world.now)
    house.world.wait(BUSY_WINDOW_S)
    assert idle == house.connections.superfluous(house.world.now)
    more = [house.idle() for _ in range(CLOSED_AT_ONCE)]
    house.world.wait(IDLE_MAX_S + 1)
    assert (idle + more)[:CLOSED_AT_ONCE] == house.connections.superfluous(house.world.now)


def test_the_few_connections_to_a_small_service_are_given_up_soon(small_house: House) -> None:
    """Others may want its workers, too."""
    small_house.waiting()
    small_house.connections.superfluous(small_house.world.now)
    idle = small_house.idle(Client())
    small_house.world.wait(SCARCE_IDLE_MAX_S)
    assert [] == small_house.connections.superfluous(small_house.world.now)
    small_house.world.wait(0.1)
    assert [idle] == small_house.connections.superfluous(small_house.world.now)


def test_a_service_that_has_moved_keeps_no_connection_to_where_it_was(house: House) -> None:
    """Idle ones end at once, busy ones after their exchange; a service that is configured no more keeps none."""
    old, new = (socket.AF_INET, "old"), (socket.AF_INET, "new")
    stays, goes, busy = house.opened((new,)), house.opened((old, new)), house.opened((old,))
    busy.exchange = house.exchange()
    house.connections.keep_only((new,))
    assert ([goes], [False, True]) == (house.closed, [stays.retired, busy.retired])
    house.connections.take_back(stays, house.world.now)
    house.connections.retire()
    assert ([goes, stays], False) == (house.closed, house.connections.reuse)


def test_how_many_were_busy_is_remembered_for_a_while(house: House) -> None:
    """However often it is looked at meanwhile; an hour or less is no great age."""
    house.world.wait(AGE_MAX_S)
    busy = [house.waiting() for _ in range(2)]
    house.connections.superfluous(house.world.now)
    for connection in busy:
        house.connections.closed(connection)
    for _ in range(2):
        house.idle()
    for _ in range(4):
        house.world.wait(BUSY_WINDOW_S / 5)
        assert [] == house.connections.superfluous(house.world.now)


def test_where_none_was_busy_none_is_kept(house: House) -> None:
    """Not even one, for more than a second."""
    idle = house.idle()
    assert [] == house.connections.superfluous(house.world.now)
    house.world.wait(1)
    assert [] == house.connections.superfluous(house.world.now)
    house.world.wait(0.1)
    assert [idle] == house.connections.superfluous(house.world.now)
