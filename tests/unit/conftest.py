"""What most rooms need: a log that the test can read, and pools of services that leave no link behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hapolicy.logs import EventLog
from hapolicy.pool import Pool
from hapolicy.service import parse_service
from hapolicy.settings import Settings
from hapolicy.upstream import Upstream
from tests.unit.capture import Capture

MakePool = Callable[..., Pool]
MakeUpstream = Callable[..., Upstream]


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

    def make(*definitions: str, **settings: Any) -> Pool:
        services = tuple(parse_service(definition) for definition in definitions)
        made.append(Pool(Settings(services=services, **settings), log))
        return made[-1]

    yield make
    for pool in made:
        pool.stop()


@pytest.fixture
def make_upstream(make_pool: MakePool) -> MakeUpstream:
    """Makes the upstream of one -s definition."""

    def make(definition: str, **settings: Any) -> Upstream:
        return make_pool(definition, **settings).upstreams[0]

    return make
