"""--stdio in a shell's pipe: its reader may be slow or gone, and its own input closed."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO

import pytest

from hapolicy.daemon.process import LOG_CLOSE_S
from tests.support.client import request
from tests.support.procs import PATIENCE_S, SLACK_S, Process

ACTION = "PREPEND X-Long: " + "x" * 400
ARGV = [sys.executable, "-m", "hapolicy", "--stdio", "--log", "stderr", "-s", "A=unix:/nowhere", "-d", ACTION]
ANSWER = f"action={ACTION}\n\n".encode()
COUNT = 100  # more than the pipe below takes, less than the kernel keeps for the worker's client


@pytest.fixture
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A small one: where it is read, where it is written to."""
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    with open(reads, "rb") as reader, open(writes, "wb") as writer:
        yield reader, writer


def begin(writer: IO[bytes]) -> Process:
    """A process that has been asked all, writes to `writer`, and has answered some."""
    process = Process(ARGV, stdin=subprocess.PIPE, stdout=writer)
    writer.close()
    assert process.popen.stdin
    process.popen.stdin.write(request() * COUNT)
    process.popen.stdin.close()
    return process


def test_a_slow_reader_gets_all_answers(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    """As from any filter, though it reads only long after the client has ended."""
    reader, writer = pipe
    process = begin(writer)
    first = reader.read(len(ANSWER))
    time.sleep(LOG_CLOSE_S + SLACK_S)
    assert ANSWER * COUNT == first + reader.read()
    assert 0 == process.wait()


def test_sigterm_ends_the_wait_for_a_reader(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    """One that stands still."""
    reader, writer = pipe
    process = begin(writer)
    reader.read(len(ANSWER))
    time.sleep(LOG_CLOSE_S + SLACK_S)
    assert process.popen.poll() is None
    process.signal(signal.SIGTERM)
    assert 0 == process.wait()


def test_it_ends_with_its_reader(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    """As `head` ends, while requests still come in faster than they are taken."""
    reader, writer = pipe
    with subprocess.Popen(
        [sys.executable, "-c", f"import os\nwhile True: os.write(1, {request() * 100!r})"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as flood:
        process = Process(ARGV, stdin=flood.stdout, stdout=writer)
        assert flood.stdout
        flood.stdout.close()
        writer.close()
        reader.read(len(ANSWER))
        time.sleep(SLACK_S)  # all that lies between has filled up
        reader.close()
        try:
            assert 0 == process.wait()
        finally:
            flood.kill()


def test_closed_stdin_is_an_empty_one() -> None:
    """``<&-`` leaves the number of stdin to what is opened first."""
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *ARGV], capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert (0, b"") == (done.returncode, done.stdout)


@pytest.mark.parametrize("arguments", [(), ("--stdio",)])
@pytest.mark.parametrize("said", [b"", request()[:100]])
def test_a_client_that_has_reset_already_leaves_no_process(arguments: tuple[str, ...], said: bytes) -> None:
    """Before its hapolicy, just spawned, looks at stdin: that is no daemon then, and has nobody to wait for."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    ours.sendall(said)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ours.close()
    command = [sys.executable, "-m", "hapolicy", "-s", "A=unix:/nowhere", "--log", "syslog", *arguments]
    with theirs:
        done = subprocess.run(command, stdin=theirs, stdout=theirs, stderr=theirs, timeout=PATIENCE_S, check=False)
    assert 0 == done.returncode


def test_stdin_that_cannot_be_read_has_ended() -> None:
    """It is open for writing only."""
    with open(os.devnull, "wb") as stdin:
        done = subprocess.run(ARGV, stdin=stdin, capture_output=True, timeout=PATIENCE_S, check=False)
    assert (0, b"") == (done.returncode, done.stdout)
