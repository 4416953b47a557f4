"""What all accepting servers share: that they end, and that nobody's fault ends them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hapolicy.log.eventlog import EventLog
from hapolicy.net import accept
from hapolicy.net.accept import AcceptServer
from tests.support.capture import Capture
from tests.support.procs import PATIENCE_S, wait_until


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A listening socket."""
    monkeypatch.setattr(accept, "_POLL_S", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


class Crowded(AcceptServer):
    """While it serves a client, the next one comes."""

    def __init__(self, listening: socket.socket, log: EventLog) -> None:
        super().__init__(listening, log)
        self.served = 0
        self.come = threading.Event()
        self.come.set()

    def client(self) -> None:
        """One more."""
        with socket.create_connection(self.socket.getsockname()):
            pass

    def serve(self, sock: socket.socket, peer: str) -> None:
        """Serve nobody for long."""
        sock.close()
        self.served += 1
        if self.come.is_set():
            self.client()


def test_it_ends_though_there_is_always_another_client(listening: socket.socket, log: EventLog) -> None:
    """The daemon could not be stopped otherwise while strangers keep its HTTP listener busy."""
    server = Crowded(listening, log)
    server.start()
    server.client()
    wait_until(lambda: server.served > 10, "a crowd")
    ending = threading.Thread(target=server.shutdown, daemon=True)
    ending.start()
    ending.join(PATIENCE_S / 3)
    ended = not ending.is_alive()
    server.come.clear()
    assert ended


def test_a_client_that_cannot_be_judged_ends_nothing(listening: socket.socket, capture: Capture) -> None:
    """It is sent away, the fault is logged, and the next one is served."""

    class Puzzled(Crowded):
        def admits(self, request: Any, client_address: Any) -> bool:
            self.admits = super().admits  # type: ignore[method-assign]
            raise MemoryError

    server = Puzzled(listening, capture.log)
    server.come.clear()
    server.start()
    server.client()
    capture.wait("daemon.error")
    server.client()
    wait_until(lambda: server.served == 1, "the next one")
    server.shutdown()
