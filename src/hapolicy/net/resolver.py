"""Host names, looked up on time on threads of their own: getaddrinfo(3) knows no deadline, a request has one.

A name is looked up when it is first watched, and again once a minute, so that its addresses are known before a
request needs them. The threads are started when a service is configured, never while requests are served.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from hapolicy.core import events
from hapolicy.core.address import Address, TcpAddress, UnixAddress
from hapolicy.log.eventlog import EventLog
from hapolicy.net.connect import SocketAddress

# getaddrinfo does not tell a record's TTL; a minute is what a moved service may cost in failover.
FRESH_S = 60.0
REFRESH_PAUSE_S = 1.0  # a name is not looked up more often than this, however often that is asked for


@dataclass(frozen=True)
class Resolution:
    """The addresses of a name, the last known ones where a look-up failed; `error` says why it did."""

    addresses: tuple[SocketAddress, ...]
    error: str = ""


Deliver = Callable[[Resolution], None]


class Watched:
    """A name that is looked up on time, for as many as are interested."""

    def __init__(self, address: TcpAddress, log: EventLog) -> None:
        self._address = address
        self._log = log
        self._changed = threading.Condition()  # guards all fields below
        self._deliver: list[Deliver] = []
        self._known: Resolution | None = None
        self._due_at = 0.0
        self._looked_up_at = 0.0
        self._stopped = False
        threading.Thread(target=self._run, name="resolver", daemon=True).start()

    def refresh(self) -> None:
        """Look up again soon. Returns at once."""
        with self._changed:
            self._due_at = min(self._due_at, self._looked_up_at + REFRESH_PAUSE_S)
            self._changed.notify()

    def add(self, deliver: Deliver) -> None:
        """Tell this one from now on, too."""
        with self._changed:
            self._deliver.append(deliver)

    def tell(self, deliver: Deliver) -> None:
        """Tell this one what is known already."""
        with self._changed:
            known = self._known
        told = None
        while known is not told and known is not None:
            deliver(known)
            told = known
            with self._changed:  # who looks up may have found more, and have told so before we told this
                known = self._known

    def remove(self, deliver: Deliver) -> bool:
        """Tell this one no longer; returns whether nobody is left, and the look-ups end."""
        with self._changed:
            self._deliver.remove(deliver)
            self._stopped = not self._deliver
            self._changed.notify()
            return self._stopped

    def stop(self) -> None:
        """End the look-ups."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        while self._wait_until_due():
            try:
                self._look_up()
            except Exception:  # noqa: BLE001 - a thread that ended would never be noticed
                self._log.fault()

    def _wait_until_due(self) -> bool:
        with self._changed:
            while not self._stopped and (left_s := self._due_at - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return not self._stopped

    def _look_up(self) -> None:
        began = time.monotonic()
        found = look_up(self._address)
        with self._changed:
            before = self._known.addresses if self._known else ()
            if not found.addresses:
                found = Resolution(before, found.error)
            self._known = found
            self._looked_up_at = time.monotonic()
            self._due_at = began + FRESH_S if found.addresses else self._looked_up_at + REFRESH_PAUSE_S
            interested = list(self._deliver)
        self._tell(before, found)
        for deliver in interested:
            deliver(found)

    def _tell(self, before: tuple[SocketAddress, ...], found: Resolution) -> None:
        name = str(self._address)
        if found.error:
            self._log.emit(events.NAME_FAILED(name=name, error=found.error))
        elif before and set(before) != set(found.addresses):
            shown = [str(where) for _, where in found.addresses]
            gone = [str(where) for _, where in before if where not in [w for _, w in found.addresses]]
            self._log.emit(events.NAME_CHANGED(name=name, addresses=shown, gone=gone))


class Watch:
    """One service's interest in its address."""

    def __init__(self, watched: Watched | None, end: Callable[[], None]) -> None:
        self._watched = watched
        self._end = end

    def refresh(self) -> None:
        """Look the name up again soon. Returns at once."""
        if self._watched is not None:
            self._watched.refresh()

    def stop(self) -> None:
        """No longer interested."""
        self._end()


class Resolver:
    """Watches names; those of several services or workers are looked up once."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._names: dict[TcpAddress, Watched] = {}
        self._lock = threading.Lock()  # guards _names

    def watch(self, address: Address, deliver: Deliver) -> Watch:
        """Have `deliver` called with what `address` leads to, here or on a thread of ours, at each look-up."""
        known = _needs_no_look_up(address)
        if known is not None:
            deliver(known)
            return Watch(None, lambda: None)
        assert isinstance(address, TcpAddress)
        with self._lock:
            watched = self._names.get(address) or Watched(address, self._log)
            self._names[address] = watched
            watched.add(deliver)  # another worker's last interest may end meanwhile, and with it the look-ups
        watched.tell(deliver)
        return Watch(watched, lambda: self._end(address, watched, deliver))

    def stop(self) -> None:
        """End all look-ups; one that runs ends with the process."""
        with self._lock:
            names, self._names = list(self._names.values()), {}
        for watched in names:
            watched.stop()

    def _end(self, address: TcpAddress, watched: Watched, deliver: Deliver) -> None:
        with self._lock:
            if watched.remove(deliver) and self._names.get(address) is watched:
                del self._names[address]


def _needs_no_look_up(address: Address) -> Resolution | None:
    if isinstance(address, UnixAddress):
        return Resolution(((socket.AF_UNIX, address.path),))
    if not address.is_literal or "%" in address.host:
        return None  # the number of a zone's interface is another one when that is made anew
    found = look_up(address)
    return found if found.addresses else None


def look_up(address: TcpAddress) -> Resolution:
    """The addresses of a name now, however long that takes."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return Resolution((), getattr(error, "strerror", None) or str(error))
    return Resolution(tuple((family, where) for family, _, _, _, where in found))  # type: ignore[misc]
