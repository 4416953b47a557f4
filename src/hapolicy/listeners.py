"""Opens what the daemon listens on."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat

from hapolicy.address import TcpAddress, UnixAddress
from hapolicy.settings import Listener

# While all threads are busy or --max-clients is reached, clients wait here; the kernel caps it at somaxconn.
_BACKLOG = 1024

_FAMILY_MISSING = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


class ListenError(Exception):
    """An address that cannot be listened on; the text says which and why."""


class FamilyMissing(ListenError):
    """This host lacks the address family of a loopback address."""


def open_listeners(listeners: tuple[Listener, ...]) -> tuple[list[socket.socket], list[str]]:
    """Listen on all of them. Returns the sockets, and a warning for each loopback family that the host lacks.

    Raises `ListenError`, then nothing stays open.
    """
    opened: list[socket.socket] = []
    warnings: list[str] = []
    try:
        for listener in listeners:
            try:
                opened += _open(listener)
            except FamilyMissing as missing:
                warnings.append(str(missing))
        if not opened:
            raise ListenError("; ".join(warnings))
    except ListenError:
        close_listeners(opened)
        raise
    return opened, warnings


def close_listeners(opened: list[socket.socket]) -> None:
    """Close the sockets, and remove the unix ones from the file system."""
    for sock in opened:
        path = sock.getsockname() if sock.family == socket.AF_UNIX else ""
        sock.close()
        if path:
            _unlink(path)


def describe(sock: socket.socket) -> str:
    """Where a listening socket listens, as ``--listen`` would have it."""
    name = sock.getsockname()
    return str(UnixAddress(name)) if sock.family == socket.AF_UNIX else str(TcpAddress(name[0], name[1]))


def _open(listener: Listener) -> list[socket.socket]:
    if isinstance(listener.address, UnixAddress):
        return [_open_unix(listener.address.path, listener.mode)]
    address = listener.address
    try:
        found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"--listen {address}: {error.strerror}") from None
    opened: list[socket.socket] = []
    missing: list[FamilyMissing] = []
    for family, _, _, _, where in found:
        try:
            opened.append(_open_tcp(family, where, str(address)))
        except FamilyMissing as error:
            missing.append(error)
        except ListenError:
            close_listeners(opened)
            raise
    if not opened:
        raise missing[0]
    return opened


def _open_tcp(family: socket.AddressFamily, where: tuple[object, ...], given: str) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _listen_error(error, given, str(where[0])) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # 0.0.0.0 and [::] are two listeners, whatever bindv6only says.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _listen_error(error, given, str(where[0])) from None
    return sock


def _listen_error(error: OSError, given: str, host: str) -> ListenError:
    loopback = ipaddress.ip_address(host.partition("%")[0]).is_loopback
    kind = FamilyMissing if loopback and error.errno in _FAMILY_MISSING else ListenError
    return kind(f"--listen {given}: {error.strerror}")


def _open_unix(path: str, mode: int) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        os.chmod(path, mode)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"--listen unix:{path}: {error.strerror}") from None
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket that its daemon left behind; never one that somebody answers on, nor any other file."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ListenError(f"--listen unix:{path}: there is a file of that name, and it is no socket")
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        try:
            sock.connect(path)
        except ConnectionRefusedError:
            _unlink(path)
        except OSError:
            pass  # bind() will say what is wrong with it
        else:
            raise ListenError(f"--listen unix:{path}: another process listens there")


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
