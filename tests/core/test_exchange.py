"""One request to one service: what is true of it before it sets out, and what it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from hapolicy.core.exchange import Exchange, OwnExchange
from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.core.protocol import Request
from hapolicy.core.rules import HealthRules, Probe
from tests.core.world import World, request

K = FailureKind


class Query:
    """An operator's query, and what became of it."""

    wanted = True

    def __init__(self, asked: Request) -> None:
        self.raw = asked.raw
        self.outcomes: list[object] = []

    def answered(self, exchange: Exchange, answer: bytes, now: float) -> None:
        """Keep it."""
        self.outcomes.append((exchange, answer, now))

    def failed(self, exchange: Exchange, failure: ServiceFailure, now: float) -> None:
        """Keep it."""
        self.outcomes.append((exchange, failure.kind, now))


def exchange_with(world: World, kind: type[Exchange] = Exchange) -> tuple[Exchange, Query]:
    """One with A that has not set out."""
    query = Query(request())
    permit = world["A"].admit(world.now)
    assert permit is not None
    return kind(query, world["A"], permit), query


def test_one_that_waits_for_a_connection() -> None:
    """Is not over, has begun at no time, and knows of no connection."""
    exchange, query = exchange_with(World("A=h:1"))
    assert (query.raw, None, -math.inf) == (exchange.raw, exchange.carrier, exchange.began)
    assert (False, False, False, False) == (exchange.fresh, exchange.kept, exchange.hedged, exchange.over)


def test_how_long_the_answers_took() -> None:
    """The one that came after another service's counts in the total alone: it is no measure of what is usual."""
    world = World("A=h:1", "B=h:2:20")
    asked = world.ask()
    world.wait(0.5)
    world.send(asked.failover.hedge(world.at("A")[0], world.now))
    world.wait(0.25)
    world.answer(world.at("B")[0])
    world.wait(0.75)
    world.answer(world.at("A")[0])
    latencies = [world[name].latencies for name in "AB"]
    assert [1.5, 0.25] == [each.sum_s for each in latencies]
    assert [0.0, 0.25] == [each.longest_s(world.now) for each in latencies]


def fails(exchange: Exchange, now: float) -> None:
    """No descriptor was left for it, say."""
    exchange.failed(ServiceFailure(K.LOCAL, ""), now)


@pytest.mark.parametrize("end", [fails, Exchange.withdraw])
def test_a_trial_that_never_set_out_is_due_again_after_a_cooldown(end: Callable[[Exchange, float], None]) -> None:
    """Meanwhile nobody is kept waiting for its outcome, and it is in no counter."""
    world = World("A=h:1", health=HealthRules(probe=Probe.OFF, cooldown_s=1))
    world["A"].trip(world.now)
    world.wait(1)
    world["A"].look(world.now)
    assert (True, ["A"]) == (world["A"].available, world.reordered)
    trial, _ = exchange_with(world)
    assert (False, ["A", "A"]) == (world["A"].available, world.reordered)
    end(trial, world.now)
    assert ("down", world.now + 1, True) == (world["A"].state, world["A"].breaker.retry_at, trial.over)
    assert (0, 0, "") == (world["A"].queries, world["A"].failed, world["A"].last_error)


def test_a_withdrawn_exchange_makes_room_for_another_last_resort() -> None:
    """It was never sent: its client has gone."""
    world = World("A=h:1", health=HealthRules(fail_max=1))
    world.ask()
    world.fail(world.at("A")[0], K.REFUSED)
    world.ask()
    (resort,) = world.at("A")
    resort.withdraw(world.now)
    assert resort.over
    world.ask()
    assert 2 == len(world.at("A"))


def test_an_exchange_of_our_own_is_in_no_counter() -> None:
    """A probe or an operator's query has its time, and is neither query nor answer."""
    world = World("A=h:1:1:1:5")
    upstream = world["A"]
    pairs = [exchange_with(world, OwnExchange) for _ in range(3)]
    (first, _), (second, _), (unsent, _) = pairs
    for own in (first, second):
        own.begin(world.now)
    assert [world.now + 5] * 2 == list(upstream.own.values())
    assert first.began == second.began == world.now
    first.answered(b"action=x\n\n", world.now + 1)
    second.failed(ServiceFailure(K.CLOSED, ""), world.now + 2)
    unsent.failed(ServiceFailure(K.UNRESOLVABLE, ""), world.now + 3)
    assert [
        [(first, b"action=x\n\n", world.now + 1)],
        [(second, K.CLOSED, world.now + 2)],
        [(unsent, K.UNRESOLVABLE, world.now + 3)],
    ] == [query.outcomes for _, query in pairs]
    assert ({}, [True] * 3) == (dict(upstream.own), [own.over for own, _ in pairs])
    assert (0, 0, 0) == (upstream.queries, upstream.answers, upstream.failed)
