"""A host of the tests' own: a network and a mount namespace that end with the test, and what stands in them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.need import missing, need, need_root
from tests.support.procs import Process


class Host:
    """Runs a shell script in namespaces of its own and keeps them; `prefix` puts a command there."""

    def __init__(self, script: str = "", network: bool = True) -> None:
        need_root()
        namespaces = ["--mount", "--propagation", "private", *(["--net"] if network else [])]
        words = [need("unshare", "util-linux"), *namespaces, "sh", "-ec"]
        # cat ends when this test does, whatever becomes of it: its stdin is ours.
        self._process = Process([*words, f"{script}\necho '{{}}'\nexec cat"], stdin=subprocess.PIPE)
        try:
            self._process.wait_for(lambda: self._process.events, "the namespaces")
        except AssertionError:
            self._process.kill()
            missing("the right to make namespaces", "allow the tests mount and network namespaces")
        namespace = f"/proc/{self._process.pid}/ns"
        self.prefix = [need("nsenter", "util-linux"), f"--mount={namespace}/mnt"]
        self.prefix += [f"--net={namespace}/net"] if network else []
        self.prefix.append("--")

    @property
    def pid(self) -> int:
        """A process in it."""
        return self._process.pid

    @property
    def hapolicy(self) -> list[str]:
        """hapolicy there."""
        return [*self.prefix, sys.executable, "-m", "hapolicy"]

    def path(self, inside: str) -> Path:
        """A file there, as it is found from here."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def ip(self, *words: str) -> None:
        """Run ip(8) there."""
        subprocess.run([*self.prefix, need("ip", "iproute2"), *words], check=True, capture_output=True, timeout=10)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()


class Pair:
    """Two hosts with a cable between them: `near` is 192.0.2.1, `far` is 192.0.2.2."""

    NEAR, FAR = "192.0.2.1", "192.0.2.2"

    def __init__(self, near: str = "ip link set lo up") -> None:
        """`near` is the script that sets up the near host."""
        self.near = Host(near)
        try:
            self.far = Host("ip link set lo up")
        except BaseException:
            self.near.__exit__()
            raise
        self.near.ip("link", "add", "cable", "type", "veth", "peer", "name", "cable-far")
        self.near.ip("link", "set", "cable-far", "netns", str(self.far.pid))
        for host, end, address in ((self.near, "cable", self.NEAR), (self.far, "cable-far", self.FAR)):
            host.ip("address", "add", f"{address}/24", "dev", end)
            host.ip("link", "set", end, "up")

    def swallow(self, all_of_it: bool) -> None:
        """From now on no packet of the far host's comes through, or all do again. Nobody is told."""
        self.far.ip("route", "add" if all_of_it else "delete", "blackhole", f"{self.NEAR}/32")

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.near.__exit__()
        self.far.__exit__()


def as_user(uid: int) -> list[str]:
    """What runs a command as another user who may still read what this one may (a Python in a private home)."""
    need_root()
    capability = "-all,+dac_read_search"
    words = ["--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
    return [need("setpriv", "util-linux"), *words, f"--inh-caps={capability}", f"--ambient-caps={capability}"]


def unused_uid() -> int:
    """A user that has no process."""
    used = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            used.add(entry.stat().st_uid)
    return next(uid for uid in range(50_000 + os.getpid() % 10_000, 65_000) if uid not in used)
