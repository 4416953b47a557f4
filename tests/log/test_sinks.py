"""Where lines go: which fields reach journald, which place is chosen, and that a client is never written to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import syslog
from pathlib import Path
from typing import Any

import pytest

from hapolicy.config.settings import LogSink
from hapolicy.core import events
from hapolicy.core.event import Level
from hapolicy.log import journald, sinks
from hapolicy.log.sinks import DescriptorSink, FileSink, JournalSink, NoSink, SyslogSink, open_sink
from tests.support.capture import Capture
from tests.support.procs import PATIENCE_S

EVENT = {"timestamp": "t", "level": "warning", "event": "service.failed", "service": "GREY1", "instance": "1.2"}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was sent to journald, entries without a field of several lines."""
    sent: list[dict[str, Any]] = []

    def keep(entry: bytes) -> None:
        sent.append(dict(line.split("=", 1) for line in entry.decode().splitlines()))

    monkeypatch.setattr(journald, "send", keep)
    return sent


def test_journal_fields(sent: list[dict[str, Any]]) -> None:
    """The JSON as MESSAGE, and as fields what a postmaster searches by."""
    JournalSink().write("{}", EVENT, Level.WARNING)
    expected = {
        "MESSAGE": "{}",
        "PRIORITY": str(syslog.LOG_WARNING),
        "SYSLOG_IDENTIFIER": "hapolicy",
        "SYSLOG_FACILITY": "2",
        "HAPOLICY_EVENT": "service.failed",
        "HAPOLICY_SERVICE": "GREY1",
        "HAPOLICY_INSTANCE": "1.2",
    }
    assert expected == {name: sent[0][name] for name in expected}
    assert set(sent[0]) - set(expected) <= {"SYSLOG_PID"}


def test_journal_fields_that_an_event_lacks(sent: list[dict[str, Any]]) -> None:
    """Are not there."""
    JournalSink().write("{}", {"level": "info", "event": "daemon.started", "services": ["A"]}, Level.INFO)
    assert "HAPOLICY_EVENT" in sent[0]
    assert {"HAPOLICY_SERVICE", "HAPOLICY_INSTANCE", "HAPOLICY_SERVICES"}.isdisjoint(sent[0])


def test_priorities(sent: list[dict[str, Any]]) -> None:
    """Each level has its syslog priority, as journald's -p wants it."""
    for level in Level:
        JournalSink().write("", EVENT, level)
    expected = [syslog.LOG_DEBUG, syslog.LOG_INFO, syslog.LOG_WARNING, syslog.LOG_ERR]
    assert expected == [int(fields["PRIORITY"]) for fields in sent]


def test_journal_values_are_printable(sent: list[dict[str, Any]], capture: Capture) -> None:
    """Whatever an instance holds, its field is one printable line, as in the JSON."""
    capture.log.emit(events.SERVICE_FAILED(instance=b"1\n\xff\x1b[2J", service="né"))
    JournalSink().write("", capture.wait("service.failed"), Level.INFO)
    assert ("1\\n\\xff\\x1b[2J", "né") == (sent[0]["HAPOLICY_INSTANCE"], sent[0]["HAPOLICY_SERVICE"])


def write_until_refused(sink: SyslogSink) -> None:
    """More than any socket's buffer holds."""
    for _ in range(10_000):
        sink.write("x" * 1000, EVENT, Level.INFO)


def test_syslog(tmp_path: Path) -> None:
    """The mail facility, under hapolicy's name; a syslog that takes nothing costs the line, not a wait."""
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        daemon.settimeout(PATIENCE_S)
        with contextlib.closing(SyslogSink(path)) as sink:
            sink.write("{}", EVENT, Level.WARNING)
            priority = syslog.LOG_MAIL | syslog.LOG_WARNING
            wanted = rf"<{priority}>[A-Z][a-z]{{2}} [ 0-9]\d \d\d:\d\d:\d\d hapolicy\[{os.getpid()}\]: {{}}"
            assert re.fullmatch(wanted, daemon.recv(1000).decode())
            with pytest.raises(BlockingIOError):
                write_until_refused(sink)


def test_a_syslog_that_is_started_again_is_found(tmp_path: Path) -> None:
    """Each line goes to whoever has the path."""
    path = tmp_path / "log"
    with contextlib.closing(SyslogSink(str(path))) as sink:
        for _ in range(2):
            with pytest.raises(OSError):
                sink.write("lost", EVENT, Level.INFO)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
                daemon.bind(str(path))
                sink.write("{}", EVENT, Level.INFO)
                assert daemon.recv(1000).endswith(b": {}")
            path.unlink()


def test_a_file_that_was_rotated_away_is_opened_anew(tmp_path: Path) -> None:
    """Lines go to the old file until then, and to the new one from then on."""
    path = tmp_path / "log"
    sink = FileSink(str(path))
    sink.write("one", EVENT, Level.INFO)
    path.rename(tmp_path / "log.1")
    sink.write("two", EVENT, Level.INFO)
    sink.reopen()
    sink.write("three", EVENT, Level.INFO)
    assert ("one\ntwo\n", "three\n") == ((tmp_path / "log.1").read_text(), path.read_text())
    os.close(sink._descriptor)


