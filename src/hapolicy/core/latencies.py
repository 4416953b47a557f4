"""Durations in buckets: since the start, and over the last minute."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Upper bounds in seconds, 1-2-5 a decade from 100 µs: below is loopback, above is every timeout there is.
BOUNDS_S = (*(digit * 10.0**power for power in range(-4, 2) for digit in (1, 2, 5)), 100.0, math.inf)

SLICE_S = 2.0
_SLICES = 30  # the last minute


@dataclass
class _Slice:
    """The durations of one slice of time: how many ended within each bound, and the longest."""

    index: int
    counts: list[int]
    longest_s: float = 0.0


class Latencies:
    """How long a service took to answer."""

    def __init__(self) -> None:
        self.counts = [0] * len(BOUNDS_S)
        self.sum_s = 0.0
        self._slices: list[_Slice] = []
        self._slice: _Slice  # the newest
        self._slice_ends = -math.inf

    def add(self, duration_s: float, now: float) -> None:
        """An answer took so long."""
        bucket = bisect_left(BOUNDS_S, duration_s)
        self.counts[bucket] += 1
        self.sum_s += duration_s
        if now >= self._slice_ends:
            self._begin_slice(now)
        current = self._slice
        current.counts[bucket] += 1
        if duration_s > current.longest_s:
            current.longest_s = duration_s

    def add_to_total(self, duration_s: float) -> None:
        """An answer that nobody waited for any more took so long: no measure of what is usual."""
        self.counts[bisect_left(BOUNDS_S, duration_s)] += 1
        self.sum_s += duration_s

    def minute(self, now: float) -> list[int]:
        """The buckets of the last minute."""
        total = [0] * len(BOUNDS_S)
        for piece in self._recent(now):
            total = [a + b for a, b in zip(total, piece.counts, strict=True)]
        return total

    def longest_s(self, now: float) -> float:
        """The longest of the last minute."""
        return max((piece.longest_s for piece in self._recent(now)), default=0.0)

    def sparkline(self, now: float) -> list[float | None]:
        """The medians of the last minute's slices, oldest first; None where nothing was asked."""
        newest = _index(now)
        medians: list[float | None] = [None] * _SLICES
        for piece in self._recent(now):
            medians[piece.index - newest - 1] = quantile(piece.counts, 0.5)
        return medians

    def _begin_slice(self, now: float) -> None:
        index = _index(now)
        self._slice = _Slice(index, [0] * len(BOUNDS_S))
        self._slices = [*self._recent(now), self._slice]
        self._slice_ends = (index + 1) * SLICE_S

    def _recent(self, now: float) -> Iterator[_Slice]:
        oldest = _index(now) - _SLICES
        return (piece for piece in self._slices if piece.index > oldest)


def _index(now: float) -> int:
    return int(now // SLICE_S)


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


def merged_sparkline(lines: Sequence[Sequence[float | None]]) -> list[float | None]:
    """One line of several workers': the mean where several have a value."""
    merged: list[float | None] = []
    for values in zip(*lines, strict=True):
        known = [value for value in values if value is not None]
        merged.append(sum(known) / len(known) if known else None)
    return merged
