"""The soak: many clients, three services that fail in turn in every way they can, for minutes or hours.

    python -m tests.soak.run [--seconds 180] [--connections 200] [--poison 100] [--svg FILE] [--seed N]

A has five workers; B's name moves between two addresses; C is on another host, behind a firewall that swallows all
packets at times. Each is killed, stopped and told to fail, and each hundredth mail is one on which services break. At
least one service is well at any moment, so each good request is to have a service's own answer to it; a default
action means that the well one took longer than its timeout, on a machine that is too busy. Needs root, for namespaces.

The last lines are the figures: requests, faults, losses, wrong and late answers (each to be 0), and how memory
grew. Status 1 when something was lost, wrong or late, or memory grows as if it leaked.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.numbered import Ledger, NumberedLoad, Resources, statuses
from tests.soak.graph import draw
from tests.soak.scene import Scene
from tests.support.daemon import Daemon
from tests.support.procs import Process
from tests.support.sample import Sample

TIMEOUT_S = 0.5
DEADLINE_S = 3.0
PAUSE_S = 0.1  # between a client's requests: about ten a second each, as busy smtpds ask
COOLDOWN = ("--cooldown", "0.3", "--cooldown-max", "1")
FAULT_S = (0.5, 2.5)  # how long one lasts
PERIOD_S = 1.0  # between two measurements
GROWTH_MAX_KB_PER_MIN = 1000.0  # what minutes can tell: malloc warms up for longer than that

Act = Callable[[Sample], None]


def _told(name: str, seconds: float | None = None) -> tuple[Act, Act]:
    return lambda s: s.fault(name, seconds), lambda s: s.fault("none")


FAULTS: dict[str, tuple[Act, Act]] = {
    **{name: _told(name) for name in ("refuse", "hang", "reset", "half", "drip", "garbage", "oversized")},
    "slow": _told("slow", 0.05),
    "late": _told("late", 0.7),
    "stopped": (Sample.pause, Sample.resume),
    "killed": (Sample.kill, Sample.start),
}


@dataclass
class Measured:
    """A row each period; times in seconds since the start."""

    times: list[float] = field(default_factory=list)
    resident_kb: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)  # requests a second
    faults: list[tuple[float, float, str, str]] = field(default_factory=list)  # (from, to, service, fault)

    def take(self, elapsed_s: float, daemon: Daemon, rate: float) -> None:
        """Add a row."""
        now = Resources.of(daemon.pid)
        self.times.append(elapsed_s)
        self.resident_kb.append(now.resident_kb)
        self.threads.append(now.threads)
        self.descriptors.append(now.descriptors)
        self.rates.append(rate)

    def slope_kb_per_min(self) -> float:
        """The memory's slope by least squares over the second half, when all that warms up is warm."""
        half = len(self.times) // 2
        times, sizes = self.times[half:], self.resident_kb[half:]
        mean_t, mean_s = sum(times) / len(times), sum(sizes) / len(sizes)
        spread = sum((t - mean_t) ** 2 for t in times) or 1.0
        return 60 * sum((t - mean_t) * (s - mean_s) for t, s in zip(times, sizes, strict=True)) / spread


class Trouble:
    """What befalls the services, one or two of three at a time."""

    def __init__(self, daemon: Daemon, scene: Scene, rng: random.Random, measured: Measured) -> None:
        self._daemon = daemon
        self._samples = scene.samples
        self._own = {"B": {"moved": (scene.leave, scene.move)}, "C": {"firewall": (scene.shut, scene.open)}}
        self._ill: list[tuple[float, float, Sample, str]] = []  # (until, since, who, what)
        self._rng = rng
        self._measured = measured
        self._next_s = 2.0
        self._well_since = dict.fromkeys((sample.name for sample in scene.samples), 0.0)

    def go_on(self, elapsed_s: float) -> None:
        """End what is due to end, begin what is due to begin."""
        for trouble in [trouble for trouble in self._ill if trouble[0] <= elapsed_s]:
            self._end(trouble, elapsed_s)
        if elapsed_s >= self._next_s and len(well := self._well(elapsed_s)) > 1:
            self._next_s = elapsed_s + self._rng.uniform(*FAULT_S) / 1.5
            sample = self._rng.choice(well)
            names = [*FAULTS, *(3 * list(self._own.get(sample.name, ())))]
            name = self._rng.choice(names)
            self._faults_of(sample)[name][0](sample)
            self._ill.append((elapsed_s + self._rng.uniform(*FAULT_S), elapsed_s, sample, name))

    def _faults_of(self, sample: Sample) -> dict[str, tuple[Act, Act]]:
        return FAULTS | self._own.get(sample.name, {})

    def end(self, elapsed_s: float) -> None:
        """Heal everyone."""
        for trouble in list(self._ill):
            self._end(trouble, elapsed_s)

    def _well(self, elapsed_s: float) -> list[Sample]:
        """Who has been well, and thought to be, for longer than a request takes that has others fail on it."""
        ill = [sample for _, _, sample, _ in self._ill]
        count = Counter((event["event"], event.get("service")) for event in self._daemon.events[:])
        for sample in self._samples:
            if sample in ill or count["service.down", sample.name] != count["service.up", sample.name]:
                self._well_since[sample.name] = elapsed_s
        return [sample for sample in self._samples if elapsed_s > self._well_since[sample.name] + 3 * TIMEOUT_S]

    def _end(self, trouble: tuple[float, float, Sample, str], elapsed_s: float) -> None:
        _, since_s, sample, name = trouble
        self._faults_of(sample)[name][1](sample)
        self._ill.remove(trouble)
        self._measured.faults.append((since_s, elapsed_s, sample.name, name))


