"""The network fails: packets vanish without a word, a name leads nowhere, to the wrong family, or is not told."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Matrix
from tests.faults.host import Host, Pair
from tests.faults.names import NAME_SERVICE, NameServer
from tests.faults.numbered import NumberedLoad, Resources, check_answers, check_books, check_resources
from tests.support.client import PolicyClient
from tests.support.daemon import Daemon
from tests.support.procs import PATIENCE_S, SLACK_S, wait_until
from tests.support.sample import Sample

CONNECTIONS = 12
TIMEOUT_S = 0.3
DEADLINE_S = 1.0
LIMITS = ("--deadline", str(DEADLINE_S), "--connect-timeout", "0.2", "--cooldown", "0.2", "--cooldown-max", "0.5")
IMPATIENT = str(Path(__file__).with_name("impatient.py"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="hapolicy-") as path:
        yield Path(path)


def test_a_black_hole_costs_no_answer(folder: Path, matrix: Matrix) -> None:
    """Packets of one service vanish, those of kept links and of new ones: the other answers, and all comes back."""
    at = {name: f"unix:{folder}/{name}" for name in ("listen", "control-a")}
    fields = f":1:1:{TIMEOUT_S}"
    with (
        Pair() as net,
        Sample("A", listen=f"{net.FAR}:0", control=at["control-a"], prefix=net.far.prefix) as a,
        Sample("B", control=f"unix:{folder}/control-b", prefix=net.near.prefix) as b,
        Daemon(
            *("-s", a.service(fields), "-s", b.service(fields), "--listen", at["listen"], *LIMITS),
            program=net.near.hapolicy,
        ) as daemon,
    ):
        start = Resources.of(daemon.pid)
        with NumberedLoad(at["listen"], CONNECTIONS) as load:
            load.wait_answers(300)
            warm = Resources.of(daemon.pid)
            for _ in range(2):
                ups = len(daemon.events_of("service.up"))
                net.swallow(all_of_it=True)
                daemon.wait_event("service.probe_failed", nth=ups + 1, service="A", kind="connect_timeout")
                load.wait_answers(50)
                net.swallow(all_of_it=False)
                daemon.wait_event("service.up", nth=ups + 1, service="A")
                load.wait_answers(30, "A")
        seen = {event["kind"] for event in daemon.events_of("service.failed")}
        growth_kb = Resources.of(daemon.pid).resident_kb - warm.resident_kb
        matrix.add("black hole", load.ledger, f"{'/'.join(sorted(seen))}, {growth_kb:+} kB")
        check_answers(load.ledger, DEADLINE_S)
        assert seen <= {"answer_timeout", "connect_timeout"}
        assert 0 == load.ledger.defaulted
        check_books(daemon, load.ledger, services=2)
        check_resources(daemon, start, 2 * CONNECTIONS, growth_kb)


def test_nothing_but_black_holes_gives_the_default_action_in_time(folder: Path) -> None:
    """With every service behind it the first requests wait for the deadline at most, the later ones not at all."""
    listen = f"unix:{folder}/listen"
    services = [f"{name}=192.0.2.{number}:10031" for number, name in enumerate("ABC", 7)]
    with (
        Host("ip link set lo up") as host,
        Daemon(
            *(word for service in services for word in ("-s", service)),
            *("--listen", listen, "--deadline", str(DEADLINE_S), "--fail-max", "1", "--connect-timeout", "0.4"),
            program=host.hapolicy,
        ) as daemon,
        PolicyClient(listen) as client,
    ):
        host.ip("link", "add", "cable", "type", "veth", "peer", "name", "nowhere")
        host.ip("link", "set", "cable", "up")
        host.ip("link", "set", "nowhere", "up")
        host.ip("address", "add", "192.0.2.1/24", "dev", "cable")
        for number in range(7, 10):
            host.ip("neighbour", "add", f"192.0.2.{number}", "lladdr", "02:00:00:00:00:07", "dev", "cable")
        began = time.monotonic()
        assert "dunno" == client.ask()
        assert time.monotonic() - began < DEADLINE_S + SLACK_S
        daemon.wait_event("service.failed")
        assert {"connect_timeout"} == {event["kind"] for event in daemon.events_of("service.failed")}
        assert "dunno" == client.ask()
        began = time.monotonic()
        assert "dunno" == client.ask()
        assert time.monotonic() - began < SLACK_S


class Names(NameServer):
    """A host whose only name server is the test's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.host = Host(NAME_SERVICE.format(folder=folder))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Names:
        self._stack.enter_context(self.host)
        self._stack.enter_context(self.serving(self.host))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def test_a_name_that_stops_resolving_costs_no_answer(folder: Path, matrix: Matrix) -> None:
    """While the name server refuses, denies or is silent, the last known addresses serve on; new ones are found."""
    listen = f"unix:{folder}/listen"
    with (
        Names(folder) as names,
        Sample("A", control=f"unix:{folder}/control-a", prefix=names.host.prefix) as a,
        Daemon(
            *("-s", f"A=service.test:{a.address.rpartition(':')[2]}:1:1:{TIMEOUT_S}", "--listen", listen, *LIMITS),
            *("--fail-max", "1000"),
            program=[*names.host.prefix, sys.executable, IMPATIENT],
        ) as daemon,
    ):
        with PolicyClient(listen) as client:
            began = time.monotonic()
            assert "dunno" == client.ask()
            assert time.monotonic() - began < DEADLINE_S + SLACK_S
            failed = daemon.wait_event("service.failed")
            assert failed["kind"] in ("unresolvable", "unresolved")
            names.tell("answer", a=("127.0.0.1",))
            wait_until(lambda: client.ask() != "dunno", "the name to be known", PATIENCE_S)
        start = Resources.of(daemon.pid)
        failures = len(daemon.events_of("service.failed"))
        with NumberedLoad(listen, CONNECTIONS) as load:
            for mode in ("servfail", "nxdomain", "silent"):
                load.wait_answers(50)
                names.tell(mode)
                a.fault("refuse")  # so that links are made anew
                a.fault("none")
                began = time.monotonic()
                wait_until(lambda began=began: time.monotonic() > began + 0.5, "some look-ups to fail")
            load.wait_answers(50)
        matrix.add("name stops resolving", load.ledger, "servfail, nxdomain, silence")
        check_answers(load.ledger, DEADLINE_S)
        kinds = {event["kind"] for event in daemon.events_of("service.failed")[failures:]}
        assert kinds <= {"refused", "closed"}  # the links that were cut, not the name
        wait_until(lambda: Resources.of(daemon.pid).threads <= start.threads, "the look-ups to end")


