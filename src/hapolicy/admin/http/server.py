"""What may be read over HTTP: metrics for Prometheus, health for a load balancer, a status page for people.

Nothing can be changed here. Those who ask are strangers all the same, so everything about them is bounded: how many
there are, how long they take, how much they send. A status page open in a browser makes that browser a way in for any
web site (DNS rebinding), so the page and its data are given only to who names this host by an address or its own name.
"""

from __future__ import annotations

import _thread
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from hapolicy.admin.http.bounds import Heard, Pace
from hapolicy.admin.http.connection import Connection, Query, Response
from hapolicy.admin.http.routes import Site
from hapolicy.admin.http.snapshot import Recent
from hapolicy.admin.status import Status
from hapolicy.config.settings import Network, SettingsError
from hapolicy.log.eventlog import EventLog
from hapolicy.net.accept import AcceptServer

if TYPE_CHECKING:
    from hapolicy.admin.http.metrics import Exposition

# Each costs a thread. A Prometheus or two, a load balancer, and as many forgotten browser tabs.
MAX_CONNECTIONS = 32

# All connections together: a few percent of a processor, so that no stranger slows down the mail.
REQUESTS_A_SECOND = 100.0
_GIVE_WAY_S = 1.0


def load_exposition() -> type[Exposition]:
    """What makes the metrics, imported here: its library takes 100 ms and 11 MB. Raises `SettingsError` without it."""
    try:
        from hapolicy.admin.http.metrics import Exposition
    except ModuleNotFoundError as error:
        raise SettingsError(f"--http needs {error.name}, not installed here: pip install 'hapolicy[http]'") from None
    return Exposition


class WebServer(AcceptServer):
    """Serves on one listening socket that somebody else has opened."""

    thread_name = "http"
    allow_option = "--http-allow"

    def __init__(
        self, listening: socket.socket, snapshot: Callable[[], Status], log: EventLog, allow: tuple[Network, ...]
    ) -> None:
        """`allow` is who may ask from beyond this host. Raises `SettingsError` where prometheus_client is missing."""
        super().__init__(listening, log, allow)
        snapshot = Recent(snapshot)
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._heard = Heard()
        self._pace = Pace(REQUESTS_A_SECOND)
        self._site = Site(snapshot, load_exposition()(snapshot).render)

    def serve(self, sock: socket.socket, peer: str) -> None:
        """Serve a connection on a thread of its own. Above the limit the one silent for longest gives way."""
        if not self._places.acquire(blocking=False):
            self._heard.end_the_idlest()
            if not self._places.acquire(timeout=_GIVE_WAY_S):
                sock.close()
                return
        try:
            # Not threading.Thread: its start() waits until the new thread runs, for ever if that dies before.
            _thread.start_new_thread(self._serve, (sock, peer))
        except RuntimeError:
            sock.close()
            self._places.release()

    def _serve(self, request: socket.socket, peer: str) -> None:
        def respond(query: Query) -> Response:
            self._heard.from_(request)
            return self._site.respond(query)

        self._heard.from_(request)
        try:
            Connection(request, peer, self, respond, self._pace.wait)
        except OSError:
            pass  # gone in the middle, or too slow
        except Exception:  # noqa: BLE001 - must neither go unheard nor take more than this connection along
            self.log.fault()
        finally:
            self._heard.forget(request)
            request.close()
            self._places.release()
