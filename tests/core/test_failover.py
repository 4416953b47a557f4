"""One request's decisions, each at its edges."""

from __future__ import annotations

import pytest

from hapolicy.core.breaker import State
from hapolicy.core.exchange import Exchange
from hapolicy.core.failover import DOWN, DRAINING, NO_TIME, PENDING, Outcome
from hapolicy.core.failures import FailureKind
from hapolicy.core.rules import HEDGE_OFF, HealthRules, Hedge, Probe, RequestRules
from tests.core.world import Asked, World

K = FailureKind
DEADLINE = RequestRules(deadline_s=10)


def hedge(world: World, asked: Asked, exchange: Exchange) -> Exchange | None:
    """The exchange beside `exchange`, which keeps the client waiting, carried out."""
    second = asked.failover.hedge(exchange, world.now)
    world.send(second)
    return second


def at_deadline(world: World) -> None:
    """Ten seconds pass."""
    world.wait(10)


def test_nothing_is_begun_at_the_deadline() -> None:
    """No second service, no second try, no hedge: the answer is due now."""
    world = World("A=h:1", "B=h:2:20", rules=DEADLINE)
    asked = world.ask()
    at_deadline(world)
    assert hedge(world, asked, world.at("A")[0]) is None
    world.fail(world.at("A")[0], K.REFUSED)
    assert (Outcome.DEFAULTED, []) == (asked.failover.outcome, world.sent)

    alone = World("A=h:1", rules=DEADLINE)
    asked = alone.ask()
    alone.at("A")[0].kept = True
    at_deadline(alone)
    alone.fail(alone.at("A")[0], K.ANSWER_TIMEOUT)
    assert ("dunno", []) == (asked.action, alone.sent)


def test_a_second_try_is_for_what_it_may_help() -> None:
    """A timeout on a kept connection, which a firewall may have forgotten; not on a fresh one, not a refusal."""
    for kind, kept, tries in ((K.ANSWER_TIMEOUT, True, 2), (K.ANSWER_TIMEOUT, False, 1), (K.REFUSED, True, 1)):
        world = World("A=h:1")
        asked = world.ask()
        world.at("A")[0].kept = kept
        world.fail(world.at("A")[0], kind)
        assert tries == asked.failover.attempts
        for again in world.at("A"):
            assert again.fresh
            world.fail(again, K.ANSWER_TIMEOUT)
        assert "dunno" == asked.action


def test_of_two_services_the_last_one_is_tried_twice() -> None:
    """Nobody else is left then; a third try there is not."""
    world = World("A=h:1", "B=h:2:20")
    asked = world.ask()
    world.fail(world.at("A")[0], K.ANSWER_TIMEOUT)
    (b,) = world.at("B")
    b.kept = True
    world.fail(b, K.ANSWER_TIMEOUT)
    (again,) = world.at("B")
    assert again.fresh
    again.kept = True
    world.fail(again, K.ANSWER_TIMEOUT)
    assert ("dunno", 3) == (asked.action, asked.failover.attempts)


def test_no_second_try_at_a_drained_service_is_no_attempt() -> None:
    """What was not sent is not counted."""
    world = World("A=h:1")
    asked = world.ask()
    world["A"].draining = True
    world.fail(world.at("A")[0], K.CLOSED)
    assert ("dunno", 1) == (asked.action, asked.failover.attempts)


def test_the_second_of_a_hedged_pair_fails() -> None:
    """Then the first is waited for, and nobody else is asked."""
    world = World("A=h:1", "B=h:2:20", "C=h:3:30")
    asked = world.ask()
    second = hedge(world, asked, world.at("A")[0])
    assert second is not None
    assert ("B", False) == (second.upstream.name, second.fresh)
    world.fail(second, K.REFUSED)
    assert ([], None) == (world.at("C"), asked.action)
    world.answer(world.at("A")[0])
    assert "DUNNO" == asked.action


