"""The host has no more descriptors, threads or memory for us: what there is serves on, and all is well afterwards."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.manager import NotifySocket
from tests.e2e.need import need
from tests.faults.conftest import Matrix
from tests.faults.host import as_user, unused_uid
from tests.faults.numbered import Ledger, NumberedLoad, Resources, check_answers
from tests.support.client import PolicyClient, request
from tests.support.daemon import Daemon
from tests.support.procs import wait_until
from tests.support.sample import Sample

CONNECTIONS = 12
DEADLINE_S = 1.0
COOLDOWN = ("--cooldown", "0.2", "--cooldown-max", "0.5", "--deadline", str(DEADLINE_S))


@contextmanager
def limited(daemon: Daemon, what: str, limit: int, prefix: Sequence[str] = ()) -> Iterator[None]:
    """Give the running daemon no more than `limit` for a while (prlimit(1)); `prefix` becomes the daemon's user."""
    _prlimit(daemon.pid, what, str(limit), prefix)
    try:
        yield
    finally:
        _prlimit(daemon.pid, what, _hard_limit(daemon.pid, what), prefix)


def _prlimit(pid: int, what: str, soft: str, prefix: Sequence[str]) -> None:
    command = [*prefix, need("prlimit", "util-linux"), f"--pid={pid}", f"--{what}={soft}:"]
    subprocess.run(command, check=True, capture_output=True, timeout=10)


def _hard_limit(pid: int, what: str) -> str:
    names = {"nofile": "Max open files", "nproc": "Max processes", "as": "Max address space"}
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[-2] for line in lines if line.startswith(names[what]))


def closed_with_a_reason(daemon: Daemon, ledger: Ledger) -> bool:
    """Whether each connection that ended without an answer has its ``client.rejected``."""
    told = {event["client"] for event in daemon.events_of("client.rejected")}
    return {name for name, _ in ledger.lost} <= told


@pytest.mark.parametrize("spare", [0, 1, 8])
def test_without_descriptors_who_is_served_is_answered(spare: int, matrix: Matrix) -> None:
    """Clients beyond the limit wait, no service is blamed, and with descriptors to be had all are served."""
    with Sample("A") as a, Sample("B") as b, Daemon("-s", a.service(), "-s", b.service(), *COOLDOWN) as daemon:
        with PolicyClient(daemon.address) as client:
            client.ask()
        start = Resources.of(daemon.pid)
        with limited(daemon, "nofile", start.descriptors + spare):
            load = NumberedLoad(daemon.address, CONNECTIONS)
            load.__enter__()
            began = time.monotonic()
            daemon.wait_event("server.accept_failed")
            wait_until(lambda: time.monotonic() > began + 0.7, "a while without descriptors")
        load.wait_answers(20 * CONNECTIONS)
        load.stop()
        matrix.add(f"no descriptors but {spare}", load.ledger, f"local {len(daemon.events_of('service.failed'))}")
        assert load.ledger.wrong == load.ledger.lost == []
        assert load.ledger.sent == load.ledger.answers + load.ledger.defaulted
        assert {"local"} >= {event["kind"] for event in daemon.events_of("service.failed")}
        assert [] == daemon.events_of("service.down") + daemon.events_of("daemon.error")
        assert 1 == len(daemon.events_of("server.accept_failed"))
        wait_until(lambda: Resources.of(daemon.pid).threads <= start.threads, "as many threads as before")


def test_clients_that_take_the_last_descriptor_do_not_end_the_start() -> None:
    """They wait already when it starts; what it has to load from files it has loaded before it accepts."""
    with Sample("A") as a, socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        clients = [PolicyClient(socket.create_connection(listening.getsockname())) for _ in range(60)]
        for client in clients:
            client.send(request(instance="early"))
        start = (
            f"import os, sys; os.dup2({listening.fileno()}, 3);"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
            "os.execv(sys.executable, [sys.executable, '-m', 'hapolicy', *sys.argv[1:]])"
        )
        program = [need("prlimit", "util-linux"), "--nofile=24:24", sys.executable, "-c", start]
        with Daemon("-s", a.service(), program=program, pass_fds=[listening.fileno()]):
            for client in clients:
                with client:
                    assert client.action() in ("DUNNO A early", "dunno")


def test_without_descriptors_a_reload_and_the_end_go_well(tmp_path: Path) -> None:
    """There is none to tell the service manager with: the request in flight is answered all the same, the end is 0."""
    with (
        NotifySocket(tmp_path) as manager,
        Sample("A") as a,
        Daemon("-s", a.service(), env=manager.environment()) as daemon,
        PolicyClient(daemon.address) as busy,
    ):
        busy.ask()
        _prlimit(daemon.pid, "nofile", str(Resources.of(daemon.pid).descriptors), ())
        with PolicyClient(daemon.address):
            daemon.wait_event("server.accept_failed")
            a.fault("slow", 1.0)
            busy.send(request(instance="busy"))
            wait_until(lambda: a.stats()["instances"][-1] == "busy", "the request's arrival at the service")
            daemon.signal(signal.SIGHUP)
            daemon.wait_event("daemon.reloaded")
            daemon.signal(signal.SIGTERM)
            assert b"action=DUNNO A busy\n\n" == busy.rest()
            assert 0 == daemon.wait()
        assert daemon.wait_event("daemon.stopped")["drained"] is True


