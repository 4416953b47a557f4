"""A bare Debian that has booted: its own systemd is process 1 of a container made of namespaces alone.

It has a network of its own with nothing but loopback, so that the units' fixed port is nobody else's, and
a cgroup of its own below ours. With systemd's process all of it ends, mounts included.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.bare import ENVIRONMENT, Bare
from tests.e2e.journal import mounts_allowed
from tests.e2e.need import missing, need
from tests.support.procs import Process, wait_until

# What systemd finds in a container, see https://systemd.io/CONTAINER_INTERFACE/. $0 is the root, $1 our cgroup's name.
BOOT = """\
set -e
cd "$0"
mount --bind . . && cd "$0"
mount -t proc proc proc
mount -t sysfs sysfs sys
for folder in run tmp dev sys/fs/cgroup; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
chmod 1777 tmp
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mkdir sys/fs/cgroup/unified sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
for device in null zero full random urandom tty; do
    : > "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mkdir -p old
pivot_root . old
umount -l old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target --show-status=0
"""

# In a cgroup of our own on each hierarchy that systemd uses: it takes the root of the namespace for itself.
ENTER_CGROUP = """\
for hierarchy in $1; do
    mkdir "$hierarchy/$2" && echo $$ > "$hierarchy/$2/cgroup.procs"
done
shift 2
exec "$@"
"""


# A policy service for in there; its arguments are the ports that it answers on, whatever it is asked.
POLICY_SERVICE = """\
import os, socket, socketserver, sys, threading
class Link(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            if line == b"\\n":
                self.wfile.write(b"action=DUNNO inside\\n\\n")
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True
for port in sys.argv[1:]:
    threading.Thread(target=Server(("", int(port)), Link).serve_forever).start()
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
"""


class Booted:
    """A bare Debian whose systemd runs, until the end of ``with``."""

    def __init__(self, bare: Bare) -> None:
        self.bare = bare
        self._group = f"hapolicy-test-{os.getpid()}-{time.monotonic_ns()}"
        self._unshare: Process | None = None
        self._init = 0

    def __enter__(self) -> Booted:
        if not mounts_allowed():
            missing("the right to have namespaces of our own", "util-linux")
        namespaces = [f"--{kind}" for kind in ("mount", "pid", "net", "ipc", "uts", "cgroup")]
        isolated = [need("unshare", "util-linux"), *namespaces, "--propagation", "private", "--fork", "--kill-child"]
        boot = [*isolated, "sh", "-c", BOOT, str(self.bare.root)]
        hierarchies = " ".join(map(str, _hierarchies()))
        self._unshare = Process(["sh", "-c", ENTER_CGROUP, "sh", hierarchies, self._group, *boot])
        try:
            self._init = wait_until(self._child, "the first process in there")
            wait_until(self._is_up, "systemd's being up", timeout_s=60)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def command(self, *words: str) -> list[str]:
        """The command line that runs a program in there."""
        return [need("nsenter", "util-linux"), "--target", str(self._init), "--all", *words]

    def command_outside(self, *words: str) -> list[str]:
        """The command line that runs a program of this machine in the network of that one."""
        return [need("nsenter", "util-linux"), "--target", str(self._init), "--net", *words]

    def serve_policy(self, *ports: int) -> None:
        """Have a policy service listen in there on these ports."""
        self.bare.path("/root/service.py").write_text(POLICY_SERVICE)
        unit = ("--unit=service", "--service-type=notify")
        self.run("systemd-run", *unit, "python3", "/root/service.py", *map(str, ports))

    def try_to(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program in there to its end, whatever that is."""
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=90, check=False, env=ENVIRONMENT
        )

    def run(self, *words: str, status: int = 0) -> str:
        """Run a program in there to its end; returns what it printed. It has to end with that status."""
        done = self.try_to(*words)
        said = done.stdout + done.stderr
        assert status == done.returncode, f"{' '.join(words)}: {done.returncode}\n{said}{self.log()}"
        return said

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def log(self) -> str:
        """The end of the journal."""
        return self.try_to("journalctl", "--no-pager", "--output=short-monotonic", "--lines=40").stdout

    def _child(self) -> int:
        assert self._unshare is not None
        assert self._unshare.popen.poll() is None, self._unshare.report()
        pid = self._unshare.pid
        if Path(f"/proc/{pid}/comm").read_text() != "unshare\n":
            return 0  # still the shell, whose children are others
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def _is_up(self) -> bool:
        assert self._unshare is not None
        assert self._unshare.popen.poll() is None, self._unshare.report()
        with contextlib.suppress(OSError):
            if "systemd" not in Path(f"/proc/{self._init}/comm").read_text():
                return False
        return self.try_to("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def _end(self) -> None:
        if self._unshare is None:
            return
        if self._init and self._unshare.popen.poll() is None:  # else its id may be another process's
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)  # and with it all processes of its namespace
        self._unshare.kill()
        for hierarchy in _hierarchies():
            wait_until(lambda at=hierarchy / self._group: _remove_groups(at), "the cgroup's being empty")


def _hierarchies() -> Iterator[Path]:
    """Where systemd's cgroups can be: one place, or, with cgroups of the first kind, two."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.procs").exists():
        yield root
    else:
        yield from (path for path in (root / "unified", root / "systemd") if path.exists())


def _remove_groups(group: Path) -> bool:
    """Remove a cgroup and those in it; False while somebody is still there."""
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            return False
    return True
