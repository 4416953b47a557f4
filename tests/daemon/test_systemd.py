"""What the service manager passes and is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hapolicy.daemon import systemd

RUN = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); from hapolicy.cli import main; sys.exit(main())"


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        ("x", "LISTEN_FDS='x' in the environment is not a number of sockets; example: LISTEN_FDS=1"),
        ("-1", "LISTEN_FDS='-1' in the environment is not a number"),
        ("99999999", "is not a number of sockets"),
        ("3", "LISTEN_FDS"),
    ],
)
def test_nonsense_of_the_service_manager_ends_in_one_line(count: str, expected: str) -> None:
    """Which says what is wrong; exit status 78."""
    environment = {**os.environ, "LISTEN_FDS": count}
    command = [sys.executable, "-c", RUN, "-s", "A=127.0.0.1:9", "--log", "stderr"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("hapolicy:")]
    assert (78, 1) == (done.returncode, len(lines)), done.stderr
    assert expected in lines[0]


def test_a_socket_that_does_not_listen_is_refused() -> None:
    """It would be accepted on for ever, in vain."""
    with socket.socket() as sock, pytest.raises(systemd.SettingsError, match="a socket that does not listen"):
        systemd._listening_socket(sock.fileno())


def test_ready_is_not_lost_while_the_service_manager_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket is full for a moment: READY comes through all the same; what is less important waits for nothing."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        while systemd._told(path, b"x" * 1000):
            pass
        began = time.monotonic()
        systemd.notify("WATCHDOG=1")
        assert time.monotonic() - began < 5  # READY waits for 10 s
        reader = threading.Timer(0.3, lambda: [manager.recv(2000) for _ in range(5)])
        reader.start()
        systemd.notify("READY=1", patience_s=10)
        reader.join()
        assert 0.2 < time.monotonic() - began < 9
        manager.setblocking(False)
        messages = []
        try:
            while True:
                messages.append(manager.recv(2000))
        except BlockingIOError:
            pass
        assert b"READY=1" == messages[-1]


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [("30000000", 30.0), ("", None), ("0", None), ("-1", None), ("\u00b2", None), ("9" * 5000, None)],
)
def test_how_often_the_watchdog_is_to_be_heard(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, expected: float | None
) -> None:
    """What is no number of microseconds, as str.isdigit() or int() have it or not, asks for none."""
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    assert expected == systemd.watchdog_s()
