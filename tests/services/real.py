"""Real policy services with their habits: a process a connection, few workers."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import struct
import threading
from pathlib import Path
from typing import Self

from tests.e2e.need import need, need_root
from tests.e2e.services import Service
from tests.support.procs import Process

TXT = 16


class NameServer:
    """Knows one thing of every domain: the TXT record that it was given for it; all else has none."""

    def __init__(self, **records: str) -> None:
        self._records = {name.replace("_", "."): text for name, text in records.items()}
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            query, client = self._sock.recvfrom(4096)
            if query == b"end":
                return
            self._sock.sendto(self._reply(query), client)

    def _reply(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        text = self._records.get(".".join(labels).lower(), "").encode()
        wanted = struct.unpack(">H", query[end - 4 : end - 2])[0]
        found = text if wanted == TXT else b""
        head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, bool(found), 0, 0) + query[12:end]
        data = bytes([len(found)]) + found
        return head + (struct.pack(">HHHIH", 0xC00C, TXT, 1, 0, len(data)) + data if found else b"")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"end", ("127.0.0.1", self.port))
        self._thread.join(5)
        self._sock.close()


class SpfPerl(Service):
    """policyd-spf-perl, a process a connection as Postfix spawn(8) has it; systemd-socket-activate plays spawn."""

    def __init__(self, names: NameServer) -> None:
        super().__init__()
        self._listener = need("systemd-socket-activate", "systemd")
        self._program = need("/usr/sbin/postfix-policyd-spf-perl", "postfix-policyd-spf-perl")
        self._names = names

    def command(self) -> list[str]:
        """With the name server of the test in the place of the host's (Net::DNS::Resolver, environment)."""
        options = f"RES_NAMESERVERS=127.0.0.1 RES_OPTIONS=port:{self._names.port}"
        environment = ["/usr/bin/env", *options.split()]
        return [self._listener, "--accept", "--inetd", f"--listen={self.address}", *environment, self._program]


class MtPolicyd(Service):
    """mtpolicyd with a handful of workers: one connection each, the rest wait unanswered in the backlog."""

    def __init__(self, folder: Path, workers: int = 5) -> None:
        need_root()
        super().__init__()
        self._program = need("mtpolicyd", "mtpolicyd")
        user = pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, -1)
        self._config = folder / "mtpolicyd.conf"
        self._config.write_text(
            f"""user = nobody
group = nogroup
pid_file = {folder}/pid
host = 127.0.0.1
log_level = 0
port = "{self.address}"
min_servers = {workers - 1}
min_spare_servers = 0
max_spare_servers = {workers - 1}
max_servers = {workers}
max_requests = 100000
request_timeout = 20
keepalive_timeout = 60
max_keepalive = 0
<VirtualHost {self.address.rpartition(":")[2]}>
  name = "test"
  <Plugin answer>
    module = "Action"
    action = "DUNNO mtpolicyd"
  </Plugin>
</VirtualHost>
"""
        )

    def command(self) -> list[str]:
        """In the foreground."""
        return [self._program, "--foreground", "--config", str(self._config)]

    def signal_all(self, number: signal.Signals) -> None:
        """To all its processes."""
        assert isinstance(self._process, Process)
        os.killpg(self._process.pid, number)
