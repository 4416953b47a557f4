"""Entries for journald by its native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).

A few lines of our own, because cysystemd holds the interpreter's lock while its send blocks. This one never waits: a
journald that stands still costs lines, not answers.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import socket
import struct

_JOURNAL = "/run/systemd/journal/socket"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_TOO_LONG = {errno.EMSGSIZE, errno.ENOBUFS}

_socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
atexit.register(_socket.close)


def encoded(**fields: object) -> bytes:
    """These fields as a part of an entry."""
    return b"".join(_field(name.encode(), str(value).encode("utf-8", "replace")) for name, value in fields.items())


def send(entry: bytes) -> None:
    """Have journald keep an entry. Raises OSError where it does not take it."""
    try:
        _socket.sendto(entry, socket.MSG_DONTWAIT, _JOURNAL)
    except OSError as error:
        if error.errno not in _TOO_LONG:
            raise
        _send_file(entry)


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name, struct.pack("<Q", len(value)), value)
    return b"%s=%s\n" % (name, value)


def _send_file(entry: bytes) -> None:
    """An entry that no datagram holds goes as a file in memory that nobody can change any more."""
    file = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(file, "wb", closefd=False) as written:
            written.write(entry)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("=i", file))]
        _socket.sendmsg([b""], rights, socket.MSG_DONTWAIT, _JOURNAL)
    finally:
        os.close(file)
