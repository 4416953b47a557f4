"""stdout and stderr of a command, where they are closed or cannot be written to."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def open_what_is_closed() -> None:
    """``>&-`` is as good as ``>/dev/null``, and leaves no number of an output to a socket."""
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()


def _nowhere() -> TextIO:
    """Closed by nobody, and without a complaint about that."""
    return open(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8", closefd=False)


def drop_what_cannot_be_written() -> None:
    """The interpreter flushes once more when it ends, and would make it an exit status of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
