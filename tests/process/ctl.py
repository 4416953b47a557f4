"""hapolicyctl as the tests run it: the installed program, against a daemon with a control socket of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon
from tests.support.procs import PATIENCE_S

OK, REFUSED, USAGE, UNAVAILABLE, UNWRITTEN, NOT_ALLOWED, INTERRUPTED = 0, 1, 64, 69, 74, 77, 130


def hapolicyctl(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    argv = [sys.executable, "-m", "hapolicy.admin.control.commands", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False, **options)


class Controlled(Daemon):
    """A daemon with a control socket in `folder`."""

    def __init__(self, folder: Path, *arguments: str, mode: str = "660", **options: Any) -> None:
        self.socket = folder / "control.sock"
        self.control = f"unix:{self.socket}"
        super().__init__("--control", f"{self.control}:{mode}", *arguments, **options)

    def ctl(self, *arguments: str) -> str:
        """What hapolicyctl prints when all is well."""
        done = hapolicyctl("--control", self.control, *arguments)
        assert (OK, "") == (done.returncode, done.stderr)
        return done.stdout

    def warned(self, *arguments: str) -> tuple[str, list[str]]:
        """What hapolicyctl prints when all is well but doubtful: its answer, and the warnings on stderr."""
        done = hapolicyctl("--control", self.control, *arguments)
        assert OK == done.returncode
        lines = done.stderr.splitlines()
        warnings = [line.removeprefix("hapolicyctl: warning: ") for line in lines]
        assert warnings, "no warning"
        assert not set(warnings) & set(lines), done.stderr
        return done.stdout, warnings

    def fails(self, *arguments: str) -> tuple[int, str]:
        """Its exit status and its one line of complaint."""
        done = hapolicyctl("--control", self.control, *arguments)
        assert "" == done.stdout
        assert 1 == len(done.stderr.splitlines()), done.stderr
        return done.returncode, done.stderr.removeprefix("hapolicyctl: ")

    def status(self) -> dict[str, Any]:
        """The status as programs get it."""
        status: dict[str, Any] = json.loads(self.ctl("status", "--json"))
        return status

    def service(self, name: str) -> dict[str, Any]:
        """One service's status."""
        return {service["name"]: service for service in self.status()["services"]}[name]
