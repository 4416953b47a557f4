"""``python -m benchmarks.run``: measure all, and write benchmarks/results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import costs, crowds, faults, plot, report, speed
from benchmarks.programs import HERE, Loader, Service, build
from benchmarks.proxies import ALL, Hapolicy1, Proxy

_DESCRIPTORS = 32_768  # 10,000 connections, and as many to the services


def main() -> int:
    """Run the benchmark; returns the exit status."""
    options = _options()
    signal.signal(signal.SIGTERM, _leave)  # so that every with block ends what it has started
    _raise_descriptor_limit()
    missing = {proxy.name: what for proxy in ALL if (what := proxy.missing())}
    for name, what in missing.items():
        print(f"{name} is left out: {what} is missing", file=sys.stderr)
    proxies = [proxy for proxy in ALL if proxy.name not in missing]
    found = _measure(proxies, options) | {"missing": missing, "run": _about(proxies, options)}
    found["losses"] = {
        p.name: [speed.total(found["speed"], p.name, what) for what in ("lost", "wrong")] for p in proxies
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.results / "README.md").write_text(report.page(found))
    if not plot.draw(found["speed"], options.results / "throughput.svg"):
        print("no throughput.svg: matplotlib is not installed", file=sys.stderr)
    print(f"written: {options.results}; the README's table is to be\n{report.summary(found)}")
    return 0


def _measure(proxies: Sequence[type[Proxy]], options: argparse.Namespace) -> dict[str, Any]:
    # 1.00 takes seconds to start its processes.
    some = [proxy for proxy in proxies if not options.quick or proxy is not Hapolicy1]
    rounds, seconds, times = options.rounds, options.seconds, 3 if options.quick else 11
    with tempfile.TemporaryDirectory(prefix="hapolicy-bench-") as name:
        folder = Path(name)
        build(folder)
        loader = Loader(folder)
        with Service(folder, "A") as a, Service(folder, "B") as b:
            services = (a, b)
            return {
                "speed": speed.measure(proxies, services, loader, rounds, seconds, options.quick),
                "idle_memory": costs.idle_memory(proxies, services, loader),
                "start_ms": costs.start_times(services, times, proxies),
                "first_answer_ms": costs.first_answers(services, times),
                "logging": costs.logging(services, loader, seconds),
                "crowds": crowds.measure(services, loader, rounds, seconds),
                "faults": faults.measure(some, services, loader, options.fault_seconds),
            }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="how long each time (%(default)g)")
    parser.add_argument("--quick", action="store_true", help="one short round, to try it: no figures to rely on")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="the folder to write to (%(default)s)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    options.fault_seconds = 3.5 if options.quick else faults.SECONDS
    return options


def _about(proxies: Sequence[type[Proxy]], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _processor(),
        "processors": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {proxy.name: proxy.version() for proxy in proxies if proxy.name != "direct"},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "took_s": round(time.monotonic() - _BEGAN),
    }


def _processor() -> str:
    names = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, min(hard, _DESCRIPTORS) if hard != resource.RLIM_INFINITY else _DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _leave(*_: object) -> None:
    raise SystemExit(143)


_BEGAN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
