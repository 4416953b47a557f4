"""Asking an upstream, and adding up what it counted."""

from __future__ import annotations

import time

import pytest

from hapolicy.core.failures import ServiceFailure
from hapolicy.proxy.upstream import Upstream
from tests.proxy.scripted import REQUEST

ANSWER = b"action=DUNNO\n\n"


def soon(seconds: float = 10.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds


def failure_of(upstream: Upstream, deadline_s: float = 10.0) -> ServiceFailure:
    """How a request to it fails."""
    with pytest.raises(ServiceFailure) as caught:
        upstream.ask(REQUEST, soon(deadline_s))
    return caught.value


def assert_counted(upstream: Upstream, queries: int, answers: int, **failures: int) -> None:
    """The counters add up to exactly this."""
    counters = upstream.counters()
    assert (queries, answers, 0) == (counters.queries, counters.answers, counters.in_flight)
    assert failures == {kind.value: count for kind, count in counters.failures.items()}
    assert (queries, answers, sum(failures.values())) == upstream.totals()
