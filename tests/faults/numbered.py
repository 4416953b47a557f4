"""Numbered requests under faults: each has one answer, its own, in time; and afterwards the books are balanced.

What is asserted as "in time" is the deadline, 100 ms, and the slack of the machine: a busy one holds up these
clients as much as the daemon. A thread here that only sleeps measures how much, and `SLACK_S` is the least granted.
"""

from __future__ import annotations

import collections
import itertools
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from hapolicy.core.rules import RequestRules
from tests.support.client import CLIENT_TIMEOUT_S, PolicyClient, request
from tests.support.daemon import Daemon
from tests.support.procs import Event, wait_until

LATE_S = 0.1  # what the deadline may be exceeded by
SLACK_S = 0.5  # what a test machine is granted on top, or what its clock-watcher has measured if that is more
MEMORY_GROWTH_MAX_KB = 6 * 1024  # freed memory that malloc keeps, the log's queue, and no leak of a minute

_numbers = itertools.count(1)


SUSPECT = RequestRules().suspect_action


@dataclass
class Ledger:
    """What became of the requests."""

    sent: int = 0
    answered: collections.Counter[str] = field(default_factory=collections.Counter)  # by service
    defaulted: int = 0
    suspects: int = 0  # both services broke on the request at once
    poisons: int = 0  # requests on which services were to break, of them
    poisons_defaulted: int = 0  # those that had the default action: the only service broke, and nobody was left
    wrong: list[str] = field(default_factory=list)  # another's answer, no answer's form, or one too many
    lost: list[tuple[str, str]] = field(default_factory=list)  # (client, error): closed instead of an answer
    refused: int = 0  # connections that were not made
    slowest_s: float = 0.0
    late: int = 0  # beyond the deadline and LATE_S
    lag_s: float = 0.0  # the machine's own

    @property
    def answers(self) -> int:
        """Those answered by a service."""
        return self.answered.total()

    def row(self) -> str:
        """For the matrix."""
        lost_wrong = f"lost {len(self.lost)}, wrong {len(self.wrong)}"
        return (
            f"{self.sent:>7} requests, {self.answers:>7} answers, {self.defaulted:>6} defaults, {lost_wrong}, "
            f"slowest {self.slowest_s * 1000:.0f} ms"
        )


class NumberedLoad:
    """`connections` clients that ask one after the other, each request with its own number, until told to stop.

    Right is a sample service's answer with that number, or the default action. At its end each connection must have
    nothing more to say.
    """

    def __init__(
        self,
        address: str,
        connections: int,
        pause_s: float = 0.005,
        deadline_s: float = 1.0,
        default: str = "dunno",
        poison_every: int = 0,
    ) -> None:
        """Each `poison_every`-th request is one on which services break: it is to have the suspect action."""
        self.ledger = Ledger()
        self._late_s = deadline_s + LATE_S
        self._address = address
        self._pause_s = pause_s
        self._default = default
        self._poison_every = poison_every
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(connections)]
        self._threads.append(threading.Thread(target=self._watch_clock, daemon=True))

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                client = PolicyClient(self._address)
            except OSError:
                with self._lock:
                    self.ledger.refused += 1
                self._ending.wait(0.05)
                continue
            with client:
                self._ask_often(client)

    def _ask_often(self, client: PolicyClient) -> None:
        name = client.name if client.link.family == socket.AF_INET else "unix"
        try:
            while not self._ending.is_set():
                self._ask(client)
                if self._pause_s:
                    self._ending.wait(self._pause_s)
            client.link.shutdown(socket.SHUT_WR)
            if rest := client.rest():
                self._note_wrong(f"unasked: {rest!r}")
        except AssertionError as error:
            self._note_wrong(repr(error))
        except OSError as error:
            with self._lock:
                self.ledger.lost.append((name, repr(error)))
            self._ending.wait(0.05)

    def _ask(self, client: PolicyClient) -> None:
        count = next(_numbers)
        poison = self._poison_every and count % self._poison_every == 0
        number = f"{'poison' if poison else 'n'}{os.getpid()}.{count}"
        with self._lock:
            self.ledger.sent += 1
        sent = time.monotonic()
        client.send(request(instance=number))
        action = client.action()
        wait_s = time.monotonic() - sent
        words = action.split()
        with self._lock:
            ledger = self.ledger
            ledger.slowest_s = max(ledger.slowest_s, wait_s)
            ledger.late += wait_s > self._late_s
            if len(words) == 3 and words[2] == number:
                ledger.answered[words[1]] += 1
            elif poison and action in (SUSPECT, self._default):
                ledger.poisons += 1
                ledger.poisons_defaulted += action == self._default
            elif action == self._default:
                ledger.defaulted += 1
            elif action == SUSPECT:
                ledger.suspects += 1
            else:
                ledger.wrong.append(f"{number}: {action}")

    def _note_wrong(self, what: str) -> None:
        with self._lock:
            self.ledger.wrong.append(what)

    def _watch_clock(self) -> None:
        while not self._ending.is_set():
            began = time.monotonic()
            time.sleep(0.005)
            self.ledger.lag_s = max(self.ledger.lag_s, time.monotonic() - began - 0.005)

    def wait_answers(self, more: int, service: str | None = None, timeout_s: float = 20.0) -> None:
        """Wait until so many more requests were answered by services, or by one of them."""
        answered = self.ledger.answered
        before = answered[service] if service else answered.total()
        wait_until(
            lambda: (answered[service] if service else answered.total()) >= before + more,
            f"{more} more answers of {service or 'the services'}",
            timeout_s,
        )

    def wait_defaults(self, more: int) -> None:
        """Wait until so many more had the default action."""
        goal = self.ledger.defaulted + more
        wait_until(lambda: self.ledger.defaulted >= goal, f"{more} more default actions")

    def stop(self) -> None:
        """End all connections and wait for that."""
        self._ending.set()
        for thread in self._threads:
            thread.join(CLIENT_TIMEOUT_S + 5)

    def __enter__(self) -> NumberedLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@dataclass(frozen=True)
