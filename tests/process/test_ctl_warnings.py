"""hapolicyctl: what is carried out with a warning on stderr, and what is refused and logged."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.process.ctl import REFUSED, Controlled
from tests.support.procs import wait_until
from tests.support.sample import Sample


@pytest.fixture(scope="module")
def a() -> Iterator[Sample]:
    """A service that is well."""
    with Sample("A") as a:
        yield a


@pytest.fixture
def daemon(a: Sample, tmp_path: Path) -> Iterator[Controlled]:
    """A daemon that asks A first, then B; what is down stays so."""
    with (
        Sample("B") as b,
        Controlled(tmp_path, "-s", a.service(), "-s", b.service(":20"), "--cooldown", "60") as daemon,
    ):
        yield daemon


def test_who_takes_out_the_last_service_is_warned(daemon: Controlled) -> None:
    """It is carried out, with what follows from it on stderr: each request gets the default action."""
    warning = "no service is left: each request gets the default action dunno"
    assert "A is draining\n" == daemon.ctl("drain", "A")
    assert ("B is down\n", [warning]) == daemon.warned("trip", "B")
    assert "action   dunno\nservice  none: the default action\n" in daemon.ctl("query")
    assert "B is up\n" == daemon.ctl("reset", "B")
    assert ("B is draining\n", [warning]) == daemon.warned("drain", "B")
    assert "A is up\n" == daemon.ctl("ready", "A")


def test_reload_tells_what_is_doubtful(a: Sample, tmp_path: Path) -> None:
    """Who reloads reads on stderr what the log has as config.warning; it is carried out all the same."""
    file = tmp_path / "hapolicy.args"
    file.write_text(f"-s {a.service()}\n")
    with Controlled(tmp_path, f"@{file}") as daemon:
        file.write_text(f"-s {a.service()} -d drop --http 127.0.0.1:1\n")
        answer, warnings = daemon.warned("reload")
        assert "reloaded; 1 service: A\n" == answer
        assert warnings[0].startswith("-d drop: 'drop' is not an access(5) action; ")
        assert ["--http: changed, which needs a restart"] == warnings[1:]
        for argument in ("-d drop", "--http"):
            daemon.wait_event("config.warning", argument=argument)
        file.write_text(f"-s {a.service()}\n")
        daemon.ctl("reload")


SLOW_TO_READ = """
import os
import time
from hapolicy import cli

parse, reads = cli.parse, []

def slow(words):
    parsed = None
    try:
        reads.append(1)
        return parse(words)
    finally:
        while len(reads) == 2 and os.path.exists({hold!r}):
            time.sleep(0.01)

cli.parse = slow
raise SystemExit(cli.main())
"""


def test_who_orders_a_reload_while_one_runs_hears_of_the_next(a: Sample, tmp_path: Path) -> None:
    """The one that runs has read the file as it was before: its failure is not the later order's, nor its success."""
    file, hold = tmp_path / "hapolicy.args", tmp_path / "hold"
    file.write_text(f"-s {a.service()}\n")
    hold.touch()
    program = (sys.executable, "-c", SLOW_TO_READ.format(hold=str(hold)))
    with Controlled(tmp_path, f"@{file}", program=program) as daemon, ThreadPoolExecutor() as operators:
        file.write_text("--nonsense\n")
        first = operators.submit(daemon.fails, "reload")
        wait_until(lambda: len(daemon.events_of("control.ordered")) == 1, "the first order")
        time.sleep(0.2)  # from the log to the file
        file.write_text(f"-s {a.service()}\n")
        second = operators.submit(daemon.ctl, "reload")
        wait_until(lambda: len(daemon.events_of("control.ordered")) == 2, "the second order")
        time.sleep(0.2)  # from the log to the queue
        hold.unlink()
        assert REFUSED == first.result()[0]
        assert "reloaded" in second.result()


@pytest.mark.parametrize("command", ["drain", "ready", "trip", "reset"])
def test_an_unknown_service(daemon: Controlled, command: str) -> None:
    """The daemon says no, and which services there are; so does its log."""
    assert (REFUSED, "no service 'C'; there are: A, B\n") == daemon.fails(command, "C")
    refused = daemon.wait_event("control.refused", command=f"{command} C")
    assert ("no service 'C'; there are: A, B", os.getuid()) == (refused["reason"], refused["uid"])
