"""Who is asked, in which order: tiers by prio, within a tier turns by weight, or affinity.

Lower prio first, as numbers. Turns are smooth weighted round-robin (nginx's algorithm, upstream round robin): each
pick adds to every member its weight, takes the member with the most, and subtracts the sum of the weights from it.
That repeats itself after as many picks as the weights sum up to, so it is made once, as a cycle, and again when
somebody comes or goes.

A silent member is asked after the others of its tier; a full one is passed over while another one has room.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Generic, Protocol, TypeVar

from hapolicy.core.affinity import score

_CYCLE_MAX = 1000  # of weights that sum up to more, the turns are not kept


class Schedulable(Protocol):
    """What the scheduler needs of a member."""

    @property
    def name(self) -> str:
        """The same on every host and after every restart."""

    @property
    def prio(self) -> int:
        """Its tier: lower is asked first."""

    @property
    def weight(self) -> Fraction:
        """Its share within the tier, at this moment."""

    @property
    def available(self) -> bool:
        """Whether it may be asked now."""

    @property
    def silent(self) -> bool:
        """Whether the others of its tier are to be asked first."""

    @property
    def full(self) -> bool:
        """Whether it has no connection to spare."""


T = TypeVar("T", bound=Schedulable)


class Scheduler(Generic[T]):
    """Chooses among the members for each request."""

    def __init__(self, members: Iterable[T]) -> None:
        self.members: tuple[T, ...] = tuple(sorted(members, key=lambda member: member.prio))
        self._tiers = [
            _Tier(tuple(tier)) for _, tier in itertools.groupby(self.members, key=lambda member: member.prio)
        ]
        self._next: Callable[[], tuple[int, T]] | None = (
            None  # of the first tier with anybody available; None: to be made
        )

    def changed(self) -> None:
        """A member came up, went down, fell silent, or has another weight."""
        self._next = None

    def turn(self) -> T | None:
        """Whose turn it is, None when nobody is available. Takes the turn."""
        if self._next is None and not self._begin_anew():
            return None
        assert self._next is not None
        _, member = self._next()
        return self.others(()) if member.full else member

    def first(self, key: bytes | None) -> T | None:
        """Whose `key` is; without one, whose turn it is."""
        return self.turn() if key is None else self.others((), key)

    def _begin_anew(self) -> bool:
        for tier in self._tiers:
            tier.begin_anew()
        self._next = next((tier.next for tier in self._tiers if tier.sharing), None)
        return self._next is not None

    def others(self, tried: Collection[T], key: bytes | None = None) -> T | None:
        """The best one that is not among `tried`; takes no turn."""
        full = None
        for tier in self._tiers:
            for member in tier.order(key):
                if member.available and member not in tried:
                    if not member.full:
                        return member
                    full = full or member
        return full


class _Tier(Generic[T]):
    """The members of one prio."""

    def __init__(self, members: tuple[T, ...]) -> None:
        self._members = members
        self.sharing: tuple[T, ...] = ()  # those that have turns
        self._round: list[T] = []  # their turns, which then repeat themselves
        self.next: Callable[[], tuple[int, T]]  # how many of this round have been taken, and whose turn it is
        self._owed: dict[T, float] = {}  # turns that a member missed in rounds that were not finished

    def order(self, key: bytes | None) -> list[T]:
        """All members: by `key` or by turns, the silent ones last."""
        if key is None:
            ordered = list(dict.fromkeys([*self._coming(), *self._members]))
            return sorted(ordered, key=lambda member: member.silent)
        ranks = {member: -score(member.name, key, float(member.weight)) for member in self._members}
        return sorted(self._members, key=lambda member: (member.silent, ranks[member]))

    def begin_anew(self) -> None:
        """Somebody came or went: a new round, beginning with who has been served least of the one that is cut off."""
        coming = self._settle()
        up = [member for member in self._members if member.available]
        self.sharing = tuple([member for member in up if not member.silent] or up)
        if not self.sharing:
            self._round = []
            return
        weights = _as_integers([member.weight for member in self.sharing])
        turns, length = _smooth(self.sharing, weights), sum(weights)
        if length > _CYCLE_MAX:
            self._round = []
            self.next = ((0, member) for member in turns).__next__
            return
        round_ = [next(turns) for _ in range(length)]
        candidates = [*(member for member in coming if member in self.sharing), *round_]
        start = round_.index(max(candidates, key=lambda member: self._owed.get(member, 0.0)))
        self._round = round_[start:] + round_[:start]
        self.next = itertools.cycle(list(enumerate(self._round))).__next__

    def _settle(self) -> Sequence[T]:
        """Note who has missed turns in the round that is cut off; returns whose turns would have come."""
        if not self._round:
            return self.sharing
        taken, length = self.next()[0], len(self._round)
        for member in self.sharing:
            due = taken * self._round.count(member) / length - self._round[:taken].count(member)
            self._owed[member] = max(-1.0, min(1.0, self._owed.get(member, 0.0) + due))
        return self._round[taken:] + self._round[:taken]

    def _coming(self) -> Sequence[T]:
        """Those who have turns, in the order in which they come."""
        return [self.next()[1] for _ in self._round] or self.sharing  # a whole round: the next one is the same


def _smooth(members: Sequence[T], weights: Sequence[int]) -> Iterator[T]:
    """Turns without an end."""
    total, credit = sum(weights), [0] * len(members)
    while True:
        credit = [have + weight for have, weight in zip(credit, weights, strict=True)]
        best = credit.index(max(credit))
        credit[best] -= total
        yield members[best]


def _as_integers(weights: Sequence[Fraction]) -> list[int]:
    """The same proportions in the smallest whole numbers: decimals would drift."""
    common = math.lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * common) for weight in weights]
    divisor = math.gcd(*whole)
    return [number // divisor for number in whole]
