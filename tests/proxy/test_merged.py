"""What several workers see of a service, as one status."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise, permutations

import pytest

from hapolicy.core.status import ServiceStatus
from hapolicy.proxy.snapshot import Snapshot, merged
from tests.proxy.figures import UNASKED, lately, within


def snapshot(*services: tuple[ServiceStatus, list[int]]) -> Snapshot:
    """A worker that sees its services so, with these durations in the last minute."""
    return Snapshot(
        clients=0, longest_wait_s=0.0, overdue_s=0.0, longest_turn_s=0.0, requests=Counter(), services=list(services)
    )


NONE = within({})


@pytest.mark.parametrize(("better", "worse"), list(pairwise(["up", "draining", "probing", "down"])))
def test_the_worst_that_a_worker_sees_is_shown(better: str, worse: str) -> None:
    """Whichever worker it is, with what belongs to that state."""
    sees_better = snapshot((replace(UNASKED, state=better), NONE))
    sees_worse = snapshot((replace(UNASKED, state=worse, trial_in_s=4.0, available=False), NONE))
    for snapshots in permutations([sees_better, sees_worse]):
        assert [replace(UNASKED, state=worse, trial_in_s=4.0)] == merged(snapshots)


def test_figures_of_several_workers_are_added_up() -> None:
    """Quantiles and shares are those of all answers together; of errors the latest is shown."""
    one = replace(
        UNASKED,
        queries=100,
        answers=60,
        failed=30,
        in_flight=10,
        failures={"refused": 20, "closed": 10},
        suspects=1,
        last_error="closed: long ago",
        last_error_age_s=20.0,
        probes_answered=2,
        probes_failed=3,
        hedges_sent=4,
        hedges_won=5,
        hedges_lost=6,
        connections_busy=7,
        connections_idle=8,
        connections_waiting=9,
        queued=10,
        queued_for_s=0.5,
        silent=True,
        sparkline_s=lately(0.5, None, 0.25),
        latency_counts=within({1.0: 50, 2.0: 10}),
        latency_sum_s=64.0,
    )
    other = replace(
        UNASKED,
        queries=1000,
        answers=400,
        failed=300,
        in_flight=300,
        failures={"refused": 100, "malformed": 200},
        suspects=100,
        last_error="refused: just now",
        last_error_age_s=2.0,
        probes_answered=200,
        probes_failed=300,
        hedges_sent=400,
        hedges_won=500,
        hedges_lost=600,
        connections_busy=700,
        connections_idle=800,
        connections_waiting=900,
        queued=1000,
        queued_for_s=0.25,
        available=False,
        sparkline_s=lately(None, None, 0.75),
        latency_counts=within({2.0: 400}),
        latency_sum_s=512.0,
    )
    without_errors = replace(UNASKED, available=False)
    beside = replace(UNASKED, name="B")
    all_together = replace(
        one,
        queries=1100,
        answers=460,
        failed=330,
        in_flight=310,
        failures={"refused": 120, "closed": 10, "malformed": 200},
        suspects=101,
        last_error="refused: just now",
        last_error_age_s=2.0,
        probes_answered=202,
        probes_failed=303,
        hedges_sent=404,
        hedges_won=505,
        hedges_lost=606,
        connections_busy=707,
        connections_idle=808,
        connections_waiting=909,
        queued=1010,
        queued_for_s=0.5,
        share=0.75,
        p50_s=1.5,
        p99_s=1.99,
        sparkline_s=lately(0.5, None, 0.5),
        latency_counts=within({1.0: 50, 2.0: 410}),
        latency_sum_s=576.0,
    )
    workers = [
        snapshot((one, within({2.0: 40})), (beside, within({1.0: 20}))),
        snapshot((other, within({2.0: 20})), (beside, NONE)),
        snapshot((without_errors, NONE), (beside, NONE)),
    ]
    for snapshots in permutations(workers):
        assert [all_together, replace(beside, share=0.25, p50_s=0.75, p99_s=0.995)] == merged(snapshots)


def test_while_a_reload_is_under_way_workers_have_different_services() -> None:
    """Each is shown once, by its name, with what those say that have it."""
    gone, kept, new = (replace(UNASKED, name=name, queries=1) for name in ("gone", "kept", "new"))
    before = snapshot((gone, NONE), (kept, NONE))
    after = snapshot((kept, NONE), (new, NONE))
    assert [gone, replace(kept, queries=2), new] == merged([before, after])
