"""Who is asked, in which order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import pytest

from hapolicy.core.scheduler import Scheduler


@dataclass(eq=False)
class Member:
    """A service as the scheduler sees one."""

    name: str
    prio: int = 10
    weight: Fraction = Fraction(1)
    available: bool = True
    stalled: bool = False


def members(**weights: str) -> list[Member]:
    """Members of one tier."""
    return [Member(name, weight=Fraction(weight)) for name, weight in weights.items()]


def order(scheduler: Scheduler[Member], favourite: Member | None = None) -> str:
    """The names of the candidates for one request."""
    return "".join(member.name for member in scheduler.candidates(favourite))


def picks(scheduler: Scheduler[Member], times: int) -> str:
    """The names of those who come first."""
    return "".join(next(scheduler.candidates()).name for _ in range(times))


def test_prios_are_numbers() -> None:
    """9 is asked before 10, and both before 100, unlike in 1.00."""
    given = [Member("d", 100), Member("c", 10), Member("b", 9), Member("a", -1)]
    assert "abcd" == order(Scheduler(given))


def test_equal_weights_take_turns() -> None:
    """In the order in which they were defined."""
    assert "abcabcabc" == picks(Scheduler(members(a="1", b="1", c="1")), 9)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"a": "5", "b": "1", "c": "1"}, "aabacaa"),  # the example in nginx's change log
        ({"a": "4", "b": "2", "c": "1"}, "abacaba"),
        ({"a": "2", "b": "1"}, "aba"),
        ({"a": "0.2", "b": "0.1"}, "aba"),
        ({"a": "2.5", "b": "0.5", "c": "0.5"}, "aabacaa"),
        ({"a": "1", "b": "1"}, "ab"),
    ],
)
def test_known_sequences(weights: dict[str, str], expected: str) -> None:
    """Weights give nginx's sequence, without bursts, over and over."""
    assert expected * 3 == picks(Scheduler(members(**weights)), 3 * len(expected))


def test_the_rest_of_the_tier_follows_then_the_next_tier() -> None:
    """Each candidate comes once; those of a lower prio number always first."""
    scheduler = Scheduler([*members(a="2", b="1"), Member("y", 20), Member("z", 30)])
    assert ["abyz", "bayz", "abyz"] == [order(scheduler) for _ in range(3)]


def test_who_is_down_is_no_candidate() -> None:
    """Neither in its own tier nor as a whole tier; nobody is left when all are down."""
    a, b, y = given = [Member("a"), Member("b"), Member("y", 20)]
    scheduler = Scheduler(given)
    a.available = False
    assert "by" == order(scheduler)
    b.available = False
    assert "y" == order(scheduler)
    y.available = False
    assert "" == order(scheduler)
    a.available = True
    assert "a" == order(scheduler)


def test_those_who_are_up_stay_exact_among_themselves() -> None:
    """With one of three down the other two share by their weights, at once."""
    given = members(a="3", b="2", c="1")
    scheduler = Scheduler(given)
    picks(scheduler, 4)
    given[1].available = False
    assert Counter(a=3, c=1) == Counter(picks(scheduler, 4))
    given[1].available = True
    assert Counter(a=3, b=2, c=1) == Counter(picks(scheduler, 6))


def test_back_from_being_alone() -> None:
    """A time alone in its tier earns a member no debt."""
    given = members(a="1", b="1")
    scheduler = Scheduler(given)
    picks(scheduler, 1)
    given[1].available = False
    assert "a" * 100 == picks(scheduler, 100)
    given[1].available = True
    assert Counter(a=5, b=5) == Counter(picks(scheduler, 10))


def test_who_is_stalled_is_asked_after_its_equals() -> None:
    """But before the next tier; it has neither debt nor credit when it is well again."""
    given = [Member("a"), Member("b"), Member("c"), Member("y", 20)]
    scheduler = Scheduler(given)
    given[0].stalled = True
    assert ["bcay", "cbay", "bcay"] == [order(scheduler) for _ in range(3)]
    given[0].stalled = False
    assert "abcabc" == picks(scheduler, 6)


