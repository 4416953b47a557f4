"""Events of one kind and peer that come too fast are summed up: a stranger must not rotate the journal away."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from hapolicy.core import events
from hapolicy.core.event import Event

A_SECOND = 10
_KEYS_MAX = 1000


@dataclass
class _Second:
    """The events of one kind and peer within a second."""

    began: float
    count: int = 0


class Repeats:
    """Decides which events are logged; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _seconds
        self._seconds: dict[tuple[str, str], _Second] = {}

    def admit(self, event: Event, now: float) -> list[Event]:
        """What is to be logged in the place of `event`: itself, nothing, or first what was left out before."""
        field = event.type.repeats_by
        if not field:
            return [event]
        key = event.name, _peer(str(event.fields.get(field, "")))
        with self._lock:
            second = self._seconds.get(key)
            summed_up = []
            if second is None or now - second.began >= 1:
                summed_up = self._sum_up(key, now)
                if len(self._seconds) >= _KEYS_MAX:
                    summed_up += self._sum_up(next(iter(self._seconds)), now)
                second = self._seconds[key] = _Second(now)
            second.count += 1
            return [*summed_up, event] if second.count <= A_SECOND else summed_up

    def close(self, now: float) -> list[Event]:
        """What was left out and not told."""
        with self._lock:
            return [event for key in list(self._seconds) for event in self._sum_up(key, now)]

    def _sum_up(self, key: tuple[str, str], now: float) -> list[Event]:
        second = self._seconds.pop(key, None)
        if second is None or second.count <= A_SECOND:
            return []
        left_out, seconds = second.count - A_SECOND, round(now - second.began, 3)
        return [events.LOG_REPEATED(of=key[0], peer=key[1], count=left_out, seconds=seconds)]


def _peer(text: str) -> str:
    """A peer without its port, which is another one each time."""
    host, colon, port = text.rpartition(":")
    return host if colon and port.isdigit() else text
