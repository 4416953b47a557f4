"""SIGHUP: the argument files are read again, and the pool is swapped under load without anyone noticing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hapolicy.admin.control.client import order
from tests.process.ctl import REFUSED, hapolicyctl
from tests.support.client import Load, PolicyClient
from tests.support.daemon import Daemon
from tests.support.procs import wait_until
from tests.support.sample import Sample

RELOADS = 100
AT_ONCE_S = 2.0  # a connection that was busy lately is kept for five seconds and more


@pytest.fixture
def samples() -> Iterator[list[Sample]]:
    """Three sample services: A, B and C."""
    with ExitStack() as stack:
        yield [stack.enter_context(Sample(name)) for name in "ABC"]


class Configured:
    """A daemon whose services stand in an argument file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "hapolicy.args"

    def write(self, *lines: str) -> None:
        """The file as it is from now on: whole at every moment, as an editor that knows its trade leaves it."""
        new = self.file.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.rename(self.file)

    def daemon(self, *arguments: str) -> Daemon:
        """A daemon that reads it."""
        return Daemon(f"@{self.file}", *arguments)


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """An argument file, not written yet."""
    return Configured(tmp_path)


def reload(daemon: Daemon, nth: int) -> None:
    """Send SIGHUP and wait until the new pool is in its place."""
    daemon.signal(signal.SIGHUP)
    daemon.wait_event("daemon.reloaded", nth=nth)


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    """How many threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def test_a_hundred_reloads_under_load_lose_nothing(configured: Configured, samples: list[Sample]) -> None:
    """Services are added, removed and re-weighted a hundred times under load: nothing lost, defaulted or leaked."""
    a, b, c = samples
    variants = [
        [f"-s {a.service()}", f"-s {b.service()}"],
        [f"-s {a.service()}", f"-s {b.service(':10:3')}", f"-s {c.service()}"],
        [f"-s {b.service()}  # A is gone", f"-s {c.service(':20')}"],
        [f"-s {a.service(':10:2:5')}", f"-s {c.service()}"],
    ]
    configured.write(*variants[0])
    with configured.daemon() as daemon:
        with PolicyClient(daemon.address) as client:
            client.ask()
        wait_until(lambda: threads(daemon.pid) <= 5, "the first client's thread to end")
        before = descriptors(daemon.pid), threads(daemon.pid)
        with Load(daemon.address, 16) as load:
            for nth in range(1, RELOADS + 1):
                configured.write(*variants[nth % len(variants)])
                reload(daemon, nth)
                load.wait_answered(20)
        load.check()
        assert [] == daemon.events_of("request.defaulted")
        assert [] == daemon.events_of("service.failed")
        configured.write(f"-s {a.service()}")
        reload(daemon, RELOADS + 1)
        wait_until(lambda: threads(daemon.pid) <= before[1], "the load's threads to end")
        # A's kept links may be as many as there were clients; all others are closed.
        wait_until(lambda: (b.stats()["open"], c.stats()["open"]) == (0, 0), "the links to B and C to end")
        assert descriptors(daemon.pid) <= before[0] + 16


def test_a_service_that_stays_keeps_health_and_counters(configured: Configured, samples: list[Sample]) -> None:
    """A re-weighted service that is down stays down and keeps its counters; a changed address starts afresh."""
    a, b, c = samples
    a.fault("garbage")
    configured.write("--fail-max 1 --cooldown 60", f"-s {a.service(':1')}", f"-s {b.service(':2')}")
    with configured.daemon() as daemon, PolicyClient(daemon.address) as client:
        assert client.ask().startswith("DUNNO B")
        daemon.wait_event("service.down", service="A")
        configured.write("--fail-max 1 --cooldown 60", f"-s {a.service(':1:7')}", f"-s {b.service(':2')}")
        reload(daemon, 1)
        assert client.ask().startswith("DUNNO B")
        daemon.signal(signal.SIGUSR1)
        status = daemon.wait_event("service.status", service="A")
        assert 1 == len(daemon.events_of("service.failed"))
        assert ("down", 7.0, 1, 1) == tuple(status[name] for name in ("state", "weight", "queries", "failed"))
        configured.write(f"-s A={c.address}:1", f"-s {b.service(':2')}")
        reload(daemon, 2)
        assert client.ask().startswith("DUNNO C")


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["-l", "-s A=127.0.0.1:70000"], ":2: -s/--service: A=127.0.0.1:70000: port 70000 is not between 1 and 65535"),
        (["-s A=127.0.0.1:1", "--probe sometimes"], ":2: --probe: sometimes: none of query, tcp, off"),
        (["-s A=127.0.0.1:1", "", "-d 'no end"], ":3: No closing quotation"),
        (["# nothing"], "no service defined"),
        (["-s A=127.0.0.1:1", "-lh"], ":2: -lh: not in a file"),
        (["-s A=127.0.0.1:1", "--version"], ":2: --version: not in a file"),
    ],
)
def test_a_bad_file_changes_nothing(
    configured: Configured, samples: list[Sample], lines: list[str], complaint: str
) -> None:
    """A bad file is logged with file, line and reason, and the old pool stays."""
    configured.write(f"-s {samples[0].service()}")
    with configured.daemon() as daemon, PolicyClient(daemon.address) as client:
        configured.write(*lines)
        daemon.signal(signal.SIGHUP)
        error = daemon.wait_event("daemon.reload_failed")["error"]
        assert complaint in error
        assert str(configured.file) in error or complaint.startswith("no service")
        assert client.ask().startswith("DUNNO A")


def test_a_request_in_flight_ends_on_the_old_pool(configured: Configured, samples: list[Sample]) -> None:
    """A request that a removed service is working on still gets that service's answer."""
    a, b, _ = samples
    configured.write(f"-s {a.service()}")
    a.fault("slow", 1)
    with configured.daemon() as daemon, PolicyClient(daemon.address) as client:
        client.send(b"request=smtpd_access_policy\ninstance=slow.1\n\n")
        wait_until(lambda: a.stats()["requests"] == 1, "A to have the request")
        configured.write(f"-s {b.service()}")
        reload(daemon, 1)
        assert "DUNNO A slow.1" == client.action()
        assert client.ask().startswith("DUNNO B")
        wait_until(lambda: a.stats()["open"] == 0, "the link to A to end", AT_ONCE_S)


