"""Which connection carries an exchange, and who waits for one."""

from __future__ import annotations

from hapolicy.core.failover import Failover
from tests.proxy.house import Client, House


def test_a_mail_stays_with_its_connection(house: House) -> None:
    """Also while others are free; another client gets one of those, or a new one, not the claimed one."""
    client = Client()
    claimed, free = house.idle(client), house.idle()
    assert house.connections.lend(house.exchange(), None) is free
    other = house.exchange()
    assert house.connections.lend(other, None) is None
    assert [other] == house.opened_for
    assert house.connections.lend(house.exchange(), client) is claimed
    assert house.connections.lend(house.exchange(), client) is None  # it is busy now


def test_a_fresh_exchange_has_a_connection_of_its_own(house: House) -> None:
    """Whatever is idle, or claimed by its client: that is why it is asked again."""
    client = Client()
    house.idle(client)
    house.idle()
    fresh = house.exchange(fresh=True)
    assert house.connections.lend(fresh, client) is None
    assert ([fresh], [], 2) == (house.opened_for, house.closed, len(house.connections.idle()))


def test_at_its_limit_a_fresh_exchange_takes_an_idle_ones_place(small_house: House) -> None:
    """Nobody's before a client's, the longest idle first; without an idle one it waits."""
    client = Client()
    claimed, free = small_house.idle(client), small_house.idle()
    for expected in (free, claimed):
        fresh = small_house.exchange(fresh=True)
        assert small_house.connections.lend(fresh, None) is None
        assert (fresh, expected) == (small_house.opened_for[-1], small_house.closed[-1])
        small_house.opened().exchange = fresh
    waits = small_house.exchange(fresh=True)
    assert small_house.connections.lend(waits, None) is None
    assert [waits] == list(small_house.connections.queue)
    assert 2 == len(small_house.opened_for)


def test_at_its_limit_a_claimed_connection_is_lent_to_another(small_house: House) -> None:
    """Before anybody waits; then in the order of coming, and who is not wanted any more is passed over."""
    client = Client()
    claimed = small_house.idle(client)
    small_house.waiting()
    assert small_house.upstream.full is False
    assert small_house.connections.lend(small_house.exchange(), None) is claimed
    assert small_house.upstream.full is True
    queued = [small_house.exchange() for _ in range(3)]
    for exchange in queued:
        assert small_house.connections.lend(exchange, None) is None
    assert isinstance(queued[0].asker, Failover)
    queued[0].asker.answer = b"action=meanwhile\n\n"
    assert small_house.connections.take_back(claimed, small_house.world.now) is queued[1]
    assert queued[0].over
    assert [queued[2]] == list(small_house.connections.queue)


def test_who_waits_is_told_when_it_waits_no_longer(small_house: House) -> None:
    """The service went down, or is drained: nothing of it stays behind."""
    small_house.waiting()
    small_house.waiting()
    queued = [small_house.exchange() for _ in range(2)]
    for exchange in queued:
        small_house.connections.lend(exchange, None)
    assert queued == small_house.connections.withdraw_queued()
    assert not small_house.connections.queue
    assert not small_house.connections.may_open()


def test_a_connection_may_be_opened_for_who_waits_below_the_limit(small_house: House) -> None:
    """Those that are being opened count; a raised limit makes room."""
    connections = small_house.connections
    assert not connections.may_open()
    small_house.waiting()
    connections.opening = 1
    connections.lend(small_house.exchange(), None)
    assert not connections.may_open()
    connections.set_limit(3)
    assert connections.may_open()
    assert not small_house.upstream.full
    connections.set_limit(None)
    assert connections.may_open()


def test_who_is_busy_is_known(house: House) -> None:
    """Neither nobody's idle ones nor clients' are."""
    house.idle()
    house.idle(Client())
    house.waiting()
    assert (1, 3) == (house.connections.busy(), len(house.connections.all))
    assert not house.upstream.full


def test_a_connection_is_free_when_its_client_has_left(house: House) -> None:
    """Or has gone on to another one; a retired one is nobody's."""
    client = Client()
    claimed = house.idle(client)
    house.connections.release(claimed)
    assert ([claimed], None) == (list(house.connections.free), claimed.claimed_by)
    busy = house.opened()
    busy.claimed_by, client.connection = client, claimed
    house.connections.release(claimed)
    house.connections.take_back(busy, house.world.now)
    assert [claimed, busy] == list(house.connections.free)
    retired = house.opened()
    retired.retired = True
    assert house.connections.take_back(retired, house.world.now) is None
    assert retired not in house.connections.idle()


def test_a_connection_that_was_closed_in_the_turn_of_its_answer_is_not_lent_again(house: House) -> None:
    """The service went down in that turn, or spoke out of turn."""
    connection = house.opened()
    house.connections.proved(connection, 0.001)
    house.connections.closed(connection)
    assert house.connections.take_back(connection, house.world.now) is None
    assert [] == house.connections.idle()


def test_a_lowered_limit_holds_from_now_on(small_house: House) -> None:
    """What is idle is room all the same, whether it is nobody's or a client's."""
    connections = small_house.connections
    connections.set_limit(1)
    assert 1 == connections.limit
    busy = small_house.waiting()
    connections.set_limit(1)
    assert small_house.upstream.full
    connections.proved(busy, 0.001)
    connections.take_back(busy, small_house.world.now)
    assert not small_house.upstream.full
    assert connections.lend(small_house.exchange(), None) is busy
    assert small_house.upstream.full
    client = Client()
    busy.claimed_by, client.connection = client, busy
    connections.take_back(busy, small_house.world.now)
    assert not small_house.upstream.full


def test_what_is_being_opened_takes_room(small_house: House) -> None:
    """Before there is a connection: its name or a backlog is awaited."""
    small_house.waiting()
    small_house.connections.opening = 1
    small_house.connections.lend(small_house.exchange(), None)
    assert small_house.upstream.full


def test_a_trial_that_nobody_waits_for_any_more_is_given_back(small_house: House) -> None:
    """It was queued too long: the next one is due after a cooldown."""
    connections, upstream, world = small_house.connections, small_house.upstream, small_house.world
    busy, _ = small_house.waiting(), small_house.waiting()
    queued = small_house.exchange()
    upstream.trip(world.now)
    world.wait(5)
    trial = upstream.breaker.admit_trial(world.now)
    assert trial is not None
    queued.permit = trial
    connections.lend(queued, None)
    assert isinstance(queued.asker, Failover)
    queued.asker.answer = b"action=meanwhile\n\n"
    assert connections.take_back(busy, world.now) is None
    assert queued.over
    assert ("down", world.now + 1) == (upstream.state, upstream.breaker.retry_at)
