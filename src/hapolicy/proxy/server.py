"""Accepts policy clients and hands each to a worker."""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

from hapolicy.config.settings import Network
from hapolicy.core import events
from hapolicy.log.eventlog import EventLog
from hapolicy.net.accept import AcceptServer
from hapolicy.net.connect import set_client_options
from hapolicy.proxy.pool import Pool

# While --max-clients are connected: how often to look whether one has gone.
_FULL_POLL_S = 0.02


class PolicyServer(AcceptServer):
    """Where Postfix connects."""

    def __init__(self, listening: socket.socket, pool: Pool, log: EventLog, allow: tuple[Network, ...]) -> None:
        super().__init__(listening, log, allow)
        self._pool = pool
        self._full_told = False

    def get_request(self) -> tuple[Any, Any]:
        """Accept one client, once there is room; the rest wait in the listen backlog."""
        while not self._pool.has_room():
            if self._ending:
                raise OSError(errno.ESHUTDOWN, "no more clients")
            if not self._full_told:
                self._full_told = True
                self.log.emit(events.SERVER_FULL(max_clients=self._pool.settings.max_clients))
            time.sleep(_FULL_POLL_S)
        if self._full_told and self._pool.clients <= 0.9 * self._pool.settings.max_clients:
            self._full_told = False
        return super().get_request()

    def serve(self, sock: socket.socket, peer: str) -> None:
        """Give the client to a worker."""
        set_client_options(sock)
        self._pool.hand_over(sock, peer)
