"""What rooms need: a log that the test can read, pools that leave no link behind, a control server."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hapolicy.config.settings import Settings
from hapolicy.core.service import parse_service
from hapolicy.log.eventlog import EventLog
from hapolicy.net import accept
from hapolicy.proxy.pool import Pool
from tests.admin.controlled import Control
from tests.support.capture import Capture
from tests.support.procs import wait_until
from tests.support.recorder import Recorder

MakePool = Callable[..., Pool]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that Postfix's, postgrey's and nobody's processes may enter, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="hapolicy-e2e-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def capture() -> Iterator[Capture]:
    """A log and what came out of it."""
    capture = Capture()
    yield capture
    capture.close()


@pytest.fixture
def log(capture: Capture) -> EventLog:
    """The log of `capture`."""
    return capture.log


@pytest.fixture
def make_pool(log: EventLog) -> Iterator[MakePool]:
    """Makes pools from -s definitions and `Settings`; they are stopped at the end."""
    made: list[Pool] = []

    def make(*definitions: str, on_empty: Callable[[], None] = lambda: None, **settings: Any) -> Pool:
        services = tuple(parse_service(definition) for definition in definitions)
        made.append(Pool(Settings(services=services, **settings), log, on_empty))
        made[-1].start()
        return made[-1]

    yield make
    for pool in made:
        pool.stop()


@pytest.fixture
def running(tmp_path: Path, capture: Capture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    """A control server that is ended with all its threads."""
    monkeypatch.setattr(accept, "_POLL_S", 0.02)
    with Recorder() as recorder:
        running = Control(tmp_path / "sock", capture, recorder.address)
        yield running
        running.close()
    wait_until(lambda: "control" not in {thread.name for thread in threading.enumerate()}, "the accept thread's end")
