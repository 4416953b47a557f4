"""A service manager's end of the line: a socket for sd_notify(3), and sockets that outlive a daemon."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tests.support.procs import PATIENCE_S, Process, wait_until

# What sd_listen_fds(3) wants: descriptors from 3 on, and the id of the process that is to have them. The socket
# comes as stdin: a shell knows descriptors above 9 only by luck.
PASS_ON = 'exec 3<&0 </dev/null; LISTEN_PID=$$; LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec "$@"'


class NotifySocket:
    """Hears what a service tells its manager; `messages` are the datagrams, each as its lines."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self.messages: list[list[str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while message := self._socket.recv(65536):
            self.messages.append(message.decode().split("\n"))

    def environment(self, watchdog_s: float | None = None) -> dict[str, str]:
        """The environment of a service that is to talk to us."""
        watchdog = {} if watchdog_s is None else {"WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        return {**os.environ, "NOTIFY_SOCKET": self.path, **watchdog}

    def story(self) -> list[str]:
        """The words that matter (no STATUS), in order, repetitions left out."""
        said = [line for message in self.messages[:] for line in message]
        words = [line for line in said if line.endswith("=1")]
        return [word for word, former in zip(words, ["", *words], strict=False) if word != former]

    def count(self, word: str) -> int:
        """How often a word was said."""
        return sum(word in message for message in self.messages[:])

    def hears(self, word: str, within_s: float) -> bool:
        """Whether a word is said once more within a time."""
        before = self.count(word)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.count(word) > before, f"one more {word}", within_s)
        return self.count(word) > before

    def __enter__(self) -> NotifySocket:
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as farewell:
            farewell.sendto(b"", self.path)
        self._thread.join(PATIENCE_S)
        self._socket.close()


class KeptSocket:
    """A listening socket that we keep, and hapolicy started on it, as often as need be."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def start(self, *arguments: str) -> Process:
        """A hapolicy on our socket, ready."""
        program = [sys.executable, "-m", "hapolicy", "--log", "stderr", *arguments]
        process = Process(["/bin/sh", "-c", PASS_ON, "sh", *program], stdin=self._socket)
        process.wait_for(has_event(process, "daemon.started"), "the daemon's start")
        return process

    def __enter__(self) -> KeptSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def has_event(process: Process, name: str) -> Callable[[], bool]:
    """Whether a process has logged an event of that name."""
    return lambda: any(event["event"] == name for event in process.events[:])
