"""The sample policy service itself: what the other tests lean on."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import PolicyClient, refuses, request
from tests.support.procs import PATIENCE_S, wait_until
from tests.support.sample import PROGRAM, Sample


@pytest.fixture(scope="module")
def shared() -> Iterator[Sample]:
    """One service for the tests that leave it well."""
    with Sample("A") as sample:
        yield sample
        assert sample.process.noise == []


@pytest.fixture
def sample(shared: Sample) -> Iterator[Sample]:
    """The shared service, mended after the test."""
    yield shared
    shared.fault("none")


def tell(*words: str) -> subprocess.CompletedProcess[str]:
    """Give an order as a user does."""
    argv = [sys.executable, PROGRAM, "tell", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_answers_name_the_service_and_the_instance(sample: Sample) -> None:
    """Whoever asks can tell which service answered, and to what."""
    with PolicyClient(sample.address) as client:
        assert "DUNNO A one.1" == client.ask(instance="one.1")
        assert "DUNNO A " == client.ask(instance="")


def test_pipelined_requests_are_answered_in_order(sample: Sample) -> None:
    """Many requests in one write have their answers in the same order."""
    with PolicyClient(sample.address) as client:
        client.send(b"".join(request(instance=str(number)) for number in range(100)))
        assert [f"DUNNO A {number}" for number in range(100)] == [client.action() for _ in range(100)]


def test_hostile_instance_cannot_break_the_answer(sample: Sample) -> None:
    """Control characters, other scripts and template words come back harmless."""
    with PolicyClient(sample.address) as client:
        assert "DUNNO A a?b??{name}?" == client.ask(instance="a\x1bb\u00e9{name}\x7f")
        assert len("DUNNO A ") + 1024 == len(client.ask(instance="x" * 60_000))


def test_template_and_first_fault_come_from_the_command_line() -> None:
    """--answer and --fault are in force from the first request on."""
    arguments = ["--answer", "PREPEND X-By: {name}", "--fault", "slow 0.1"]
    with Sample("A", *arguments) as sample, PolicyClient(sample.address) as client:
        began = time.monotonic()
        assert "PREPEND X-By: A" == client.ask()
        assert time.monotonic() - began >= 0.1


def test_unix_socket_is_served(tmp_path: Path) -> None:
    """A service may listen on a unix socket, again after a kill left the file behind."""
    with Sample("U", listen=f"unix:{tmp_path}/sock") as sample:
        sample.restart()
        with PolicyClient(sample.address) as client:
            assert "DUNNO U i1" == client.ask(instance="i1")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("half", b"action=DUN"),
        ("reset", ConnectionResetError),
        ("garbage", b"\x16\x03\x01\xff\x00 this is no policy answer\n\n"),
        ("hang", TimeoutError),
        ("drip", b"a"),
    ],
)
def test_fault_of_an_answer(sample: Sample, fault: str, expected: bytes | type[Exception]) -> None:
    """Each fault does to the answer what its name says."""
    sample.fault(fault)
    with PolicyClient(sample.address, timeout_s=0.3) as client:
        client.send(request())
        if isinstance(expected, bytes):
            assert expected == client.link.recv(1000)
        else:
            with pytest.raises(expected):
                client.link.recv(1000)


def test_oversized_answer_has_no_end(sample: Sample) -> None:
    """More than 16 KiB come, and no line end among them."""
    sample.fault("oversized")
    with PolicyClient(sample.address) as client:
        client.send(request())
        data = client.link.makefile("rb").read(20_000)
        assert (20_000, 0) == (len(data), data.count(b"\n"))


def test_late_answer_lets_later_requests_pass(sample: Sample) -> None:
    """A late answer comes after the answers to requests sent after it, on the same link."""
    sample.fault("late", 0.3)
    with PolicyClient(sample.address) as client:
        client.send(request(instance="first"))
        wait_until(lambda: sample.stats()["instances"][-1:] == ["first"], "the first request's arrival")
        sample.fault("none")
        assert "DUNNO A second" == client.ask(instance="second")
        assert "DUNNO A first" == client.action()


def test_double_answers_the_same_request_twice(sample: Sample) -> None:
    """A stray second answer follows the first."""
    sample.fault("double")
    with PolicyClient(sample.address) as client:
        assert "DUNNO A twice" == client.ask(instance="twice")
        assert "DUNNO A twice" == client.action()


def test_refuse_closes_everything_and_comes_back_on_the_same_port(sample: Sample) -> None:
    """Links end, connections are refused, and after "none" the old address works again."""
    with PolicyClient(sample.address) as client:
        client.ask()
        sample.fault("refuse")
        assert b"" == client.rest()
        assert refuses(sample.address)
    sample.fault("none")
    with PolicyClient(sample.address) as client:
        assert "DUNNO A back" == client.ask(instance="back")


def test_stats_count() -> None:
    """Requests, connections and open links are counted."""
    with Sample("S") as sample, PolicyClient(sample.address) as client:
        client.ask(instance="one")
        client.ask(instance="two")
        expected = {"name": "S", "fault": "none", "requests": 2, "connections": 1, "open": 1}
        assert {**expected, "instances": ["one", "two"]} == sample.stats()


def test_orders_on_the_command_line(sample: Sample) -> None:
    """tell prints the reply; its status says whether the order was understood."""
    done = tell(sample.control, "fault", "hang")
    assert (0, "ok\n", "") == (done.returncode, done.stdout, done.stderr)
    assert "hang" == sample.stats()["fault"]
    for order in (["fault", "nonsense"], ["fault", "slow", "nan"], ["nonsense"]):
        done = tell(sample.control, *order)
        assert (1, "error", "") == (done.returncode, done.stdout[:5], done.stderr)


def test_telling_nobody_is_an_error() -> None:
    """An address where nobody listens gives an error, not a traceback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        done = tell(f"127.0.0.1:{free.getsockname()[1]}", "stats")
    assert (1, "error", "") == (done.returncode, done.stdout[:5], done.stderr)


def test_ends_quietly_at_sigterm() -> None:
    """SIGTERM ends it with status 0 and without a word."""
    with Sample("A") as sample:
        assert (0, []) == (sample.process.stop(), sample.process.noise)
