"""The same load while one of two services fails: what is lost, what is late, for how long all stands still."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping, Sequence

from benchmarks.programs import Load, Loader, Result, Service
from benchmarks.proxies import TIMEOUT_S, Direct, Proxy

CONNECTIONS = 32
SECONDS = 5.0
LATE_MS = TIMEOUT_S * 1000 + 100  # one service's timeout, and what an answer of the other one may take

Step = tuple[float, Callable[[Service], None]]  # seconds after the last step, what is done to the service

FAULTS: Mapping[str, tuple[Step, ...]] = {
    "none": (),
    "killed, and stays away": ((1.0, Service.kill),),
    "hung for 2 s": (
        (1.0, lambda service: service.signal(signal.SIGSTOP)),
        (2.0, lambda service: service.signal(signal.SIGCONT)),
    ),
    "restarted 3 times": ((1.0, Service.kill), (0.3, Service.start)) * 3,
}


def measure(
    proxies: Sequence[type[Proxy]], services: Sequence[Service], loader: Loader, seconds: float
) -> dict[str, dict[str, Result]]:
    """By fault, by proxy."""
    found: dict[str, dict[str, Result]] = {}
    for fault, steps in FAULTS.items():
        for kind in proxies:
            if kind is not Direct:
                result = _one(kind, services, loader, steps, seconds)
                found.setdefault(fault, {})[kind.name] = result
                said = {name: result[name] for name in ("all_answers", "lost", "wrong", "late", "max_us", "gap_ms")}
                print(f"{fault:24} {kind.name:14} {said}", flush=True)
    return found


def _one(
    kind: type[Proxy], services: Sequence[Service], loader: Loader, steps: Sequence[Step], seconds: float
) -> Result:
    victim = services[0]
    ended = threading.Event()

    def script() -> None:
        for after_s, act in steps:
            if ended.wait(after_s):
                return
            act(victim)

    thread = threading.Thread(target=script)
    with kind(services) as proxy:
        try:
            return loader.run(proxy.port, Load(CONNECTIONS, seconds, LATE_MS), proxy.process, at_start=thread.start)
        finally:
            ended.set()
            if thread.ident is not None:
                thread.join()
            victim.kill()
            victim.start()
