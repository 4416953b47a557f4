"""Services with a handful of workers: one connection each, and all others wait unanswered in the listen backlog."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
from pathlib import Path

from tests.e2e.need import need, need_root
from tests.e2e.services import Service
from tests.support.client import refuses
from tests.support.procs import wait_until

WORKERS = 5
USER, GROUP = "nobody", "nogroup"


def give_away(folder: Path) -> None:
    """The service, which is not root, may write there."""
    os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)


class FewWorkers(Service):
    """A service with `WORKERS` of them; `action` is its one answer."""

    action: str

    def __init__(self, folder: Path) -> None:
        need_root()
        super().__init__()
        self._folder = folder
        self._config = folder / "service.conf"

    @property
    def port(self) -> str:
        """Where it listens on 127.0.0.1."""
        return self.address.rpartition(":")[2]

    def signal_all(self, number: signal.Signals) -> None:
        """To all its processes."""
        os.killpg(self.pid, number)

    @property
    def pid(self) -> int:
        """The first of its processes, which leads their group."""
        assert self._process is not None
        return self._process.pid


class MtPolicyd(FewWorkers):
    """mtpolicyd."""

    action = "DUNNO mtpolicyd"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._program = need("mtpolicyd", "mtpolicyd")
        give_away(folder)
        self._config.write_text(
            f"""user = {USER}
group = {GROUP}
pid_file = {folder}/pid
host = 127.0.0.1
log_level = 0
port = "{self.address}"
min_servers = {WORKERS - 1}
min_spare_servers = 0
max_spare_servers = {WORKERS - 1}
max_servers = {WORKERS}
max_requests = 100000
request_timeout = 20
keepalive_timeout = 60
max_keepalive = 0
<VirtualHost {self.port}>
  name = "test"
  <Plugin answer>
    module = "Action"
    action = "{self.action}"
  </Plugin>
</VirtualHost>
"""
        )

    def command(self) -> list[str]:
        """In the foreground."""
        return [self._program, "--foreground", "--config", str(self._config)]


class Postfwd2(FewWorkers):
    """postfwd2; it leaves the foreground by itself, and has a session of its own."""

    action = "DUNNO postfwd2"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._program = need("postfwd2", "postfwd")
        self._pid_file = folder / "pid"
        give_away(folder)

    def command(self) -> list[str]:
        """In the background: in the foreground it does not start."""
        host, port = self.address.split(":")
        where = [f"--interface={host}", f"--port={port}", f"--pidfile={self._pid_file}"]
        cache = f"--cache_socket=unix::{self._folder}/cache"
        workers = [f"--min_servers={WORKERS - 1}", f"--max_servers={WORKERS}"]
        spare = ["--min_spare_servers=1", f"--max_spare_servers={WORKERS - 1}"]
        rule = f"--rule=id=R1; action={self.action}"
        who = [f"--user={USER}", f"--group={GROUP}"]
        return [self._program, "--daemon", "--nodns", *where, cache, *who, *workers, *spare, rule]

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        subprocess.run(self.command(), capture_output=True, timeout=20, check=True)
        wait_until(lambda: not refuses(self.address), "postfwd2 to listen")

    @property
    def pid(self) -> int:
        """The master's."""
        return int(self._pid_file.read_text())

    def kill(self) -> None:
        """End it at once, by the id in its pid file."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            self.signal_all(signal.SIGKILL)
        self._pid_file.unlink(missing_ok=True)  # or it does not start again


class QuotaStatus(FewWorkers):
    """dovecot's quota-status, one client a process as `client_limit = 1` has it."""

    action = "DUNNO quota-status"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._program = need("dovecot", "dovecot-core")
        mail = folder / "mail"
        mail.mkdir()
        give_away(mail)
        self._config.write_text(
            f"""base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
default_internal_user = {USER}
default_internal_group = {GROUP}
default_login_user = {USER}
mail_location = maildir:~/Maildir
mail_uid = {USER}
mail_gid = {GROUP}
first_valid_uid = 1
first_valid_gid = 1
mail_plugins = quota
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={USER} gid={GROUP} home={mail}/%u allow_all_users=yes
}}
plugin {{
  quota = maildir:User quota
  quota_rule = *:storage=1G
  quota_status_success = {self.action}
  quota_status_nouser = {self.action}
}}
service quota-status {{
  executable = quota-status -p postfix
  client_limit = 1
  process_limit = {WORKERS}
  inet_listener {{
    address = 127.0.0.1
    port = {self.port}
  }}
}}
"""
        )

    def command(self) -> list[str]:
        """In the foreground."""
        return [self._program, "-F", "-c", str(self._config)]
