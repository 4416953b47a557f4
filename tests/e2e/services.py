"""Real policy services from Debian, each private to one test: postgrey, postfwd, policyd-spf, hapolicy 1.00."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
from pathlib import Path
from typing import Self

from tests.e2e.need import missing, need, need_root
from tests.support.client import refuses
from tests.support.procs import Process, free_port, wait_until


class Service:
    """A daemon on a free port of 127.0.0.1 that lives as long as its ``with`` block."""

    def __init__(self) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._process: Process | None = None

    def command(self) -> list[str]:
        """The command that runs it in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it (again, on the address it had) and wait until it takes connections."""
        self._process = Process(self.command())
        self._process.wait_for(lambda: not refuses(self.address), "the service listens")

    def kill(self) -> None:
        """End it at once, as a crash would: SIGKILL to its process group."""
        if self._process is not None:
            self._process.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.signal(number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Postgrey(Service):
    """One greylisting service with its own database, which survives a crash and a restart."""

    def __init__(self, name: str, folder: Path, delay_s: int = 1, *options: str) -> None:
        need_root()
        super().__init__()
        self.name = name
        self._program = need("postgrey", "postgrey")
        self._options = list(options)
        self._delay_s = delay_s
        self._database = folder / f"postgrey-{name}"
        self._database.mkdir()
        os.chown(self._database, pwd.getpwnam("postgrey").pw_uid, -1)

    @property
    def text(self) -> str:
        """What its refusals say; no other service of a test says the same."""
        return f"Greylisted by {self.name}"

    def command(self) -> list[str]:
        """In the foreground, with no client or recipient exempt."""
        nobody_listed = ["--whitelist-clients=/dev/null", "--whitelist-recipients=/dev/null"]
        return [
            self._program,
            f"--inet={self.address}",
            f"--dbdir={self._database}",
            f"--delay={self._delay_s}",
            f"--greylist-text={self.text}",
            *nobody_listed,
            *self._options,
        ]


class Postfwd(Service):
    """The rule service; it leaves the foreground by itself, so it is ended by its pid file."""

    def __init__(self, folder: Path, *rules: str) -> None:
        need_root()
        super().__init__()
        self._program = need("postfwd1", "postfwd")
        self._rules = folder / "postfwd.rules"
        self._rules.write_text("".join(f"{rule}\n" for rule in rules))
        self._pid_file = folder / "postfwd" / "pid"
        self._pid_file.parent.mkdir()
        os.chown(self._pid_file.parent, pwd.getpwnam("nobody").pw_uid, -1)

    def command(self) -> list[str]:
        """In the background: there is no other way to have it listen."""
        host, port = self.address.split(":")
        where = [f"--interface={host}", f"--port={port}", f"--pidfile={self._pid_file}"]
        who = ["--user=nobody", "--group=nogroup"]
        return [self._program, "--daemon", "--nodns", *where, *who, f"--file={self._rules}"]

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        subprocess.run(self.command(), capture_output=True, timeout=20, check=True)
        wait_until(lambda: not refuses(self.address), "postfwd to listen")

    def kill(self) -> None:
        """End it at once, by the id in its pid file, which is another process's soon after."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int(self._pid_file.read_text())
            self._pid_file.unlink()
            os.kill(pid, signal.SIGKILL)


class Hapolicy100(Service):
    """hapolicy 1.00, a process a client as under inetd, which systemd-socket-activate plays here."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._listener = need("systemd-socket-activate", "systemd")
        self._words = hapolicy_100(*options)

    def command(self) -> list[str]:
        """The listener that runs 1.00 for each connection."""
        return [self._listener, "--accept", "--inetd", f"--listen={self.address}", *self._words]


def hapolicy_100(*options: str) -> list[str]:
    """The command line of the Perl predecessor."""
    program = need("/usr/sbin/hapolicy", "hapolicy")
    if b"perl" not in Path(program).read_bytes()[:64]:
        missing(f"the Perl hapolicy at {program}", "install the Debian package hapolicy")
    return [program, *options]


def policyd_spf(folder: Path) -> list[str]:
    """The command line of the SPF service, for spawn(8); local clients get a header and cost no look-up."""
    config = folder / "policyd-spf.conf"
    config.write_text("debugLevel = 0\nTestOnly = 1\nskip_addresses = 127.0.0.0/8\n")
    return [need("policyd-spf", "postfix-policyd-spf-python"), str(config)]
