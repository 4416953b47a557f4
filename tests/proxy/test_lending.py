"""Which connection carries an exchange, when one gives way, and what a service with few workers is offered."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from hapolicy.core.exchange import Exchange
from hapolicy.core.failover import Failover
from hapolicy.net.poll import Peer
from hapolicy.proxy.connections import (
    AGE_MAX_S,
    BUSY_WINDOW_S,
    CLAIM_MAX_S,
    CLOSED_AT_ONCE,
    IDLE_MAX_S,
    SCARCE_IDLE_MAX_S,
    Connection,
    Connections,
)
from hapolicy.proxy.crowding import CAPPED_S, TAKE_OVER_AFTER_S, Crowding
from tests.core.world import World


class Client:
    """Whose mail stays with a connection."""

    connection: Connection | None = None


class House:
    """The connections to one service, made and closed by the test; `opened_for` are exchanges that got one."""

    def __init__(self, limit: int | None = None) -> None:
        self.world = World("A=h:1:1:1:30")
        self.upstream = self.world["A"]
        self.opened_for: list[Exchange] = []
        self.closed: list[Peer] = []
        self.connections = Connections(self.upstream, limit, self._open, self._close)
        self.stack = contextlib.ExitStack()

    def _open(self, connections: Connections, exchange: Exchange) -> None:
        self.opened_for.append(exchange)

    def _close(self, peer: Peer) -> None:
        self.closed.append(peer)
        assert isinstance(peer, Connection)
        self.connections.closed(peer)

    def exchange(self, *, fresh: bool = False) -> Exchange:
        """One more request for the service, on its way from now on."""
        self.world.ask()
        exchange = self.world.sent[-1]
        exchange.fresh = fresh
        return exchange

    def opened(self, addresses: tuple[tuple[int, str], ...] = ()) -> Connection:
        """A connection that has just been made."""
        ours, theirs = socket.socketpair()
        self.stack.enter_context(ours)
        self.stack.enter_context(theirs)
        connection = Connection(ours, self.connections, addresses, self.world.now)
        self.connections.opened(connection)
        return connection

    def idle(self, client: Client | None = None) -> Connection:
        """A connection that has carried an exchange, perhaps for a client whose mail may go on."""
        connection = self.opened()
        self.connections.proved(connection, 0.001)
        if client is not None:
            connection.claimed_by, client.connection = client, connection
        assert self.connections.take_back(connection, self.world.now) is None
        return connection

    def waiting(self) -> Connection:
        """A connection on which an exchange waits for its first answer."""
        connection = self.opened()
        connection.exchange = self.exchange()
        return connection

    def answered(self) -> None:
        """The service answers somebody, now."""
        self.world.ask()
        self.world.answer(self.world.sent[-1])


@pytest.fixture
def house() -> Iterator[House]:
    """A service without max=."""
    house = House()
    with house.stack:
        yield house


@pytest.fixture
def small_house() -> Iterator[House]:
    """A service with max=2."""
    house = House(limit=2)
    with house.stack:
        yield house


# Lending


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


# Services with few workers


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


# Idle connections


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
