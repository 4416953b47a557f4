"""What the service manager and a service tell each other: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).

A few lines of our own, because no library in reach sends RELOADING=1 with MONOTONIC_USEC or names descriptors.
"""

from __future__ import annotations

import os
import socket
import time

from hapolicy.config.settings import SettingsError

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_RETRY_S = 0.05


def notify(*lines: str, patience_s: float = 0.0) -> None:
    """Tell the service manager; nothing happens where there is none.

    A service manager whose socket is full, or the want of a descriptor, must not end the service. What must not be lost
    (READY) is tried again for `patience_s`.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    give_up_at = time.monotonic() + patience_s
    while path and not _told(path, "\n".join(lines).encode()) and time.monotonic() < give_up_at:
        time.sleep(_RETRY_S)


def _told(path: str, message: bytes) -> bool:
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(message, socket.MSG_DONTWAIT, address)
    except OSError:
        return False
    return True


def reloading() -> None:
    """Tell the service manager that a reload begins; it ends with the next READY=1."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_s() -> float | None:
    """Within how many seconds the service manager wants each WATCHDOG=1; None when it does not."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    is_number = microseconds.isascii() and microseconds.isdigit() and len(microseconds) < 16
    return int(microseconds) / 1e6 if is_number and int(microseconds) else None


def passed_sockets() -> list[tuple[str, socket.socket]]:
    """The listening sockets that the service manager passed, each with its name (FileDescriptorName=).

    Raises `SettingsError` for what cannot be theirs.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = os.environ.get("LISTEN_FDS", "0")
    if not count.isascii() or not count.isdigit() or len(count) > 4:
        raise SettingsError(
            f"LISTEN_FDS={count!r} in the environment is not a number of sockets; example: LISTEN_FDS=1"
        )
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    passed = []
    for index in range(int(count)):
        sock = _listening_socket(_FIRST_DESCRIPTOR + index)
        passed.append((names[index] if index < len(names) else "", sock))
    return passed


def _listening_socket(descriptor: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
        is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        text = f"LISTEN_FDS in the environment promises a socket as descriptor {descriptor}: {error.strerror}"
        raise SettingsError(text) from None
    if not is_listening:
        sock.detach()
        raise SettingsError(f"descriptor {descriptor}, passed with LISTEN_FDS, is a socket that does not listen")
    sock.set_inheritable(False)
    return sock
