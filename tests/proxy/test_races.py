"""Each lock is needed: what it guards holds with it, and is shown to break without it.

Where CPython 3.11 happens to switch threads nowhere within what a lock guards (x += 1 on plain integers), the
values in it give way to another thread themselves, as they might in any other interpreter.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest

from hapolicy.core.address import TcpAddress
from hapolicy.core.breaker import Gate, Trial
from hapolicy.core.counters import Tally
from hapolicy.core.events import Fields, Level
from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.core.rules import HealthRules
from hapolicy.core.scheduler import Scheduler
from hapolicy.log.events import QUEUE_MAX_EVENTS, EventLog
from hapolicy.net.resolver import Resolver
from hapolicy.proxy.clients import Clients
from hapolicy.proxy.upstream import Upstream
from tests.proxy.racing import NoCondition, NoLock, WayGivingFalse, WayGivingInt, assert_guards, give_way, race
from tests.support.fixtures import MakeUpstream
from tests.support.procs import PATIENCE_S


class Clock:
    """A clock that takes a moment to read."""

    time = 0.0

    def __call__(self) -> float:
        """The time."""
        give_way()
        return self.time


def test_gate_one_trial() -> None:
    """Gate._lock: one trial for all who ask at the same moment."""

    def holds(locked: bool) -> bool:
        clock = Clock()
        gate = Gate(HealthRules(fail_max=1, cooldown_s=1), now=clock)
        if not locked:
            gate._lock = NoLock()  # type: ignore[assignment]
        permit = gate.admit()
        assert permit is not None
        permit.failed(FailureKind.CLOSED)
        clock.time = 10.0
        trials: list[Trial | None] = []
        race(*[lambda: trials.append(gate.admit_trial())] * 16)
        return 1 == sum(trial is not None for trial in trials)

    assert_guards(holds)


def test_gate_down_once() -> None:
    """Gate._lock: a service goes down once, however many failures are reported at once."""

    def holds(locked: bool) -> bool:
        gate = Gate(HealthRules(fail_max=4), now=Clock())
        if not locked:
            gate._lock = NoLock()  # type: ignore[assignment]
        permit = gate.admit()
        assert permit is not None
        events: list[tuple[str, object]] = []

        def fail() -> None:
            events.extend((event.name, event.fields["failures"]) for event in permit.failed(FailureKind.CLOSED))

        race(*[fail] * 16)
        return [("service.down", 4)] == events

    assert_guards(holds)


@dataclass(eq=False)
class Member:
    """A member of a tier; to find it in a dictionary takes a moment."""

    name: str
    weight: Fraction
    prio: int = 10
    available: bool = True
    stalled: bool = False

    def __hash__(self) -> int:
        return id(self) >> 4


def test_tier_weights() -> None:
    """scheduler._Tier._lock: the weights are exact whoever picks, from as many threads as there are."""

    def holds(locked: bool) -> bool:
        scheduler = Scheduler([Member(name, Fraction(weight)) for name, weight in (("a", 5), ("b", 2), ("c", 1))])
        if not locked:
            for tier in scheduler._tiers:
                tier._lock = NoLock()  # type: ignore[assignment]
        picks: list[str] = []
        race(*[lambda: picks.extend(next(scheduler.candidates()).name for _ in range(80))] * 4)
        return Counter(a=200, b=80, c=40) == Counter(picks)

    assert_guards(holds)


def test_upstream_counters_add_up(make_upstream: MakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream._lock: at every moment queries = answers + failed + in flight, and failed is the sum of all kinds."""

    def exchange(*_: object) -> bytes:
        raise ServiceFailure(FailureKind.CLOSED, "closed")

    monkeypatch.setattr(Upstream, "_exchange", exchange)

    def holds(locked: bool) -> bool:
        upstream = make_upstream("A=127.0.0.1:25")
        if not locked:
            upstream._lock = NoLock()  # type: ignore[assignment]
        sound: list[bool] = []

        def ask() -> None:
            for _ in range(50):
                with contextlib.suppress(ServiceFailure):
                    upstream.ask(b"", time.monotonic() + 1)

        def look() -> None:
            for _ in range(200):
                now = upstream.counters()
                sums = now.answers + sum(now.failures.values()) + now.in_flight
                sound.append(now.queries == sums)

        race(ask, ask, look, look)
        return all(sound)

    assert_guards(holds)


