"""hapolicyctl on a terminal: colours where they are wanted, --watch, and what a shell is told for completion."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from tests.process.ctl import INTERRUPTED, OK, UNAVAILABLE, USAGE, Controlled, hapolicyctl
from tests.support.procs import PATIENCE_S, Process, wait_until
from tests.support.sample import Sample

GREEN, RED = "\x1b[32m", "\x1b[31m"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """hapolicyctl on a pseudo-terminal of this width; `text` is all it has written so far."""

    def __init__(self, *arguments: str, columns: int = 160, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        usual = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        argv = [sys.executable, "-m", "hapolicy.admin.control.commands", *arguments]
        environment = usual | {"TERM": "xterm"} | environment
        self.process = Process(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 65536):
                self.text += data.decode()
        except OSError:
            pass  # EIO: the other side is closed

    def screens(self) -> list[str]:
        """What was shown since the last clearing of the screen, and before: plain text, newest last."""
        return [ESCAPE.sub("", part) for part in self.text.split("\x1b[H")]

    def wait_shown(self, words: str) -> None:
        """Wait until the newest screen holds these words."""
        wait_until(lambda: words in self.screens()[-1], f"{words!r} on the screen, which is {self.screens()[-1]!r}")

    def end(self) -> int:
        """Wait for its end; returns its exit status."""
        status = self.process.wait()
        self._reader.join(PATIENCE_S)
        return status

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self._reader.join(PATIENCE_S)
        os.close(self._ours)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Controlled]:
    """A daemon before one service."""
    with Sample("A[red]") as sample, Controlled(tmp_path, "-s", sample.service(), "--cooldown", "60") as daemon:
        yield daemon


@pytest.mark.parametrize(
    ("coloured", "environment"),
    [(True, {}), (False, {"NO_COLOR": "1"}), (False, {"TERM": "dumb"}), (True, {"NO_COLOR": ""})],
)
def test_colour_on_a_terminal(daemon: Controlled, coloured: bool, environment: dict[str, str]) -> None:
    """Green on a terminal that can, unless NO_COLOR is set; a pipe gets none."""
    with Terminal("--control", daemon.control, "status", **environment) as terminal:
        assert OK == terminal.end()
        assert coloured is (f"{GREEN}up" in terminal.text)
        assert coloured is ("\x1b" in terminal.text)
    assert "\x1b" not in daemon.ctl("status")


def test_a_narrow_terminal(daemon: Controlled) -> None:
    """On 60 columns no line of the table is broken."""
    with Terminal("--control", daemon.control, "status", columns=60, NO_COLOR="1") as terminal:
        assert OK == terminal.end()
        line = next(line for line in terminal.text.splitlines() if line.startswith("SERVICE"))
        assert len(line) <= 60


def test_watch(daemon: Controlled) -> None:
    """What changes is shown within moments, in place and in its colour; Ctrl-C ends it with 0."""
    with Terminal("--control", daemon.control, "status", "--watch") as terminal:
        terminal.wait_shown(" up ")
        assert "A[red]" in terminal.screens()[-1]
        daemon.warned("trip", "A[red]")
        terminal.wait_shown("down for another ")
        assert f"{RED}down for another " in terminal.text
        daemon.ctl("reset", "A[red]")
        daemon.warned("drain", "A[red]")
        terminal.wait_shown(" draining ")
        assert len(terminal.screens()) > 2, "each refresh begins in the upper left corner"
        terminal.process.signal(signal.SIGINT)
        assert OK == terminal.end()
        assert terminal.text.endswith("\x1b[?25h") or "\x1b[?1049l" in terminal.text, "the screen is given back"
        assert "Traceback" not in terminal.text


def test_ctrl_c_while_it_waits(tmp_path: Path) -> None:
    """Who tires of waiting for an answer gets the shell to know it: 130, and not a word."""
    with (
        Sample("A", "--fault", "hang") as a,
        Controlled(tmp_path, "-s", a.service("::1:5")) as daemon,
        Terminal("--control", daemon.control, "query") as terminal,
    ):
        wait_until(lambda: a.stats()["requests"], "the query's arrival at the service")
        terminal.process.signal(signal.SIGINT)
        assert INTERRUPTED == terminal.end()
        assert "" == terminal.text


def test_watch_without_colour(daemon: Controlled) -> None:
    """NO_COLOR counts for rich, too."""
    with Terminal("--control", daemon.control, "status", "--watch", NO_COLOR="1") as terminal:
        terminal.wait_shown(" up ")
        assert GREEN not in terminal.text
        assert "\x1b[3" not in terminal.text


def test_watch_outlives_the_daemon(tmp_path: Path) -> None:
    """While the daemon is away it is said so, above what was last known; then it goes on."""
    with Sample("A") as sample, Controlled(tmp_path, "-s", sample.service()) as daemon:
        terminal = Terminal("--control", daemon.control, "status", "--watch")
        with terminal:
            terminal.wait_shown(" up ")
            assert OK == daemon.stop()
            terminal.wait_shown("does hapolicy run")
            assert " up " in terminal.screens()[-1]
            with Controlled(tmp_path, "-s", sample.service()) as again:
                terminal.wait_shown(f"pid {again.pid}")
                assert "does hapolicy run" not in terminal.screens()[-1]


def test_watch_says_at_once_what_will_not_do(daemon: Controlled, tmp_path: Path) -> None:
    """Without a terminal, or without a daemon at the start, it does not begin."""
    status, text = daemon.fails("status", "--watch")
    assert (USAGE, True) == (status, "needs a terminal" in text)
    with Terminal("--control", f"unix:{tmp_path}/none", "status", "--watch") as terminal:
        assert UNAVAILABLE == terminal.end()


@pytest.mark.parametrize(
    ("module", "arguments"), [("rich", ["status", "--watch"]), ("shtab", ["--print-completion", "bash"])]
)
def test_a_missing_extra_is_named(module: str, arguments: list[str]) -> None:
    """Without rich or shtab: one line that says what to install; all else works without them."""
    script = (
        f"import sys; sys.modules[{module!r}] = None; from hapolicy.admin.control.commands import main;"
        " sys.exit(main(sys.argv[1:]))"
    )
    argv = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (USAGE, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines()))
    assert f"needs {module}: pip install 'hapolicy[ctl]'" in done.stderr


def test_it_starts_light() -> None:
    """Neither rich, shtab nor what the daemon needs is loaded to show a status."""
    script = "import sys; import hapolicy.admin.control.commands; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert set() == loaded & {
        "rich",
        "shtab",
        "structlog",
        "pybreaker",
        "hapolicy.daemon.daemon",
        "hapolicy.admin.operations",
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_completion_scripts(shell: str) -> None:
    """Each shell gets a script that knows the commands."""
    done = hapolicyctl("--print-completion", shell)
    assert (OK, "") == (done.returncode, done.stderr)
    assert all(word in done.stdout for word in ("hapolicyctl", "status", "drain", "log-level", "status --names"))
    if path := shutil.which(shell):
        subprocess.run([path, "-n"], input=done.stdout, text=True, timeout=PATIENCE_S, check=True)


def complete(words: str, folder: Path, names: str) -> list[str]:
    """What bash offers for the last word, with a hapolicyctl that knows these services."""
    fake = folder / "hapolicyctl"
    fake.write_text(f"#!/bin/sh\nprintf '%s\\n' {names}\n")
    fake.chmod(0o755)
    (folder / "script").write_text(hapolicyctl("--print-completion", "bash").stdout)
    lines = f"""
        source {folder}/script
        COMP_WORDS=(hapolicyctl {words})
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        $(complete -p hapolicyctl | sed 's/.*-F \\([^ ]*\\).*/\\1/') hapolicyctl "${{COMP_WORDS[-1]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", lines], capture_output=True, text=True, timeout=PATIENCE_S, check=True, env={"PATH": path}
    )
    return done.stdout.split()


def test_bash_completes(tmp_path: Path) -> None:
    """Commands, levels, and the names of the services that there are."""
    assert ["drain"] == complete("dr", tmp_path, "A")
    assert {"debug", "info", "warning", "error"} == set(complete("log-level ''", tmp_path, "A"))
    assert {"GREY1", "GREY2"} == set(complete("drain GR", tmp_path, "GREY1 GREY2 SPF"))


def test_a_name_is_not_run_by_the_shell(tmp_path: Path) -> None:
    """bash expands what it is offered: a name that is more than a name is not offered."""
    names = f"'$(touch${{IFS}}{tmp_path}/run)' '`touch {tmp_path}/run`' A"
    assert ["A"] == complete("drain ''", tmp_path, names)
    assert not (tmp_path / "run").exists()
