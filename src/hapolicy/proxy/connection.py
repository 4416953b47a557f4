"""One connection to a service."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from hapolicy.core.exchange import Exchange
from hapolicy.core.protocol import AnswerReader
from hapolicy.net.connect import SocketAddress
from hapolicy.net.poll import Peer

if TYPE_CHECKING:
    from hapolicy.proxy.connections import Connections
    from hapolicy.proxy.session import Session


class Connection(Peer):
    """A connection to a service: connecting, busy with one exchange, or idle."""

    __slots__ = (
        "addresses",
        "claimed_by",
        "connect_by",
        "connections",
        "exchange",
        "idle_since",
        "opened_at",
        "proven",
        "reader",
        "retired",
    )

    def __init__(
        self, sock: socket.socket, connections: Connections, addresses: tuple[SocketAddress, ...], now: float
    ) -> None:
        super().__init__(sock)
        self.connections = connections
        self.addresses = addresses  # where it leads, and what is to be tried when that fails
        self.opened_at = now
        self.connect_by: float | None = None  # while it is not connected: by when it must be
        self.exchange: Exchange | None = None  # what it is busy with
        self.reader: AnswerReader | None = None  # while an answer has come in part
        self.proven = False  # the service has answered on it: it does not wait in a backlog
        self.retired = False  # not to be used again
        self.claimed_by: Session | None = None  # the client whose mail it served last
        self.idle_since = 0.0
