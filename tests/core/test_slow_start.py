"""A service that came up takes its share little by little; one that nobody asks is looked at."""

from __future__ import annotations

from collections import Counter

from hapolicy.core.failures import FailureKind as K
from hapolicy.core.rules import HealthRules
from tests.core.world import World


def shares(world: World, requests: int = 220) -> Counter[str]:
    """Who is asked of so many requests, each answered at once."""
    asked: Counter[str] = Counter()
    for upstream in world.upstreams:
        if upstream.grow(world.now):
            world.plan.scheduler.changed()
    for _ in range(requests):
        world.ask()
        asked[world.sent[0].upstream.name] += 1
        world.answer_all()
    return asked


def test_the_share_grows() -> None:
    """With slow-start=20, of two equals: a tenth of its weight at first, all of it after 20 s."""
    world = World("A=h:1,slow-start=20", "B=h:2")
    world["A"].trip(world.now)
    world.wait(1)
    assert {"B": 220} == shares(world)
    assert world.probe("A", None)
    grown = [shares(world)["A"]]
    for _ in range(4):
        world.wait(5)
        grown.append(shares(world)["A"])
    # 1/11, 3/13, 5/15, 8/18, 10/20 of the requests
    assert [20, 51, 73, 98, 110] == [round(count) for count in grown]


def test_without_it_the_whole_share_is_taken_at_once() -> None:
    """That is the default."""
    world = World("A=h:1", "B=h:2")
    world["A"].trip(world.now)
    world.wait(1)
    assert world.probe("A", None)
    assert {"A": 110, "B": 110} == shares(world)


def test_a_service_that_was_never_down_has_its_whole_share() -> None:
    """Slow start is for those that came back, not for the daemon's own start."""
    assert {"A": 110, "B": 110} == shares(World("A=h:1,slow-start=20", "B=h:2"))


def test_idle_checks_are_for_the_idle() -> None:
    """With --probe-every 60 a service that answers mail is not probed; one that died in a quiet night is found."""
    world = World("A=h:1", health=HealthRules(probe_every_s=60))
    for _ in range(10):
        world.wait(50)
        world.ask()
        world.answer_all()
        assert not world.probe("A", None)
    for _ in range(3):
        world.wait(60)
        assert world.probe("A", None)
    world.wait(60)
    assert world.probe("A", K.REFUSED)
    assert world["A"].state == "down"


def test_a_service_that_came_up_this_moment_has_its_share() -> None:
    """A worker judges by when it received, which is a moment before a probe of this turn was answered."""
    world = World("A=h:1")
    world["A"].trip(world.now)
    world["A"].reset(world.now)
    assert not world["A"].grow(world.now - 0.001)
