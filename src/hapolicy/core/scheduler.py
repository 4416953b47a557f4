"""Who is asked, in which order: tiers by prio, within a tier turns by weight, or affinity.

Lower prio first, as numbers. Turns are smooth weighted round-robin (nginx's algorithm, upstream round robin): each
pick adds to every member its weight, takes the member with the most, and subtracts the sum of the weights from it.
That repeats itself after as many picks as the weights sum up to, so it is made once, as a cycle, and again when
somebody comes or goes. What a member is owed at that moment it keeps, so shares hold however often that is.

A silent member is asked after the others of its tier; a full one is passed over while another one has room.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Generic, Protocol, TypeVar

from hapolicy.core.affinity import score

_CYCLE_MAX = 1000  # of weights that sum up to more, the turns are not kept
_FINE = 1000  # what is owed is no whole number of weights: it is counted in thousandths


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
    """Chooses among the members for each request. `owed` is what another one said of them, before a reload."""

    def __init__(self, members: Iterable[T], owed: Mapping[T, float] | None = None) -> None:
        self.members: tuple[T, ...] = tuple(sorted(members, key=lambda member: member.prio))
        self._tiers = [
            _Tier(tuple(tier), owed or {})
            for _, tier in itertools.groupby(self.members, key=lambda member: member.prio)
        ]
        self._taking: _Tier[T] | None = None  # the first tier with anybody available; None: to be found

    def changed(self) -> None:
        """A member came up, went down, fell silent, or has another weight."""
        self._taking = None

    def owed(self) -> dict[T, float]:
        """By how many turns each member is behind its share now."""
        return {member: turns for tier in self._tiers for member, turns in tier.owed().items()}

    def turn(self) -> T | None:
        """Whose turn it is, None when nobody is available. Takes the turn."""
        tier = self._taking or self._begin_anew()
        if tier is None:
            return None
        _, member = tier.next()
        return self.others(()) if member.full else member

    def first(self, key: bytes | None) -> T | None:
        """Whose `key` is; without one, whose turn it is."""
        return self.turn() if key is None else self.others((), key)

    def _begin_anew(self) -> _Tier[T] | None:
        for tier in self._tiers:
            tier.begin_anew()
        self._taking = next((tier for tier in self._tiers if tier.sharing), None)
        return self._taking

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

    def __init__(self, members: tuple[T, ...], owed: Mapping[T, float]) -> None:
        self._members = members
        self.sharing: tuple[T, ...] = ()  # those that have turns
        self.next: Callable[[], tuple[int, T]]  # how many of `_turns` have been taken, and whose turn it is
        self._turns: list[T] = []  # until what members are owed is evened out, and then a cycle; not kept if too long
        self._cycle_at = 0  # where the cycle begins
        self._credit: list[int] = []  # of those that have turns, in parts of `_total`
        self._total = 1
        self._owed = {member: owed.get(member, 0.0) for member in members}  # at the last change

    def order(self, key: bytes | None) -> list[T]:
        """All members: by `key` or by turns, the silent ones last."""
        if key is None:
            ordered = list(dict.fromkeys([*self._coming(), *self._members]))
            return sorted(ordered, key=lambda member: member.silent)
        ranks = {member: -score(member.name, key, float(member.weight)) for member in self._members}
        return sorted(self._members, key=lambda member: (member.silent, ranks[member]))

    def begin_anew(self) -> None:
        """Somebody came or went: other turns, which begin with what each member is owed."""
        self._owed = self.owed()
        up = [member for member in self._members if member.available]
        self.sharing = tuple([member for member in up if not member.silent] or up)
        self._turns, self._credit = [], []
        if not self.sharing:
            return
        weights = _as_integers([member.weight for member in self.sharing])
        length, weights = sum(weights), [weight * _FINE for weight in weights]
        self._total = sum(weights)
        self._credit = [round(self._owed[member] * self._total) for member in self.sharing]
        turns = _smooth(self.sharing, weights, self._credit)
        if length > _CYCLE_MAX:
            self.next = ((0, member) for member in turns).__next__
            return
        self._turns, self._cycle_at = _until_it_repeats(turns, self._credit, length)
        self._go_on_at(0)

    def owed(self) -> dict[T, float]:
        """By how many turns each is behind its share; at most one, either way."""
        if self._turns:
            taken, cycle = self._taken(), self._turns[self._cycle_at :]
            due = [taken * cycle.count(m) / len(cycle) - self._turns[:taken].count(m) for m in self.sharing]
            owed = [self._owed[member] + turns for member, turns in zip(self.sharing, due, strict=True)]
        else:
            owed = [credit / self._total for credit in self._credit]
        now = {member: max(-1.0, min(1.0, turns)) for member, turns in zip(self.sharing, owed, strict=True)}
        return self._owed | now

    def _coming(self) -> Sequence[T]:
        """Those who have turns, in the order in which they come."""
        if not self._turns:
            return self.sharing
        return self._turns[self._taken() :] + self._turns[self._cycle_at :]

    def _taken(self) -> int:
        taken = self.next()[0]
        self._go_on_at(taken)
        return taken

    def _go_on_at(self, taken: int) -> None:
        turns = list(enumerate(self._turns))
        self.next = itertools.chain(turns[taken:], itertools.cycle(turns[self._cycle_at :])).__next__


def _smooth(members: Sequence[T], weights: Sequence[int], credit: list[int]) -> Iterator[T]:
    """Turns without an end; keeps `credit`."""
    total = sum(weights)
    while True:
        for index, weight in enumerate(weights):
            credit[index] += weight
        best = credit.index(max(credit))
        credit[best] -= total
        yield members[best]


def _until_it_repeats(turns: Iterator[T], credit: Sequence[int], length: int) -> tuple[list[T], int]:
    """Turns, and from where on they are a cycle of that length: one that leaves each `credit` as it was."""
    taken: list[T] = []
    while True:
        before = list(credit)
        taken += itertools.islice(turns, length)
        if before == credit:
            return taken, len(taken) - length


def _as_integers(weights: Sequence[Fraction]) -> list[int]:
    """The same proportions in the smallest whole numbers: decimals would drift."""
    common = math.lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * common) for weight in weights]
    divisor = math.gcd(*whole)
    return [number // divisor for number in whole]