def test_an_exhausted_host_burns_no_processor() -> None:
    """While clients wait for a descriptor that is not to be had, hapolicy is as good as idle."""
    with Sample("A") as a, Daemon("-s", a.service()) as daemon:
        with limited(daemon, "nofile", Resources.of(daemon.pid).descriptors):
            clients = [PolicyClient(daemon.address) for _ in range(5)]
            daemon.wait_event("server.accept_failed")
            before, began = _processor_s(daemon.pid), time.monotonic()
            wait_until(lambda: time.monotonic() > began + 1, "a second")
            assert _processor_s(daemon.pid) - before < 0.2
        for client in clients:
            with client:
                assert client.ask().startswith("DUNNO A")


def test_without_threads_everybody_is_served(matrix: Matrix) -> None:
    """No thread is started for a client, a probe or a look-up: with none to be had nothing changes."""
    uid = unused_uid()
    with (
        Sample("A") as a,
        Sample("B", "--fault", "refuse") as b,
        Daemon(
            *("-s", a.service(), "-s", b.service(), "--fail-max", "1", *COOLDOWN),
            program=[*as_user(uid), sys.executable, "-m", "hapolicy"],
        ) as daemon,
    ):
        start = Resources.of(daemon.pid)
        with limited(daemon, "nproc", 1, as_user(uid)), NumberedLoad(daemon.address, 4 * CONNECTIONS) as load:
            load.wait_answers(300)
            b.fault("none")
            daemon.wait_event("service.up", service="B")
            load.wait_answers(100, "B")
        matrix.add("no threads", load.ledger, "a probe came through")
        check_answers(load.ledger, DEADLINE_S)
        assert start.threads == Resources.of(daemon.pid).threads


@pytest.mark.parametrize("spare_kb", [0, 1024, 4096])
def test_without_memory_nothing_is_mixed_up_and_all_comes_back(spare_kb: int, matrix: Matrix) -> None:
    """Large requests of old and new clients while no memory is to be had: an answer, or an end that the log explains.

    Afterwards everything works: who asks, who recovers, who writes the log.
    """
    with Sample("A") as a, Sample("B") as b, Daemon("-s", a.service(), "-s", b.service(), *COOLDOWN) as daemon:
        start = Resources.of(daemon.pid)
        old = [PolicyClient(daemon.address) for _ in range(60)]
        for client in old:
            client.ask()
        with limited(daemon, "as", (_address_space_kb(daemon.pid) + spare_kb) * 1024):
            ended = sum(_ask_much(old) for _ in range(5))
            new = [PolicyClient(daemon.address) for _ in range(30)]
            with NumberedLoad(daemon.address, CONNECTIONS) as load:
                turned_away = _ask_much(new)
            for client in [*old, *new]:
                client.close()
        lost = ended + turned_away + len(load.ledger.lost)
        wait_until(lambda: Resources.of(daemon.pid).threads <= start.threads, "as many threads as before")
        explained, dropped = _explained(daemon)
        # A thread that dies of it before its first line can tell no log; Python then says so itself, on stderr.
        died = daemon.noise.count("MemoryError")
        text = f"{lost} ended, {explained} explained in the log, {dropped} dropped of it, {died} threads stillborn"
        matrix.add(f"no memory but {spare_kb} kB", load.ledger, text)
        assert [] == [line for line in daemon.noise if line != "MemoryError" and "Exception ignored" not in line]
        daemon.noise.clear()
        assert lost <= explained + dropped + died
        assert [] == load.ledger.wrong
        assert load.ledger.sent == load.ledger.answers + load.ledger.defaulted + len(load.ledger.lost)
        with NumberedLoad(daemon.address, CONNECTIONS) as again:
            a.fault("refuse")
            daemon.wait_event("service.probe_failed", service="A")
            a.fault("none")
            again.wait_answers(20, "A")
            again.wait_answers(20, "B")
        check_answers(again.ledger, DEADLINE_S)


def _explained(daemon: Daemon) -> tuple[int, int]:
    """How many ends of connections the log explains, and how many events it has lost (for want of memory, too)."""
    with PolicyClient(daemon.address) as client:
        client.send(b"the last event\n")
        client.rest()
    daemon.wait_event("client.rejected", reason="line is not name=value: 'the last event'")
    reasons = ("client.rejected", "client.lost", "daemon.error")
    explained = sum(event["event"] in reasons for event in daemon.events[:]) - 1
    return explained, sum(event["count"] for event in daemon.events_of("log.dropped"))


def _ask_much(clients: list[PolicyClient]) -> int:
    """A large request of each, all at once; how many of them were disconnected instead of answered."""
    large = {f"a{number}": "x" * 1000 for number in range(60)}
    lost = 0
    for client in clients:
        with contextlib.suppress(OSError):
            client.send(request(instance="large", **large))
    for client in clients:
        try:
            assert client.action().split()[0] in ("DUNNO", "dunno")
        except ConnectionError:
            lost += client.link.fileno() >= 0
            client.close()
        except OSError:
            pass  # closed before
    return lost


def _address_space_kb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize() // 1024


def _processor_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
