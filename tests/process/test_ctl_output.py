"""hapolicyctl whose output goes nowhere: its exit status says what has become of the order, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.ctl import OK, REFUSED, UNAVAILABLE, UNWRITTEN, USAGE, Controlled
from tests.support.procs import PATIENCE_S
from tests.support.sample import Sample

FULL = "done, but the output could not be written: No space left on device\n"
LAST = "warning: no service is left: each request gets the default action dunno\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Controlled]:
    """A daemon with one service."""
    with Sample("A") as a, Controlled(tmp_path, "-s", a.service()) as daemon:
        yield daemon


def shell(daemon: Controlled, words: str) -> tuple[int, str, str]:
    """What a shell that redirects its output gets from hapolicyctl."""
    command = f'exec "$0" -m hapolicy.admin.control.commands --control "$1" {words}'
    argv = ["sh", "-c", command, sys.executable, daemon.control]
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=usual)
    return done.returncode, done.stdout, done.stderr.replace("hapolicyctl: ", "")


CARRIED_OUT = {
    "drain A >/dev/full": (UNWRITTEN, "", FULL),
    "drain A 2>/dev/full": (UNWRITTEN, "A is draining\n", ""),
    "drain A >/dev/full 2>&1": (UNWRITTEN, "", ""),
    "drain A >&-": (OK, "", LAST),
    "drain A 2>&-": (OK, "A is draining\n", ""),
    "drain A <&- >&- 2>&-": (OK, "", ""),
}


@pytest.mark.parametrize(("words", "expected"), CARRIED_OUT.items())
def test_an_order_is_carried_out_and_never_called_refused(
    daemon: Controlled, words: str, expected: tuple[int, str, str]
) -> None:
    """74 where a reply or a warning is lost on a full disk, 0 where nobody wants it; no traceback."""
    assert expected == shell(daemon, words)
    assert "draining" == daemon.service("A")["state"]


OTHERWISE = {
    "drain B 2>/dev/full": (REFUSED, "", ""),
    "drain B 2>&-": (REFUSED, "", ""),
    "--control unix:/nowhere status 2>/dev/full": (UNAVAILABLE, "", ""),
    "nonsense 2>/dev/full": (USAGE, "", ""),
    "status --json >/dev/full": (UNWRITTEN, "", FULL),
    "--version >/dev/full": (UNWRITTEN, "", FULL),
    "--help >&-": (OK, "", ""),
}


@pytest.mark.parametrize(("words", "expected"), OTHERWISE.items())
def test_a_status_stays_what_it_is_when_nothing_can_be_said(
    daemon: Controlled, words: str, expected: tuple[int, str, str]
) -> None:
    """A complaint that cannot be written is a complaint all the same."""
    assert expected == shell(daemon, words)
