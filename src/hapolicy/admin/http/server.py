"""What may be read over HTTP: metrics for Prometheus, health for a load balancer, a status page for people.

Nothing can be changed here. Those who ask are strangers all the same, so everything about them is bounded: how many
there are, how long they take, how much they send. A status page open in a browser makes that browser a way in for any
web site (DNS rebinding), so the page and its data are given only to who names this host by an address or its own name.
"""

from __future__ import annotations

import _thread
import errno
import socket
import socketserver
import threading
import time
from typing import TYPE_CHECKING, Any

from hapolicy.admin.http.connection import Connection
from hapolicy.admin.http.routes import Site
from hapolicy.admin.operations import Operations
from hapolicy.config.settings import Network, SettingsError
from hapolicy.core.events import Level
from hapolicy.log.events import EventLog
from hapolicy.proxy.server import is_welcome, peer_name

if TYPE_CHECKING:
    from hapolicy.admin.http.metrics import Exposition

# Each costs a thread. A Prometheus or two, a load balancer, and as many forgotten browser tabs.
MAX_CONNECTIONS = 32

# After accept() failed for want of descriptors or memory.
_ACCEPT_PAUSE_S = 0.1

# How long the daemon's end may go unnoticed.
_POLL_S = 0.25


def load_exposition() -> type[Exposition]:
    """What makes the metrics, imported here: its library takes 100 ms and 11 MB. Raises `SettingsError` without it."""
    try:
        from hapolicy.admin.http.metrics import Exposition
    except ModuleNotFoundError as error:
        raise SettingsError(f"--http needs {error.name}, not installed here: pip install 'hapolicy[http]'") from None
    return Exposition


class WebServer(socketserver.TCPServer):
    """Serves on one listening socket that somebody else has opened."""

    def __init__(
        self, listening: socket.socket, operations: Operations, log: EventLog, allow: tuple[Network, ...]
    ) -> None:
        """`allow` is who may ask from beyond this host. Raises `SettingsError` where prometheus_client is missing."""
        exposition = load_exposition()
        socketserver.BaseServer.__init__(self, listening.getsockname(), socketserver.BaseRequestHandler)
        listening.setblocking(False)
        self.socket = listening
        self.allow = allow
        self._log = log
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._site = Site(operations, exposition(operations.status).render)

    def start(self) -> None:
        """Begin to accept, on a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(_POLL_S,), name="web", daemon=True).start()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept one connection."""
        try:
            return self.socket.accept()
        except OSError as error:
            if error.errno != errno.EAGAIN:
                # It stays in the backlog, and asking again at once would burn the processor.
                time.sleep(_ACCEPT_PAUSE_S)
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether this client may ask: everyone on this host, else who is in --http-allow."""
        if is_welcome(request, client_address, self.allow):
            return True
        self._log.emit(Level.WARNING, "client.rejected", client=peer_name(client_address), reason="not in --http-allow")
        return False

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection on a thread of its own; above the limit it is closed, so that all threads stay few."""
        if not self._places.acquire(blocking=False):
            request.close()
            return
        try:
            # Not threading.Thread: its start() waits until the new thread runs, seconds under load.
            _thread.start_new_thread(self._serve, (request, client_address))
        except RuntimeError:
            request.close()
            self._places.release()

    def shutdown_request(self, request: Any) -> None:
        """Part with a client."""
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A fault of ours: say it, go on."""
        self._log.fault()

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            Connection(request, client_address, self, self._site.respond)
        except OSError:
            pass  # gone in the middle, or too slow
        except Exception:  # noqa: BLE001 - must neither go unheard nor take more than this connection along
            self.handle_error(request, client_address)
        finally:
            request.close()
            self._places.release()
