"""A real systemd-journald that only the test sees.

journald's socket has a fixed address, /run/systemd/journal/socket, so a second journald needs a second
/run/systemd. A mount namespace gives it one: empty, in memory, gone with its last process. What shall log there
is started with ``prefix``. Where namespaces are not allowed, a journald that already runs is used and left alone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from tests.e2e.need import missing, need
from tests.support.procs import wait_until

WARNING, INFO = "4", "6"  # of syslog(3), as the PRIORITY field has them
SOCKET = "/run/systemd/journal/socket"

# Storage in memory, no kernel messages, no audit: nothing of the machine comes in and nothing stays.
CONFIG = """\
[Journal]
Storage=volatile
ReadKMsg=no
Audit=no
ForwardToSyslog=no
ForwardToWall=no
RateLimitIntervalSec=0
"""

EMPTY_RUN = "mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/journal"

# A /dev of its own, too: /dev/log then leads to this journald for programs that use syslog.
START = f"""\
set -e
{EMPTY_RUN}
mkdir -p /run/log
mount -t tmpfs tmpfs /run/log
mount -t tmpfs tmpfs /dev
mknod -m 666 /dev/null c 1 3
mknod -m 666 /dev/urandom c 1 9
ln -s /run/systemd/journal/dev-log /dev/log
cat > /run/systemd/journald.conf
[ ! -f /etc/systemd/journald.conf ] || mount --bind /run/systemd/journald.conf /etc/systemd/journald.conf
exec "$0" < /dev/null
"""


def in_own_mounts(script: str, *words: str) -> list[str]:
    """The command line that runs a shell script in a mount namespace of its own."""
    unshare = need("unshare", "util-linux")
    return [unshare, "--mount", "--propagation", "private", "sh", "-c", script, *words]


def mounts_allowed() -> bool:
    """Whether this machine lets us have mount namespaces (a plain container does not)."""
    return subprocess.run(in_own_mounts(EMPTY_RUN), capture_output=True, check=False).returncode == 0


class Journald:
    """A journald between ``with`` and its end; ``prefix`` goes before each command that shall log to it."""

    def __init__(self) -> None:
        self._program = need("systemd-journald", "systemd")
        self._journalctl = need("journalctl", "systemd")
        self._process: subprocess.Popen[bytes] | None = None
        self._only_new: list[str] = []  # a journald that ran before us knows other tests' events, too
        self.prefix: list[str] = []

    def __enter__(self) -> Journald:
        if not mounts_allowed():
            if not _listens(SOCKET):
                missing("a journald", "allow the tests mount namespaces, or run one")
            self._only_new = [f"--since=@{time.time():.6f}"]
            return self
        self._process = subprocess.Popen(
            in_own_mounts(START, self._program),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with self._process.stdin as config:
            config.write(CONFIG.encode())
        mounts = f"/proc/{self._process.pid}/ns/mnt"
        self.prefix = [need("nsenter", "util-linux"), f"--mount={mounts}", "--"]
        try:
            wait_until(self._ready, "journald to listen")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def entries(self, *matches: str) -> list[dict[str, str]]:
        """What ``journalctl -o json MATCHES`` prints, one dict of fields an entry."""
        command = [*self.prefix, self._journalctl, "--no-pager", "--output=json", *self._only_new, *matches]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def wait_for(self, event: str, *matches: str, timeout_s: float = 10) -> list[dict[str, str]]:
        """The entries of one hapolicy event, once there are any."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.entries(f"HAPOLICY_EVENT={event}", *matches)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {event} in the journal, only {_events(self.entries(*matches))}")
            time.sleep(0.1)
        return found

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"journald ended with status {self._process.returncode}")
        return (
            Path(f"/proc/{self._process.pid}/root{SOCKET}").is_socket()
            and "systemd-journal" in Path(f"/proc/{self._process.pid}/comm").read_text()
        )

    def _stop(self) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=5)


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(path) == 0


def _events(entries: Iterable[dict[str, str]]) -> list[str]:
    return sorted({entry.get("HAPOLICY_EVENT", "?") for entry in entries})
