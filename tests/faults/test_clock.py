"""The wall clock is set back and forth while requests are in flight: nothing but the timestamps of the log notices."""

from __future__ import annotations

import glob
import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.need import missing
from tests.faults.conftest import Matrix
from tests.faults.numbered import NumberedLoad, check_answers, check_books
from tests.support.daemon import Daemon
from tests.support.procs import wait_until
from tests.support.sample import Sample

CONNECTIONS = 8
TIMEOUT_S = 0.3
COOLDOWN_S = 0.5
STEPS = ["+86400", "-86400", "+0", "+3600", "-3600", "+31536000"]  # seconds

# libfaketime gets between Python and the waits of its own lock as well: seconds, where the clock jumps by days.
FAKING_S = 6.0
DEADLINE_S = 1.0 + FAKING_S


class WallClock:
    """A wall clock that is set every 50 ms, for a program whose environment is `env`."""

    def __init__(self, folder: Path) -> None:
        libraries = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
        if not libraries:
            missing("libfaketime", "install the Debian package faketime")
        self._file = folder / "clock"
        self._set("+0")
        settings = {"FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1", "NO_FAKE_STAT": "1"}
        only_wall = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        self.env = {**os.environ, **settings, **only_wall, "LD_PRELOAD": libraries[0]}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._step, daemon=True)

    def _set(self, seconds: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds}\n")
        os.replace(new, self._file)

    def _step(self) -> None:
        for seconds in itertools.cycle(STEPS):
            self._set(seconds)
            if self._ending.wait(0.05):
                return

    def __enter__(self) -> WallClock:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(5)


@pytest.fixture
def clock() -> Iterator[WallClock]:
    """A wall clock of the test's own; it runs true until it is entered."""
    with tempfile.TemporaryDirectory(prefix="hapolicy-") as folder:
        yield WallClock(Path(folder))


def test_a_wall_clock_that_jumps_changes_nothing(clock: WallClock, matrix: Matrix) -> None:
    """Timeouts, cooldowns and probes take as long as they should while the day of the year changes all the time."""
    fields = f":1:1:{TIMEOUT_S}"
    with (
        Sample("A") as a,
        Sample("B") as b,
        Daemon(
            *("-s", a.service(fields), "-s", b.service(fields), "--deadline", str(DEADLINE_S)),
            *("--cooldown", str(COOLDOWN_S), "--cooldown-max", str(COOLDOWN_S)),
            env=clock.env,
        ) as daemon,
        clock,
        NumberedLoad(daemon.address, CONNECTIONS, deadline_s=DEADLINE_S) as load,
    ):
        load.wait_answers(200)
        a.fault("hang")
        daemon.wait_event("service.down", service="A")
        down = time.monotonic()
        daemon.wait_event("service.probe_failed", service="A")
        assert time.monotonic() - down < 1.1 * COOLDOWN_S + TIMEOUT_S + FAKING_S
        a.fault("none")
        healed = time.monotonic()
        up = daemon.wait_event("service.up", service="A")
        assert time.monotonic() - healed < 1.1 * COOLDOWN_S + TIMEOUT_S + FAKING_S
        assert 0 < up["down_s"] < 10
        load.wait_answers(50, "A")
        load.stop()
        days = wait_until(lambda: _days(daemon), "events of more than one day: or no clock was set at all")
        matrix.add("wall clock jumps", load.ledger, f"{len(days)} different days in the log")
        check_answers(load.ledger, DEADLINE_S + 1.0)
        assert 0 == load.ledger.defaulted
        check_books(daemon, load.ledger, services=2)


def _days(daemon: Daemon) -> set[str]:
    """The days on which events were logged, one more a moment later; empty while they are all of one day."""
    daemon.signal(signal.SIGUSR1)
    days = {event["timestamp"][:10] for event in daemon.events[:]}
    return days if len(days) > 1 else set()
