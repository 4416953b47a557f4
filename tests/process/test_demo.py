"""What `make run` starts: the commands it prints work as printed, and it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.support.procs import PATIENCE_S, Process

DEMO = "examples/demo.py"


def start_demo(listen: str = "127.0.0.1:0") -> Process:
    """Start the demonstration, on a free port."""
    return Process([sys.executable, DEMO, "--listen", listen])


def shell(command: str) -> str:
    """Run a line as a newcomer would paste it."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    return done.stdout


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_what_it_prints_works(signum: signal.Signals) -> None:
    """Asking, breaking a service, asking on, mending it; then Ctrl-C or SIGTERM ends all without a word."""
    demo = start_demo()
    demo.wait_for(lambda: any("Ctrl-C" in line for line in demo.noise), "the text to the end")
    commands = [line.strip() for line in demo.noise if line.startswith("    ")]
    ask_nc, ask, hang, mend = commands
    (page,) = [line.split()[-1] for line in demo.noise if line.startswith("The status page: ")]
    with urllib.request.urlopen(page, timeout=PATIENCE_S) as shown:
        assert b"hapolicy" in shown.read()
    assert re.fullmatch(r"printf 'request=smtpd_access_policy\\n.*' \| nc -q1 127\.0\.0\.1 \d+", ask_nc)
    answers = {shell(ask).strip() for _ in range(4)}
    assert {"action=DUNNO A demo.1", "action=DUNNO B demo.1"} == answers
    assert "ok\n" == shell(hang.replace("hang", "reset"))
    for _ in range(8):
        assert "action=DUNNO B demo.1" == shell(ask).strip()
    assert "ok\n" == shell(mend)
    names = [event["event"] for event in demo.events]
    assert {"daemon.started", "request.answered", "service.failed", "service.down"} <= set(names)
    hapolicy_pid = next(event["pid"] for event in demo.events if event["event"] == "daemon.started")
    said = len(demo.noise)
    demo.signal(signum)
    assert 0 == demo.wait()
    assert [] == demo.noise[said:]
    assert "daemon.stopped" == demo.events[-1]["event"]
    assert not is_running(hapolicy_pid)


def test_a_port_in_use_is_said_in_one_line() -> None:
    """When hapolicy cannot start, its one line is what the newcomer sees."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        demo = start_demo(f"127.0.0.1:{taken.getsockname()[1]}")
        assert 78 == demo.wait()
    assert 1 == len([line for line in demo.noise if line])
