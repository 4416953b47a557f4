"""What a proxy costs besides: memory at rest, time to start, time to a spawned one's first answer, its log."""

from __future__ import annotations

import re
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from benchmarks.journal import Journal
from benchmarks.processes import PATIENCE_S, Process, connects, wait_until
from benchmarks.programs import Load, Loader, Result, Service
from benchmarks.proxies import Hapolicy1, Hapolicy2, HAProxy, Proxy, stdio_commands

IDLE = 5000
IDLE_PROCESSES = 50  # of 1.00, which is a process a connection
SETTLED_S = 1.0  # hapolicy 2 answers before it has loaded all that it logs with, 8 MB

REQUEST = b"request=smtpd_access_policy\nprotocol_state=RCPT\ninstance=first\n\n"


def idle_memory(proxies: Sequence[type[Proxy]], services: Sequence[Service], loader: Loader) -> Mapping[str, Result]:
    """Kilobytes for each of many connections that have asked once and are idle now.

    Resident memory, but of 1.00 the proportional share: its processes have the program's pages in common.
    """
    found = {}
    for kind in proxies:
        field, connections = ("Pss", IDLE_PROCESSES) if kind is Hapolicy1 else ("Rss", IDLE)
        with kind(services) as proxy:
            if (process := proxy.process) is None:
                continue
            loader.run(proxy.port, Load(1, 0))
            time.sleep(SETTLED_S)
            sampled = [process.memory_kb(field)]
            loader.run(proxy.port, Load(connections, 0), at_end=_sampler(sampled, process, field))
            each = (sampled[1] - sampled[0]) / connections
            found[kind.name] = {"connections": connections, "before_kb": sampled[0], "each_kb": round(each, 2)}
            found[kind.name]["threads"] = process.threads()
    return found


def _sampler(into: list[int], process: Process, field: str) -> Callable[[], None]:
    return lambda: into.append(process.memory_kb(field))


def start_times(services: Sequence[Service], times: int, proxies: Sequence[type[Proxy]]) -> Mapping[str, float]:
    """Median milliseconds until hapolicy says READY=1, and until HAProxy takes a connection."""
    found: dict[str, list[float]] = {}
    for _ in range(times):
        with _Unstarted(services) as proxy:
            found.setdefault(proxy.name, []).append(proxy.start_to_ready_ms())
        if HAProxy in proxies:
            began = time.monotonic()
            with HAProxy(services) as proxy:
                wait_until(lambda port=proxy.port: connects(port), "HAProxy listens")  # type: ignore[misc]
                found.setdefault(proxy.name, []).append((time.monotonic() - began) * 1000)
    return {name: round(statistics.median(values), 1) for name, values in found.items()}


class _Unstarted(Hapolicy2):
    def start(self) -> None:
        """Left to the one who looks at the clock."""


def first_answers(services: Sequence[Service], times: int) -> Mapping[str, float]:
    """Median milliseconds from the start of a process for one client, as spawn(8) has it, to its first answer."""
    commands = stdio_commands(services)
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            found[name].append(_first_answer_ms(command))
    return {name: round(statistics.median(values), 1) for name, values in found.items()}


def _first_answer_ms(command: list[str]) -> float:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    with ours:
        ours.settimeout(PATIENCE_S)
        began = time.monotonic()
        with theirs:
            process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL
            )
        try:
            ours.sendall(REQUEST)
            answer = b""
            while not answer.endswith(b"\n\n"):
                more = ours.recv(4096)
                if not more:
                    raise ConnectionError(f"{command[0]} said {answer!r}")
                answer += more
            took_ms = (time.monotonic() - began) * 1000
            if not re.fullmatch(rb"action=DUNNO [AB] first\n\n", answer):
                raise ConnectionError(f"{command[0]} said {answer!r}")
        finally:
            ours.close()
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()
                process.wait()
    return took_ms


# Clients that ask about 1,000 times a second together, and 5,000 times.
CALM_THINK_MS = 32
BRISK_CLIENTS, BRISK_THINK_MS = 50, 9.5


def logging(services: Sequence[Service], loader: Loader, seconds: float) -> Mapping[str, Result]:
    """Processor time with and without ``-l`` to journald, at full load and at a calm one."""
    found: dict[str, Result] = {}
    with Journal() as journal:
        for name, options in (("off", ("--log", "stderr")), ("-l", ("-l", "--log", journal.sink))):
            paces = (("full", 32, 0), ("calm", 32, CALM_THINK_MS), ("5,000/s", BRISK_CLIENTS, BRISK_THINK_MS))
            for pace, clients, think_ms in paces:
                proxy = Hapolicy2(services)
                proxy.options, proxy.prefix = options, tuple(journal.prefix)
                with proxy:
                    before = journal.entries()
                    result = loader.run(proxy.port, Load(clients, seconds, think_ms=think_ms), proxy.process)
                    assert proxy.process is not None
                    proxy.process.stop()
                logged = journal.entries() - before
                # Some were asked in the ramp, at most one a client, and are not among the answers.
                share = round(min(1.0, logged / result["all_answers"]), 4)
                result["logged"] = share if name == "-l" and journal.counts else None
                found[f"{name}, {pace}"] = result | {"sink": journal.sink}
    return found
