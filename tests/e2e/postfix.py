"""A private Postfix: own folders, free ports of 127.0.0.1, all mail ends in discard(8).

master.cf is made of what a test adds (``add_smtpd``, ``add_spawn``) and the few services that accepting a
mail takes. There is no smtp(8) or lmtp(8) in it, so no mail can leave, whatever a test does.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.need import need, need_root
from tests.support.procs import free_port, wait_until

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
myhostname = mx.test.invalid
mynetworks =
mydestination =
relay_domains = test.invalid
relay_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
default_transport = discard
local_transport = discard
relay_transport = discard
virtual_transport = discard
notify_classes =
smtpd_client_connection_count_limit = 0
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_error_sleep_time = 0
"""

MASTER_CF = """\
cleanup    unix        n  -  n  -    0  cleanup
qmgr       unix        n  -  n  300  1  qmgr
rewrite    unix        -  -  n  -    -  trivial-rewrite
proxymap   unix        -  -  n  -    -  proxymap
anvil      unix        -  -  n  -    1  anvil
bounce     unix        -  -  n  -    0  bounce
defer      unix        -  -  n  -    0  bounce
trace      unix        -  -  n  -    0  bounce
error      unix        -  -  n  -    -  error
retry      unix        -  -  n  -    -  error
discard    unix        -  -  n  -    -  discard
postlog    unix-dgram  n  -  n  -    1  postlogd
"""

REJECTED = re.compile(r"NOQUEUE: reject: RCPT from \S+: (?P<code>\d{3}) (?P<text>.*?); from=<\S*> to=<(?P<to>\S+)>")


def check(address: str, *options: str) -> str:
    """The restriction that asks the policy service at HOST:PORT or unix:PATH."""
    where = address if address.startswith("unix:") else f"inet:{address}"
    return f"check_policy_service {{ {', '.join([where, *options])} }}"


@dataclass(frozen=True)
class Rejected:
    """One refused recipient as smtpd logged it."""

    code: int
    text: str


class Postfix:
    """A Postfix instance that runs between ``with`` and its end; add services before."""

    def __init__(self, folder: Path, prefix: Sequence[str] = ()) -> None:
        """``folder`` must be open to every user; ``prefix`` is put before the start command (a namespace)."""
        need_root()
        self._postfix = need("postfix", "postfix")
        self._prefix = list(prefix)
        self.folder = folder
        self._main = MAIN_CF.format(folder=folder)
        self._master = MASTER_CF

    @property
    def queue(self) -> Path:
        """The queue folder; smtpd's working folder, so ``unix:private/x`` is ``queue/private/x``."""
        return self.folder / "queue"

    def add_smtpd(self, *restrictions: str, chroot: str = "n") -> int:
        """Add an SMTP server with these recipient restrictions (none: main.cf's) and return its port.

        ``chroot`` is "n" or, as Debian has it, "y".
        """
        port = free_port()
        self._master += f"127.0.0.1:{port} inet n - {chroot} - - smtpd\n"
        if restrictions:
            self._master += f"  -o {{ smtpd_recipient_restrictions = {', '.join(restrictions)} }}\n"
        return port

    def add_spawn(self, argv: Sequence[str], user: str = "nobody", socket_name: str = "") -> int:
        """Add a policy service that spawn(8) runs as ``user``, one process a client.

        Returns its port; with ``socket_name`` it listens on ``unix:private/socket_name`` instead (port 0).
        """
        port = 0 if socket_name else free_port()
        where = f"{socket_name} unix - n n" if socket_name else f"127.0.0.1:{port} inet n n n"
        words = " ".join(_quoted(word) for word in argv)
        self._master += f"{where} - 0 spawn\n  user={user} argv={words}\n"
        self._main += f"{socket_name or f'127.0.0.1:{port}'}_time_limit = 3600\n"
        return port

    def add_text(self, main: str, master: str) -> None:
        """Add lines to main.cf and master.cf as they are."""
        self._main += main
        self._master += master

    def __enter__(self) -> Postfix:
        config = self.folder / "config"
        for name in ("config", "queue", "data"):
            (self.folder / name).mkdir()
        os.chown(self.folder / "data", pwd.getpwnam("postfix").pw_uid, -1)
        (config / "main.cf").write_text(self._main)
        (config / "master.cf").write_text(self._master)
        try:
            self._run("start")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        try:
            wait_until(lambda: not self._spawned(), "what spawn(8) has started to end with its client")
        finally:
            for pid in self._spawned():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _spawned(self) -> list[int]:
        """The processes of this instance, by their environment: those of spawn(8) have groups of their own."""
        ours = f"MAIL_CONFIG={self.folder}/config\0".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if ours in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found

    def maillog(self) -> str:
        """Everything this Postfix has logged so far."""
        path = self.folder / "maillog"
        return path.read_text(errors="replace") if path.exists() else ""

    def rejected(self, recipient: str) -> list[Rejected]:
        """Every refusal of this recipient so far."""
        found = REJECTED.finditer(self.maillog())
        return [Rejected(int(m["code"]), m["text"]) for m in found if m["to"] == recipient]

    def delivered(self, recipient: str) -> int:
        """How many mails for this recipient have reached discard(8)."""
        return len(re.findall(rf"to=<{re.escape(recipient)}>,.* status=sent", self.maillog()))

    def warnings(self) -> list[str]:
        """Log lines in which a Postfix daemon complains; ``[]`` is what a healthy test wants.

        Not of the clock: cleanup compares a file's time with that of a moment ago, which is a second on a busy machine
        (mail_stream.c).
        """
        bad = re.compile(r": (warning|error|fatal|panic): (?!file system clock is|resetting file time stamps)")
        return [line for line in self.maillog().splitlines() if bad.search(line)]

    def master_pid(self) -> int:
        """The process (and process group) id of master(8)."""
        return int((self.queue / "pid" / "master.pid").read_text().split()[0])

    def _run(self, verb: str) -> None:
        command = [*self._prefix, self._postfix, "-c", str(self.folder / "config"), verb]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"postfix {verb}: {done.stdout}{done.stderr}\n{self.maillog()}")

    def _stop(self) -> None:
        """End master and all its children; by force where it does not obey, and never more than ours."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            master = self.master_pid()
            if f"{self.folder}/" not in _working_folder(master):
                return  # the pid file is stale and its number has another owner now
            os.kill(master, signal.SIGTERM)
            try:
                wait_until(lambda: not _alive(master), f"master {master} to end", timeout_s=5)
            finally:
                os.killpg(master, signal.SIGKILL)


def _quoted(word: str) -> str:
    """A word for master.cf, where braces keep blanks together (Postfix 3.0 and later)."""
    return f"{{{word}}}" if re.search(r"\s", word) or not word else word


def _working_folder(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/cwd") + "/"


def _alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def smtp_source(port: int, mails: int, sessions: int, recipient: str, *options: str, timeout_s: float = 90) -> None:
    """Send mails with Postfix's own load generator; ``-A`` makes it go on after a refusal."""
    command = [need("smtp-source", "postfix"), "-A", "-s", str(sessions), "-m", str(mails)]
    command += ["-f", "sender@example.invalid", "-t", recipient, *options, f"inet:127.0.0.1:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"smtp-source: {done.stdout}{done.stderr}")
