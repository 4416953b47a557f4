"""The status as HTTP shows it: at most a second old, and made once a second however often it is asked for."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from hapolicy.admin.status import Status

AGE_MAX_S = 1.0


class Recent:
    """Calls `snapshot` once a second at most; thread-safe."""

    def __init__(self, snapshot: Callable[[], Status], now: Callable[[], float] = time.monotonic) -> None:
        self._snapshot = snapshot
        self._now = now
        self._making = threading.Lock()  # held while one is made: the others wait for it, and make none
        self._made: tuple[float, Status | None] = (-math.inf, None)

    def __call__(self) -> Status:
        """The status. Raises TimeoutError when the daemon does not give one."""
        made_at, status = self._made
        if status is not None and self._now() - made_at < AGE_MAX_S:
            return status
        with self._making:
            made_at, status = self._made
            if status is None or self._now() - made_at >= AGE_MAX_S:
                status = self._snapshot()
                self._made = self._now(), status
            return status
