"""Who is asked, in which order: tiers by prio, smooth weighted round-robin within a tier.

Lower prio first, as numbers. Within a tier each pick adds to every member that is up its weight, takes the
member with the most, and subtracts the sum of the weights from it (nginx's algorithm, upstream round robin):
exact over every run of as many picks as the weights sum up to, and without bursts. While only some are
stalled, they have no turns, and are asked after the others. A change of who has turns starts the count afresh, so it is
exact again from there on.

No I/O; of its members it knows only `Schedulable`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import groupby
from typing import Generic, Protocol, TypeVar


class Schedulable(Protocol):
    """What the scheduler needs of a member."""

    @property
    def prio(self) -> int:
        """Its tier: lower is asked first."""

    @property
    def weight(self) -> Fraction:
        """Its share within the tier."""

    @property
    def available(self) -> bool:
        """Whether it may be chosen now."""

    @property
    def stalled(self) -> bool:
        """Whether it had better be asked after its equals."""


T = TypeVar("T", bound=Schedulable)


class Scheduler(Generic[T]):
    """Orders the members for each request; thread-safe."""

    def __init__(self, members: Iterable[T]) -> None:
        self.members = tuple(sorted(members, key=_prio))
        self._tiers = [_Tier(tuple(tier)) for _, tier in groupby(self.members, key=_prio)]

    def candidates(self, favourite: T | None = None) -> Iterator[T]:
        """The available members, each once, in the order in which they are to be asked.

        `favourite`, while available, comes first and takes no turn: it answered the same mail before.
        """
        if favourite is not None and favourite in self.members and favourite.available:
            yield favourite
        else:
            favourite = None
        for tier in self._tiers:
            for member in tier.order():
                if member is not favourite:
                    yield member

    def peek(self) -> T | None:
        """Whose turn is next, without taking it."""
        return next((member for tier in self._tiers if (member := tier.peek()) is not None), None)


def _prio(member: Schedulable) -> int:
    return member.prio


class _Tier(Generic[T]):
    """The members of one prio."""

    def __init__(self, members: tuple[T, ...]) -> None:
        self._members = members
        self._weights = dict(zip(members, _as_integers([m.weight for m in members]), strict=True))
        self._lock = threading.Lock()  # guards _sharing, _total and _credit
        self._sharing: list[T] = []
        self._total = 0
        self._credit: dict[T, int] = {}

    def order(self) -> list[T]:
        """The available members: whose turn it is, then those whose turn is next."""
        up = [member for member in self._members if member.available]
        if len(up) < 2:
            return up
        sharing = [member for member in up if not member.stalled] or up
        with self._lock:
            if sharing != self._sharing:
                self._start_afresh(sharing)
            credit = self._credit
            for member in sharing:
                credit[member] += self._weights[member]
            order = sorted(sharing, key=credit.__getitem__, reverse=True)
            credit[order[0]] -= self._total
        return order if len(order) == len(up) else order + [member for member in up if member not in sharing]

    def peek(self) -> T | None:
        """Whose turn is next, None when nobody is available."""
        with self._lock:
            up = [(self._credit.get(member, 0) + self._weights[member], member) for member in self._members]
        return max((turn for turn in up if turn[1].available), key=lambda turn: turn[0], default=(0, None))[1]

    def _start_afresh(self, sharing: list[T]) -> None:
        self._sharing = sharing
        self._total = sum(self._weights[member] for member in sharing)
        self._credit = dict.fromkeys(sharing, 0)


def _as_integers(weights: list[Fraction]) -> list[int]:
    """The same proportions in whole numbers: decimals would drift."""
    common = math.lcm(*(weight.denominator for weight in weights))
    return [int(weight * common) for weight in weights]
