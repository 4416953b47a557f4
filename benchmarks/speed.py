"""Requests a second, latency, ramp and processor time: all proxies in turn, again and again."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.programs import Load, Loader, Result, Service
from benchmarks.proxies import Hapolicy1, Proxy

CONNECTIONS = (1, 32, 200, 1000)

# A connection of 1.00 is a Perl process, 50 ms to start: above this many it is asked in the first round only.
OFTEN_MAX = {Hapolicy1.name: 32}
# 1,000 of them want several gigabytes and most of a minute, and no Postfix has as many clients.
EVER_MAX = {Hapolicy1.name: 200}

Rounds = dict[str, dict[int, list[Result]]]  # by the proxy's name, by connections


def measure(
    proxies: Sequence[type[Proxy]],
    services: Sequence[Service],
    loader: Loader,
    rounds: int,
    seconds: float,
    quick: bool,
) -> Rounds:
    """All rounds; in each, another proxy is the first, and each is started afresh."""
    ever_max = OFTEN_MAX if quick else EVER_MAX
    found: Rounds = {proxy.name: {n: [] for n in CONNECTIONS} for proxy in proxies}
    for number in range(rounds):
        turn = number % len(proxies)
        with ExitStack() as stack:
            running = [stack.enter_context(p(services)) for p in (*proxies[turn:], *proxies[:turn])]
            for n in CONNECTIONS:
                for proxy in running:
                    if n <= ever_max.get(proxy.name, n) and (number == 0 or n <= OFTEN_MAX.get(proxy.name, n)):
                        result = loader.run(proxy.port, Load(n, seconds), proxy.process)
                        found[proxy.name][n].append(result)
                        print(f"round {number + 1}  {n:5} connections  {_line(proxy.name, result)}", flush=True)
    return found


def median(found: Rounds, proxy: str, connections: int, field: str) -> float | None:
    """The median over the rounds; None where nothing was measured."""
    values = [result[field] for result in found.get(proxy, {}).get(connections, []) if field in result]
    return statistics.median(values) if values else None


def total(found: Rounds, proxy: str, field: str) -> int:
    """The sum over all rounds and connections."""
    return sum(result[field] for results in found[proxy].values() for result in results)


def _line(name: str, result: Result) -> str:
    return (
        f"{name:14} {result['per_second']:8.0f}/s  p50 {result['p50_us']:7.0f}  p999 {result['p999_us']:8.0f} µs"
        f"  cpu {result.get('cpu_us', 0):6.1f} µs  ramp {result['ramp_s']:.3f} s"
        f"  lost {result['lost']} wrong {result['wrong']}"
    )
