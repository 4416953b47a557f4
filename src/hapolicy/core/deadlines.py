"""What must be over by a time: cheap while, as is usual, what is added last ends last."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Items, each with the time at which it is over.

    Timeouts are constants, so the order of adding is the order of ending, and only the first has to be looked at
    (a reload that shortens a timeout makes it look at all, until those from before are gone).
    """

    __slots__ = ("_at", "_last_at", "_ordered")

    def __init__(self) -> None:
        self._at: dict[T, float] = {}
        self._last_at = -math.inf
        self._ordered = True

    def add(self, item: T, at: float) -> None:
        """`item` is to be over at `at`."""
        self._at[item] = at
        if at < self._last_at:
            self._ordered = False
        self._last_at = at

    def discard(self, item: T) -> None:
        """`item` is over."""
        self._at.pop(item, None)
        if not self._at:
            self._last_at, self._ordered = -math.inf, True

    def expired(self, now: float) -> list[T]:
        """All whose time is over, first added first; they stay until they are discarded."""
        found = []
        for item, at in self._at.items():
            if at <= now:
                found.append(item)
            elif self._ordered:
                break
        return found

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[T]:
        return iter(self._at)

    def __contains__(self, item: T) -> bool:
        return item in self._at
