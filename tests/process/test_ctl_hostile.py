"""The control socket of a running daemon under junk, and before those who may not use it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.ctl import NOT_ALLOWED, OK, Controlled
from tests.support.client import Load
from tests.support.procs import PATIENCE_S, wait_until
from tests.support.sample import Sample

# Users and groups that no host gives to anyone by itself.
STRANGER, OPERATORS = 60_401, 60_402

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

# All is imported before the privileges go: the interpreter may lie where a stranger cannot read.
AS_ANOTHER = """
import locale, os, sys
from hapolicy.admin.control import commands as ctl
uid, gid, groups, *arguments = sys.argv[1:]
os.setgroups([int(group) for group in groups.split(",") if group])
os.setgid(int(gid))
os.setuid(int(uid))
sys.exit(ctl.main(arguments))
"""


def as_another(daemon: Controlled, *groups: int, gid: int = STRANGER) -> tuple[int, str]:
    """hapolicyctl status as a stranger in these groups; its exit status and complaint."""
    who = [str(STRANGER), str(gid), ",".join(map(str, groups))]
    argv = [sys.executable, "-c", AS_ANOTHER, *who, "--control", daemon.control, "status", "--names"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def sample() -> Iterator[Sample]:
    """A service that is well."""
    with Sample("A") as sample:
        yield sample


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may pass through, as /run/hapolicy is."""
    path = Path(tempfile.mkdtemp(prefix="hapolicy-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@needs_root
@pytest.mark.parametrize("mode", ["660", "666"])
def test_a_stranger_is_refused(sample: Sample, folder: Path, mode: str) -> None:
    """By the kernel where the mode forbids it, by the daemon where it does not: 77, and one line."""
    with Controlled(folder, "-s", sample.service(), mode=mode) as daemon:
        os.chown(daemon.socket, -1, OPERATORS)
        status, text = as_another(daemon)
        assert NOT_ALLOWED == status
        assert 1 == len(text.splitlines()), text
        if mode == "666":
            assert STRANGER == daemon.wait_event("control.rejected")["uid"]
            assert f"uid {STRANGER} is not allowed" in text


@needs_root
@pytest.mark.parametrize(("gid", "groups"), [(STRANGER, [5, OPERATORS]), (OPERATORS, [])])
def test_a_member_of_the_sockets_group_gets_in(sample: Sample, folder: Path, gid: int, groups: list[int]) -> None:
    """By a supplementary group as by the primary one."""
    with Controlled(folder, "-s", sample.service()) as daemon:
        os.chown(daemon.socket, -1, OPERATORS)
        assert (OK, "") == as_another(daemon, *groups, gid=gid)


def talk(daemon: Controlled, data: bytes) -> bytes:
    """Send bytes to the control socket; returns all that comes back until it ends."""
    received = b""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(str(daemon.socket))
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while more := sock.recv(65536):
                received += more
    return received


JUNK = [
    b"\n" * 1000,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00" * 100,
    b"[" * 130_000 + b"\n",
    b'{"a":' * 25_000 + b"\n",
    b'{"v":1,"command":"query","attributes":' + b"[" * 120_000 + b"\n",
    b'"' + b"\\" * 130_000 + b"\n",
    b"x" * 10_000_000,
    b'{"v": 7, "command": "status"}\n',
    b'{"v": 1, "command": "shutdown"}\n',
    b'{"v": 1, "command": "drain", "service": "' + b"A" * 100_000 + b'"}\n',
    b'{"v": 1, "command": "drain", "service": "A"}',
    random.Random(3).randbytes(100_000) + b"\n",
]


@pytest.fixture(scope="module")
def target(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    """One daemon that all the junk goes to."""
    with Controlled(tmp_path_factory.mktemp("target"), "-s", sample.service()) as daemon:
        yield daemon


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_junk_gets_an_error(target: Controlled, junk: bytes) -> None:
    """The small stacks of the daemon's threads included: it says no, and goes on as it was."""
    reply = talk(target, junk)
    assert b'"ok": false' in reply
    assert b'"ok": true' not in reply
    assert b'"state": "up"' in talk(target, b'{"v": 1, "command": "status"}\n')
    assert [] == target.events_of("daemon.error")


def test_half_open_clients(sample: Sample, folder: Path) -> None:
    """Who connects and says nothing, or half an order, keeps at most the other operators out, and that not for ever."""
    with Controlled(folder, "-s", sample.service()) as daemon, contextlib.ExitStack() as stack:
        for number in range(40):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(daemon.socket))
            with contextlib.suppress(ConnectionError):
                sock.send(b'{"v": 1,' * (number % 2))
        status, text = daemon.fails("status")
        assert (69, True) == (status, "limit" in text)
        stack.close()
        wait_until(lambda: b'"ok": true' in talk(daemon, b'{"v": 1, "command": "status"}\n'), "room again")
        wait_until(lambda: len(os.listdir(f"/proc/{daemon.pid}/task")) < 16, "the threads' end")


def test_mail_goes_on_meanwhile(sample: Sample, folder: Path) -> None:
    """Orders without a pause, junk among them, cost no request its answer."""
    with Controlled(folder, "-s", sample.service()) as daemon:
        with Load(daemon.address, 8) as load:
            for _ in range(10):
                talk(daemon, b'{"v": 1, "command": "status"}\njunk\n' * 20)
            load.wait_answered(500)
        load.check()
        assert [] == daemon.events_of("request.defaulted")
