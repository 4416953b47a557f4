"""A control server as the tests run it."""

from __future__ import annotations

import contextlib
import json
import socket
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from hapolicy.admin.control.server import ControlServer
from hapolicy.admin.operations import Operations
from hapolicy.config.settings import Settings, Warnings
from hapolicy.core.service import parse_service
from hapolicy.proxy.pool import Pool
from tests.support.capture import Capture
from tests.support.procs import PATIENCE_S


class Control:
    """A control server before one service, A, that answers."""

    def __init__(self, path: Path, capture: Capture, service: str) -> None:
        self.path = str(path)
        self.reloads: list[Future[Warnings]] = []
        self.pool = Pool(Settings(services=(parse_service(f"A={service}"),)), capture.log)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen(64)
        self.pool.start()
        operations = Operations(self.pool, capture.log, self._reload)
        self.server = ControlServer(self.listening, operations, capture.log)
        self.server.start()

    def _reload(self) -> Future[Warnings]:
        return self.reloads.pop()

    def connect(self) -> socket.socket:
        """A new conversation."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE_S)
        sock.connect(self.path)
        return sock

    def say(self, *lines: bytes) -> list[dict[str, Any]]:
        """Send lines at once; returns all replies until the conversation ends."""
        with self.connect() as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(b"".join(lines))
                sock.shutdown(socket.SHUT_WR)
            return replies(sock)

    def order(self, command: str, **arguments: object) -> dict[str, Any]:
        """Give one order; returns the reply."""
        line = json.dumps({"v": 1, "command": command, **arguments}).encode() + b"\n"
        (reply,) = self.say(line)
        return reply

    def close(self) -> None:
        """End it."""
        self.server.shutdown()
        self.listening.close()
        self.pool.stop()


def replies(sock: socket.socket) -> list[dict[str, Any]]:
    """All replies until the other side ends the conversation."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := sock.recv(65536):
            data += more
    return [json.loads(line) for line in data.splitlines()]


def status_of(attribute: str, running: Control) -> Any:
    """One value of the only service's status."""
    return running.order("status")["result"]["services"][0][attribute]