class Resources:
    """What a process holds at one moment."""

    threads: int
    descriptors: int
    resident_kb: int

    @classmethod
    def of(cls, pid: int) -> Resources:
        """As /proc tells."""
        proc = Path(f"/proc/{pid}")
        resident_kb = next(int(x.split()[1]) for x in (proc / "status").read_text().splitlines() if "VmRSS" in x)
        return cls(len(list((proc / "task").iterdir())), len(list((proc / "fd").iterdir())), resident_kb)


def connections_of(pid: int) -> int:
    """How many TCP connections a process has, those included that the other side has ended."""
    listening = "0A"
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    connected = {f"socket:[{words[9]}]" for words in lines if words[3] != listening}
    return sum(os.readlink(descriptor) in connected for descriptor in Path(f"/proc/{pid}/fd").iterdir())


def statuses(daemon: Daemon, services: int) -> dict[str, Event]:
    """What SIGUSR1 tells of each service, by name."""
    before = len(daemon.events_of("service.status"))
    daemon.signal(signal.SIGUSR1)
    daemon.wait_event("service.status", nth=before + services)
    return {event["service"]: event for event in daemon.events_of("service.status")[before:]}


def check_answers(ledger: Ledger, deadline_s: float) -> None:
    """Exactly one answer each, its own, in time."""
    bound_s = deadline_s + LATE_S + max(SLACK_S, ledger.lag_s)
    assert ([], []) == (ledger.wrong[:5], ledger.lost[:5]), ledger.row()
    assert ledger.sent == ledger.answers + ledger.defaulted + ledger.suspects + ledger.poisons, ledger.row()
    assert ledger.slowest_s <= bound_s, f"{ledger.slowest_s:.3f} s, not {bound_s:.3f} s"


def check_books(daemon: Daemon, ledger: Ledger, services: int) -> None:
    """The daemon's counters, its log, and what the clients have seen agree, to the last request.

    A request that was asked of a second service because the first was slow, on a busy machine, may have two answers.
    """
    status = wait_until(lambda: _settled(daemon, services), "no request in flight")
    for one in status.values():
        assert one["queries"] == one["answers"] + one["failed"], one
        assert one["failed"] == sum(one["failures"].values()), one
    answers, failed, hedges = (sum(one[n] for one in status.values()) for n in ("answers", "failed", "hedges_sent"))
    logged = len(daemon.events_of("service.failed")), len(daemon.events_of("request.defaulted"))
    assert (failed, ledger.defaulted) == logged, (ledger.row(), status, logged)
    assert ledger.answers <= answers <= ledger.answers + hedges, (ledger.row(), status)
    faults = daemon.events_of("daemon.error") + daemon.events_of("log.dropped")
    assert [] == faults, faults


def _settled(daemon: Daemon, services: int) -> dict[str, Event]:
    status = statuses(daemon, services)
    return {} if any(one["in_flight"] for one in status.values()) else status


def check_resources(daemon: Daemon, before: Resources, links_max: int, growth_kb: int) -> None:
    """Threads are back to what they were, memory has not grown, and no more is open than the links that are kept.

    A kept link stays for 30 s, also when its service has gone: no more of them than requests at once.
    """
    threads = "as many threads as before"
    wait_until(lambda: Resources.of(daemon.pid).threads <= before.threads, threads, 8)
    links = Resources.of(daemon.pid).descriptors - before.descriptors
    assert links <= links_max, f"{links} more descriptors than before"
    assert growth_kb < MEMORY_GROWTH_MAX_KB, f"{growth_kb} kB more"
