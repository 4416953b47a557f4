"""For all tests: no process outlives the test that started it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.support import hypothesis_profile  # noqa: F401 - registers and loads it
from tests.support.procs import Process

pytest_plugins = ["tests.support.fixtures"]

# A shell starts what is to run in the background with SIGINT ignored, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long a thread may run before another one is let in: the shorter, the more of what may be mixed up is.
if interval_s := os.environ.get("HAPOLICY_TEST_SWITCH_INTERVAL"):
    sys.setswitchinterval(float(interval_s))


@pytest.fixture(autouse=True)
def no_leftover_process() -> Iterator[None]:
    """End what a failed test left running; what a wider fixture started stays."""
    before = Process.running()
    yield
    for process in Process.running() - before:
        process.kill()
