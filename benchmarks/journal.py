"""A real systemd-journald of our own: in a mount namespace, where /run/systemd is empty and in memory.

Where that is not allowed (not root, or a container), the log goes to the null device, and the report says so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Self

from benchmarks.processes import PATIENCE_S, find, wait_until

_SOCKET = "/run/systemd/journal/socket"
_CONFIG = """\
[Journal]
Storage=volatile
RuntimeMaxUse=2G
ReadKMsg=no
Audit=no
ForwardToSyslog=no
ForwardToWall=no
RateLimitIntervalSec=0
"""
_START = f"""\
set -e
mkdir -p /run/systemd /run/log
mount -t tmpfs tmpfs /run/systemd
mount -t tmpfs tmpfs /run/log
mkdir /run/systemd/journal
mount -t tmpfs tmpfs /dev
mknod -m 666 /dev/null c 1 3
mknod -m 666 /dev/urandom c 1 9
printf '%s' '{_CONFIG}' > /run/systemd/journald.conf
[ ! -f /etc/systemd/journald.conf ] || mount --bind /run/systemd/journald.conf /etc/systemd/journald.conf
exec "$0" < /dev/null
"""


class Journal:
    """Between ``with`` and its end; `prefix` goes before each command that is to log there, `sink` is its --log."""

    def __init__(self) -> None:
        self.prefix: list[str] = []
        self.sink = "stderr"  # which leads to the null device
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def counts(self) -> bool:
        """Whether a journald runs."""
        return bool(self.prefix)

    def entries(self) -> int:
        """How many requests it has logged."""
        if not self.counts:
            return 0
        words = [find("journalctl") or "", "--quiet", "--output=cat", "--output-fields=HAPOLICY_EVENT"]
        command = [*self.prefix, *words, "HAPOLICY_EVENT=request.answered"]
        return subprocess.run(command, capture_output=True, check=False).stdout.count(b"request.answered")

    def __enter__(self) -> Self:
        commands = [find(name) for name in ("systemd-journald", "journalctl", "unshare", "nsenter")]
        if os.geteuid() != 0 or None in commands:
            return self
        daemon, _, unshare, nsenter = (str(command) for command in commands)
        words = [unshare, "--mount", "--propagation", "private", "sh", "-c", _START, daemon]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, process_group=0)
        with contextlib.suppress(TimeoutError):
            wait_until(self._settled, "journald listens or has ended")
        if self._listens():
            self.prefix = [nsenter, f"--mount=/proc/{self._process.pid}/ns/mnt", "--"]
            self.sink = "journal"
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    def _settled(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None or self._listens()

    def _listens(self) -> bool:
        assert self._process is not None
        try:
            root, name = Path(f"/proc/{self._process.pid}/root"), Path(f"/proc/{self._process.pid}/comm")
            # The shell's namespace is the machine's until unshare() is done, and that may have a journald.
            return "systemd-journal" in name.read_text() and (root / _SOCKET.lstrip("/")).is_socket()
        except OSError:
            return False