def test_upstream_counts_every_request(make_upstream: MakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream._lock: no count is lost when integers take their time."""
    monkeypatch.setattr(Upstream, "_exchange", lambda *_: b"action=DUNNO\n\n")

    def holds(locked: bool) -> bool:
        upstream = make_upstream("A=127.0.0.1:25")
        upstream._counters.queries = WayGivingInt()
        if not locked:
            upstream._lock = NoLock()  # type: ignore[assignment]
        race(*[lambda: upstream.ask(b"", time.monotonic() + 1)] * 4)
        return 4 == upstream.counters().queries

    assert_guards(holds)


def test_tally_counts_every_request() -> None:
    """Tally._lock: no request is lost to another one's count."""

    def holds(locked: bool) -> bool:
        tally = Tally()
        tally._counts["answered", "RCPT"] = WayGivingInt()
        if not locked:
            tally._lock = NoLock()  # type: ignore[assignment]
        race(*[lambda: tally.add("answered", "RCPT")] * 4)
        return {("answered", "RCPT"): 4} == tally.counts()

    assert_guards(holds)


class Blocked:
    """A sink that takes lines once it is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.dropped = 0

    def write(self, line: str, event: Fields) -> None:
        """Wait, then add up what was dropped."""
        self.entered.set()
        self.open.wait(PATIENCE_S)
        if event["event"] == "log.dropped":
            self.dropped += event["count"]


def test_log_counts_every_loss() -> None:
    """EventLog._lock: what many threads lose at once is counted to the last event."""
    sink = Blocked()
    log = EventLog(lambda: sink)
    log.emit(Level.ERROR, "taken")
    assert sink.entered.wait(PATIENCE_S)
    for _ in range(QUEUE_MAX_EVENTS):
        log.emit(Level.ERROR, "queued")
    real = log._lock
    lost: list[int] = []

    def holds(locked: bool) -> bool:
        log._lock = real if locked else NoLock()  # type: ignore[assignment]
        log._dropped = WayGivingInt()
        race(*[lambda: log.emit(Level.ERROR, "lost")] * 4)
        lost.append(int(log._dropped))
        return 4 == lost[-1]

    try:
        assert_guards(holds)
    finally:
        log._lock = real
        sink.open.set()
        log.close(PATIENCE_S)
    assert lost[-1] == sink.dropped


def test_clients_never_exceed_the_limit(log: EventLog) -> None:
    """Clients._changed: never more clients than there may be, and everyone's turn comes."""

    def holds(locked: bool) -> bool:
        clients = Clients(2, log)
        if not locked:
            clients._changed = NoCondition()  # type: ignore[assignment]
        inside: list[int] = []

        def come_and_go() -> None:
            for _ in range(3):
                assert clients.reserve()
                inside.append(len(clients))
                give_way()
                clients.give_back()

        race(*[come_and_go] * 8)
        return max(inside) <= 2 and len(clients) == 0

    assert_guards(holds)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were looked up."""
    names: list[str] = []

    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        names.append(host)
        give_way()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


def test_resolver_one_look_up(looked_up: list[str]) -> None:
    """Resolver._changed: one look-up for all who ask at the same moment."""

    def holds(locked: bool) -> bool:
        looked_up.clear()
        resolver = Resolver(TcpAddress("policy.example", 25), now=lambda: 1.0)
        resolver._running = WayGivingFalse()  # type: ignore[assignment]
        if not locked:
            resolver._changed = NoCondition()  # type: ignore[assignment]
        race(*[lambda: resolver.addresses(5)] * 4)
        return 1 == len(looked_up)

    assert_guards(holds)


def test_the_races_are_real() -> None:
    """A counter that gives way loses counts without a lock, and none with one: the tools of this file work."""

    def holds(locked: bool) -> bool:
        lock: Any = threading.Lock() if locked else NoLock()
        box = [WayGivingInt()]

        def add() -> None:
            with lock:
                box[0] += 1

        race(*[add] * 4)
        return 4 == box[0]

    assert_guards(holds)
