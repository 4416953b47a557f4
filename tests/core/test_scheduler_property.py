"""Weights: exact over any window, whatever was before."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from hapolicy.core.scheduler import Scheduler


@dataclass(eq=False)
class Member:
    """A service as the scheduler sees one."""

    weight: Fraction
    prio: int = 10
    available: bool = True
    stalled: bool = False


weights = st.one_of(
    st.integers(1, 20).map(Fraction),
    st.integers(1, 30).map(lambda tenths: Fraction(tenths, 10)),
    st.sampled_from(["0.25", "0.125", "2.5", "1.333"]).map(Fraction),
)
tiers = st.lists(weights.map(Member), min_size=1, max_size=6)


def first(scheduler: Scheduler[Member]) -> Member | None:
    """Who is asked first."""
    return next(iter(scheduler.candidates()), None)


def shares(members: list[Member]) -> Counter[Member]:
    """In how many of the fewest possible requests each is to come first."""
    common = math.lcm(*(member.weight.denominator for member in members))
    whole = {member: int(member.weight * common) for member in members}
    divisor = math.gcd(*whole.values())
    return Counter({member: share // divisor for member, share in whole.items()})


@given(tiers, st.integers(0, 300))
def test_exact_over_any_window(members: list[Member], start: int) -> None:
    """As many requests as the weights sum up to are shared exactly, wherever one begins to count."""
    scheduler = Scheduler(members)
    expected = shares(members)
    for _ in range(start):
        first(scheduler)
    assert expected == Counter(first(scheduler) for _ in range(expected.total()))


@given(tiers, st.data(), st.integers(0, 50))
def test_exact_again_after_any_change(members: list[Member], data: st.DataObject, start: int) -> None:
    """Once who is up no longer changes, those who are up share exactly, whatever happened before."""
    scheduler = Scheduler(members)
    for _ in range(data.draw(st.integers(0, 6), "changes")):
        for member in members:
            member.available = data.draw(st.booleans(), "up")
        for _ in range(data.draw(st.integers(0, 12), "requests")):
            first(scheduler)
    up = [member for member in members if member.available]
    for _ in range(start):
        first(scheduler)
    if not up:
        assert first(scheduler) is None
        return
    expected = shares(up)
    assert expected == Counter(first(scheduler) for _ in range(expected.total()))


@given(tiers)
def test_no_bursts(members: list[Member]) -> None:
    """At no time is one more than a turn ahead of its share, or behind by more than there are members."""
    scheduler = Scheduler(members)
    expected = shares(members)
    total = expected.total()
    found: Counter[Member | None] = Counter()
    for number in range(1, min(total, 300) + 1):
        found[first(scheduler)] += 1
        for member in members:
            ahead = found[member] - Fraction(number * expected[member], total)
            assert -len(members) < ahead < len(members)


@given(st.lists(st.tuples(weights, st.integers(1, 3), st.booleans()), max_size=8), st.data())
def test_each_candidate_once_and_in_order(given_members: list[tuple[Fraction, int, bool]], data: st.DataObject) -> None:
    """All who are up, nobody else, nobody twice, lower prio first, but for a favourite that is up."""
    members = [Member(*values) for values in given_members]
    scheduler = Scheduler(members)
    for _ in range(5):
        favourite = data.draw(st.sampled_from([None, *members]), "favourite")
        found = list(scheduler.candidates(favourite))
        assert {member for member in members if member.available} == set(found)
        assert len(set(found)) == len(found)
        if favourite is not None and favourite.available:
            assert favourite is found.pop(0)
        assert sorted(member.prio for member in found) == [member.prio for member in found]