@pytest.mark.parametrize("weights", [("1", "1", "1"), ("2", "1", "1"), ("1", "2", "1"), ("3", "1", "5")])
def test_those_who_are_not_stalled_share_by_their_weights(weights: tuple[str, str, str]) -> None:
    """The turns of who is stalled do not all go to one neighbour; where all are stalled, nothing changes."""
    a, b, c = given = members(**dict(zip("abc", weights, strict=True)))
    scheduler = Scheduler(given)
    a.stalled = True
    total = int(b.weight + c.weight)
    assert Counter(b=10 * int(b.weight), c=10 * int(c.weight)) == Counter(picks(scheduler, 10 * total))
    b.stalled = c.stalled = True
    everyone = {member.name: int(member.weight) for member in given}
    assert Counter(everyone) == Counter(picks(scheduler, sum(everyone.values())))


def test_weights_over_300_requests() -> None:
    """2:1 is 200 and 100 of 300."""
    assert Counter(a=200, b=100) == Counter(picks(Scheduler(members(a="2", b="1")), 300))


def test_decimal_weights_do_not_drift() -> None:
    """0.1 and 0.2, which no float holds, are exact over 30,000 requests."""
    assert Counter(a=10_000, b=20_000) == Counter(picks(Scheduler(members(a="0.1", b="0.2")), 30_000))


def test_a_favourite_comes_first_and_takes_no_turn() -> None:
    """Whoever answered this mail is asked first; the others' turns go on as if nothing had been."""
    given = members(a="1", b="1", c="1")
    scheduler = Scheduler(given)
    found = []
    for _ in range(3):
        found.append(picks(scheduler, 1))
        for _ in range(5):
            assert given[2] is next(scheduler.candidates(given[2]))
    assert ["a", "b", "c"] == found


def test_a_favourite_is_a_candidate_once() -> None:
    """When it fails, the others follow, without it."""
    given = members(a="1", b="1", c="1")
    found = order(Scheduler(given), given[2])
    assert "c" == found[0]
    assert ["a", "b", "c"] == sorted(found)


def test_a_favourite_of_a_later_tier() -> None:
    """Stays with its mail while it is up, though a better tier is back."""
    given = [Member("a"), Member("z", 20)]
    assert "za" == order(Scheduler(given), given[1])


def test_a_favourite_that_is_down_or_unknown_is_none() -> None:
    """It is skipped, and so is one that a reload has taken away."""
    given = members(a="1", b="1")
    scheduler = Scheduler(given)
    given[1].available = False
    assert "a" == order(scheduler, given[1])
    assert "a" == order(scheduler, Member("gone"))


def test_later_tiers_are_looked_at_when_they_are_needed() -> None:
    """A member that goes down while an earlier tier is asked is no candidate any more, and takes no turn."""
    given = [Member("a"), Member("y", 20), Member("z", 20)]
    candidates = Scheduler(given).candidates()
    assert "a" == next(candidates).name
    given[1].available = False
    assert ["z"] == [member.name for member in candidates]


def test_only_asked_tiers_take_turns() -> None:
    """Requests that the first tier answered do not turn the wheel of the second."""
    scheduler = Scheduler([Member("a"), *[Member(name, 20) for name in "yz"]])
    assert "ayz" == order(scheduler)
    for _ in range(5):
        assert ["a"] == [member.name for member in islice(scheduler.candidates(), 1)]
    assert "azy" == order(scheduler)


def test_peek() -> None:
    """Tells whose turn is next, as often as it is asked, without taking it."""
    given = [*members(a="5", b="1", c="1"), Member("z", 20)]
    scheduler = Scheduler(given)
    found = ""
    for _ in range(14):
        next_one = scheduler.peek()
        assert next_one is scheduler.peek()
        assert next_one is next(scheduler.candidates())
        found += next_one.name
    assert "aabacaa" * 2 == found
    for member in given:
        member.available = False
    assert scheduler.peek() is None


def test_members_in_order() -> None:
    """All members, up or not, by prio."""
    given = [Member("z", 20, available=False), Member("a")]
    assert ["a", "z"] == [member.name for member in Scheduler(given).members]
    assert [] == list(Scheduler([]).candidates())
