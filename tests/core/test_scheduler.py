"""Who is asked, in which order."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hapolicy.core.scheduler import Scheduler

weights = st.lists(
    st.integers(1, 9).map(Fraction) | st.fractions(Fraction(1, 4), 3, max_denominator=4), min_size=1, max_size=5
)


class Member:
    """A service, as far as the scheduler knows it."""

    def __init__(self, name: str, weight: Fraction | int = 1, prio: int = 10) -> None:
        self.name = name
        self.weight = Fraction(weight)
        self.prio = prio
        self.available = True
        self.silent = False
        self.full = False

    def __repr__(self) -> str:
        return self.name


def members(*given_weights: Fraction | int) -> list[Member]:
    """One tier."""
    return [Member(f"M{number}", weight) for number, weight in enumerate(given_weights)]


def turns(scheduler: Scheduler[Member], count: int) -> list[str]:
    """Whose turns come."""
    return [str(scheduler.turn()) for _ in range(count)]


@given(weights)
def test_exact_over_every_window(given_weights: list[Fraction]) -> None:
    """Of as many turns as the weights sum up to, each member has exactly its share, wherever the window begins."""
    tier = members(*given_weights)
    common = 1
    for weight in given_weights:
        common = common * weight.denominator
    total = int(sum(given_weights) * common)
    taken = turns(Scheduler(tier), 3 * total)
    for start in range(0, 2 * total, max(1, total // 5)):
        counts = Counter(taken[start : start + total])
        assert {m.name: int(m.weight * common) for m in tier} == dict(counts)


def test_smooth() -> None:
    """No bursts: nginx's own example."""
    assert ["M0", "M0", "M1", "M0", "M2", "M0", "M0"] == turns(Scheduler(members(5, 1, 1)), 7)


def test_weights_that_sum_up_to_much() -> None:
    """Are not kept as a cycle; the shares are right all the same, and there is another one for the next try."""
    small, large = tier = members(1, Fraction(999_999_999, 1000))
    scheduler = Scheduler(tier)
    taken = Counter(turns(scheduler, 3000))
    assert 3000 == taken["M1"] + taken["M0"]
    assert taken["M0"] <= 1
    assert (small, large) == (scheduler.others([large]), scheduler.others([small]))


def test_lower_prio_first_as_numbers() -> None:
    """2 before 10; the next tier only when nobody of the former is left."""
    a, b, c = Member("A", prio=2), Member("B", prio=10), Member("C", prio=-1)
    scheduler = Scheduler([a, b, c])
    assert ["C", "C"] == turns(scheduler, 2)
    c.available = False
    scheduler.changed()
    assert ["A"] == turns(scheduler, 1)
    assert b is scheduler.others([a])
    assert None is scheduler.others([a, b])


def test_nobody_is_available() -> None:
    """Then nobody has a turn."""
    (one,) = tier = members(1)
    one.available = False
    assert None is Scheduler(tier).turn()


def test_silent_ones_come_last_in_their_tier() -> None:
    """They have no turns while another one is well, and are still there when it is not."""
    a, b = Member("A"), Member("B")
    later = Member("C", prio=20)
    scheduler = Scheduler([a, b, later])
    a.silent = True
    scheduler.changed()
    assert ["B", "B", "B"] == turns(scheduler, 3)
    assert a is scheduler.others([b])
    b.available = False
    scheduler.changed()
    assert ["A"] == turns(scheduler, 1)


def test_full_ones_are_passed_over_while_another_has_room() -> None:
    """Of its tier, then of the next; when all are full, the first one's queue it is."""
    a, b, c = Member("A"), Member("B"), Member("C", prio=20)
    scheduler = Scheduler([a, b, c])
    a.full = True
    assert {"B"} == set(turns(scheduler, 4))
    b.full = True
    assert {"C"} == set(turns(scheduler, 4))
    c.full = True
    assert {"A", "B"} >= set(turns(scheduler, 4))


