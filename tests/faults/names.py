"""A name service of the test's own, in a namespace."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.faults.host import Host
from tests.support.procs import Process

_PROGRAM = str(Path(__file__).with_name("nameserver.py"))

# In the namespace this is all the name service there is.
NAME_SERVICE = """\
ip link set lo up
printf 'nameserver 127.0.0.1\\noptions timeout:1 attempts:1\\n' > {folder}/resolv.conf
printf 'hosts: files dns\\n' > {folder}/nsswitch.conf
mount --bind {folder}/resolv.conf /etc/resolv.conf
[ ! -f /etc/nsswitch.conf ] || mount --bind {folder}/nsswitch.conf /etc/nsswitch.conf
"""


class NameServer:
    """What it says is in a file below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._zone = folder / "zone.json"
        self.tell("silent")

    def tell(self, mode: str, a: tuple[str, ...] = (), aaaa: tuple[str, ...] = ()) -> None:
        """What it says from now on: "answer", "nxdomain", "servfail", or nothing ("silent")."""
        new = self._zone.with_suffix(".new")
        new.write_text(json.dumps({"mode": mode, "a": a, "aaaa": aaaa}))
        os.replace(new, self._zone)

    @contextlib.contextmanager
    def serving(self, host: Host) -> Iterator[None]:
        """It runs on this host, which was set up with `NAME_SERVICE`."""
        server = Process([*host.prefix, sys.executable, _PROGRAM, str(self._zone)])
        try:
            server.wait_for(lambda: server.events, "the name server")
            yield
        finally:
            server.kill()
