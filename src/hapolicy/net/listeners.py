"""Opens what the daemon listens on, or takes it from the service manager."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Sequence

from hapolicy.config.parser import right_example
from hapolicy.config.settings import DEFAULT_LISTENERS, Listener, Settings, SettingsError
from hapolicy.core.address import TcpAddress, UnixAddress

# While --max-clients are connected, clients wait here; the kernel caps it at somaxconn.
_BACKLOG = 1024

_FAMILY_MISSING = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


class ListenError(SettingsError):
    """An address that cannot be listened on; the text says which and why."""


def _os_error(given: str, error: OSError) -> ListenError:
    hints = {
        errno.EADDRINUSE: "; ss -ltnp shows who has it: hapolicy.socket, another hapolicy, an entry in master.cf?",
        errno.EADDRNOTAVAIL: "; this host has no such address (yet)",
    }
    return _error(given, f"{error.strerror}{hints.get(error.errno or 0, '')}")


def _error(given: str, reason: str | None) -> ListenError:
    option, _, address = given.partition(" ")
    return ListenError(f"{given}: {reason}{right_example(option, address)}")


class FamilyMissing(ListenError):
    """This host lacks the address family of a loopback address."""


class Listening:
    """All that the daemon listens on: for clients, and perhaps for ``--control`` and ``--http``.

    Sockets that the service manager passed take the place of the options: those named "control" and "http"
    (FileDescriptorName=) for these, all others for clients. Those belong to the service manager and outlive us.
    """

    def __init__(self, settings: Settings, passed: Sequence[tuple[str, socket.socket]]) -> None:
        """Listen. Raises `ListenError`; then nothing stays open."""
        self.warnings: list[str] = []
        self._opened: list[socket.socket] = []
        self._files: dict[str, os.stat_result] = {}  # of the unix sockets that we made
        self._passed = [sock for _, sock in passed]
        self.control = [sock for name, sock in passed if name == "control"]
        self.http = [sock for name, sock in passed if name == "http"]
        self.clients = [sock for name, sock in passed if name not in ("control", "http")]
        if self.clients and settings.listeners != DEFAULT_LISTENERS:
            self.warnings.append("has no effect: the service manager passed the sockets to listen on")
        try:
            self.clients = self.clients or self._open_all("--listen", settings.listeners)
            if settings.control and not self.control:
                self.control = self._open_all("--control", [settings.control])
            if settings.http and not self.http:
                self.http = self._open_all("--http", [Listener(settings.http)])
        except ListenError:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening, and remove the unix sockets that we made."""
        close_sockets(self._passed)
        opened, self._opened = self._opened, []
        files, self._files = self._files, {}
        # Before the sockets are closed: whoever begins to listen there from then on keeps its own.
        for path, made in files.items():
            with contextlib.suppress(OSError):
                if os.path.samestat(os.lstat(path), made):
                    os.unlink(path)
        close_sockets(opened)

    def _open_all(self, option: str, listeners: Sequence[Listener]) -> list[socket.socket]:
        """Listen on all; a loopback family that the host lacks is a warning while another listener works."""
        opened: list[socket.socket] = []
        for listener in listeners:
            try:
                found = _open(option, listener)
            except FamilyMissing as missing:
                self.warnings.append(str(missing))
                continue
            opened += found
            self._opened += found
            if isinstance(listener.address, UnixAddress):
                self._files[listener.address.path] = os.lstat(listener.address.path)
        if not opened:
            raise ListenError("; ".join(self.warnings))
        return opened


def close_sockets(sockets: Sequence[socket.socket]) -> None:
    """Close them all."""
    for sock in sockets:
        sock.close()


def describe(sock: socket.socket) -> str:
    """Where a listening socket listens, as ``--listen`` would have it."""
    name = sock.getsockname()
    return str(UnixAddress(name)) if sock.family == socket.AF_UNIX else str(TcpAddress(name[0], name[1]))


def _open(option: str, listener: Listener) -> list[socket.socket]:
    given = f"{option} {listener}"
    if isinstance(listener.address, UnixAddress):
        return [_open_unix(given, listener.address.path, listener.mode)]
    address = listener.address
    try:
        found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise _error(given, getattr(error, "strerror", None) or str(error)) from None
    opened: list[socket.socket] = []
    missing: list[FamilyMissing] = []
    for family, _, _, _, where in found:
        try:
            opened.append(_open_tcp(family, where, given))
        except FamilyMissing as error:
            missing.append(error)
        except ListenError:
            close_sockets(opened)
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
    if ipaddress.ip_address(host.partition("%")[0]).is_loopback and error.errno in _FAMILY_MISSING:
        return FamilyMissing(f"{given}: {error.strerror}")
    return _os_error(given, error)


def _open_unix(given: str, path: str, mode: int) -> socket.socket:
    _remove_stale(given, path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        os.chmod(path, mode)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _error(given, error.strerror) from None
    return sock


def _remove_stale(given: str, path: str) -> None:
    """Remove a socket that its daemon left behind; never one that somebody answers on, nor any other file."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise _error(given, "a file of that name exists, and is not a socket")
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
            raise _error(given, "another process listens there")


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
