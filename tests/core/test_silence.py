"""A service that owes answers and gives none falls silent, after its time and not before."""

from __future__ import annotations

from hapolicy.core.exchange import sent_late
from hapolicy.core.failures import FailureKind as K
from hapolicy.core.silence import SILENT_UNKNOWN_S
from tests.core.world import World


def test_it_is_silent_after_its_time_and_the_scheduler_is_told() -> None:
    """Once when it falls silent, once when it is heard again."""
    world = World("A=h:1", "B=h:2:20")
    world.ask()
    for seconds, silent, told in ((SILENT_UNKNOWN_S, False, []), (0.01, True, ["A"]), (1.0, True, ["A"])):
        world.wait(seconds)
        world["A"].look(world.now)
        assert (silent, told) == (world["A"].silent, world.reordered)
    world.answer_all()
    assert (False, ["A", "A"]) == (world["A"].silent, world.reordered)


def test_what_owes_nothing_is_not_silent() -> None:
    """Nobody asked it, its only request failed, or what it owes is older than its latest answer: that may be hard."""
    world = World("A=h:1", "B=h:2:20")
    assert 0.0 == world["A"].silent_for_s(world.now)
    world.ask()
    world.fail(world.at("A")[0], K.REFUSED)
    world.wait(60)
    assert 0.0 == world["A"].silent_for_s(world.now)
    world = World("A=h:1", "B=h:2:20")
    world.ask()
    world.ask()
    world.answer(world.at("A")[1])
    world.wait(60)
    assert 0.0 == world["A"].silent_for_s(world.now)


def test_what_is_sent_late_is_owed_from_then_on() -> None:
    """The process stood still in between, which is no silence of the service."""
    world = World("A=h:1")
    world.ask()
    began = world.now
    world.wait(60)
    sent_late(world.upstreams, began, world.now)
    world.wait(0.5)
    assert 0.5 == world["A"].silent_for_s(world.now)


def test_who_failed_at_all_it_was_asked_owes_nothing() -> None:
    """Its next request has all of its time, a minute later."""
    world = World("A=h:1", "B=h:2:20")
    world.ask()
    world.fail(world.at("A")[0], K.REFUSED)
    world.wait(60)
    world.ask()
    world.wait(SILENT_UNKNOWN_S)
    world["A"].look(world.now)
    assert not world["A"].silent