def test_a_name_of_the_wrong_family_fails_over(folder: Path, matrix: Matrix) -> None:
    """A name with an IPv6 address where only IPv4 is served is refused; with both the one that works is found."""
    listen = f"unix:{folder}/listen"
    with (
        Names(folder) as names,
        Sample("A", control=f"unix:{folder}/control-a", prefix=names.host.prefix) as a,
        Sample("B", control=f"unix:{folder}/control-b", prefix=names.host.prefix) as b,
        Daemon(
            *("-s", f"A=service.test:{a.address.rpartition(':')[2]}:1:1:{TIMEOUT_S}", "-s", b.service(":2")),
            *("--listen", listen, *LIMITS),
            program=[*names.host.prefix, sys.executable, IMPATIENT],
        ) as daemon,
    ):
        names.tell("answer", aaaa=("::1",))
        with NumberedLoad(listen, CONNECTIONS) as load:
            load.wait_answers(100, "B")
            daemon.wait_event("service.probe_failed", kind="refused")
            kinds = {event["kind"] for event in daemon.events_of("service.failed")}
            assert kinds <= {"refused", "unresolvable", "unresolved"}
            names.tell("answer", a=("127.0.0.1",), aaaa=("::1",))
            load.wait_answers(100, "A")
        matrix.add("wrong-family name", load.ledger, "only ::1, then ::1 and 127.0.0.1")
        check_answers(load.ledger, DEADLINE_S)
        assert 0 == load.ledger.defaulted
        check_books(daemon, load.ledger, services=2)
