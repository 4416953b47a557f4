"""How a service that is down comes back: cooldowns, probes, the last resort; and what is too old to count."""

from __future__ import annotations

from hapolicy.core.failures import FailureKind as K
from hapolicy.core.rules import HealthRules, Probe
from tests.core.test_judgement import fail_in_a_row
from tests.core.world import World


def test_last_resort() -> None:
    """With nobody up, one request at a time asks a service that went down by a quick failure; it comes up."""
    world = World("A=h:1")
    fail_in_a_row(world, "A", K.REFUSED, 3)
    assert world["A"].state == "down"
    first, second = world.ask(), world.ask()
    assert 1 == len(world.at("A"))
    assert second.action == "dunno"
    world.answer(world.at("A")[0])
    assert first.action == "DUNNO"
    assert world["A"].state == "up"


def test_a_drained_service_is_no_last_resort() -> None:
    """Though it went down by a quick failure."""
    world = World("A=h:1")
    fail_in_a_row(world, "A", K.REFUSED, 3)
    world["A"].draining = True
    assert world.ask().action == "dunno"
    assert world.sent == []


def test_a_service_that_hung_is_no_last_resort() -> None:
    """It would only cost time."""
    world = World("A=h:1")
    fail_in_a_row(world, "A", K.CONNECT_TIMEOUT, 3)
    assert world.ask().action == "dunno"
    assert world.sent == []


def test_the_cooldown_doubles_and_a_relapse_keeps_it() -> None:
    """1, 2, 4, ... 60 s; a service that goes down again within a minute goes on from there, later from the start."""
    world = World("A=h:1", "B=h:2:20")
    fail_in_a_row(world, "A", K.REFUSED, 3)
    cooldowns = [world.changes[-1][1].cooldown_s]
    for _ in range(7):
        world.wait(cooldowns[-1])
        assert world.probe("A", K.REFUSED)
        cooldowns.append(world.changes[-1][1].cooldown_s)
    assert [1, 2, 4, 8, 16, 32, 60, 60] == cooldowns
    world.wait(60)
    assert world.probe("A", None)
    fail_in_a_row(world, "A", K.REFUSED, 3)
    assert 60 == world.changes[-1][1].cooldown_s
    world.wait(60)
    assert world.probe("A", None)
    world.wait(61)
    fail_in_a_row(world, "A", K.REFUSED, 3)
    assert 1 == world.changes[-1][1].cooldown_s


def test_a_stale_permit_says_nothing() -> None:
    """What began before an operator's reset cannot speak after it."""
    world = World("A=h:1", "B=h:2:20", health=HealthRules(fail_max=1))
    world.ask()
    (old,) = world.at("A")
    world["A"].trip(world.now)
    world["A"].reset(world.now)
    world.fail(old, K.REFUSED)
    assert world["A"].state == "up"


def test_a_probe_that_was_overtaken_by_an_operator_ends_nobody_elses() -> None:
    """It comes to nothing while the next probe is under way: that one still counts."""
    world = World("A=h:1")
    upstream = world["A"]
    upstream.trip(world.now)
    world.wait(2)
    overtaken = upstream.probe_due(world.now)
    upstream.reset(world.now)
    upstream.trip(world.now)
    upstream.probing = False
    world.wait(4)
    current = upstream.probe_due(world.now)
    assert overtaken
    assert current
    upstream.probe_withdrawn(overtaken, world.now)
    upstream.probe_answered(current, world.now)
    assert upstream.state == "up"


def test_a_late_answer_brings_no_service_up() -> None:
    """It was asked before the service went down; only a probe tells how it is now."""
    world = World("A=h:1", "B=h:2:20")
    world.ask()
    (late,) = world.at("A")
    world["A"].trip(world.now)
    world.answer(late)
    assert world["A"].state == "down"
    world.wait(1)
    assert world.probe("A", None)
    assert world["A"].state == "up"


def test_probe_off_a_live_request_is_the_trial() -> None:
    """One, after the cooldown; the others go elsewhere."""
    world = World("A=h:1", "B=h:2:20", health=HealthRules(probe=Probe.OFF))
    fail_in_a_row(world, "A", K.REFUSED, 3)
    world.wait(1)
    world["A"].look(world.now)
    world.ask()
    world.ask()
    assert [1, 1] == [len(world.at("A")), len(world.at("B"))]
    world.answer(world.at("A")[0])
    assert world["A"].state == "up"


def test_a_last_resort_that_fails_is_followed_by_another() -> None:
    """Whatever it failed at."""
    world = World("A=h:1", health=HealthRules(fail_max=1))
    fail_in_a_row(world, "A", K.REFUSED, 1)
    for kind in (K.CLOSED, K.REFUSED, K.ANSWER_TIMEOUT, K.LOCAL):
        world.ask()
        (last_resort,) = world.at("A")
        world.fail(last_resort, kind)