def soak(options: argparse.Namespace, measured: Measured) -> tuple[Ledger, Counter[str]]:
    """Run; returns the clients' ledger, and how often which event was logged."""
    with contextlib.ExitStack() as stack:
        scene = stack.enter_context(Scene(TIMEOUT_S))
        limits = ("--deadline", str(DEADLINE_S), "--connect-timeout", str(TIMEOUT_S), *COOLDOWN)
        daemon = stack.enter_context(
            Daemon(*scene.services, "--listen", scene.listen, *limits, program=scene.near.hapolicy)
        )
        scene.wait_until_served()
        trouble = Trouble(daemon, scene, random.Random(options.seed), measured)
        began = time.monotonic()
        load = NumberedLoad(scene.listen, options.connections, PAUSE_S, DEADLINE_S, poison_every=options.poison)
        with load:
            sent, measure_at_s = 0, PERIOD_S
            while (elapsed_s := time.monotonic() - began) < options.seconds:
                trouble.go_on(elapsed_s)
                if elapsed_s >= measure_at_s:
                    measured.take(elapsed_s, daemon, (load.ledger.sent - sent) / PERIOD_S)
                    sent, measure_at_s = load.ledger.sent, measure_at_s + PERIOD_S
                time.sleep(0.02)
            trouble.end(elapsed_s)
        check_status(daemon, load.ledger)
        return load.ledger, Counter(event["event"] for event in daemon.events[:])


def check_status(daemon: Daemon, ledger: Ledger) -> None:
    """The daemon's counters agree with each other and with what the clients have seen."""
    time.sleep(2 * TIMEOUT_S)  # the losers of hedges
    services = statuses(daemon, 3).values()
    for service in services:
        assert service["queries"] == service["answers"] + service["failed"] + service["in_flight"], service
        assert service["failed"] == sum(service["failures"].values()), service
    assert sum(service["answers"] for service in services) >= ledger.answers
    assert [] == daemon.events_of("daemon.error")


def main() -> int:
    """Soak, draw, tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--poison", type=int, default=100, help="each so-manieth mail breaks services; 0: none")
    parser.add_argument("--svg", type=Path, default=Path("build/soak.svg"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    measured = Measured()
    try:
        ledger, events = soak(options, measured)
    finally:
        for process in Process.running():
            process.kill()
    options.svg.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw(measured, options.svg)
    slope = measured.slope_kb_per_min()
    kinds = Counter(fault for _, _, _, fault in measured.faults)
    print(f"{options.seconds:g} s, {options.connections} connections, seed {options.seed}")
    good = ledger.sent - ledger.poisons
    print(f"good      {good}, answered {ledger.answers}, default {ledger.defaulted}, suspect {ledger.suspects}")
    print(f"poison    {ledger.poisons}, suspect {ledger.poisons - ledger.poisons_defaulted}")
    print(f"faults    {len(measured.faults)}: {', '.join(f'{name} {n}' for name, n in sorted(kinds.items()))}")
    print(f"failed    {events['service.failed']} exchanges, {events['service.down']} times down")
    print(f"lost      {len(ledger.lost) + ledger.refused}")
    print(f"wrong     {len(ledger.wrong)}")
    print(f"late      {ledger.late} beyond {DEADLINE_S + 0.1:g} s; slowest {ledger.slowest_s:.3f} s")
    steps = measured.resident_kb[:: max(1, len(measured.times) // 8)]
    print(f"memory    {' '.join(map(str, steps))} kB; slope {slope:+.0f} kB/min over the second half")
    print(f"graph     {options.svg if drawn else 'matplotlib is not installed'}")
    well = not (ledger.lost or ledger.refused or ledger.wrong or ledger.late)
    return 0 if well and slope < GROWTH_MAX_KB_PER_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
