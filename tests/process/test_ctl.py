"""hapolicyctl: every command against a running daemon, and what it says when something is wrong."""

from __future__ import annotations

import importlib.metadata
import os
import re
import socket
import socketserver
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.ctl import OK, REFUSED, UNAVAILABLE, USAGE, Controlled, hapolicyctl
from tests.support.client import PolicyClient, request
from tests.support.procs import PATIENCE_S, wait_until
from tests.support.recorder import Recorder
from tests.support.sample import Sample


@pytest.fixture(scope="module")
def samples() -> Iterator[tuple[Sample, Sample]]:
    """Two services that are well."""
    with Sample("A") as a, Sample("B") as b:
        yield a, b


@pytest.fixture
def daemon(samples: tuple[Sample, Sample], tmp_path: Path) -> Iterator[Controlled]:
    """A daemon that asks A first, then B; what is down stays so."""
    a, b = samples
    with Controlled(tmp_path, "-s", a.service(), "-s", b.service(":20"), "--cooldown", "60") as daemon:
        yield daemon


def test_the_entry_point() -> None:
    """What is installed as hapolicyctl is what is tested here."""
    (entry,) = [
        entry for entry in importlib.metadata.distribution("hapolicy").entry_points if entry.name == "hapolicyctl"
    ]
    assert "hapolicy.admin.control.commands:main" == entry.value


def test_help_and_version() -> None:
    """Both are printed, whatever the daemon does."""
    assert "hapolicyctl 2.0.0\n" == hapolicyctl("--version").stdout
    for command in ([], ["status"], ["drain"], ["log-level"], ["reload"], ["query"]):
        done = hapolicyctl(*command, "--help")
        assert (OK, "") == (done.returncode, done.stderr)
        assert "usage: hapolicyctl" in done.stdout


def test_status(daemon: Controlled) -> None:
    """The table, without colour since it is read by a pipe; the names; and all of it as JSON."""
    with PolicyClient(daemon.address) as client:
        client.ask()
        lines = daemon.ctl("status").splitlines()
    assert re.fullmatch(rf"hapolicy 2\.0\.0, pid {daemon.pid}, running for \d+ s, 1 of 1000 clients", lines[0])
    assert "requests: 1 answered, 0 defaulted, 0 suspect; default action dunno; log level info" == lines[1]
    words = [line.split() for line in lines[3:]]
    assert ["SERVICE", "ADDRESS", "PRIO", "WEIGHT", "STATE"] == words[0][:5]
    assert ["A", "10", "1", "up", "0", "1", "1", "0"] == words[1][:1] + words[1][2:9]
    assert ["B", "20", "1", "up", "0", "0", "0", "0", "-", "-", "0.0", "%"] == words[2][:1] + words[2][2:]
    assert "A\nB\n" == daemon.ctl("status", "--names")
    status = daemon.status()
    assert (daemon.pid, 2) == (status["pid"], len(status["services"]))


def test_drain_and_ready(daemon: Controlled) -> None:
    """A drained service is not asked; a ready one is again."""
    assert "A is draining\n" == daemon.ctl("drain", "A")
    assert "B" == re.search(r"^service  (.*)$", daemon.ctl("query"), re.MULTILINE).group(1)  # type: ignore[union-attr]
    assert " draining " in daemon.ctl("status")
    assert "A is up\n" == daemon.ctl("ready", "A")
    assert "service  A\n" in daemon.ctl("query")
    assert os.getuid() == daemon.wait_event("control.ordered", command="drain A")["uid"]


def test_drain_tells_what_is_in_flight(tmp_path: Path) -> None:
    """Who drains to restart a service learns what is still to end."""
    with (
        Sample("A", "--fault", "hang") as a,
        Sample("B") as b,
        Controlled(tmp_path, "-s", a.service("::1:5"), "-s", b.service(":20"), "--drain", "0") as daemon,
        PolicyClient(daemon.address) as client,
    ):
        client.send(request())
        wait_until(lambda: a.stats()["requests"], "the request's arrival at the service")
        assert "A is draining, 1 in flight\n" == daemon.ctl("drain", "A")


def test_trip_and_reset(daemon: Controlled) -> None:
    """A tripped service is down for a cooldown, a reset one up at once."""
    assert "A is down\n" == daemon.ctl("trip", "A")
    assert re.search(r"^A +\S+ +10 +1 +down for another \d+ s ", daemon.ctl("status"), re.MULTILINE)
    assert "service  B\n" in daemon.ctl("query")
    assert "A is up\n" == daemon.ctl("reset", "A")
    assert "service  A\n" in daemon.ctl("query")


def test_log_level(daemon: Controlled) -> None:
    """At debug each request is told; at info no more."""
    assert "log level debug\n" == daemon.ctl("log-level", "debug")
    daemon.ctl("query", "instance=loud")
    with PolicyClient(daemon.address) as client:
        client.ask(instance="heard")
    assert "heard" == daemon.wait_event("request.received")["attributes"]["instance"]
    assert "log level info" in daemon.ctl("log-level", "info")
    assert "info" == daemon.status()["log_level"]


