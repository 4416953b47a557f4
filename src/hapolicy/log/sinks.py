"""Where events go: journald, syslog, a descriptor, a file."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import syslog
import time
from collections.abc import Mapping
from typing import Any

from hapolicy.config.settings import LogSink
from hapolicy.core.event import Level
from hapolicy.log import journald
from hapolicy.log.eventlog import Sink

IDENTIFIER = "hapolicy"
_JOURNAL_SOCKET = "/run/systemd/journal/socket"
_SYSLOG_SOCKET = "/dev/log"
_FACILITY_MAIL = 2  # RFC 5424, table 1
_PRIORITIES = {
    Level.DEBUG: syslog.LOG_DEBUG,
    Level.INFO: syslog.LOG_INFO,
    Level.WARNING: syslog.LOG_WARNING,
    Level.ERROR: syslog.LOG_ERR,
}
_JOURNAL_FIELDS = {name: f"HAPOLICY_{name.upper()}" for name in ("event", "service", "instance")}
_FILE_MODE = 0o640


class _Datagrams:
    """Sinks that take a line or do not, at once."""

    may_block = False

    def reopen(self) -> None:
        pass


class JournalSink(_Datagrams):
    """journald's native protocol: only by it do fields arrive; on stderr journald takes JSON for text."""

    def __init__(self) -> None:
        same = {"SYSLOG_IDENTIFIER": IDENTIFIER, "SYSLOG_FACILITY": _FACILITY_MAIL, "SYSLOG_PID": os.getpid()}
        self._heads = {level: journald.encoded(PRIORITY=priority, **same) for level, priority in _PRIORITIES.items()}

    def write(self, line: str, fields: Mapping[str, Any], level: Level) -> None:
        named = {field: fields[name] for name, field in _JOURNAL_FIELDS.items() if name in fields}
        journald.send(self._heads[level] + journald.encoded(MESSAGE=line, **named))


class SyslogSink(_Datagrams):
    """The system's syslog, mail facility, as hapolicy 1.00 did. Our own datagram: syslog(3) would wait for room."""

    def __init__(self, path: str = _SYSLOG_SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def write(self, line: str, fields: Mapping[str, Any], level: Level) -> None:
        """In the form of syslog(3): RFC 3164 without the host."""
        priority = _FACILITY_MAIL << 3 | _PRIORITIES[level]
        when = time.strftime("%b %e %H:%M:%S")
        text = f"<{priority}>{when} {IDENTIFIER}[{os.getpid()}]: {line}"
        self._socket.sendto(text.encode("utf-8", "backslashreplace"), socket.MSG_DONTWAIT, self._path)

    def close(self) -> None:
        """Write no more."""
        self._socket.close()


class DescriptorSink:
    """Lines to a descriptor, each whole."""

    may_block = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._broken = False  # the last line broke off in its middle: a full disk

    def write(self, line: str, fields: Mapping[str, Any], level: Level) -> None:
        data = b"\n" * self._broken + line.encode("utf-8", "backslashreplace") + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]
            self._broken = bool(data)

    def reopen(self) -> None:
        pass


class FileSink(DescriptorSink):
    """Lines to a file, which `reopen` opens anew after it was rotated away."""

    def __init__(self, path: str) -> None:
        self._path = path
        super().__init__(self._open())

    def reopen(self) -> None:
        fresh = self._open()
        os.dup2(fresh, self._descriptor, inheritable=False)  # under the writer's hands, at once
        os.close(fresh)

    def _open(self) -> int:
        # A FIFO would be waited for until somebody reads it, at a reload too: without an end, deaf to SIGTERM.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, _FILE_MODE)
        os.set_blocking(descriptor, True)  # the writer may wait
        return descriptor


class NoSink(_Datagrams):
    """Nowhere to write to; every line counts as dropped."""

    def write(self, line: str, fields: Mapping[str, Any], level: Level) -> None:
        raise OSError(errno.ENODEV, "no place to log to")


def open_sink(wanted: LogSink, path: str | None = None, *, stdio: bool) -> Sink:
    """The sink for ``--log``; with `stdio`, never one that writes to the client. Raises OSError for a file.

    spawn(8) connects stdout *and* stderr to smtpd, which would take a log line for a broken answer. Where neither
    journald nor syslog is there, as in a container with Postfix' maillog_file, spawned processes need ``--log
    /path``.
    """
    if path is not None:
        return FileSink(path)
    if wanted is LogSink.AUTO:
        wanted = _best_sink()
    if wanted is LogSink.JOURNAL:
        return JournalSink()
    if wanted is LogSink.SYSLOG:
        return SyslogSink()
    descriptor = 1 if wanted is LogSink.STDOUT and not stdio else 2
    # What was closed when Python began (>&-) may be a socket's or an eventfd's number by now.
    is_closed = (sys.stdout if descriptor == 1 else sys.stderr) is None
    if is_closed or (stdio and is_client(descriptor)):
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
