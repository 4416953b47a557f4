"""A plugin of coverage that also measures threads started with `_thread`, which `threading.settrace` does not reach."""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from typing import Any

_start = _thread.start_new_thread


def _start_traced(function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> int:
    def run() -> None:
        sys.settrace(threading.gettrace())
        function(*args, **(kwargs or {}))

    return _start(run, ())


def coverage_init(registry: object, options: object) -> None:
    """Called by coverage in each process it measures; there is nothing to register."""
    del registry, options
    _thread.start_new_thread = _start_traced
