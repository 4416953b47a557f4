"""When a service counts as silent, and how a hedged pair of exchanges ends."""

from __future__ import annotations

import heapq
import itertools
import os
import random
from collections.abc import Callable

import pytest

from hapolicy.core.exchange import Exchange
from hapolicy.core.failures import FailureKind as K
from hapolicy.core.silence import silent_after_s
from hapolicy.core.upstream import VERIFYING_PROBES
from tests.core.world import World

REQUESTS = int(os.environ.get("HAPOLICY_TEST_HEDGES", "30000"))  # 1,000,000 takes a minute and a half
TICK_S = 0.025

Durations = Callable[[random.Random], float]


def hedged_of(requests: int, duration_s: Durations, a_second: float) -> int:
    """How many of so many requests, all of which are answered in time, are under way while the service is silent."""
    rng = random.Random(7)
    world = World("A=h:1:10:1:300")
    upstream = world["A"]
    ending: list[tuple[float, int, Exchange]] = []
    hedged: set[Exchange] = set()
    asks_at = next_tick = learns_at = world.now
    begun = 0
    numbers = itertools.count()
    while begun < requests or ending:
        ends_at = ending[0][0] if ending else float("inf")
        world.now = min(asks_at if begun < requests else float("inf"), ends_at, next_tick)
        if world.now == ends_at:
            world.answer(heapq.heappop(ending)[2])
        elif world.now == next_tick:
            next_tick += TICK_S
            upstream.look(world.now)
            if upstream.silent:
                hedged.update(world.sent)
            if world.now >= learns_at:
                learns_at += 1.0
                upstream.silent_after_s = silent_after_s(upstream.latencies, world.now)
        else:
            world.asked.clear()
            world.ask()
            begun += 1
            heapq.heappush(ending, (world.now + duration_s(rng), next(numbers), world.sent[-1]))
            asks_at += rng.expovariate(a_second)
    return len(hedged)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients need not hear."""
    monkeypatch.setattr(World, "reply", lambda self, failover: None)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("a_second", [2, 50])
def test_a_service_of_1_to_50_ms_is_never_hedged(a_second: float) -> None:
    """Of a million requests none (`HAPOLICY_TEST_HEDGES=1000000`)."""
    assert 0 == hedged_of(REQUESTS, lambda rng: rng.uniform(0.001, 0.05), a_second)


@pytest.mark.usefixtures("quiet")
def test_a_long_tail_is_hardly_ever_hedged() -> None:
    """SPF services wait for name servers: lognormal around 50 ms, 1 in 100 above a second, the longest many seconds."""
    hedged = hedged_of(REQUESTS, lambda rng: rng.lognormvariate(-3.0, 1.3), 20)
    assert hedged <= max(1, REQUESTS / 10_000)


def test_hedge_first_answer_wins_and_the_loser_is_thrown_away() -> None:
    """A silent service's request is asked of the next one, too; what the loser says counts for its health alone."""
    world = World("A=h:1", "B=h:2:20")
    asked = world.ask()
    (first,) = world.at("A")
    world.wait(2)
    world["A"].look(world.now)
    second = asked.failover.hedge(first, world.now)
    world.send(second)
    world.answer(world.at("B")[0])
    assert ["DUNNO"] == [asked.action]
    world.wait(1)
    world.answer(first)
    assert 1 == len(asked.replies)
    assert (1, 1, 0) == (world["A"].hedges_sent, world["A"].hedges_won, world["A"].hedges_lost)
    assert 1 == world["A"].answers
    assert 0 == sum(world["A"].latencies.minute(world.now)), "a late answer is no measure of what is usual"


def test_hedge_where_the_first_one_wins() -> None:
    """The first one answers after all: counted as lost."""
    world = World("A=h:1", "B=h:2:20")
    asked = world.ask()
    (first,) = world.at("A")
    world.wait(2)
    world.send(asked.failover.hedge(first, world.now))
    world.answer(first)
    world.answer(world.at("B")[0])
    assert 1 == len(asked.replies)
    assert (1, 0, 1) == (world["A"].hedges_sent, world["A"].hedges_won, world["A"].hedges_lost)


def test_both_of_a_hedged_pair_fail() -> None:
    """The request waits for the second, then goes on."""
    world = World("A=h:1", "B=h:2:20", "C=h:3:30")
    asked = world.ask()
    (first,) = world.at("A")
    world.wait(2)
    world.send(asked.failover.hedge(first, world.now))
    world.fail(first, K.ANSWER_TIMEOUT)
    assert world.at("C") == []
    world.fail(world.at("B")[0], K.REFUSED)
    world.answer(world.at("C")[0])
    assert asked.action == "DUNNO"


def test_a_request_is_hedged_once() -> None:
    """Two exchanges at most are under way for it."""
    world = World("A=h:1", "B=h:2", "C=h:3")
    asked = world.ask()
    (first,) = world.at("A")
    world.wait(1.1)
    second = asked.failover.hedge(first, world.now)
    world.send(second)
    assert second is not None
    assert None is asked.failover.hedge(first, world.now)
    assert None is asked.failover.hedge(second, world.now)


def test_a_loser_that_never_answers_is_found_out() -> None:
    """Nobody waits for it any more, and it is held against the service all the same."""
    world = World("A=h:1", "B=h:2:20")
    for number in range(8):
        asked = world.ask(f"192.0.{number}.1")
        (first,) = world.at("A")
        world.wait(1.1)
        world.send(asked.failover.hedge(first, world.now))
        world.answer(world.at("B")[0])
        world.fail(first, K.ANSWER_TIMEOUT)
    assert VERIFYING_PROBES == world["A"].verifying
