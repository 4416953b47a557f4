"""One service in use: every failure from a real fault, and no wait longer than its budget."""

from __future__ import annotations

import time

import pytest

from hapolicy.core.failures import FailureKind, ServiceFailure
from tests.admin.asking import assert_counted, failure_of, soon
from tests.proxy.scripted import REQUEST, Full, Peer, Script, Scripted, hang, once, refusing
from tests.support.fixtures import MakeUpstream
from tests.support.procs import SLACK_S

FAULTS: dict[str, tuple[Script, FailureKind]] = {
    "reset": (lambda peer: peer.reset() if peer.request() else None, FailureKind.CLOSED),
    "end": (once(b""), FailureKind.CLOSED),
    "end-at-once": (lambda peer: None, FailureKind.CLOSED),
    "half": (once(b"action=DUN"), FailureKind.CLOSED),
    "garbage": (once(b"\x16\x03\x01\xff\n\n"), FailureKind.MALFORMED),
    "no-action": (once(b"result=DUNNO\n\n"), FailureKind.MALFORMED),
    "empty-action": (once(b"action=\n\n"), FailureKind.MALFORMED),
    "two-lines": (once(b"action=DUNNO\nmore=x\n\n"), FailureKind.MALFORMED),
    "not-utf-8": (once(b"action=\xe9\n\n"), FailureKind.MALFORMED),
    "oversized": (once(b"action=" + b"x" * 100_000), FailureKind.OVERSIZED),
    "hang": (hang, FailureKind.ANSWER_TIMEOUT),
}


@pytest.mark.parametrize(("script", "kind"), FAULTS.values(), ids=FAULTS.keys())
def test_every_fault_has_its_kind(make_upstream: MakeUpstream, script: Script, kind: FailureKind) -> None:
    """On a fresh link, counted once a request, and the last error can be read."""
    with Scripted(script) as service:
        upstream = make_upstream(f"A={service.address}:::0.3")
        for _ in range(2):
            failure = failure_of(upstream)
            assert (kind, False) == (failure.kind, failure.kept)
        assert_counted(upstream, 2, 0, **{kind.value: 2})
        assert upstream.counters().last_error.startswith(f"{kind.value}: ")


def test_the_last_error_has_its_time(make_upstream: MakeUpstream) -> None:
    """Whether a request met it or a probe."""
    upstream = make_upstream(f"A={refusing()}")
    assert upstream.counters().last_error_at is None
    failure_of(upstream)
    asked_at = upstream.counters().last_error_at
    with pytest.raises(ServiceFailure):
        upstream.probe(REQUEST)
    probed_at = upstream.counters().last_error_at
    assert asked_at is not None
    assert probed_at is not None
    assert time.monotonic() - SLACK_S < asked_at < probed_at <= time.monotonic()


def test_nobody_listens(make_upstream: MakeUpstream) -> None:
    """Refused."""
    upstream = make_upstream(f"A={refusing()}")
    assert FailureKind.REFUSED is failure_of(upstream).kind
    assert_counted(upstream, 1, 0, refused=1)


def test_connect_timeout_is_its_own(make_upstream: MakeUpstream) -> None:
    """A connection has --connect-timeout, not the whole timeout."""
    with Full() as full:
        upstream = make_upstream(f"A={full.address}:::10", connect_timeout_s=0.2)
        start = time.monotonic()
        assert FailureKind.CONNECT_TIMEOUT is failure_of(upstream).kind
        assert 0.19 <= time.monotonic() - start < 0.2 + SLACK_S


def drip(peer: Peer) -> None:
    """Answers a byte every 50 ms."""
    peer.request()
    for byte in b"action=" + b"x" * 1000:
        peer.send(bytes([byte]))
        if peer.ending.wait(0.05):
            return


@pytest.mark.parametrize(("timeout_s", "deadline_s"), [(0.3, 10.0), (10.0, 0.3)])
def test_the_shorter_of_timeout_and_deadline_bounds_all(
    make_upstream: MakeUpstream, timeout_s: float, deadline_s: float
) -> None:
    """A service that is never silent and never done is late all the same."""
    with Scripted(drip) as service:
        upstream = make_upstream(f"A={service.address}:::{timeout_s}")
        start = time.monotonic()
        assert FailureKind.ANSWER_TIMEOUT is failure_of(upstream, deadline_s).kind
        assert 0.29 <= time.monotonic() - start < 0.3 + SLACK_S


def test_a_retry_has_what_is_left_of_the_time(make_upstream: MakeUpstream) -> None:
    """The second try, on a fresh link, begins no new timeout."""

    def script(peer: Peer) -> None:
        peer.request()
        if peer.number == 1:
            peer.answer()
            peer.request()
            peer.ending.wait(0.25)
        else:
            peer.wait_end()

    with Scripted(script) as service:
        upstream = make_upstream(f"A={service.address}:::0.5")
        upstream.ask(REQUEST, soon())
        start = time.monotonic()
        assert FailureKind.ANSWER_TIMEOUT is failure_of(upstream).kind
        assert 0.49 <= time.monotonic() - start < 0.5 + SLACK_S
        assert 2 == service.connections
