"""Processes of the tests: started in a group of their own, read by threads, and always ended, by their id.

Nothing here sleeps for luck: whoever waits names a condition and a deadline.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Any, ClassVar, TypeVar

# For what should take a moment, on a machine that may be busy.
PATIENCE_S = float(os.environ.get("HAPOLICY_TEST_PATIENCE", "15"))
SLACK_S = 0.7  # how much longer than it should something may take on such a machine

T = TypeVar("T")
Event = dict[str, Any]


def wait_until(condition: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Ask again and again until `condition` is true; returns what it returned, or fails."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.005)


class Process:
    """One subprocess. `events` are the JSON objects it printed, a line each; `noise` are its other lines."""

    _running: ClassVar[set[Process]] = set()  # what conftest ends should a test have forgotten it

    def __init__(self, argv: Sequence[str], **options: Any) -> None:
        """Start it; `options` as for Popen. A stream that they name is not read here."""
        self.argv = list(argv)
        self.events: list[Event] = []
        self.noise: list[str] = []
        self._heard = threading.Condition()
        defaults = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.popen = subprocess.Popen(self.argv, process_group=0, **(defaults | options))
        self._running.add(self)
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for name, stream in (("stdout", self.popen.stdout), ("stderr", self.popen.stderr))
            if stream is not None and name not in options
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            text = line.decode("utf-8", "backslashreplace").rstrip("\n")
            event: Any = None
            with contextlib.suppress(ValueError):
                event = json.loads(text)
            with self._heard:
                if isinstance(event, dict):
                    self.events.append(event)
                else:
                    self.noise.append(text)
                self._heard.notify_all()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.popen.pid

    def wait_for(self, condition: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
        """Wait until what was printed makes `condition` true; fails at the deadline or its end."""
        deadline = time.monotonic() + timeout_s
        with self._heard:
            while not (found := condition()):
                ended = self.popen.poll() is not None and not any(r.is_alive() for r in self._readers)
                if ended or time.monotonic() > deadline:
                    raise AssertionError(f"not within {timeout_s} s: {what}\n{self.report()}")
                self._heard.wait(0.1)
            return found

    def report(self) -> str:
        """What the process has said so far, for a failed test."""
        said = [json.dumps(event) for event in self.events[-30:]] + self.noise[-30:]
        return "\n".join([f"{' '.join(self.argv)} (status {self.popen.poll()}) said:", *said])

    def signal(self, signum: int) -> None:
        """Send a signal to this one process, if it still runs."""
        if self.popen.poll() is None:
            self.popen.send_signal(signum)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end and for its last line; returns its exit status."""
        status = self.popen.wait(timeout_s)
        for reader in self._readers:
            reader.join(timeout_s)
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()
        self._running.discard(self)
        return status

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """End it with SIGTERM, and with SIGKILL when that does not help; returns its exit status."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        return self.wait()

    def kill(self) -> int:
        """End it and its children at once; returns its exit status."""
        if self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        return self.wait()

    @classmethod
    def running(cls) -> set[Process]:
        """All that were started and not yet waited for."""
        return set(cls._running)


def hapolicy(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run hapolicy to its end and return what it printed; for command lines that end by themselves."""
    argv = [sys.executable, "-m", "hapolicy", *arguments]
    options = {"stdin": subprocess.DEVNULL, "timeout": PATIENCE_S} | options
    return subprocess.run(argv, capture_output=True, text=True, check=False, **options)


_held: list[socket.socket] = []


@atexit.register
def _let_go() -> None:
    for holder in _held:
        holder.close()


def free_port() -> int:
    """A port of 127.0.0.1 for programs that cannot choose one themselves; nobody else gets it while the tests run.

    It is bound here, and nobody listens: who connects is refused, and a server that sets SO_REUSEADDR, as they all do,
    can take it, leave it, and take it again.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _held.append(holder)
    return int(holder.getsockname()[1])
