"""What all accepting servers share: one thread that accepts, who may connect, and the wait for resources."""

from __future__ import annotations

import errno
import ipaddress
import socket
import socketserver
import threading
import time
from typing import Any

from hapolicy.config.settings import Network
from hapolicy.core import events
from hapolicy.log.eventlog import EventLog

# After accept() failed for want of descriptors or memory: the connection stays in the backlog, and asking again at
# once would burn the processor that the running requests need.
_PAUSE_S = 0.1
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_POLL_S = 0.25  # how long `shutdown` may go unnoticed


class AcceptServer(socketserver.TCPServer):
    """Accepts on one listening socket, TCP or unix, that somebody else has opened. Subclasses serve."""

    thread_name = "accept"
    allow_option = "--allow"

    def __init__(self, listening: socket.socket, log: EventLog, allow: tuple[Network, ...] = ()) -> None:
        socketserver.BaseServer.__init__(self, listening.getsockname(), socketserver.BaseRequestHandler)
        listening.setblocking(False)
        self.socket = listening
        self.log = log
        self.allow = allow  # who may connect from beyond this host
        self._accept_failed = False
        self._ending = False

    def start(self) -> None:
        """Begin to accept, on a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(_POLL_S,), name=self.thread_name, daemon=True).start()

    def serve(self, sock: socket.socket, peer: str) -> None:
        """Serve a client that is welcome, without delay for the next one."""
        raise NotImplementedError

    def get_request(self) -> tuple[Any, Any]:
        """Accept one client. Raises OSError when nobody waits."""
        try:
            accepted = self.socket.accept()
        except (OSError, MemoryError) as error:
            if isinstance(error, MemoryError) or error.errno in _OURS:
                self._wait_for_resources(error)
            raise OSError(errno.EAGAIN, "nobody accepted") from None
        self._accept_failed = False
        return accepted

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve this client, and all who wait: a burst must not queue behind the poll."""
        self.serve(request, peer_name(client_address))
        while not self._ending:
            try:
                request, client_address = self.get_request()
            except OSError:
                return
            try:
                if self.verify_request(request, client_address):
                    self.serve(request, peer_name(client_address))
                else:
                    self.shutdown_request(request)
            except Exception:  # noqa: BLE001 - one client's fault must not cost the next one
                self.handle_error(request, client_address)
                self.shutdown_request(request)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether to serve this client. Raises nothing: socketserver would accept nobody any more."""
        try:
            return self.admits(request, client_address)
        except Exception:  # noqa: BLE001 - one client's fault must not cost the next one
            self.handle_error(request, client_address)
            return False

    def admits(self, request: Any, client_address: Any) -> bool:
        """Whether this client may connect: everyone on this host, else those in `allow`."""
        if is_welcome(request, client_address, self.allow):
            return True
        self.log.emit(events.CLIENT_REJECTED(client=peer_name(client_address), reason=f"not in {self.allow_option}"))
        return False

    def shutdown(self) -> None:
        """Accept no more, however many wait."""
        self._ending = True
        super().shutdown()

    def shutdown_request(self, request: Any) -> None:
        """Part with a client."""
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the exception and keep serving."""
        self.log.fault()

    def _wait_for_resources(self, error: Exception) -> None:
        if not self._accept_failed:
            self._accept_failed = True
            self.log.emit(events.SERVER_ACCEPT_FAILED(error=str(error) or "no memory"))
        time.sleep(_PAUSE_S)


def is_welcome(request: socket.socket, client_address: Any, allow: tuple[Network, ...]) -> bool:
    """Whether a client may connect: everyone on this host, else those in `allow`."""
    if not isinstance(client_address, tuple):
        return True  # on a unix socket
    address = ipaddress.ip_address(client_address[0].partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    from_here = client_address[0] == request.getsockname()[0]
    return from_here or address.is_loopback or any(address in network for network in allow)


def peer_name(client_address: Any) -> str:
    """A client's address, for the log."""
    return f"{client_address[0]}:{client_address[1]}" if isinstance(client_address, tuple) else "unix"
