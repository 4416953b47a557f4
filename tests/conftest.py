"""For all tests: no process outlives the test that started it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.procs import Process


@pytest.fixture(autouse=True)
def no_leftover_process() -> Iterator[None]:
    """End what a failed test left running; what a wider fixture started stays."""
    before = Process.running()
    yield
    for process in Process.running() - before:
        process.kill()
