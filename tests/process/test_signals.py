"""Signals: an end that leaves nobody without an answer, and a word on how things stand."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from tests.support.client import Load, PolicyClient, refuses, request
from tests.support.daemon import Daemon
from tests.support.procs import PATIENCE_S, Process, wait_until
from tests.support.sample import Sample


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_end_waits_for_requests_in_flight(signum: signal.Signals) -> None:
    """A request in flight gets its answer, new clients are refused, idle ones let go, and the status is 0."""
    with Sample("A") as a, Daemon("-s", a.service()) as daemon:
        with PolicyClient(daemon.address) as busy, PolicyClient(daemon.address) as idle:
            idle.ask()
            a.fault("slow", 1.0)
            busy.send(request(instance="busy"))
            wait_until(lambda: a.stats()["instances"][-1] == "busy", "the request's arrival at the service")
            daemon.signal(signum)
            stopping = daemon.wait_event("daemon.stopping")
            assert (signum.name, 2) == (stopping["signal"], stopping["clients"])
            wait_until(lambda: refuses(daemon.address), "new clients being refused", timeout_s=0.9)
            assert b"" == idle.rest()
            assert b"action=DUNNO A busy\n\n" == busy.rest()
        assert 0 == daemon.wait()
        stopped = daemon.wait_event("daemon.stopped")
        assert stopped["drained"] is True
        assert stopped["uptime_s"] > 0


def test_the_end_waits_no_longer_than_told() -> None:
    """With a service that hangs, --drain bounds the end."""
    with Sample("A", "--fault", "hang") as a, Daemon("-s", a.service(), "--drain", "0.5") as daemon:
        with PolicyClient(daemon.address) as client:
            client.send(request())
            wait_until(lambda: a.stats()["requests"], "the request's arrival at the service")
            began = time.monotonic()
            daemon.signal(signal.SIGTERM)
            assert 0 == daemon.wait()
            assert 0.5 <= time.monotonic() - began < PATIENCE_S  # TIMEOUT is 30 s
        assert daemon.wait_event("daemon.stopped")["drained"] is False


def test_the_end_with_pythons_own_checks_on() -> None:
    """Nothing is left open that Python would speak of, or hang at; neither where hapolicy could not even begin."""
    program = (sys.executable, "-X", "dev", "-W", "error", "-m", "hapolicy")
    with Sample("A") as a, Daemon("-s", a.service(), program=program) as daemon:
        with PolicyClient(daemon.address) as client:
            client.ask()
        arguments = ["--listen", daemon.address, "-s", a.service()]
        late = Process([*program, *arguments])
        assert (os.EX_CONFIG, 1) == (late.wait(), len(late.noise)), late.report()


FAULTY_END = """
class Faulty:
    def __del__(self):
        1 / 0

faulty = Faulty()
from hapolicy import cli
raise SystemExit(cli.main())
"""


def test_a_fault_while_python_ends() -> None:
    """It comes when there is no log any more: Python says it on stderr, and the end is the usual one."""
    daemon = Daemon("-s", "A=127.0.0.1:9", program=(sys.executable, "-c", FAULTY_END))
    assert 0 == daemon.stop()
    assert "ZeroDivisionError: division by zero" in daemon.noise, daemon.report()


def test_an_idle_daemon_ends_at_once() -> None:
    """Clients that ask nothing, and probes under way, keep nobody waiting."""
    with Sample("A", "--fault", "hang") as a:
        arguments = ["-s", a.service("::1:0.2"), "--fail-max", "1", "--cooldown", "0.1"]
        with Daemon(*arguments) as daemon, PolicyClient(daemon.address) as client:
            client.ask()
            wait_until(lambda: a.stats()["requests"] > 1, "a probe at the service")
            began = time.monotonic()
            assert 0 == daemon.stop()
            assert time.monotonic() - began < PATIENCE_S  # --drain is 30 s


def test_the_end_under_load_answers_what_was_asked() -> None:
    """A client that was not answered had not been heard: under load no connection ends within an answer."""
    with Sample("A") as a, Daemon("-s", a.service()) as daemon:
        with Load(daemon.address, 8) as load:
            load.wait_answered(500)
            assert 0 == daemon.stop()
        assert [] == load.tally.wrong
        assert daemon.wait_event("daemon.stopped")["drained"] is True


def test_sigusr1_tells_how_the_services_are() -> None:
    """One status event a service, up or down, and the daemon goes on."""
    with Sample("A") as a, Sample("B", "--fault", "refuse") as b:
        arguments = ["-s", a.service(), "-s", b.service(":9"), "--fail-max", "1", "--cooldown", "60"]
        with Daemon(*arguments) as daemon, PolicyClient(daemon.address) as client:
            for _ in range(3):
                client.ask()
            daemon.wait_event("service.down", service="B")
            daemon.signal(signal.SIGUSR1)
            for name, address in (("A", a.address), ("B", b.address)):
                assert address == daemon.wait_event("service.status", service=name)["address"]
            assert "DUNNO A on" == client.ask(instance="on")
            daemon.signal(signal.SIGUSR1)
            daemon.wait_event("service.status", service="A", nth=2)


def test_started_tells_what_runs() -> None:
    """The first event names the version, the process, the services and the default action."""
    with Sample("A") as a, Daemon("-s", a.service(), "-d", "DUNNO") as daemon:
        event = daemon.wait_event("daemon.started")
        assert ("2.0.0", daemon.pid, "DUNNO") == (event["version"], event["pid"], event["default"])
        assert a.address in str(event["services"])
