"""What is counted: plain integers and short rings, cheap enough for every request."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

# Upper bounds in seconds, 1-2-5 a decade from 100 µs: below is loopback, above is every timeout there is.
BOUNDS_S = (*(digit * 10.0**power for power in range(-4, 2) for digit in (1, 2, 5)), 100.0, math.inf)

SLICE_S = 2.0
_SLICES = 30  # the last minute


@dataclass
class _Slice:
    """The durations of one slice of time: how many ended within each bound."""

    index: int
    counts: list[int]


@dataclass(frozen=True)
class Change:
    """A service went up or down. `when` in seconds since the epoch."""

    when: float
    event: str
    fields: Mapping[str, object]


class Changes:
    """The last changes of state, oldest first; thread-safe, since a deque's ends are. Each is told to `on_change`."""

    _KEPT = 50
    _EVENTS = frozenset({"service.down", "service.up", "service.draining", "service.ready"})

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._changes: deque[Change] = deque(maxlen=self._KEPT)
        self._on_change = on_change

    def note(self, event: str, fields: Mapping[str, object]) -> None:
        """Keep `event` when it is a change of state."""
        if event in self._EVENTS:
            self._changes.append(Change(time.time(), event, fields))
            self._on_change()

    def __iter__(self) -> Iterator[Change]:
        return iter(self._changes.copy())


class Tally:
    """Requests by what became of them and by protocol state; thread-safe."""

    _STATES = frozenset(["CONNECT", "EHLO", "HELO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE", "VRFY", "ETRN"])

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _counts
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, outcome: str, state: str) -> None:
        """One request ended so. What is no state of Postfix counts as "other": strangers must not add names."""
        key = outcome, state if state in self._STATES else "other"
        with self._lock:
            self._counts[key] += 1

    def counts(self) -> dict[tuple[str, str], int]:
        """A consistent copy."""
        with self._lock:
            return dict(self._counts)


class Latencies:
    """Durations in buckets: since the start, and over the last minute. Its owner's lock guards it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.counts = [0] * len(BOUNDS_S)
        self.sum_s = 0.0
        self._slices: list[_Slice] = []
        self._slice_ends = -math.inf

    def add(self, duration_s: float) -> None:
        """One exchange took so long."""
        bucket = bisect_left(BOUNDS_S, duration_s)
        self.counts[bucket] += 1
        self.sum_s += duration_s
        if self._now() >= self._slice_ends:
            self._begin_slice()
        self._slices[-1].counts[bucket] += 1

    def copy(self) -> Latencies:
        """As it is now."""
        twin = Latencies(self._now)
        twin.counts, twin.sum_s = self.counts.copy(), self.sum_s
        twin._slices = [_Slice(piece.index, piece.counts.copy()) for piece in self._recent()]
        return twin

    def minute(self) -> list[int]:
        """The buckets of the last minute."""
        total = [0] * len(BOUNDS_S)
        for piece in self._recent():
            total = [a + b for a, b in zip(total, piece.counts, strict=True)]
        return total

    def sparkline(self) -> list[float | None]:
        """The median of each slice of the last minute in seconds, oldest first; None where nothing was asked."""
        newest = self._index()
        medians: list[float | None] = [None] * _SLICES
        for piece in self._recent():
            medians[piece.index - newest - 1] = quantile(piece.counts, 0.5)
        return medians

    def _begin_slice(self) -> None:
        index = self._index()
        self._slices = [*self._recent(), _Slice(index, [0] * len(BOUNDS_S))]
        self._slice_ends = (index + 1) * SLICE_S

    def _recent(self) -> Iterator[_Slice]:
        oldest = self._index() - _SLICES
        return (piece for piece in self._slices if piece.index > oldest)

    def _index(self) -> int:
        return int(self._now() // SLICE_S)


def quantile(counts: Sequence[int], q: float) -> float | None:
    """The q-quantile in seconds of durations counted within `BOUNDS_S`, linear within a bucket; None of nothing."""
    total = sum(counts)
    if not total:
        return None
    rank, below = q * total, 0
    for index, count in enumerate(counts):
        if count and below + count >= rank:
            lower = BOUNDS_S[index - 1] if index else 0.0
            upper = BOUNDS_S[index] if index + 1 < len(BOUNDS_S) else lower
            return lower + (upper - lower) * (rank - below) / count
        below += count
    return BOUNDS_S[-2]
