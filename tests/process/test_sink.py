"""Must show 6: a log that nobody takes costs no answer any time, and what was lost of it is counted."""

from __future__ import annotations

import array
import fcntl
import json
import os
import statistics
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.client import Load, PolicyClient
from tests.support.daemon import Daemon
from tests.support.procs import SLACK_S, wait_until
from tests.support.sample import Sample

BLOCKED_S = 4.0
MORE_THAN_ANY_QUEUE = 20_000


class LogPipe:
    """The smallest pipe there is, read by a thread while `reading` is set."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.capacity = fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, 4096)
        self.reading = threading.Event()
        self.reading.set()
        self.data = bytearray()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self.reading.wait(60):
            with self._turn:
                if not self.reading.is_set():
                    continue
                data = os.read(self.read_end, self.capacity)
            if not data:
                return
            self.data += data

    def pause(self) -> None:
        """Read no more; a read that is under way is over when this returns."""
        self.reading.clear()
        with self._turn:
            pass

    def waiting_bytes(self) -> int:
        """How many bytes are in the pipe."""
        count = array.array("i", [0])
        fcntl.ioctl(self.read_end, termios.FIONREAD, count)
        return count[0]

    def is_full(self) -> bool:
        """Whether no further answer's event fits: a pipe takes a line whole or not at all."""
        shortest = min(len(line) for line in self._lines() if b"request.answered" in line)
        return self.waiting_bytes() + shortest + len("\n") > self.capacity

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of this name that were read so far."""
        return [event for event in map(json.loads, self._lines()) if event["event"] == name]

    def _lines(self) -> list[bytes]:
        """The whole lines that were read so far."""
        return bytes(self.data).rpartition(b"\n")[0].splitlines()

    def join(self) -> None:
        """Read to the end of the pipe; its writer has gone."""
        self.reading.set()
        self._thread.join(10)
        os.close(self.read_end)


@contextmanager
def logging_daemon(*arguments: str) -> Iterator[tuple[Daemon, LogPipe]]:
    """hapolicy with its stderr in a LogPipe."""
    pipe = LogPipe()
    daemon = Daemon(*arguments, stderr=pipe.write_end)
    os.close(pipe.write_end)
    try:
        daemon.addresses = wait_until(lambda: pipe.events("daemon.started"), "daemon.started")[0]["listen"]
        yield daemon, pipe
    finally:
        pipe.reading.set()
        daemon.stop()
        pipe.join()


def test_a_blocked_sink_slows_no_answer() -> None:
    """With the pipe full for seconds answers are as quick as before; every event is then there or counted."""
    with Sample("A") as a, logging_daemon("-l", "-s", a.service()) as (daemon, pipe):
        with Load(daemon.address, 4) as load:
            load.wait_answered(2000)
            pipe.pause()
            wait_until(pipe.is_full, "a full pipe")
            blocked, waiting = time.monotonic(), pipe.waiting_bytes()
            load.wait_answered(MORE_THAN_ANY_QUEUE, timeout_s=60)
            wait_until(lambda: time.monotonic() > blocked + BLOCKED_S, "the time to be blocked")
            released = time.monotonic()
            # Nothing went in or out all the while: the writer was stuck in its write.
            assert (True, waiting) == (pipe.is_full(), pipe.waiting_bytes())
            assert [] == pipe.events("log.dropped")
            pipe.reading.set()
            wait_until(lambda: pipe.events("log.dropped"), "the report of what was lost")
        load.check()
    waits = load.tally.waits
    before = [wait_s for sent, wait_s in waits if sent < blocked]
    during = [wait_s for sent, wait_s in waits if blocked <= sent < released]
    assert statistics.median(during) < 2 * statistics.median(before) + 0.001
    assert max(during) < SLACK_S
    dropped = sum(event["count"] for event in pipe.events("log.dropped"))
    assert dropped > 0
    assert load.tally.answered == len(pipe.events("request.answered")) + dropped
    assert 0 == daemon.popen.returncode


def test_a_dead_sink_stops_nothing() -> None:
    """When whoever read the log has gone, hapolicy answers on and ends as it should."""
    with Sample("A") as a:
        read_end, write_end = os.pipe()
        started = b""
        daemon = Daemon("-l", "-s", a.service(), stderr=write_end)
        os.close(write_end)
        while not started.endswith(b"\n"):
            started += os.read(read_end, 4096)
        os.close(read_end)
        with PolicyClient(json.loads(started.splitlines()[-1])["listen"][0]) as client:
            for number in range(50):
                assert f"DUNNO A {number}" == client.ask(instance=str(number))
        assert 0 == daemon.stop()
