"""What clients send and get: framing, order, bytes kept as they were, and who is shown the door."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.client import PolicyClient, request
from tests.support.daemon import Daemon
from tests.support.procs import SLACK_S
from tests.support.recorder import Recorder
from tests.support.sample import Sample


@pytest.fixture(scope="module")
def sample() -> Iterator[Sample]:
    """A service that is well."""
    with Sample("A") as sample:
        yield sample


@pytest.fixture(scope="module")
def daemon(sample: Sample) -> Iterator[Daemon]:
    """hapolicy before that service."""
    with Daemon("-s", sample.service()) as daemon:
        yield daemon


def test_pipelined_requests_are_answered_in_order(daemon: Daemon) -> None:
    """Requests sent in one go are answered one after the other."""
    with PolicyClient(daemon.address) as client:
        client.send(b"".join(request(instance=f"p{number}") for number in range(200)))
        assert [f"DUNNO A p{number}" for number in range(200)] == [client.action() for _ in range(200)]


def test_a_request_may_come_in_pieces(daemon: Daemon) -> None:
    """A request that arrives a byte at a time is one request."""
    with PolicyClient(daemon.address) as client:
        for byte in request(instance="bytewise"):
            client.send(bytes([byte]))
        assert "DUNNO A bytewise" == client.action()


def test_crlf_is_understood(daemon: Daemon) -> None:
    """1.00 took CRLF line ends; so does its successor, mixed with others too."""
    with PolicyClient(daemon.address) as client:
        client.send(request(instance="crlf").replace(b"\n", b"\r\n") + request(instance="lf"))
        assert ["DUNNO A crlf", "DUNNO A lf"] == [client.action(), client.action()]


def test_a_client_that_has_said_all_is_answered(daemon: Daemon) -> None:
    """A client that closes its sending side, as nc does, gets its answer before the end."""
    with PolicyClient(daemon.address) as client:
        client.send(request(instance="eof"))
        client.link.shutdown(1)
        assert b"action=DUNNO A eof\n\n" == client.rest()


def test_requests_are_forwarded_byte_for_byte() -> None:
    """Unknown, long, empty, doubled and non-UTF-8 attributes reach the service as they were sent."""
    with Recorder() as recorder, Daemon("-s", f"R={recorder.address}") as daemon:
        sent = (
            b"sender=a=b=c@example.com\nrequest=smtpd_access_policy\nzzz_unknown=1\nhelo_name=\n"
            + b"ccert_subject="
            + b"\xc3\xa9\xff\x01 \t"
            + b"x" * 30_000
            + b"\nsender=second\ninstance=raw.1\n spaced name =v \n\n"
        )
        with PolicyClient(daemon.address) as client:
            client.send(sent)
            assert "DUNNO recorded" == client.action()
        assert [sent] == recorder.requests


def test_answers_are_forwarded_as_they_are() -> None:
    """An action with text, spaces and UTF-8 reaches the client unchanged."""
    action = "PREPEND X-Spam:  maybe=yes; né à 10 %"
    with (
        Recorder(action) as recorder,
        Daemon("-s", f"R={recorder.address}") as daemon,
        PolicyClient(daemon.address) as client,
    ):
        assert action == client.ask()


BAD_REQUESTS = {
    # what it is, and a word of the reason to be logged
    b"protocol_state=RCPT\ninstance=1\n\n": "smtpd_access_policy",
    b"request=junk\n\n": "smtpd_access_policy",
    b"request=smtpd_access_policy\nGET / HTTP/1.1\n\n": "name=value",
    b"HELO there\n": "name=value",
    b"\n\n": "empty line",
    b"request=smtpd_access_policy\nsender=a\0b\n\n": "NUL",
    b"request=smtpd_access_policy\nsender=" + b"x" * 70_000: "65536",
}


@pytest.mark.parametrize(("bad", "word"), BAD_REQUESTS.items(), ids=lambda value: ascii(value[:30]))
def test_what_is_no_policy_request_is_rejected(sample: Sample, daemon: Daemon, bad: bytes, word: str) -> None:
    """It is logged with its reason, nothing is answered, the client disconnected, and no service asked."""
    asked = sample.stats()["requests"]
    with PolicyClient(daemon.address) as client:
        with contextlib.suppress(ConnectionError):
            client.send(bad)
        assert b"" == client.rest()
        assert word in daemon.wait_event("client.rejected", client=client.name)["reason"]
    assert asked == sample.stats()["requests"]
    with PolicyClient(daemon.address) as client:
        assert "DUNNO A after" == client.ask(instance="after")


def test_what_came_before_the_nonsense_is_answered(daemon: Daemon) -> None:
    """A whole request is answered even when nonsense follows in the same packet."""
    with PolicyClient(daemon.address) as client:
        client.send(request(instance="whole") + b"nonsense\n\n")
        assert b"action=DUNNO A whole\n\n" == client.rest()


def test_a_request_has_ten_seconds_to_complete(daemon: Daemon) -> None:
    """From its first byte on, dripped or not; a client that says nothing yet, or nothing more, may stay."""

    def wait_for_the_end(first: bytes, drip: bytes) -> tuple[str, float]:
        with PolicyClient(daemon.address, timeout_s=1) as client:
            began = time.monotonic()
            client.send(first)
            while time.monotonic() < began + 15:
                try:
                    assert b"" == client.link.recv(1000)
                    break
                except TimeoutError:
                    client.send(drip)
            return client.name, time.monotonic() - began

    with PolicyClient(daemon.address) as silent, PolicyClient(daemon.address) as idle, ThreadPoolExecutor() as pool:
        idle.ask()
        for name, wait_s in pool.map(wait_for_the_end, (b"request=smtpd_acc", b"r"), (b"", b"x")):
            assert 9.9 <= wait_s <= 11 + SLACK_S
            assert "10 s" in daemon.wait_event("client.rejected", client=name)["reason"]
        assert "DUNNO A idle" == idle.ask(instance="idle")
        assert "DUNNO A silent" == silent.ask(instance="silent")


def test_hostile_attributes_cannot_break_the_log(sample: Sample) -> None:
    """Whatever a sender wrote, each event is one line of printable text with its fields intact."""
    hostile = {
        "helo_name": '"}\x1b[2J\x07{"event":"forged"}',
        "sender": "\u2028\u202e\x85\u200b\\\udcff@example.com",
        "recipient": "x" * 20_000,
        "instance": "\x1b]0;owned\x07",
    }
    with Daemon("-s", sample.service(), "-l") as daemon, PolicyClient(daemon.address) as client:
        assert "DUNNO A ?]0;owned?" == client.ask(**hostile)
        event = daemon.wait_event("request.answered")
        assert [] == daemon.events_of("forged") + daemon.noise
        assert "mail.example.com[192.0.2.7]" == event["client"]
        for value in event.values():
            assert not isinstance(value, str) or (value.isprintable() and len(value) < 1000)


def test_request_log_has_the_fields_of_its_predecessor(sample: Sample) -> None:
    """With -l a request is one event: 1.00's fields, and what a postmaster searches for."""
    with Daemon("-s", sample.service(":9:2.5:4"), "-l") as daemon, PolicyClient(daemon.address) as client:
        client.ask(instance="log.1", queue_id="8045F2AB23", protocol_state="DATA")
        event = daemon.wait_event("request.answered")
        expected = {
            "service": "A",
            "address": sample.address,
            "prio": 9,
            "weight": 2.5,
            "queries": 1,
            "answers": 1,
            "failed": 0,
            "client": "mail.example.com[192.0.2.7]",
            "helo": "mail.example.com",
            "from": "from@example.com",
            "to": "to@example.org",
            "action": "DUNNO A log.1",
            "protocol_state": "DATA",
            "instance": "log.1",
            "queue_id": "8045F2AB23",
            "attempts": 1,
            "level": "info",
        }
        assert expected == {name: event[name] for name in expected}
        assert 0 < event["delay_ms"] < 5000


def test_without_l_only_defaulted_requests_are_logged(sample: Sample) -> None:
    """Requests that were answered leave no event; one that got the default action always does."""
    with Daemon("-s", sample.service()) as daemon, PolicyClient(daemon.address) as client:
        client.ask()
        sample.fault("reset")
        try:
            assert "dunno" == client.ask(instance="def.1")
        finally:
            sample.fault("none")
        event = daemon.wait_event("request.defaulted", instance="def.1")
        assert ("dunno", {"A": "closed"}) == (event["action"], event["failures"])
        assert [] == daemon.events_of("request.answered")
