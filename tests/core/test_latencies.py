"""Durations in buckets."""

from __future__ import annotations

import random

import pytest

from hapolicy.core.latencies import BOUNDS_S, Latencies, merged_sparkline, quantile
from hapolicy.core.silence import SILENT_UNKNOWN_S, silent_after_s


def of(*durations_s: float, now: float = 1000.0) -> Latencies:
    """These, all at once."""
    latencies = Latencies()
    for duration_s in durations_s:
        latencies.add(duration_s, now)
    return latencies


@pytest.mark.parametrize("q", [0.5, 0.99])
def test_a_quantile_is_right_within_its_bucket(q: float) -> None:
    """1-2-5 a decade: never wrong by more than the bucket is wide."""
    rng = random.Random(3)
    durations = sorted(rng.uniform(0.001, 0.05) for _ in range(1000))
    found, exact = quantile(of(*durations).minute(1000.0), q), durations[int(q * 1000)]
    assert found is not None
    bounds = [0.0, *BOUNDS_S]
    bucket = next(index for index, bound in enumerate(bounds) if exact <= bound)
    assert bounds[bucket - 1] <= found <= bounds[bucket + 1]


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ({0: 4}, 0.5, 0.00005),  # half-way through the first bucket, which begins at 0
        ({1: 4}, 0.5, 0.00015),
        ({1: 4}, 1.0, 0.0002),
        ({1: 2, 3: 2}, 0.5, 0.0002),  # the last one of the lower half
        ({1: 2, 3: 2}, 0.75, 0.00075),
        ({1: 1, 2: 1, 4: 2}, 0.75, 0.0015),  # what is below counts, bucket by bucket
        ({-2: 2}, 0.5, 75.0),  # the last bound, 100 s
        ({-1: 2}, 0.5, 100.0),  # beyond it nothing more is known
        ({-1: 2}, 1.0, 100.0),
    ],
)
def test_a_quantile_is_linear_within_its_bucket(counts: dict[int, int], q: float, expected: float) -> None:
    """By hand."""
    row = [0] * len(BOUNDS_S)
    for index, count in counts.items():
        row[index] = count
    assert quantile(row, q) == pytest.approx(expected)


def test_of_nothing_there_is_no_quantile() -> None:
    """Which is not 0."""
    assert None is quantile(Latencies().minute(1000.0), 0.5)


def test_the_last_minute_is_forgotten_and_the_total_is_not() -> None:
    """The longest of it, too."""
    latencies = of(0.3, 0.002)
    assert (2, 0.3) == (sum(latencies.minute(1030.0)), latencies.longest_s(1030.0))
    assert (0, 0.0) == (sum(latencies.minute(1070.0)), latencies.longest_s(1070.0))
    assert (2, pytest.approx(0.302)) == (sum(latencies.counts), latencies.sum_s)
    latencies = of(0.3, now=1000.0)
    assert [1, 0] == [sum(latencies.minute(now)) for now in (1059.9, 1060.0)]


def test_answers_within_one_bucket_are_counted_one_by_one() -> None:
    """In total as in the last minute."""
    latencies = of(0.003, 0.003, 0.004)
    assert {0.005: 3} == {bound: count for bound, count in zip(BOUNDS_S, latencies.counts, strict=True) if count}
    assert latencies.counts == latencies.minute(1000.0)


def test_an_answer_that_nobody_waited_for_is_no_measure_of_what_is_usual() -> None:
    """It counts in the total alone."""
    latencies = of(0.002)
    latencies.add_to_total(9.0)
    latencies.add_to_total(9.5)
    assert (2, pytest.approx(18.502)) == (latencies.counts[BOUNDS_S.index(10.0)], latencies.sum_s)
    assert (1, 3, 0.002) == (
        sum(latencies.minute(1000.0)),
        sum(latencies.counts),
        latencies.longest_s(1000.0),
    )


def test_the_sparkline_has_a_value_for_each_slice() -> None:
    """Oldest first; None where nothing was asked. Several workers' are one."""
    latencies = of(0.003, now=1000.0)
    latencies.add(0.3, 1010.0)
    line = latencies.sparkline(1010.0)
    assert 30 == len(line)
    assert [line.index(value) for value in line if value is not None] == [24, 29]
    latencies = of(0.003, 0.3, 0.3, now=1000.0)
    latencies.add(0.3, 1001.9)
    latencies.add(0.03, 1002.0)
    assert [pytest.approx(0.3), pytest.approx(0.035)] == latencies.sparkline(1003.9)[-2:]
    assert [None, 2.0, 3.0] == merged_sparkline([[None, 1.0, None], [None, 3.0, 3.0]])


def test_silence_is_longer_than_usual() -> None:
    """Unknown: a second. Known: 250 ms, or three times the 99th percentile, or twice the longest."""
    assert SILENT_UNKNOWN_S == silent_after_s(of(*[0.001] * 99), 1000.0)
    assert 0.25 == silent_after_s(of(*[0.001] * 100), 1000.0)
    assert 3.0 == pytest.approx(silent_after_s(of(*[0.001] * 99, 1.5), 1000.0))
    assert 1.0 < silent_after_s(of(*[0.45] * 100), 1000.0) <= 1.5