@given(weights, st.lists(st.integers(0, 4), max_size=40))
def test_changes_at_every_request_starve_nobody(given_weights: list[Fraction], flapping: list[int]) -> None:
    """Whoever is available has turns, however often another one comes and goes."""
    tier = members(*given_weights, 1, 1)
    scheduler = Scheduler(tier)
    taken: Counter[str] = Counter()
    for number in [*flapping, *[len(given_weights)] * 100]:
        tier[number % len(given_weights)].available ^= True
        scheduler.changed()
        taken[str(scheduler.turn())] += 1
    assert taken[tier[-1].name] > 0
    assert taken[tier[-2].name] > 0


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7, 20])
@pytest.mark.parametrize("given_weights", [(1, 1), (2, 1), (3, 2, 1), (5, 1, 1), (501, 500, 1)])
def test_changes_leave_the_shares_as_they_are(given_weights: tuple[int, ...], every: int) -> None:
    """However often they come: whoever has missed a turn keeps its claim to it. Also of more turns than are kept."""
    tier = members(*given_weights)
    scheduler = Scheduler(tier)
    taken: Counter[str] = Counter()
    for number in range(1, 2005):
        taken[str(scheduler.turn())] += 1
        if number % every == 0:
            scheduler.changed()
        for member in tier:
            assert abs(taken[member.name] - number * member.weight / sum(given_weights)) < 1


@given(weights, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=20))
def test_whatever_has_changed_the_shares_are_exact_before_long(
    given_weights: list[Fraction], changes: list[tuple[int, int]]
) -> None:
    """From the second round on; till then nobody is served more than two turns before its time."""
    tier = members(*given_weights)
    scheduler = Scheduler(tier)
    for index, number in changes:
        tier[index % len(tier)].available ^= True
        scheduler.changed()
        turns(scheduler, number)
    sharing = [member for member in tier if member.available]
    if not sharing:
        return
    weight = sum(member.weight for member in sharing)
    total = int(weight * math.lcm(*(member.weight.denominator for member in sharing)))
    first, later = Counter(turns(scheduler, total)), Counter(turns(scheduler, 2 * total))
    for member in sharing:
        assert 2 * total * member.weight / weight == later[member.name]
        assert abs(first[member.name] - total * member.weight / weight) <= 2


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_another_scheduler_goes_on_with_what_is_owed(every: int) -> None:
    """After each reload; a member that is new is owed nothing, one that has gone is forgotten."""
    tier, gone = members(3, 2, 1), Member("gone", 6)
    scheduler = Scheduler([*tier, gone])
    gone.available = False
    taken: Counter[str] = Counter()
    for number in range(1, 601):
        taken[str(scheduler.turn())] += 1
        if number % every == 0:
            scheduler = Scheduler(tier, scheduler.owed())
        for member in tier:
            assert abs(taken[member.name] - number * member.weight / 6) < 1
    assert set(tier) == set(scheduler.owed())


def test_what_is_owed_is_told_without_a_change() -> None:
    """Also where the turns are not kept."""
    for given_weights in ((2, 1), (501, 500)):
        told, untold = Scheduler(members(*given_weights)), Scheduler(members(*given_weights))
        taken = []
        for _ in range(20):
            taken.append(str(told.turn()))
            told.owed()
        assert turns(untold, 20) == taken


def test_who_comes_up_waits_for_those_who_were_before_it() -> None:
    """It has missed nothing, and they have."""
    tier = members(1, 1, 1)
    tier[2].available = False
    scheduler = Scheduler(tier)
    assert ["M0"] == turns(scheduler, 1)
    tier[2].available = True
    scheduler.changed()
    assert ["M1", "M2", "M0"] == turns(scheduler, 3)


def test_the_next_try_goes_to_whose_turn_comes_next() -> None:
    """And so does a hedge; before anybody has had a turn, to the first."""
    one, two, three = tier = members(1, 1, 1)
    scheduler = Scheduler(tier)
    assert one is scheduler.others(())
    assert ["M0", "M1"] == turns(scheduler, 2)
    assert [three, one] == [scheduler.others([two]), scheduler.others([two, three])]


def test_a_change_goes_on_with_whose_turn_it_is() -> None:
    """Equals that see one change a request still take turns."""
    tier = members(1, 1, 1)
    scheduler = Scheduler(tier)
    taken = []
    for _ in range(9):
        taken.append(str(scheduler.turn()))
        scheduler.changed()
    assert ["M0", "M1", "M2"] * 3 == taken


def test_who_fell_silent_is_asked_last_from_that_moment_on() -> None:
    """Also by a request that takes no turn: a hedge, or the next try."""
    one, other = tier = members(1, 1)
    scheduler = Scheduler(tier)
    for silent, first in ((one, other), (other, one)):
        turns(scheduler, 4)
        silent.silent = True
        scheduler.changed()
        assert scheduler.others(()) is first
        silent.silent = False
        scheduler.changed()
