"""Services that remember whom they were asked about: rates, scores, greylists."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import struct
from pathlib import Path

from tests.e2e.need import need, need_root
from tests.e2e.services import Service
from tests.services.nameserver import NameServer


class Remembering(Service):
    """A service that runs as `user` and keeps what it knows in a folder of its own, below `folder`."""

    user: str

    def __init__(self, folder: Path, name: str = "one") -> None:
        need_root()
        super().__init__()
        self._folder = folder / f"{self.user}-{name}"
        self._folder.mkdir()
        self._config = self._folder / "service.yaml"  # policyd-rate-limit goes by the ending
        self._port = self.address.rpartition(":")[2]

    def configure(self, text: str) -> None:
        """Write its configuration, and let it write beside that."""
        self._config.write_text(text)
        os.chown(self._folder, pwd.getpwnam(self.user).pw_uid, -1)


class PolicydRateLimit(Remembering):
    """policyd-rate-limit: one thread, a listen backlog of 5, and requests decoded by 1,024 bytes."""

    user = "policyd-rate-limit"

    def command(self) -> list[str]:
        """In the foreground."""
        program = need("policyd-rate-limit", "policyd-rate-limit")
        self.configure(
            f"""debug: False
user: {self.user}
group: {self.user}
pidfile: {self._folder}/pid
backend: 0
sqlite_config:
    database: {self._folder}/db.sqlite3
SOCKET: [127.0.0.1, {self._port}]
limits:
    - [1000, 60]
limits_by_id: {{}}
limit_by_sasl: False
limit_by_sender: False
limit_by_ip: True
limited_networks: ["192.0.2.0/24"]
success_action: dunno
fail_action: defer_if_permit Rate limit reached
db_error_action: dunno
report: False
smtp_server: [localhost, 25]
delay_to_close: 300
"""
        )
        return [program, "-f", str(self._config)]


class PolicydWeight(Remembering):
    """policyd-weight: a process a connection, which knows the mail it was asked about last."""

    user = "polw"

    def __init__(self, folder: Path, names: NameServer, name: str = "one") -> None:
        super().__init__(folder, name)
        self._names = names

    def command(self) -> list[str]:
        """In the foreground, without its cache, without lists, and with the name server of the test."""
        program = need("policyd-weight", "policyd-weight")
        self.configure(
            f"""$TCP_PORT = {self._port};
$LOCKPATH = '{self._folder}/lock/';
$SPATH = $LOCKPATH.'/polw.sock';
$PIDFILE = '{self._folder}/pid';
$syslog_socktype = 'native';
$USE_NET_DNS = 1;
$REJECTLEVEL = 1000;
$CACHESIZE = 0;
$POSCACHESIZE = 0;
@dnsbl_score = ();
@rhsbl_score = ();
1;
"""
        )
        return [*self._names.prefix, program, "-f", str(self._config), "-D", "start"]

    def kill(self) -> None:
        """End it at once, and its cache, which has a session of its own."""
        super().kill()
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(FileNotFoundError, ConnectionError):
            sock.connect(f"{self._folder}/lock/polw.sock")
            cache, *_ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            os.kill(cache, signal.SIGKILL)
        for left in ("pid", "lock/polw.sock"):
            (self._folder / left).unlink(missing_ok=True)  # or it does not start again


class Sqlgrey(Remembering):
    """sqlgrey, a greylister with a database."""

    user = "sqlgrey"

    @property
    def database(self) -> Path:
        """Where it keeps what it knows."""
        return self._folder / "sqlgrey.db"

    def command(self) -> list[str]:
        """In the foreground."""
        program = need("sqlgrey", "sqlgrey")
        self.configure(
            f"""inet = {self.address}
db_type = SQLite
db_name = {self.database}
pidfile = {self._folder}/pid
reconnect_delay = 1
"""
        )
        return [program, "-f", str(self._config)]