def test_descriptor() -> None:
    """Lines, each whole and ended; a reader that has gone is an OSError."""
    read_from, write_to = os.pipe()
    sink = DescriptorSink(write_to)
    sink.write("one", EVENT, Level.WARNING)
    sink.write("two", EVENT, Level.WARNING)
    assert b"one\ntwo\n" == os.read(read_from, 100)
    os.close(read_from)
    with pytest.raises(OSError, match="Broken pipe"):
        sink.write("three", EVENT, Level.WARNING)
    os.close(write_to)


def test_no_sink() -> None:
    """Nowhere to write to: each line is lost, and counted as such."""
    with pytest.raises(OSError, match="no place to log to"):
        NoSink().write("{}", EVENT, Level.WARNING)


def kind_of(wanted: LogSink) -> str:
    """Which sink a daemon (not spawn) gets."""
    sink = open_sink(wanted, stdio=False)
    if isinstance(sink, SyslogSink):
        sink.close()
    return f"{type(sink).__name__} {getattr(sink, '_descriptor', '')}".strip()


def test_what_is_wanted_is_taken(sent: list[dict[str, Any]]) -> None:
    """Each of --log's words but auto names its sink."""
    expected = {
        LogSink.JOURNAL: "JournalSink",
        LogSink.SYSLOG: "SyslogSink",
        LogSink.STDERR: "DescriptorSink 2",
        LogSink.STDOUT: "DescriptorSink 1",
    }
    assert expected == {wanted: kind_of(wanted) for wanted in expected}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"/run/systemd/journal/socket", "/dev/log"}, "JournalSink"),
        ({"/dev/log"}, "SyslogSink"),
        (set(), "DescriptorSink 2"),
    ],
)
def test_auto(monkeypatch: pytest.MonkeyPatch, sent: list[dict[str, Any]], there: set[str], expected: str) -> None:
    """journald where it is, else syslog where it is, else stderr."""
    monkeypatch.setattr(sinks.os.path, "exists", lambda path: path in there)
    assert expected == kind_of(LogSink.AUTO)


# Prints for each --log which sink a process gets that serves the client on its stdin.
SPAWNED = """
import json, os, sys
from hapolicy.log import journald
from hapolicy.log import sinks
from hapolicy.config.settings import LogSink
syslog = sys.argv[1] == "syslog"
os.path.exists = lambda path: syslog and path == "/dev/log"
kinds = {}
for wanted in (LogSink.STDERR, LogSink.STDOUT, LogSink.AUTO, LogSink.SYSLOG):
    sink = sinks.open_sink(wanted, stdio=True)
    kinds[wanted.value] = f"{type(sink).__name__} {getattr(sink, '_descriptor', '')}".strip()
os.write(int(sys.argv[2]), json.dumps(kinds).encode())
"""


def spawned(*, syslog_there: bool, stderr: int | None) -> dict[str, str]:
    """The sinks of a spawned process; `stderr` None is the client's socket, as with spawn(8)."""
    ours, client = socket.socketpair()
    read_from, write_to = os.pipe()
    with ours, client, os.fdopen(read_from, "rb") as report:
        argv = [sys.executable, "-c", SPAWNED, "syslog" if syslog_there else "none", str(write_to)]
        subprocess.run(
            argv,
            stdin=client.fileno(),
            stdout=client.fileno(),
            stderr=client.fileno() if stderr is None else stderr,
            pass_fds=[write_to],
            check=True,
            timeout=PATIENCE_S,
        )
        os.close(write_to)
        client.close()
        assert b"" == ours.recv(1000)
        kinds: dict[str, str] = json.loads(report.read())
        return kinds


@pytest.mark.parametrize(("syslog_there", "expected"), [(True, "SyslogSink"), (False, "NoSink")])
def test_spawned_with_the_client_on_stderr(syslog_there: bool, expected: str) -> None:
    """spawn(8) connects stderr to smtpd: whatever is wanted, nothing is written there."""
    kinds = spawned(syslog_there=syslog_there, stderr=None)
    assert {"stderr": expected, "stdout": expected, "auto": expected, "syslog": "SyslogSink"} == kinds


def test_spawned_with_another_stderr() -> None:
    """Where stderr leads elsewhere it is used; stdout, the client's, is not."""
    kinds = spawned(syslog_there=False, stderr=subprocess.DEVNULL)
    assert {"stderr", "stdout", "auto", "syslog"} == kinds.keys()
    assert ["DescriptorSink 2"] * 3 == [kinds[name] for name in ("stderr", "stdout", "auto")]


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    """Without a reader it cannot be opened; with one, whoever writes waits for it."""
    path = tmp_path / "log"
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):
        open_sink(LogSink.AUTO, str(path), stdio=False)
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        sink = FileSink(str(path))
        assert os.get_blocking(sink._descriptor)
        sink.write("{}", {}, Level.INFO)
        assert b"{}\n" == reader.read(100)
        os.close(sink._descriptor)


@pytest.mark.parametrize(("wanted", "stream"), [(LogSink.STDOUT, "stdout"), (LogSink.STDERR, "stderr")])
def test_a_closed_output_is_not_written_to(monkeypatch: pytest.MonkeyPatch, wanted: LogSink, stream: str) -> None:
    """``>&-`` leaves its number to what is opened next, a client's socket or what wakes an event loop."""
    monkeypatch.setattr(sinks.os.path, "exists", lambda path: False)
    monkeypatch.setattr(sys, stream, None)
    assert "NoSink" == kind_of(wanted)