def test_idle_connections_end_with_their_service(configured: Configured, samples: list[Sample]) -> None:
    """At once, not when they have been idle for long; those of a service that stays do not."""
    a, b, _ = samples
    configured.write(f"-s {a.service()}", f"-s {b.service()}")
    for sample in (a, b):
        sample.fault("slow", 0.1)  # for so long they are seen to be busy
    with configured.daemon() as daemon, PolicyClient(daemon.address) as client:
        for _ in range(4):
            client.ask()
        configured.write(f"-s {b.service()}")
        reload(daemon, 1)
        wait_until(lambda: a.stats()["open"] == 0, "the links to A to end", AT_ONCE_S)
        assert b.stats()["open"]


def test_what_takes_a_restart_is_told(configured: Configured, samples: list[Sample]) -> None:
    """A changed --listen is a warning, the rest of the file counts."""
    configured.write(f"-s {samples[0].service()}")
    with configured.daemon() as daemon:
        configured.write(f"-s {samples[1].service()}", "--listen 127.0.0.1:1", "-d hold")
        reload(daemon, 1)
        daemon.wait_event("config.warning", argument="--listen")
        with PolicyClient(daemon.address) as client:
            assert client.ask().startswith("DUNNO B")


FAULTY_RELOAD = """
from hapolicy import cli
from hapolicy.daemon import daemon

class Faulty(daemon.Pool):
    def adopt(self, settings):
        raise AssertionError("a fault")

daemon.Pool = Faulty
raise SystemExit(cli.main())
"""


def test_a_fault_of_ours_changes_nothing(samples: list[Sample], tmp_path: Path) -> None:
    """Whatever a reload may raise is logged as a fault and told to who ordered it; the old pool serves on."""
    program = (sys.executable, "-c", FAULTY_RELOAD)
    control = f"unix:{tmp_path}/control"
    with Daemon("-s", samples[0].service(), "--control", control, program=program) as daemon:
        done = hapolicyctl("--control", control, "reload")
        assert (REFUSED, True) == (done.returncode, "a fault of hapolicy" in done.stderr)
        assert "AssertionError: a fault" in daemon.wait_event("daemon.error")["error"]
        daemon.has_fault = True
        with PolicyClient(daemon.address) as client:
            assert client.ask().startswith("DUNNO A")


def test_a_hundred_drains_under_load(configured: Configured, samples: list[Sample]) -> None:
    """Nothing is lost or answered wrongly, and no descriptor or connection is left behind."""
    a, b, _ = samples
    control = configured.file.parent / "control.sock"
    configured.write(f"-s {a.service()} -s {b.service()} --control unix:{control}")
    with configured.daemon() as daemon:
        descriptors = Path(f"/proc/{daemon.pid}/fd")
        before = len(list(descriptors.iterdir()))
        with Load(daemon.address, 16, pause_s=0.002) as load:
            load.wait_answered(100)
            for _ in range(100):
                assert "draining" == order(str(control), "drain", service="A")["state"]
                load.wait_answered(5)
                assert "up" == order(str(control), "ready", service="A")["state"]
            load.wait_answered(100)
        load.check()
        assert min(load.tally.names["A"], load.tally.names["B"]) > 50
        assert [] == daemon.events_of("request.defaulted") + daemon.events_of("daemon.error")
        wait_until(lambda: len(list(descriptors.iterdir())) <= before + 32, "as many descriptors as before")
