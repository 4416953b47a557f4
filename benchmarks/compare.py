"""A quick look while tuning: hapolicy beside HAProxy, in turns: ``python -m benchmarks.compare 32 200 1000``."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.programs import Load, Loader, Service, build
from benchmarks.proxies import Hapolicy2, HAProxy, Proxy


def main() -> None:
    """Print the ratio of the throughputs and each one's processor time per request, medians over the rounds."""
    parser = argparse.ArgumentParser("benchmarks.compare", description=__doc__)
    parser.add_argument("connections", type=int, nargs="+")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        loader = Loader(Path(folder))
        with Service(Path(folder), "A") as a, Service(Path(folder), "B") as b:
            proxies = [HAProxy([a, b]), Hapolicy2([a, b])]
            for connections in options.connections:
                _compare(loader, proxies, Load(connections, options.seconds), options.rounds)


def _compare(loader: Loader, proxies: list[Proxy], load: Load, rounds: int) -> None:
    results = defaultdict(list)
    for _ in range(rounds):
        for proxy in proxies:
            with proxy:
                time.sleep(1)  # whatever is loaded after the start is no part of this
                results[proxy.name].append(loader.run(proxy.port, load, proxy.process))
    theirs, ours = (results[proxy.name] for proxy in proxies)
    rates = [statistics.median(run["per_second"] for run in runs) for runs in (theirs, ours)]
    cpu_us = [statistics.median(run["cpu_us"] for run in runs) for runs in (theirs, ours)]
    p999s = [statistics.median(run["p999_us"] for run in runs) for runs in (theirs, ours)]
    print(
        f"{load.connections:5}: {rates[1] / rates[0]:.2f} of HAProxy's {rates[0]:,.0f}/s;"
        f" cpu {cpu_us[1]:.1f} to {cpu_us[0]:.1f} us; p999 {p999s[1] / p999s[0]:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