def test_the_first_of_a_hedged_pair_fails() -> None:
    """Then the second is waited for; when that fails as well, the third is asked."""
    world = World("A=h:1", "B=h:2:20", "C=h:3:30")
    asked = world.ask()
    second = hedge(world, asked, world.at("A")[0])
    assert second is not None
    world.fail(world.at("A")[0], K.REFUSED)
    assert [] == world.at("C")
    world.fail(second, K.REFUSED)
    assert 1 == len(world.at("C"))
    world.answer_all()
    assert "DUNNO" == asked.action


def test_after_a_fresh_connection_there_is_no_third_try() -> None:
    """The first try kept the client waiting on an old connection, the second broke on a new one; B is down."""
    world = World("A=h:1", "B=h:2:20")
    world["B"].trip(world.now)
    asked = world.ask()
    (first,) = world.at("A")
    first.kept = True
    second = hedge(world, asked, first)
    assert second is not None
    assert ("A", True) == (second.upstream.name, second.fresh)
    world.fail(first, K.ANSWER_TIMEOUT)
    world.fail(second, K.CLOSED)
    assert ([], "dunno", 2) == (world.sent, asked.action, asked.failover.attempts)


def test_hedges_are_counted_at_the_service_that_kept_the_client_waiting() -> None:
    """Won by the other, or lost to it after all; the second service's counters stay as they are."""
    world = World("A=h:1", "B=h:2:20")
    for first_wins in (True, False, True, False, False):
        asked = world.ask()
        first = world.at("A")[0]
        second = hedge(world, asked, first)
        assert second is not None
        world.answer(first if first_wins else second)
        world.answer_all()
    a, b = world["A"], world["B"]
    assert (5, 3, 2) == (a.hedges_sent, a.hedges_won, a.hedges_lost)
    assert (0, 0, 0) == (b.hedges_sent, b.hedges_won, b.hedges_lost)


def test_the_only_service_is_hedged_by_a_connection_of_its_own() -> None:
    """Where the first one was kept, and may have been forgotten on the way; a fresh one is waited for."""
    for kept in (True, False):
        world = World("A=h:1")
        asked = world.ask()
        (first,) = world.at("A")
        first.kept = kept
        second = hedge(world, asked, first)
        assert kept == (second is not None)
        if second is not None:
            assert (world["A"], True) == (second.upstream, second.fresh)
    off = World("A=h:1", hedge=HEDGE_OFF)
    asked = off.ask()
    off.at("A")[0].kept = True
    assert hedge(off, asked, off.at("A")[0]) is None


def test_a_service_without_hedges_is_passed_over() -> None:
    """Nor is one that is silent itself a help."""
    world = World("A=h:1", "B=h:2:20,hedge=off", "C=h:3:30", "D=h:4:40", hedge=Hedge(after_s=0.2))
    world["C"].silent = True
    second = hedge(world, asked := world.ask(), world.at("A")[0])
    assert second is not None
    assert "D" == second.upstream.name
    assert hedge(world, asked, world.at("A")[0]) is None  # once a request


def test_a_late_failure_of_a_hedged_request_is_blamed_by_its_kind() -> None:
    """What depends on the mail is held against the service, though the client has its answer; a refusal was already."""
    for kind, blamed in ((K.CLOSED, 1), (K.ANSWER_TIMEOUT, 1), (K.REFUSED, 0)):
        world = World("A=h:1", "B=h:2:20")
        asked = world.ask()
        second = hedge(world, asked, world.at("A")[0])
        assert second is not None
        world.answer(second)
        world.fail(world.at("A")[0], kind)
        assert (blamed, "DUNNO") == (world["A"]._fail_rate.failures, asked.action)


def test_no_late_failure_of_a_poison_request_is_blamed() -> None:
    """Two services broke on it; that a third breaks on it as well is no surprise."""
    world = World("A=h:1", "B=h:2:20", "C=h:3:30")
    asked = world.ask()
    hedge(world, asked, world.at("A")[0])
    (a,), (b,) = world.at("A"), world.at("B")
    third = Exchange(asked.failover, world["C"], world["C"].breaker.permit)  # type: ignore[arg-type]
    world.send(third)
    world.fail(a, K.CLOSED)
    world.fail(b, K.CLOSED)
    assert (Outcome.SUSPECT, asked.action) == (asked.failover.outcome, RequestRules().suspect_action)
    world.fail(third, K.CLOSED)
    assert [0, 0, 0] == [upstream._fail_rate.failures for upstream in world.upstreams]


