"""The listeners' side of the house: socketserver accepts, each client gets a thread."""

from __future__ import annotations

import _thread
import errno
import ipaddress
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from typing import Any

from hapolicy.config.settings import Network
from hapolicy.core.events import Level
from hapolicy.log.events import EventLog
from hapolicy.proxy.channel import SocketChannel
from hapolicy.proxy.clients import Arrival, Clients
from hapolicy.proxy.relay import Relay
from hapolicy.proxy.session import Session

# After accept() failed for want of descriptors or memory: the connection stays in the backlog, and asking again
# at once would burn the processor that the running requests need.
_ACCEPT_PAUSE_S = 0.1
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

# How long SIGTERM may go unnoticed by an idle listener.
_POLL_S = 0.25


class PolicyServer(socketserver.TCPServer):
    """Accepts on one listening socket, TCP or unix, that somebody else has opened."""

    def __init__(
        self,
        listening: socket.socket,
        clients: Clients,
        relay: Callable[[], Relay],
        log: EventLog,
        allow: tuple[Network, ...],
    ) -> None:
        socketserver.BaseServer.__init__(self, listening.getsockname(), socketserver.BaseRequestHandler)
        listening.setblocking(False)
        self.socket = listening
        self._clients = clients
        self._relay = relay
        self._log = log
        self.allow = allow
        self._accept_failed = False

    def start(self) -> None:
        """Begin to accept, on a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(_POLL_S,), name="accept", daemon=True).start()

    def get_request(self) -> tuple[Any, Any]:
        """Accept one client, once there is room."""
        if not self._clients.reserve():
            raise OSError(errno.ESHUTDOWN, "no more clients")
        try:
            sock, address = self.socket.accept()
            arrival = Arrival(sock, self._clients)
        except (OSError, MemoryError) as error:
            self._clients.give_back()
            if isinstance(error, MemoryError) or error.errno in _OURS:
                self._wait_for_resources(error)
            raise OSError(errno.EAGAIN, "nobody accepted") from None
        self._accept_failed = False
        return arrival, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start this client's thread, and those of all who wait: a burst must not queue behind the poll."""
        self._start_session(request, client_address)
        while True:
            try:
                request, client_address = self.get_request()
            except OSError:
                return
            if self.verify_request(request, client_address):
                self._start_session(request, client_address)
            else:
                self.shutdown_request(request)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether this client may ask: everyone on this host, else who is in --allow."""
        if is_welcome(request.sock, client_address, self.allow):
            return True
        self._log.emit(Level.WARNING, "client.rejected", client=peer_name(client_address), reason="not in --allow")
        return False

    def shutdown_request(self, request: Any) -> None:
        """Part with a client."""
        request.end()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A fault of ours while accepting: say it, go on."""
        self._log.fault()

    def _start_session(self, request: Arrival, client_address: Any) -> None:
        try:
            # Not threading.Thread: its start() waits until the new thread runs, seconds under load.
            _thread.start_new_thread(self._serve, (request, client_address))
        except (RuntimeError, MemoryError) as error:
            self._log.emit(Level.ERROR, "client.rejected", client=peer_name(client_address), reason=str(error))
            self.shutdown_request(request)

    def _serve(self, request: Arrival, client_address: Any) -> None:
        try:
            session = Session(SocketChannel(request.sock), self._relay, self._log, peer_name(client_address))
            self._clients.enter(session)
            try:
                session.run()
            finally:
                self._clients.leave(session)
        except OSError:
            pass  # the client was gone before it could be served
        finally:
            self.shutdown_request(request)

    def _wait_for_resources(self, error: Exception) -> None:
        if not self._accept_failed:
            self._accept_failed = True
            self._log.emit(Level.ERROR, "server.accept_failed", error=str(error) or "no memory")
        time.sleep(_ACCEPT_PAUSE_S)


def is_welcome(request: socket.socket, client_address: Any, allow: tuple[Network, ...]) -> bool:
    """Whether a client may ask: everyone on this host, else who is in `allow`."""
    if not isinstance(client_address, tuple):
        return True  # on a unix socket
    address = ipaddress.ip_address(client_address[0].partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    from_here = client_address[0] == request.getsockname()[0]
    return from_here or address.is_loopback or any(address in network for network in allow)


def peer_name(client_address: Any) -> str:
    """A client's address, for the log."""
    return f"{client_address[0]}:{client_address[1]}" if isinstance(client_address, tuple) else "unix"
