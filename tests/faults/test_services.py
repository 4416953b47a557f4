"""A service fails in each way there is, under load: nothing is lost, wrong or late, and all comes back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from hapolicy.proxy.surplus import IDLE_MAX_S as LINK_IDLE_MAX_S
from tests.faults.conftest import Matrix
from tests.faults.numbered import (
    MEMORY_GROWTH_MAX_KB,
    NumberedLoad,
    Resources,
    check_answers,
    check_books,
    check_resources,
    connections_of,
)
from tests.support.daemon import Daemon
from tests.support.procs import wait_until
from tests.support.sample import Sample

CONNECTIONS = 12
THREADS = 4  # main, accept, recovery, log
TIMEOUT_S = 0.3
DEADLINE_S = 1.0
FAULT_S = 0.7
COOLDOWN = ("--cooldown", "0.2", "--cooldown-max", "0.5")


@dataclass(frozen=True)
class Fault:
    """What befalls service A (and B where `both`) and how it ends; `kinds` are what the log may call it."""

    begin: Callable[[Sample], None]
    end: Callable[[Sample], None]
    kinds: frozenset[str]
    both: bool = False


def told(name: str, kinds: str, seconds: float | None = None, both: bool = False) -> Fault:
    """A fault of the sample service's own."""
    return Fault(lambda s: s.fault(name, seconds), lambda s: s.fault("none"), frozenset(kinds.split()), both)


def flap(sample: Sample) -> None:
    """Away and back every 300 ms, without a pause for the links."""
    began = time.monotonic()
    for turn in range(6):
        sample.fault("none" if turn % 2 else "refuse")
        wait_until(lambda turn=turn: time.monotonic() >= began + 0.3 * (turn + 1), "the next turn")


FAULTS = {
    "refuses": told("refuse", "refused closed"),
    "hangs": told("hang", "answer_timeout"),
    "resets after the request": told("reset", "closed"),
    "half an answer": told("half", "closed"),
    "drips": told("drip", "answer_timeout"),
    "garbage": told("garbage", "malformed"),
    "oversized": told("oversized", "oversized"),
    "slow, within its timeout": told("slow", "", 0.1),
    "slow, beyond its timeout": told("slow", "answer_timeout", 0.5),
    "late on a kept link": told("late", "answer_timeout", 0.4),
    "stopped (SIGSTOP)": Fault(Sample.pause, Sample.resume, frozenset(["answer_timeout", "connect_timeout"])),
    "killed and started": Fault(Sample.kill, Sample.start, frozenset(["refused", "closed"])),
    "restarted at once": Fault(Sample.restart, lambda s: None, frozenset(["refused", "closed"])),
    "flaps every 300 ms": Fault(flap, lambda s: s.fault("none"), frozenset(["refused", "closed"])),
    "all down and back": told("refuse", "refused closed", both=True),
    "all hang and are back": told("hang", "answer_timeout", both=True),
}


@pytest.fixture(scope="module", autouse=True)
def veteran() -> Iterator[tuple[Daemon, Resources]]:
    """A daemon that has been through a load and an outage when the first test begins, and what it held before."""
    with Sample("A") as a, Sample("B") as b, Daemon("-s", a.service(), "-s", b.service(), *COOLDOWN) as daemon:
        wait_until(lambda: Resources.of(daemon.pid).threads >= THREADS, "all threads")
        before = Resources.of(daemon.pid)
        with NumberedLoad(daemon.address, CONNECTIONS) as load:
            load.wait_answers(200)
            a.fault("refuse")
            daemon.wait_event("service.down")
            a.fault("none")
            daemon.wait_event("service.up")
        assert connections_of(daemon.pid)
        yield daemon, before


@pytest.mark.parametrize("name", FAULTS)
def test_a_failing_service_costs_no_answer(name: str, matrix: Matrix) -> None:
    """Each request has one answer, its own, within the deadline; the books balance; nothing is left behind."""
    fault = FAULTS[name]
    # A service that gets no processor for so long on a busy machine would be another fault.
    fields = f":1:1:{TIMEOUT_S if 'answer_timeout' in fault.kinds else DEADLINE_S}"
    with (
        Sample("A") as a,
        Sample("B") as b,
        Daemon("-s", a.service(fields), "-s", b.service(fields), "--deadline", str(DEADLINE_S), *COOLDOWN) as daemon,
    ):
        hit = [a, b] if fault.both else [a]
        start = Resources.of(daemon.pid)
        with NumberedLoad(daemon.address, CONNECTIONS) as load:
            load.wait_answers(300)
            warm = Resources.of(daemon.pid)
            began = time.monotonic()
            for sample in hit:
                fault.begin(sample)
            if fault.both:
                load.wait_defaults(20)
            else:
                load.wait_answers(50)
            wait_until(lambda: time.monotonic() > began + FAULT_S, "the fault to last")
            for sample in hit:
                fault.end(sample)
            wait_until(lambda: len(_downs(daemon)) <= len(daemon.events_of("service.up")), "all services to be up")
            for sample in hit:
                load.wait_answers(30, sample.name)
        seen = {event["kind"] for event in daemon.events_of("service.failed")}
        growth_kb = Resources.of(daemon.pid).resident_kb - warm.resident_kb
        downs = len(_downs(daemon))
        matrix.add(name, load.ledger, f"{'/'.join(sorted(seen)) or 'no failure'}, down {downs} times, {growth_kb:+} kB")
        check_answers(load.ledger, DEADLINE_S)
        assert fault.both or not (load.ledger.defaulted or load.ledger.suspects)
        assert seen <= fault.kinds, daemon.report()
        assert bool(seen) == bool(fault.kinds) or name == "restarted at once"
        check_books(daemon, load.ledger, services=2)
        check_resources(daemon, start, 2 * CONNECTIONS, growth_kb)


