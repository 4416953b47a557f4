"""The latest changes of state, and whether no service is up. Workers tell it; it is asked by any thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping

from hapolicy.core import events
from hapolicy.core.event import Event
from hapolicy.core.status import Change

_KEPT = 50


class Changes:
    """All workers' changes; thread-safe."""

    def __init__(self, default_action: str) -> None:
        self.default_action = default_action
        self._lock = threading.Lock()  # guards all fields below
        self._kept: deque[Change] = deque(maxlen=_KEPT)
        self._states: dict[tuple[int, str], str] = {}  # by worker and service
        self._down_since: float | None = None

    def note(self, event: Event) -> None:
        """Keep a change of state."""
        change = Change(time.time(), event.name, event.fields)
        with self._lock:
            self._kept.append(change)

    def kept(self) -> list[Change]:
        """The latest changes, oldest first."""
        with self._lock:
            return list(self._kept)

    def look(self, worker: int, states: Mapping[str, str]) -> Iterable[Event]:
        """The services' states in one worker; returns what is to be told of the pool: it went down or came up."""
        now = time.monotonic()
        with self._lock:
            self._states = {key: state for key, state in self._states.items() if key[0] != worker}
            self._states |= {(worker, name): state for name, state in states.items()}
            is_up = "up" in self._states.values()
            since = self._down_since
            if not is_up and since is None:
                self._down_since = now
            elif is_up:
                self._down_since = None
        if not is_up and since is None:
            return [events.POOL_DOWN(action=self.default_action, services=dict(states))]
        if is_up and since is not None:
            return [events.POOL_UP(down_s=round(now - since, 3))]
        return ()
