"""Many clients, newcomers and rude ones: what they cost the others."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.processes import Process
from benchmarks.programs import Load, Loader, Result, Service
from benchmarks.proxies import Hapolicy2

IDLE, BUSY = 9_800, 200
NEWCOMERS, REGULARS = 200, 32


def measure(services: Sequence[Service], loader: Loader, rounds: int, seconds: float) -> Mapping[str, Result]:
    """All of it, in turns, medians over the rounds."""
    measures: dict[str, Callable[[Sequence[Service], Loader, float], Result]] = {
        "10,000 connected": _crowd,
        "newcomers": _newcomers,
        "rude clients": _rude,
        "hedge auto to off": _hedge,
    }
    found: dict[str, list[Result]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, take in measures.items():
            found[name].append(take(services, loader, seconds))
            print(f"{name:20} {found[name][-1]}", flush=True)
    return {name: _medians(results) for name, results in found.items()}


def _medians(results: Sequence[Result]) -> Result:
    return {field: round(statistics.median(result[field] for result in results), 4) for field in results[0]}


def _crowd(services: Sequence[Service], loader: Loader, seconds: float) -> Result:
    """200 busy clients beside 9,800 that are connected and idle, and the same 200 alone."""
    with Hapolicy2(services) as proxy:
        alone = loader.run(proxy.port, Load(BUSY, seconds))
        beside: list[Result] = []
        loader.run(proxy.port, Load(IDLE, 0), at_end=lambda: beside.append(loader.run(proxy.port, Load(BUSY, seconds))))
        return {"ratio": beside[0]["per_second"] / alone["per_second"]}


def _newcomers(services: Sequence[Service], loader: Loader, seconds: float) -> Result:
    """200 clients that connect at once while 32 others ask as fast as they can."""
    with Hapolicy2(services) as proxy:
        ramps: list[float] = []

        def come() -> None:
            ramps.append(loader.run(proxy.port, Load(NEWCOMERS, 0))["ramp_s"])

        loader.run(proxy.port, Load(REGULARS, seconds), at_start=come)
        return {"seconds": ramps[0]}


def _rude(services: Sequence[Service], loader: Loader, seconds: float) -> Result:
    """32 clients beside one that pipelines 100,000 requests, one that never reads, and 500 that drip; and alone."""
    program = [sys.executable, str(Path(__file__).parent / "rude.py")]
    with Hapolicy2(services) as proxy:
        alone = loader.run(proxy.port, Load(REGULARS, seconds))
        with Process([*program, str(proxy.port)]) as rude:
            assert rude.line() == "rude"
            beside = loader.run(proxy.port, Load(REGULARS, seconds))
        return {"p99": beside["p99_us"] / alone["p99_us"], "throughput": beside["per_second"] / alone["per_second"]}


def _hedge(services: Sequence[Service], loader: Loader, seconds: float) -> Result:
    """What `--hedge auto` costs while there is no trouble."""
    off = Hapolicy2(services)
    off.options = (*off.options, "--hedge", "off")
    with Hapolicy2(services) as auto, off:
        found = {}
        for connections in (32, 200):
            with_auto = loader.run(auto.port, Load(connections, seconds))["per_second"]
            found[str(connections)] = with_auto / loader.run(off.port, Load(connections, seconds))["per_second"]
        return found