def _downs(daemon: Daemon) -> list[object]:
    return list(daemon.events_of("service.down"))


def test_one_fault_after_the_other(matrix: Matrix) -> None:
    """Two services take turns at failing, each time in another way, while the third answers: as if nothing was."""
    turns = ["refuse", "hang", "half", "reset", "late", "garbage"]
    fields = f":1:1:{TIMEOUT_S}"
    with contextlib.ExitStack() as stack:
        samples = [stack.enter_context(Sample(name)) for name in "ABC"]
        services = [word for sample in samples for word in ("-s", sample.service(fields))]
        daemon = stack.enter_context(Daemon(*services, "--deadline", str(DEADLINE_S), *COOLDOWN))
        start = Resources.of(daemon.pid)
        with NumberedLoad(daemon.address, CONNECTIONS) as load:
            load.wait_answers(300)
            warm = Resources.of(daemon.pid)
            for turn, fault in enumerate(turns):
                failing, healed = samples[turn % 2], samples[1 - turn % 2]
                failing.fault(fault, 0.4 if fault == "late" else None)
                healed.fault("none")
                load.wait_answers(100)
                load.wait_answers(5, healed.name)
            for sample in samples:
                sample.fault("none")
                load.wait_answers(20, sample.name)
        growth_kb = Resources.of(daemon.pid).resident_kb - warm.resident_kb
        matrix.add("one after the other", load.ledger, f"{len(_downs(daemon))} downs, {growth_kb:+} kB")
        check_answers(load.ledger, DEADLINE_S)
        assert 0 == load.ledger.defaulted
        check_books(daemon, load.ledger, services=3)
        check_resources(daemon, start, 3 * CONNECTIONS, growth_kb)


def test_nothing_stays_of_a_load_and_an_outage(veteran: tuple[Daemon, Resources]) -> None:
    """40 s after the last request no link is kept, no thread is left: as it was when nobody had asked."""
    daemon, before = veteran
    wait_until(lambda: not connections_of(daemon.pid), "no link", LINK_IDLE_MAX_S * 4 / 3 + 5)
    now = Resources.of(daemon.pid)
    assert before.threads == now.threads
    assert now.descriptors - before.descriptors <= 1  # before, the listener may not have had its epoll yet
    assert now.resident_kb - before.resident_kb < MEMORY_GROWTH_MAX_KB


def test_a_service_that_answers_twice_is_soon_kept_on_a_short_leash(matrix: Matrix) -> None:
    """What it says unasked is found out; from then on each of its links serves one request, and nothing is mixed up.

    The protocol has no request number: a second answer that arrives in the very moment between a request and
    its answer cannot be told from it. So until the first one is found out, a few may be that service's answer
    to one of its former requests.
    """
    fields = f":1:1:{TIMEOUT_S}"
    with (
        Sample("A", "--fault", "double") as a,
        Sample("B") as b,
        Daemon("-s", a.service(fields), "-s", b.service(fields), "--deadline", str(DEADLINE_S), *COOLDOWN) as daemon,
        NumberedLoad(daemon.address, CONNECTIONS) as load,
    ):
        daemon.wait_event("service.out_of_turn", service="A")
        found_out = time.monotonic()
        wait_until(lambda: time.monotonic() > found_out + TIMEOUT_S, "those in flight to end")
        mixed_up = len(load.ledger.wrong)
        load.wait_answers(300, "A")
        load.stop()
        matrix.add("answers twice", load.ledger, f"mixed up before it was found out: {mixed_up}")
        assert mixed_up == len(load.ledger.wrong) <= 3 * CONNECTIONS
        assert load.ledger.sent == load.ledger.answers + len(load.ledger.wrong)
        assert 1 == len(daemon.events_of("service.out_of_turn"))