def test_the_suspect_action_is_that_of_the_service_that_broke_first() -> None:
    """Each may have its own."""
    world = World("A=h:1,suspect=REJECT by A", "B=h:2:20,suspect=REJECT by B")
    asked = world.ask()
    world.fail(world.at("A")[0], K.CLOSED)
    world.fail(world.at("B")[0], K.MALFORMED)
    assert ("REJECT by A", Outcome.SUSPECT) == (asked.action, asked.failover.outcome)


def test_a_default_says_why_of_each_service() -> None:
    """What failed by its kind; why the others were not asked."""
    world = World("A=h:1", "B=h:2:20", "C=h:3:30", rules=DEADLINE)
    world["B"].trip(world.now)
    world["C"].draining = True
    asked = world.ask()
    world.fail(world.at("A")[0], K.REFUSED)
    assert {"A": "refused", "B": DOWN, "C": DRAINING} == asked.failover.failures
    assert Outcome.DEFAULTED is asked.failover.outcome

    late = World("A=h:1", "B=h:2:20", rules=DEADLINE)
    asked = late.ask()
    at_deadline(late)
    late.fail(late.at("A")[0], K.ANSWER_TIMEOUT)
    assert {"A": "answer_timeout", "B": NO_TIME} == asked.failover.failures

    pending = World("A=h:1", "B=h:2:20", rules=DEADLINE)
    asked = pending.ask()
    pending.fail(pending.at("A")[0], K.REFUSED)
    at_deadline(pending)
    asked.failover.expired(pending.now)
    assert {"A": "refused", "B": PENDING} == asked.failover.failures


def test_a_last_resort_has_a_connection_of_its_own() -> None:
    """A kept one of before it went down is worth nothing."""
    world = World("A=h:1", health=HealthRules(fail_max=1))
    world.ask()
    world.fail(world.at("A")[0], K.REFUSED)
    asked = world.ask()
    (resort,) = world.at("A")
    assert resort.fresh
    world.answer(resort)
    assert ("DUNNO", "up") == (asked.action, world["A"].state)


def test_a_last_resort_is_tried_once() -> None:
    """It was fresh already; and of two that are down each is tried."""
    world = World("A=h:1", "B=h:2", "C=h:3", health=HealthRules(fail_max=1))
    world.ask()
    while world.sent:
        world.fail(world.sent[0], K.REFUSED)
    assert {"down"} == {upstream.state for upstream in world.upstreams}
    world["B"].draining = world["C"].draining = True
    asked = world.ask()
    world.fail(world.at("A")[0], K.CLOSED)
    assert ("dunno", 1) == (asked.action, asked.failover.attempts)


def test_a_default_counts_against_the_only_service() -> None:
    """Where probes do not ask: its mails are all that tells of it."""
    world = World("A=h:1", health=HealthRules(probe=Probe.TCP, fail_max=3))
    for number in range(3):
        asked = world.ask(f"192.0.{number}.1")
        world.fail(world.at("A")[0], K.ANSWER_TIMEOUT)
        assert "dunno" == asked.action
    assert [("A", State.DOWN)] == [(name, change.state) for name, change in world.changes]


@pytest.mark.parametrize("then", ["next", "hedge"])
def test_affinity_decides_about_the_second_service_too(then: str) -> None:
    """Of three equals a client's mail goes to the same second one each time, not to whose turn it is."""
    rules = RequestRules(affinity=("client_address",))
    world = World("A=h:1", "B=h:2", "C=h:3", rules=rules, health=HealthRules(fail_max=100))
    for network in range(8):
        seconds = set()
        for _ in range(6):
            asked = world.ask(f"192.0.{network}.1")
            (first,) = world.sent
            if then == "hedge":
                second = hedge(world, asked, first)
                assert second is not None
            else:
                world.fail(first, K.REFUSED)
                (second,) = world.sent
            seconds.add(second.upstream.name)
            world.answer_all()
        assert 1 == len(seconds)