def test_reload(samples: tuple[Sample, Sample], tmp_path: Path) -> None:
    """A good file is taken over; a bad one is refused with file, line and reason, and nothing has changed."""
    a, b = samples
    file = tmp_path / "hapolicy.args"
    file.write_text(f"-s {a.service()}\n")
    with Controlled(tmp_path, f"@{file}") as daemon:
        assert "reloaded; 1 service: A\n" == daemon.ctl("reload")
        file.write_text(f"-s {a.service()}\n-s {b.service()}\n")
        assert "reloaded; 2 services: A, B\n" == daemon.ctl("reload")
        assert "A\nB\n" == daemon.ctl("status", "--names")
        file.write_text(f"-s {a.service()}\n-s nonsense\n")
        status, text = daemon.fails("reload")
        assert REFUSED == status
        assert text.startswith(f"{file}:2: ")
        assert "A\nB\n" == daemon.ctl("status", "--names")


def test_query(daemon: Controlled) -> None:
    """Asked through the daemon: the action, who gave it, and how long it took."""
    text = daemon.ctl("query", "instance=i1")
    assert re.fullmatch(r"action   DUNNO A i1\nservice  A\ntook     \d+\.\d ms\n", text)
    assert "action   DUNNO B i2\nservice  B\n" in daemon.ctl("query", "--service", "B", "instance=i2")
    assert "action   DUNNO B i3\nservice  B\n" in daemon.ctl("query", "instance=i3", "--service", "B")
    assert daemon.ctl("query").splitlines()[0] != daemon.ctl("query").splitlines()[0], "each has its own instance"
    assert 1 == daemon.service("B")["queries"] + 1, "past the proxy counts for nothing"


def test_query_without_an_answer(samples: tuple[Sample, Sample], tmp_path: Path) -> None:
    """The default action is an answer; a service asked by its name that gives none is a failure."""
    with Sample("A", "--fault", "garbage") as a, Controlled(tmp_path, "-s", a.service(), "-d", "OK then") as daemon:
        assert "action   DEFER_IF_PERMIT 4.3.0 " in daemon.ctl("query")  # it breaks twice on one request
        a.fault("refuse")
        assert "action   OK then\nservice  none: the default action\n" in daemon.ctl("query")
        a.fault("garbage")
        status, text = daemon.fails("query", "--service", "A")
        assert UNAVAILABLE == status
        assert text.startswith("A: malformed: answer does not begin with action=")


def test_the_last_error_has_an_age(samples: tuple[Sample, Sample], tmp_path: Path) -> None:
    """What went wrong an hour ago looks other than what goes wrong now."""
    with Sample("A", "--fault", "garbage") as a:
        arguments = ("-s", a.service(), "-s", samples[1].service(":20"), "--fail-max", "1", "--cooldown", "60")
        with Controlled(tmp_path, *arguments) as daemon:
            assert None is daemon.service("A")["last_error_age_s"]
            daemon.ctl("query")
            assert 0 <= daemon.service("A")["last_error_age_s"] < PATIENCE_S
            failed = r"^A  malformed 1(, probes \d+)?; last: malformed: answer .* \(\d+ s ago\)$"
            assert re.search(failed, daemon.ctl("status"), re.MULTILINE)
            assert None is daemon.service("B")["last_error_age_s"]


def test_query_as_postfix_asks() -> None:
    """The request that leaves is a whole policy request, with what was given and a default for the rest."""
    with Recorder("DUNNO \x1b[2Jwiped") as recorder:
        done = hapolicyctl("query", "--to", recorder.address, "sender=né@example.com", "x=a=b", "helo_name=")
    assert OK == done.returncode
    (sent,) = recorder.requests
    assert sent.startswith(b"request=smtpd_access_policy\nprotocol_state=RCPT\n")
    assert {"sender=né@example.com", "x=a=b", "helo_name=", "client_address=192.0.2.1"} <= set(
        sent.decode().splitlines()
    )
    assert sent.endswith(b"\n\n")
    assert f"action   DUNNO \\x1b[2Jwiped\nservice  {recorder.address}\n" in done.stdout


def test_query_to_a_unix_socket(tmp_path: Path) -> None:
    """A service on a unix socket can be asked without a daemon, too."""
    with Sample("U", listen=f"unix:{tmp_path}/u") as sample:
        assert "action   DUNNO U i1\n" in hapolicyctl("query", "--to", sample.address, "instance=i1").stdout


