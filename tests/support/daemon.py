"""hapolicy as the tests run it: the installed program, on a free port, its events read from its stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from tests.support.procs import PATIENCE_S, Event, Process

# With a switch interval for the tests, hapolicy goes by it, too (see conftest.py).
_HURRIED = "import sys; from hapolicy import cli; sys.setswitchinterval({}); raise SystemExit(cli.main())"
_INTERVAL_S = os.environ.get("HAPOLICY_TEST_SWITCH_INTERVAL")
PROGRAM = (sys.executable, *(["-c", _HURRIED.format(float(_INTERVAL_S))] if _INTERVAL_S else ["-m", "hapolicy"]))


class Daemon(Process):
    """A running hapolicy; as a context manager it is stopped at the end and must have gone in peace, without a fault.

    `arguments` are hapolicy's own; a free port and ``--log stderr`` are added where they name neither.
    `program` is what takes them, where it is not to run as it is.
    """

    has_fault = False  # where a test brings a fault of hapolicy's own about

    def __init__(self, *arguments: str, program: Sequence[str] = PROGRAM, **options: Any) -> None:
        added = [] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
        added += [] if "--log" in arguments else ["--log", "stderr"]
        super().__init__([*program, *added, *arguments], **options)
        self.addresses: list[str] = []
        if "stderr" not in options:
            try:
                self.addresses = self.wait_event("daemon.started")["listen"]
            except BaseException:
                self.kill()
                raise

    @property
    def address(self) -> str:
        """Where it listens, the first address if there are several."""
        return self.addresses[0]

    def events_of(self, name: str, **fields: Any) -> list[Event]:
        """The events of this name, with these values in these fields, so far."""
        wanted = {"event": name, **fields}
        return [event for event in self.events[:] if wanted.items() <= _hashable(event).items()]

    def wait_event(self, name: str, timeout_s: float = PATIENCE_S, nth: int = 1, **fields: Any) -> Event:
        """Wait for the `nth` event of this name with these values in these fields; returns it."""
        what = f"event {name} {fields or ''} for the {nth}. time"
        return self.wait_for(lambda: self.events_of(name, **fields)[nth - 1 : nth], what, timeout_s)[0]

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = self.stop()
        if kind is None:
            faults = self.events_of("daemon.error")
            assert (0, [], self.has_fault) == (status, self.noise, bool(faults)), self.report()


def _hashable(event: Event) -> Event:
    """The plain fields: lists and objects cannot be compared as a set of items."""
    return {name: value for name, value in event.items() if not isinstance(value, list | dict)}
