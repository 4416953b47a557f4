"""As systemd sees it: sockets passed on, readiness and life told, and silence once it no longer works."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.manager import KeptSocket, NotifySocket, has_event
from tests.e2e.need import need
from tests.support.client import Load, PolicyClient
from tests.support.daemon import Daemon
from tests.support.procs import PATIENCE_S, Process, free_port, wait_until
from tests.support.sample import Sample

CONNECTIONS = 32
WATCHDOG_S = 0.4
WEDGED = Path(__file__).with_name("wedged.py")


def test_systemd_socket_activate_starts_it() -> None:
    """It is started by the first client, on the socket passed on and no other, and that client is answered."""
    activate = need("systemd-socket-activate", "systemd")
    address = f"127.0.0.1:{free_port()}"
    with Sample("A") as a:
        program = [sys.executable, "-m", "hapolicy", "--log", "stderr", "-s", a.service()]
        process = Process([activate, f"--listen={address}", *program])
        process.wait_for(lambda: any("Listening on" in line for line in process.noise), "the socket")
        assert not process.events
        with PolicyClient(address) as client:
            assert "DUNNO A first" == client.ask(instance="first")
        process.wait_for(has_event(process, "daemon.started"), "the daemon's start")
        assert [[address]] == [e["listen"] for e in process.events if e["event"] == "daemon.started"]
        assert 0 == process.stop()


def test_a_restart_refuses_nobody() -> None:
    """Killed and told to end, again and again, under 32 busy connections: no connect is refused, no answer wrong."""
    with Sample("A") as a, KeptSocket() as kept:
        daemon = kept.start("-s", a.service())
        with Load(kept.address, CONNECTIONS) as load:
            for signum in (signal.SIGKILL, signal.SIGTERM) * 3:
                load.wait_answered(500)
                daemon.signal(signum)
                daemon.wait()
                daemon = kept.start("-s", a.service())
            load.wait_answered(500)
        daemon.stop()
    refused = [error for error in load.tally.lost if not re.match(r"Connection(Reset)?Error|BrokenPipe", error)]
    assert ([], []) == (refused, load.tally.wrong)
    # What a restart does cost: a connection can be cut with a request on it.
    assert len(load.tally.lost) <= 6 * CONNECTIONS


def test_the_service_manager_is_told_the_story_in_order(folder: Path) -> None:
    """READY once it listens, WATCHDOG while it works, RELOADING with its time and READY again, STOPPING at the end."""
    with Sample("A") as a, NotifySocket(folder) as notify:
        arguments = folder / "hapolicy.args"
        arguments.write_text(f"-s {a.service()}")
        with Daemon(f"@{arguments}", env=notify.environment(WATCHDOG_S)) as daemon:
            wait_until(lambda: notify.count("WATCHDOG=1"), "a WATCHDOG")
            assert "STATUS=1 of 1 service up, 0 clients" in notify.messages[0]
            began_us = time.monotonic_ns() // 1000
            daemon.signal(signal.SIGHUP)
            wait_until(lambda: notify.count("READY=1") == 2, "READY after the reload")
            assert notify.hears("WATCHDOG=1", PATIENCE_S)
        wait_until(lambda: notify.count("STOPPING=1"), "STOPPING")
        story = ["READY=1", "WATCHDOG=1", "RELOADING=1", "READY=1", "WATCHDOG=1", "STOPPING=1"]
        assert story == notify.story()
        reloading = next(message for message in notify.messages if "RELOADING=1" in message)
        told_us = int(next(line for line in reloading if line.startswith("MONOTONIC_USEC=")).partition("=")[2])
        assert began_us <= told_us <= time.monotonic_ns() // 1000


@pytest.mark.parametrize("part", ["worker", "accept"])
def test_a_wedged_daemon_falls_silent(part: str, folder: Path) -> None:
    """While the event loop or the accepting thread stands still, WATCHDOG=1 stays away; then it comes again."""
    with Sample("A") as a, NotifySocket(folder) as notify:
        program = [sys.executable, str(WEDGED), "--listen", "127.0.0.1:0", "--log", "stderr", "-s", a.service()]
        daemon = Process(program, stdin=subprocess.PIPE, env=notify.environment(WATCHDOG_S))
        assert daemon.popen.stdin is not None
        wait_until(lambda: notify.count("WATCHDOG=1") > 1, "WATCHDOGs")
        os.write(daemon.popen.stdin.fileno(), f"hold {part}\n".encode())
        daemon.wait_for(has_event(daemon, "held"), "the part's standing still")
        # One may have been on its way; systemd would end the daemon after WATCHDOG_S without another.
        silent = any(not notify.hears("WATCHDOG=1", 3 * WATCHDOG_S) for _ in range(2))
        assert silent
        assert daemon.popen.poll() is None
        os.write(daemon.popen.stdin.fileno(), b"free\n")
        assert notify.hears("WATCHDOG=1", PATIENCE_S)
        daemon.stop()