def test_query_to_nobody(tmp_path: Path) -> None:
    """Nobody there is 69, whoever was asked for."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = f"127.0.0.1:{server.getsockname()[1]}"
    for address in (free, f"unix:{tmp_path}/none"):
        done = hapolicyctl("query", "--to", address)
        assert (UNAVAILABLE, "") == (done.returncode, done.stdout)
        assert f"hapolicyctl: {address}: refused: " in done.stderr


BAD_USAGE = [
    ([], "no command"),
    (["stats"], "stats"),
    (["drain"], "NAME"),
    (["drain", "A", "B"], "B"),
    (["log-level", "loud"], "loud"),
    (["query", "sender"], "sender: not attr=value"),
    (["query", "=x"], "=x: not attr=value"),
    (["query", "--to", "127.0.0.1"], "no port"),
    (["query", "--to", ":25"], "no host"),
    (["query", "--to", "[fe80::1%a..b]:25"], "not an IPv6 address"),
    (["query", "--to", "127.0.0.1:25:10"], "after the address"),
    (["query", "--to", "127.0.0.1:25", "--service", "A"], "not allowed with"),
    (["query", "--to", "127.0.0.1:25", "sender=a\nrecipient=b"], "newline"),
    (["query", "--to", "127.0.0.1:25", "request=other"], "no request=smtpd_access_policy"),
    (["--control", "127.0.0.1:25", "status"], "not a unix socket"),
    (["--control", "/run/x", "status"], "example: "),
    (["-i", "../x", "status"], "not the name of an instance"),
    (["-i", "x", "--control", "unix:/run/x", "status"], "not allowed with"),
    (["status", "--watch", "--json"], "not allowed with"),
    (["status", "--watch", "extra\x1b[2J"], "extra\\x1b[2J"),
    (["--print-completion", "cmd"], "cmd"),
]


@pytest.mark.parametrize(("arguments", "text"), BAD_USAGE)
def test_bad_usage(arguments: list[str], text: str) -> None:
    """One line that names what is wrong, and 64."""
    done = hapolicyctl(*arguments)
    assert (USAGE, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines()))
    assert text in done.stderr


def test_no_daemon(tmp_path: Path) -> None:
    """Nobody at the socket, or no socket: 69, and what to look at."""
    for path in (tmp_path / "none", tmp_path / "stale"):
        if path.name == "stale":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(path))
        done = hapolicyctl("--control", f"unix:{path}", "status")
        assert (UNAVAILABLE, "") == (done.returncode, done.stdout)
        assert f"does hapolicy run, with --control unix:{path}?" in done.stderr


def test_where_the_daemon_is_looked_for() -> None:
    """The default is the unit's socket, --instance the template unit's."""
    for arguments, path in (([], "/run/hapolicy/"), (["-i", "no-such.1"], "/run/hapolicy-no-such.1/")):
        if Path(path).exists():
            pytest.skip("hapolicy runs on this host")
        done = hapolicyctl(*arguments, "status")
        assert UNAVAILABLE == done.returncode
        assert f"unix:{path}control.sock: No such file" in done.stderr


@pytest.mark.parametrize("reply", [b"", b"220 ready\x1b[2J\r\n", b"[]\n", b"no newline", b"\xff\n"])
def test_something_else_listens_there(tmp_path: Path, reply: bytes) -> None:
    """What is no hapolicy is not taken for it."""

    class Other(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(reply)

    with socketserver.UnixStreamServer(str(tmp_path / "sock"), Other) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        done = hapolicyctl("--control", f"unix:{tmp_path}/sock", "status")
    assert (UNAVAILABLE, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert done.stderr[:-1].isprintable()


def test_the_socket_is_for_owner_and_group(samples: tuple[Sample, Sample], tmp_path: Path) -> None:
    """Mode 660 unless told otherwise, and gone with the daemon."""
    path = tmp_path / "sock"
    with Controlled(tmp_path, "-s", samples[0].service(), "--control", f"unix:{path}"):
        assert 0o660 == stat.S_IMODE(path.stat().st_mode)
    assert not path.exists()


def test_a_reader_that_has_seen_enough(daemon: Controlled) -> None:
    """`hapolicyctl status | head -1` leaves no traceback."""
    command = (
        f"{sys.executable} -m hapolicy.admin.control.commands --control {daemon.control} status --json | head -c 1"
    )
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert ("{", "") == (done.stdout, done.stderr)


def test_a_terminal_without_utf8(tmp_path: Path) -> None:
    """A name that the terminal cannot show is shown escaped."""
    with Sample("né") as sample, Controlled(tmp_path, "-s", sample.service()) as daemon:
        environment = os.environ | {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
        arguments = ["--control", daemon.control, "status", "--names"]
        argv = [sys.executable, "-m", "hapolicy.admin.control.commands", *arguments]
        done = subprocess.run(argv, capture_output=True, timeout=PATIENCE_S, check=True, env=environment)
        assert "né\n".encode("latin-1") == done.stdout
        environment["PYTHONIOENCODING"] = "ascii"
        done = subprocess.run(argv, capture_output=True, timeout=PATIENCE_S, check=True, env=environment)
        assert b"n\\xe9\n" == done.stdout
