"""One client's connection: read a request, have it answered, write the answer, until the client ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from hapolicy.core.events import Level
from hapolicy.core.protocol import MalformedRequest, Request, RequestReader
from hapolicy.log.events import EventLog
from hapolicy.proxy.channel import Channel
from hapolicy.proxy.relay import Affinity, Relay

# Postfix keeps an idle connection for 300 s (smtpd_policy_service_max_idle) and any for 1000 s (max_ttl), and
# pays a second and one of its two tries when we end it first: so we wait longer than both.
IDLE_MAX_S = 1100.0

# smtpd sends a request in one write: who needs longer than this is no Postfix.
REQUEST_MAX_S = 10.0


class Session:
    """Serves one client on the calling thread."""

    def __init__(self, channel: Channel, relay: Callable[[], Relay], log: EventLog, peer: str) -> None:
        self._channel = channel
        self._relay = relay  # a function: a reload changes whom a running session asks
        self._log = log
        self._peer = peer
        self._reader = RequestReader()
        self._affinity = Affinity()
        self._finishing = False
        self._answering_since = math.inf

    def answering_s(self) -> float:
        """For how many seconds the client has been waiting for an answer, below 0 while it does not."""
        return time.monotonic() - self._answering_since

    def run(self) -> None:
        """Serve until the client ends, breaks the protocol, or `finish` is called. Raises nothing."""
        try:
            while (request := self._next_request()) is not None:
                self._channel.send(self._answer(request))
        except MalformedRequest as error:
            self._reject(str(error))
        except OSError as error:
            self._log.emit(Level.DEBUG, "client.lost", client=self._peer, error=error.strerror or "timed out")
        except MemoryError:
            self._reject("no memory left on this host")

    def finish(self) -> None:
        """End after what has been asked is answered. Called from another thread."""
        self._finishing = True
        self._channel.finish()

    def _next_request(self) -> Request | None:
        """The next request, None when the client has ended."""
        reader, complete_by = self._reader, 0.0
        while (request := reader.next_request()) is None:
            timeout_s = IDLE_MAX_S
            if reader.partial:
                now = time.monotonic()
                complete_by = complete_by or now + REQUEST_MAX_S
                timeout_s = complete_by - now
            data = self._receive(timeout_s)
            if not data:
                return None
            reader.feed(data)
        return request

    def _receive(self, timeout_s: float) -> bytes:
        try:
            data = self._channel.receive(timeout_s) if timeout_s > 0 else b""
        except (BlockingIOError, TimeoutError):
            data, timeout_s = b"", 0
        if not data and self._reader.partial and not self._finishing:
            when = f"not complete {REQUEST_MAX_S:g} s after its first byte" if timeout_s <= 0 else "cut off"
            self._reject(f"request {when}")
        return data

    def _answer(self, request: Request) -> bytes:
        relay = self._relay()
        if self._log.level <= Level.DEBUG:
            self._log.emit_later(Level.DEBUG, "request.received", lambda: {"attributes": request.attributes})
        self._answering_since = time.monotonic()
        try:
            return relay.answer(request, self._affinity)
        except Exception:  # noqa: BLE001 - a fault of ours must not stop anyone's mail
            self._log.fault()
            return relay.default_answer
        finally:
            self._answering_since = math.inf

    def _reject(self, reason: str) -> None:
        self._log.emit(Level.WARNING, "client.rejected", client=self._peer, reason=reason)
