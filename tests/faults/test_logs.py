"""The log's disk is full, journald stands still: no answer waits, and what was lost of the log is counted."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from tests.e2e.journal import Journald
from tests.e2e.need import missing
from tests.faults.conftest import Matrix
from tests.faults.host import Host
from tests.faults.numbered import NumberedLoad, check_answers
from tests.support.daemon import Daemon
from tests.support.procs import Event, Process, wait_until
from tests.support.sample import Sample

CONNECTIONS = 6
DEADLINE_S = 1.0
SMALL_DISK = "mkdir -p /run/hapolicy-log && mount -t tmpfs -o size=128k tmpfs /run/hapolicy-log"
STALLED_S = 2.0


@pytest.fixture
def disk() -> Iterator[Host]:
    """A host with a disk of 128 KiB."""
    with Host(SMALL_DISK, network=False) as host:
        yield host


def test_a_full_disk_costs_log_lines_and_nothing_else(disk: Host, matrix: Matrix) -> None:
    """While no line fits, answers go on; one breaks off, all after it are whole, what is missing is counted."""
    log, filler = disk.path("/run/hapolicy-log/log"), disk.path("/run/hapolicy-log/filler")
    _fill(filler, 96 * 1024)
    with Sample("A") as a:
        with open(log, "ab", buffering=0) as stream:
            daemon = Daemon("-l", "-s", a.service(), "--deadline", str(DEADLINE_S), stderr=stream)
        try:
            daemon.addresses = wait_until(lambda: _events(log.read_bytes(), "daemon.started"), "a start")[0]["listen"]
            with NumberedLoad(daemon.address, CONNECTIONS) as load:
                load.wait_answers(500)
                full = log.stat().st_size
                load.wait_answers(500)
                assert full == log.stat().st_size <= 32 * 1024
                filler.unlink()
                wait_until(lambda: _events(log.read_bytes(), "log.dropped"), "the report of what was lost")
            assert 0 == daemon.stop()
        finally:
            daemon.stop()
        data = log.read_bytes()
    dropped = sum(event["count"] for event in _events(data, "log.dropped"))
    whole = len(_events(data, "request.answered"))
    broken = [line for line in data.splitlines() if not _is_json(line)]
    matrix.add("full disk", load.ledger, f"{whole} logged, {dropped} counted as dropped, {len(broken)} broken lines")
    check_answers(load.ledger, DEADLINE_S)
    assert len(broken) <= 1
    assert all(line.startswith(b'{"timestamp"') and line.count(b"timestamp") == 1 for line in broken)
    assert load.ledger.answers <= whole + dropped


def test_a_journald_that_stands_still_costs_no_answer_any_time(matrix: Matrix) -> None:
    """While journald is stopped, answers are as quick as ever; when it goes on, what was lost is reported."""
    with Journald() as journald, Sample("A") as a:
        if journald._process is None:
            missing("a journald of the test's own", "allow the tests mount namespaces")
        command = [sys.executable, "-m", "hapolicy", "--listen", "127.0.0.1:0", "-l", "-s", a.service()]
        daemon = Process([*journald.prefix, *command])
        started = journald.wait_for("daemon.started", f"_PID={daemon.pid}")[0]
        try:
            with NumberedLoad(json.loads(started["MESSAGE"])["listen"][0], CONNECTIONS) as load:
                load.wait_answers(200)
                os.kill(journald._process.pid, signal.SIGSTOP)
                began = time.monotonic()
                try:
                    wait_until(lambda: time.monotonic() > began + STALLED_S, "journald to stand still")
                finally:
                    os.kill(journald._process.pid, signal.SIGCONT)
                load.wait_answers(200)
        finally:
            status = daemon.stop()
        matrix.add("journald stands still", load.ledger, f"for {STALLED_S:g} s")
        check_answers(load.ledger, DEADLINE_S)
        assert load.ledger.slowest_s < STALLED_S / 2
        assert (0, []) == (status, daemon.noise)
        # What is in its socket's buffer journald writes when it has the time.
        wait_until(lambda: load.ledger.answers <= _told(journald), "each answer in the journal, or counted as dropped")
        # Where the machine is busy, a service's silence may be told, too, and be among what was dropped.
        assert _told(journald) <= load.ledger.answers + 10


def _told(journald: Journald) -> int:
    entries = [json.loads(entry["MESSAGE"]) for entry in journald.entries("SYSLOG_IDENTIFIER=hapolicy")]
    answered = sum(entry["event"] == "request.answered" for entry in entries)
    return answered + sum(entry["count"] for entry in entries if entry["event"] == "log.dropped")


def _fill(path: os.PathLike[str], size: int) -> None:
    with open(path, "wb") as filler:
        filler.write(b"\0" * size)


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _events(data: bytes, name: str) -> list[Event]:
    events = [json.loads(line) for line in data.splitlines() if _is_json(line)]
    return [event for event in events if event["event"] == name]
