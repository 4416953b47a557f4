"""What the service manager and a service tell each other: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).

A few lines of our own, because no library in reach sends RELOADING=1 with MONOTONIC_USEC or names descriptors.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


def notify(*lines: str) -> None:
    """Tell the service manager; nothing happens where there is none."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    # A service manager that is away for a moment must not end the service, nor may the want of a descriptor.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(1)
        sock.sendto("\n".join(lines).encode(), address)


def reloading() -> None:
    """Tell the service manager that a reload begins; it ends with the next READY=1."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_s() -> float | None:
    """Within how many seconds the service manager wants each WATCHDOG=1; None when it does not."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) else None


def passed_sockets() -> list[tuple[str, socket.socket]]:
    """The listening sockets that the service manager passed, each with its name (FileDescriptorName=)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    passed = []
    for index in range(int(os.environ.get("LISTEN_FDS", "0"))):
        sock = socket.socket(fileno=_FIRST_DESCRIPTOR + index)
        sock.set_inheritable(False)
        passed.append((names[index] if index < len(names) else "", sock))
    return passed
