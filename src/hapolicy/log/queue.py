"""Lines on their way to a sink that may block: bounded in bytes, written by a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from hapolicy.core.event import Level

# Half a second at full load, hours at a postmaster's.
MAX_BYTES = 4 * 1024 * 1024


Line = tuple[str, Level]


class LineQueue:
    """Takes lines without ever waiting; `write` may block, and raises for a line that is lost."""

    def __init__(self, write: Callable[[Line], None], lost: Callable[[], None]) -> None:
        self._write = write
        self._lost = lost
        self._changed = threading.Condition()  # guards all fields below
        self._lines: deque[Line] = deque()
        self._bytes = 0
        self._closing = False
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def put(self, line: Line) -> bool:
        """Queue a line; False when there is no room for it."""
        with self._changed:
            if self._bytes + len(line[0]) > MAX_BYTES:
                return False
            self._lines.append(line)
            self._bytes += len(line[0])
            self._changed.notify()
        return True

    def close(self, timeout_s: float) -> None:
        """Write what is queued, for at most `timeout_s` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _take(self) -> Line | None:
        with self._changed:
            while not self._lines:
                if self._closing:
                    return None
                self._changed.wait()
            line = self._lines.popleft()
            self._bytes -= len(line[0])
            return line

    def _write_all(self) -> None:
        while (line := self._take()) is not None:
            try:
                self._write(line)
            except Exception:  # noqa: BLE001 - the thread would be gone, and all lines after this one with it
                self._lost()
