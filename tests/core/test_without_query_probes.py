"""One service that must not see made-up requests: failures of mails take it down."""

from __future__ import annotations

import pytest

from hapolicy.core.breaker import State
from hapolicy.core.failures import FailureKind
from hapolicy.core.rules import HealthRules, Probe
from tests.core.test_upstream import answered, failed, states
from tests.core.world import World

K = FailureKind
TCP = HealthRules(probe=Probe.TCP, fail_max=3)


def test_a_trial_that_is_nobodys_fault_waits_for_the_next_cooldown() -> None:
    """No descriptor was left for it, say."""
    world = World("A=h:1", health=HealthRules(fail_max=1, probe=Probe.OFF, cooldown_s=1))
    world.ask()
    world.fail(world.at("A")[0], K.REFUSED)
    world.wait(1)
    world["A"].look(world.now)
    world.ask()
    world.fail(world.at("A")[0], K.LOCAL)
    assert ("down", world.now + 1) == (world["A"].state, world["A"].breaker.retry_at)


def test_with_tcp_probes_failures_in_a_row_of_several_senders_take_it_down() -> None:
    """Which is told, with the kind; a probe on a connection could not know. One sender's count once."""
    world = World("A=h:1", "B=h:2:20", health=TCP)
    for _ in range(5):
        failed(world, K.ANSWER_TIMEOUT, "192.0.2.1")
        assert world["A"].probe_due(world.now) is None
    failed(world, K.ANSWER_TIMEOUT, "192.0.2.2")
    failed(world, K.ANSWER_TIMEOUT, "192.0.2.3")
    assert [("A", State.DOWN, "answer_timeout")] == states(world)
    assert 3 == world.changes[0][1].failures


def test_a_failure_in_the_turn_of_the_latest_answer_counts_with_tcp_probes() -> None:
    """Only what began before that answer is excused by it."""
    world = World("A=h:1", "B=h:2:20", health=TCP)
    answered(world, 1)
    for number in range(3):
        failed(world, K.ANSWER_TIMEOUT, f"192.0.{number}.1")
    assert [("A", State.DOWN, "answer_timeout")] == states(world)


@pytest.mark.parametrize("probe", [Probe.TCP, Probe.OFF])
@pytest.mark.parametrize(("kind", "is_quick"), [(K.ANSWER_TIMEOUT, False), (K.CLOSED, True)])
def test_without_query_probes_too_many_failures_take_it_down(probe: Probe, kind: K, is_quick: bool) -> None:
    """A third of its answers, none of them twice in a row. A last resort must cost no wait."""
    world = World("A=h:1", "B=h:2:20", health=HealthRules(probe=probe, fail_rate=0.3))
    for number in range(6):
        answered(world, 2)
        world.wait(1)
        failed(world, kind, f"192.0.{number}.1")
    assert [("A", State.DOWN, "fail_rate")] == states(world)
    assert is_quick == (world["A"].admit_last_resort() is not None)


def test_a_tcp_probe_of_an_idle_service_counts_as_a_look_at_it() -> None:
    """Though it is no answer: the next one is due as long after it, and not at once after an operator's reset."""
    world = World("A=h:1", "B=h:2:20", health=HealthRules(probe=Probe.TCP, probe_every_s=30))
    world["A"].trip(world.now)
    world["A"].reset(world.now)
    assert not world.probe("A", None)
    world.wait(30)
    assert world.probe("A", None)
    world.wait(29)
    assert not world.probe("A", None)
    world.wait(1)
    assert world.probe("A", None)
    assert 2 == world["A"].probes_answered


def test_a_trial_that_fails_is_followed_by_another() -> None:
    """Though it is excused, since an older request was answered meanwhile."""
    world = World("A=h:1", "B=h:2:20", health=HealthRules(fail_max=1, probe=Probe.OFF, cooldown_s=1))
    world.ask()
    world.ask()
    late, refused = world.at("A")
    world.fail(refused, K.REFUSED)
    world.wait(2)
    world["A"].look(world.now)
    world.ask()
    trial = world.at("A")[-1]
    world.wait(1)
    world.answer(late)
    world.wait(1)
    world.fail(trial, K.REFUSED)
    world.wait(60)
    world["A"].look(world.now)
    assert world["A"].available


@pytest.mark.parametrize("probe", [Probe.TCP, Probe.OFF])
def test_who_was_silent_is_asked_again_when_it_owes_nothing(probe: Probe) -> None:
    """No probe would find out that it is well, and the others of its tier would always be asked first."""
    world = World("A=h:1", "B=h:2", health=HealthRules(probe=probe))
    world.ask()
    world.ask()
    (hung,) = world.at("A")
    world.wait(2)
    world["A"].look(world.now)
    assert world["A"].silent
    world.fail(hung, K.ANSWER_TIMEOUT)
    world.answer_all()
    world["A"].look(world.now)
    for _ in range(2):
        world.ask()
    assert 1 == len(world.at("A"))
