"""Where log lines go: journald, syslog, a file descriptor. Called by the log's writer thread alone."""

from __future__ import annotations

import errno
import os
import stat
import syslog

from hapolicy.config.settings import LogSink
from hapolicy.core.events import Fields
from hapolicy.log import journald
from hapolicy.log.events import Sink

IDENTIFIER = "hapolicy"
_JOURNAL_SOCKET = "/run/systemd/journal/socket"
_SYSLOG_SOCKET = "/dev/log"
_FACILITY_MAIL = 2  # RFC 5424, table 1
_PRIORITIES = {
    "debug": syslog.LOG_DEBUG,
    "info": syslog.LOG_INFO,
    "warning": syslog.LOG_WARNING,
    "error": syslog.LOG_ERR,
}


class JournalSink:
    """journald's native protocol: only by it do fields arrive; on stderr journald takes JSON for text."""

    def write(self, line: str, event: Fields) -> None:
        fields = {
            f"HAPOLICY_{name.upper()}": str(event[name]) for name in ("event", "service", "instance") if name in event
        }
        journald.send(
            MESSAGE=line,
            PRIORITY=_PRIORITIES[event["level"]],
            SYSLOG_IDENTIFIER=IDENTIFIER,
            SYSLOG_FACILITY=_FACILITY_MAIL,
            SYSLOG_PID=os.getpid(),
            **fields,
        )


class SyslogSink:
    """The system's syslog, mail facility, as hapolicy 1.00 did."""

    def __init__(self) -> None:
        syslog.openlog(IDENTIFIER, syslog.LOG_PID, syslog.LOG_MAIL)

    def write(self, line: str, event: Fields) -> None:
        syslog.syslog(_PRIORITIES[event["level"]], line)


class DescriptorSink:
    """Lines to a descriptor, each whole."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._broken = False  # the last line broke off in its middle: a full disk

    def write(self, line: str, event: Fields) -> None:
        data = b"\n" * self._broken + line.encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]
            self._broken = bool(data)


class NoSink:
    """Nowhere to write to; every line counts as dropped."""

    def write(self, line: str, event: Fields) -> None:
        raise OSError(errno.ENODEV, "no place to log to")


def open_sink(wanted: LogSink, *, stdio: bool) -> Sink:
    """The sink for ``--log``; with `stdio`, never one that writes to the client.

    spawn(8) connects stdout *and* stderr to smtpd, which would take a log line for a broken answer.
    """
    if wanted is LogSink.AUTO:
        wanted = _best_sink()
    if wanted is LogSink.JOURNAL:
        return JournalSink()
    if wanted is LogSink.SYSLOG:
        return SyslogSink()
    descriptor = 1 if wanted is LogSink.STDOUT and not stdio else 2
    if stdio and is_client(descriptor):
        return SyslogSink() if os.path.exists(_SYSLOG_SOCKET) else NoSink()
    return DescriptorSink(descriptor)


def _best_sink() -> LogSink:
    if os.path.exists(_JOURNAL_SOCKET):
        return LogSink.JOURNAL
    if os.path.exists(_SYSLOG_SOCKET):
        return LogSink.SYSLOG
    return LogSink.STDERR


def is_client(descriptor: int) -> bool:
    """Whether `descriptor` leads to the client on stdin, or nowhere at all."""
    try:
        ours = os.fstat(descriptor)
    except OSError:
        return True
    try:
        client = os.fstat(0)
    except OSError:
        return False
    return stat.S_ISSOCK(ours.st_mode) and os.path.samestat(ours, client)
