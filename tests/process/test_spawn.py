"""Spawn mode: one client on stdin and stdout, as Postfix spawn(8) starts a program, or a shell's pipe."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import PolicyClient, request
from tests.support.procs import PATIENCE_S, Process, wait_until
from tests.support.sample import Sample


@pytest.fixture(scope="module")
def sample() -> Iterator[Sample]:
    """A service that is well."""
    with Sample("A") as sample:
        yield sample


def spawn(*arguments: str, **options: Any) -> tuple[PolicyClient, Process]:
    """Start hapolicy as spawn(8) does: its stdin, stdout and stderr all lead to the client."""
    ours, theirs = socket.socketpair()
    with theirs:
        argv = [sys.executable, "-m", "hapolicy", *arguments]
        process = Process(argv, stdin=theirs, stdout=theirs, stderr=theirs, **options)
    return PolicyClient(ours), process


@pytest.mark.parametrize(
    "more", [[], ["-l"], ["-L", "-l"], ["-v"], ["--log", "stderr", "-l"], ["--stdio"]], ids=" ".join
)
def test_spawned_hapolicy_writes_answers_and_nothing_else(sample: Sample, more: list[str]) -> None:
    """1.00's command lines work without --stdio: answers in order, no log line among them, status 0 at EOF."""
    client, process = spawn(*more, "-s", f"GREY1={sample.address}")
    with client:
        assert "DUNNO A first" == client.ask(instance="first")
        client.send(b"".join(request(instance=str(number)) for number in range(20)))
        client.link.shutdown(socket.SHUT_WR)
        assert b"".join(b"action=DUNNO A %d\n\n" % number for number in range(20)) == client.rest()
    assert 0 == process.wait()


def test_spawned_hapolicy_keeps_failures_to_itself() -> None:
    """What goes wrong with the services is logged, but never to the client."""
    with Sample("A", "--fault", "reset") as broken:
        client, process = spawn("-l", "-s", broken.service(), "-s", "B=nowhere.invalid:10023", "-d", "DEFER later")
        with client:
            client.send(request() * 5)
            client.link.shutdown(socket.SHUT_WR)
            # It breaks twice on the first request; then, or once a probe has failed as well, nobody is left.
            suspect = b"action=DEFER_IF_PERMIT 4.3.0 Policy service error, try again later\n\n"
            answers = client.rest().replace(suspect, b"action=DEFER later\n\n")
            assert b"action=DEFER later\n\n" * 5 == answers
        assert 0 == process.wait()


def test_spawned_hapolicy_that_cannot_log_serves_and_ends_all_the_same(sample: Sample, tmp_path: Path) -> None:
    """What renders the log is loaded with the first event: it may have gone by then, or be another version's."""
    (tmp_path / "structlog.py").write_text("raise ImportError('gone')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    client, process = spawn("-l", "-s", sample.service(), env=environment)
    with client:
        assert ["DUNNO A 1", "DUNNO A 2"] == [client.ask(instance="1"), client.ask(instance="2")]
        assert os.devnull == os.readlink(f"/proc/{process.pid}/fd/2")  # nor do Python's own complaints reach the client
    assert 0 == process.wait()


def test_spawned_hapolicy_ends_when_the_client_just_goes(sample: Sample) -> None:
    """A client that closes without a word, even within a request, ends it with status 0."""
    for last_words in (b"", b"request=smtpd_acc"):
        client, process = spawn("-s", sample.service())
        with client:
            client.ask()
            client.send(last_words)
        assert 0 == process.wait()


def test_spawned_hapolicy_rejects_nonsense(sample: Sample) -> None:
    """Nonsense is answered with the end of the connection."""
    client, process = spawn("-s", sample.service())
    with client:
        client.send(request(instance="1") + b"nonsense\n\n")
        assert b"action=DUNNO A 1\n\n" == client.rest()
    assert 0 == process.wait()


def test_spawned_hapolicy_answers_before_it_ends_at_sigterm() -> None:
    """SIGTERM lets the request in flight have its answer."""
    with Sample("A", "--fault", "slow 0.5") as slow:
        client, process = spawn("-s", slow.service())
        with client:
            client.send(request(instance="last"))
            wait_until(lambda: slow.stats()["requests"], "the request's arrival at the service")
            process.signal(signal.SIGTERM)
            assert b"action=DUNNO A last\n\n" == client.rest()
        assert 0 == process.wait()


def test_stdio_over_pipes(sample: Sample) -> None:
    """--stdio serves a shell's pipe: three requests in, three answers out, events on stderr where that is apart."""
    argv = [sys.executable, "-m", "hapolicy", "--stdio", "--log", "stderr", "-l", "-s", sample.service()]
    requests = b"".join(request(instance=str(number)) for number in range(3))
    done = subprocess.run(argv, input=requests, capture_output=True, timeout=PATIENCE_S, check=False)
    assert (0, b"".join(b"action=DUNNO A %d\n\n" % number for number in range(3))) == (done.returncode, done.stdout)
    assert 3 == done.stderr.count(b'"request.answered"')


@pytest.mark.parametrize(("more", "levels"), [([], []), (["-l"], []), (["-v"], ["warning"])])
def test_doubtful_arguments_do_not_come_with_every_client(sample: Sample, more: list[str], levels: list[str]) -> None:
    """A process a client would say the same for each: only -v shows it in the log, --check always."""
    argv = [sys.executable, "-m", "hapolicy", "--stdio", "--log", "stderr", *more, "-d", "greylist"]
    argv += ["-s", sample.service()]
    served = subprocess.run(argv, input=request(instance="i1"), capture_output=True, timeout=PATIENCE_S, check=False)
    events = [json.loads(line) for line in served.stderr.splitlines()]
    assert (0, b"action=DUNNO A i1\n\n") == (served.returncode, served.stdout)
    assert levels == [event["level"] for event in events if event["event"] == "config.warning"]
    checked = subprocess.run([*argv, "--check"], capture_output=True, timeout=PATIENCE_S, check=False)
    assert 1 == checked.stderr.count(b"hapolicy: warning: -d greylist: ")


def test_no_signal_handler_reads_the_status(sample: Sample) -> None:
    """SIGUSR1 is a thread's: a handler that interrupts a request would wait for the lock that this request holds."""
    argv = [sys.executable, "-m", "hapolicy", "--stdio", "--log", "stderr", "-s", sample.service()]
    ours, theirs = socket.socketpair()
    with theirs:
        process = Process(argv, stdin=theirs, stdout=theirs)
    with PolicyClient(ours) as client:
        for number in range(1, 4):
            client.ask()
            process.signal(signal.SIGUSR1)
            told = process.wait_for(lambda n=number: process.events[n - 1 :], "a status")[0]
            assert ("service.status", "A", number) == (told["event"], told["service"], told["queries"])
        caught = re.search(r"^SigCgt:\t(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
        assert caught
        assert 0 == int(caught[1], 16) & (1 << signal.SIGUSR1 - 1 | 1 << signal.SIGTERM - 1)
    assert 0 == process.wait()


def test_stdio_at_the_end_of_its_input(sample: Sample) -> None:
    """Nothing in, nothing out, status 0."""
    argv = [sys.executable, "-m", "hapolicy", "--stdio", "--log", "stderr", "-s", sample.service()]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=False)
    assert (0, b"") == (done.returncode, done.stdout)
