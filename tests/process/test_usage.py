"""What a user sees of the command line before any mail flows: refusals, argument files, --check, --version."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client import PolicyClient
from tests.support.daemon import Daemon
from tests.support.procs import PATIENCE_S, hapolicy
from tests.support.sample import Sample

SERVICE = ["-s", "A=127.0.0.1:10023"]
USAGE, CONFIG = 64, 78

BAD_USAGE = [
    # argument that must be named, command line
    ("-s", ["-s"]),
    ("-s", ["-s", "127.0.0.1:10023"]),
    ("-s", ["-s", "=127.0.0.1:10023"]),
    ("-s", ["-s", "A B=127.0.0.1:10023"]),
    ("-s", ["-s", "A="]),
    ("-s", ["-s", "A=127.0.0.1"]),
    ("-s", ["-s", "A=127.0.0.1:"]),
    ("-s", ["-s", "A=:10023"]),
    ("-s", ["-s", "A=127.0.0.1:0"]),
    ("-s", ["-s", "A=127.0.0.1:65536"]),
    ("-s", ["-s", "A=127.0.0.1:smtp"]),
    ("-s", ["-s", "A=127.0.0.300:10023"]),
    ("-s", ["-s", "A=::1:10023"]),
    ("-s", ["-s", "A=[::1:10023"]),
    ("-s", ["-s", "A=[::g]:10023"]),
    ("-s", ["-s", "A=a_b c:10023"]),
    ("-s", ["-s", "A=unix:"]),
    ("-s", ["-s", "A=unix:run/grey"]),
    ("-s", ["-s", f"A=unix:/{'x' * 200}"]),
    ("-s", ["-s", "A=127.0.0.1:10023:high"]),
    ("-s", ["-s", "A=127.0.0.1:10023:1.5"]),
    ("-s", ["-s", "A=127.0.0.1:10023:10:0"]),
    ("-s", ["-s", "A=127.0.0.1:10023:10:-1"]),
    ("-s", ["-s", "A=127.0.0.1:10023:10:nan"]),
    ("-s", ["-s", "A=127.0.0.1:10023:10:1:0"]),
    ("-s", ["-s", "A=127.0.0.1:10023:10:1:inf"]),
    ("-s", ["-s", "A=127.0.0.1:10023:10:1:30:more"]),
    ("-d", [*SERVICE, "-d", ""]),
    ("-d", [*SERVICE, "-d", "   "]),
    ("-d", [*SERVICE, "-d", "reject\x07"]),
    ("-d", [*SERVICE, "-d", "reject\naction=ok"]),
    ("-d", [*SERVICE, "-d", "reject \udcff"]),
    ("--listen", [*SERVICE, "--listen", "127.0.0.1"]),
    ("--listen", [*SERVICE, "--listen", "127.0.0.1:99999"]),
    ("--listen", [*SERVICE, "--listen", "unix:relative"]),
    ("--listen", [*SERVICE, "--listen", "unix:/tmp/sock:rw"]),
    ("--listen", [*SERVICE, "--listen", "unix:/tmp/sock:8888"]),
    ("--allow", [*SERVICE, "--allow", "somewhere"]),
    ("--allow", [*SERVICE, "--allow", "192.0.2.1/33"]),
    ("--fail-max", [*SERVICE, "--fail-max", "0"]),
    ("--fail-max", [*SERVICE, "--fail-max", "three"]),
    ("--cooldown", [*SERVICE, "--cooldown", "-1"]),
    ("--cooldown", [*SERVICE, "--cooldown", "soon"]),
    ("--cooldown-max", [*SERVICE, "--cooldown-max", "nan"]),
    ("--probe", [*SERVICE, "--probe", "icmp"]),
    ("--connect-timeout", [*SERVICE, "--connect-timeout", "0"]),
    ("--deadline", [*SERVICE, "--deadline", "0"]),
    ("--max-clients", [*SERVICE, "--max-clients", "0"]),
    ("--drain", [*SERVICE, "--drain", "-5"]),
    ("--log", [*SERVICE, "--log", "mail"]),
    ("--nonsense", [*SERVICE, "--nonsense"]),
    ("word", [*SERVICE, "word"]),
]


# Each argument alone is right, together they are not.
BAD_CONFIGURATION = [
    ("-s", []),
    ("-s", [*SERVICE, "-s", "A=127.0.0.1:10024"]),
    ("--allow", [*SERVICE, "--listen", "0.0.0.0:0"]),
    ("--allow", [*SERVICE, "--listen", "[::]:0"]),
    ("--allow", [*SERVICE, "--listen", ":0"]),
    ("--allow", [*SERVICE, "--listen", "192.0.2.1:10060"]),
]


def command_line(value: str | list[str]) -> str:
    """A short name for a test."""
    return ascii(" ".join(value)[-30:]) if isinstance(value, list) else ""


def check_refusal(done: subprocess.CompletedProcess[str], statuses: set[int], named: str) -> None:
    """One line on stderr that names the argument and shows a right one, and nothing else."""
    lines = done.stderr.splitlines()
    assert ("", 1) == (done.stdout, len(lines)), done
    assert done.returncode in statuses, done
    assert named in lines[0]
    assert "Traceback" not in lines[0]
    assert "example: " in lines[0] or "--help" in lines[0], lines[0]
    assert lines[0].isprintable(), lines[0]


@pytest.mark.parametrize(("named", "arguments"), BAD_USAGE, ids=command_line)
def test_bad_usage_is_refused_in_one_line(named: str, arguments: list[str]) -> None:
    """Whatever is wrong on the command line ends with 64, the argument named and a right one shown."""
    check_refusal(hapolicy(*arguments), {USAGE}, named)


@pytest.mark.parametrize(("named", "arguments"), BAD_CONFIGURATION, ids=command_line)
def test_bad_configuration_is_refused_in_one_line(named: str, arguments: list[str]) -> None:
    """No service, one name for two, a listener that is open to the world without --allow: 78."""
    check_refusal(hapolicy(*arguments), {CONFIG}, named)


@pytest.mark.parametrize(("option", "right"), [("--listen", "127.0.0.1:10060"), ("--http", "127.0.0.1:10061")])
def test_a_port_in_use_cannot_be_bound(option: str, right: str) -> None:
    """An address that another program has ends with 78, named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = hapolicy(*SERVICE, "--listen", "127.0.0.1:0", option, address, "--log", "stderr")
    check_refusal(done, {CONFIG}, address)
    assert done.stderr.endswith(f"; example: {option} {right}\n")


@pytest.mark.parametrize("there", ["a live socket", "a file", "a folder", "no parent"])
def test_a_unix_path_in_use_cannot_be_bound(tmp_path: Path, there: str) -> None:
    """A path where something else is ends with 78, and what is there stays as it was."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as live:
        if there == "a live socket":
            live.bind(str(path))
            live.listen()
        elif there == "a file":
            path.write_text("precious")
        elif there == "a folder":
            path.mkdir()
        else:
            path = tmp_path / "missing" / "sock"
        done = hapolicy(*SERVICE, "--listen", f"unix:{path}", "--log", "stderr")
        check_refusal(done, {CONFIG}, str(path))
        if there == "a live socket":
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
        elif there == "a file":
            assert "precious" == path.read_text()


def test_argument_files(tmp_path: Path) -> None:
    """@FILE holds arguments as a shell would split them, with comments; several files and options mix."""
    with Sample("A") as a, Sample("B") as b:
        first, second = tmp_path / "first", tmp_path / "second"
        first.write_text(f"# two services\n-s {a.service(':9')}   -l # and the request log\n\n-d 'REJECT not # now'\n")
        second.write_text(f'-s "{b.service(":10")}"\n')
        with (
            Daemon(f"@{first}", "--fail-max", "1", f"@{second}") as daemon,
            PolicyClient(daemon.address) as client,
        ):
            assert "DUNNO A i1" == client.ask(instance="i1")
            daemon.wait_event("request.answered", service="A")
            a.fault("refuse")
            assert "DUNNO B i2" == client.ask(instance="i2")
            b.fault("refuse")
            assert "REJECT not # now" == client.ask()


@pytest.mark.parametrize("content", [None, "-s 'A=127.0.0.1:10023", "-s A=127.0.0.1:0", "\0", b"\xff\xfe-s"])
def test_bad_argument_file_is_refused(tmp_path: Path, content: str | bytes | None) -> None:
    """A file that is missing or holds nonsense is refused in one line that names it or the argument."""
    path = tmp_path / "arguments"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    named = "-s" if content == "-s A=127.0.0.1:0" else str(path)
    check_refusal(hapolicy(f"@{path}"), {USAGE, CONFIG}, named)


def test_check_prints_what_would_run() -> None:
    """--check names the services and listeners and ends with 0, without binding anything."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        more = ["--listen", address, "--control", "unix:/run/c", "--http", "127.0.0.1:10061"]
        done = hapolicy("--check", "-s", "A=127.0.0.1:10023:9:2:1.5", "-s", "B=unix:/run/b", *more)
    assert (0, "") == (done.returncode, done.stderr)
    service = "A at 127.0.0.1:10023, prio 9, weight 2, timeout 1.5 s"
    for expected in (address, "control   unix:/run/c", "http      127.0.0.1:10061", service, "unix:/run/b", "dunno"):
        assert expected in done.stdout


def test_check_prints_what_the_locale_lacks() -> None:
    """As an escape, and ends with 0."""
    command = [sys.executable, "-m", "hapolicy", "--check", *SERVICE, "-d", "REJECT caf\u00e9"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert "REJECT caf\\xe9" in done.stdout


@pytest.mark.parametrize("words", [["--check", "--connect"], ["--help"], ["--version"]])
@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("| true", (0, "")),
        (">/dev/full", (74, "hapolicy: the output could not be written: No space left on device\n")),
        (">&-", (0, "")),
    ],
)
def test_output_that_nobody_reads(words: list[str], output: str, expected: tuple[int, str]) -> None:
    """Has had its reader (head(1)), or a full disk; a traceback is neither."""
    with Sample("A") as a:
        script = f'set -o pipefail; sleep 0.1; "$@" {output}'
        command = ["bash", "-c", script, "bash", sys.executable, "-m", "hapolicy", *words, "-s", a.service()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert expected == (done.returncode, done.stderr)


def test_a_complaint_never_reaches_stdout() -> None:
    """Where stderr is closed either: under --stdio a client may be there."""
    command = ["sh", "-c", '"$0" -m hapolicy --nonsense 2>&-', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (USAGE, "") == (done.returncode, done.stdout)


def test_check_connect_asks_each_service() -> None:
    """What each says, as a probe would hear it; 69 when one is not well, and only a connection with probe=tcp."""
    with Sample("A") as a, Sample("B") as b:
        words = ["--check", "--connect", "-s", a.service(), "-s", b.service(",probe=tcp")]
        done = hapolicy(*words)
        assert (0, "") == (done.returncode, done.stderr)
        assert re.search(r"^try       A: DUNNO A hapolicy\.check\.\w+ \(\d+\.\d ms\)$", done.stdout, re.M)
        assert re.search(r"^try       B: takes connections \(\d+\.\d ms\)$", done.stdout, re.M)
        assert re.search(r"^as user   \w+", done.stdout, re.M)
        assert (1, 0) == (a.stats()["requests"], b.stats()["requests"])
        b.fault("refuse")
        done = hapolicy(*words)
        assert 69 == done.returncode
        assert "try       B: failed, refused: Connection refused\n" in done.stdout
    done = hapolicy("--connect", "-s", "A=127.0.0.1:1")
    assert (78, "hapolicy: --connect tries the services, and needs --check; example: --check --connect\n") == (
        done.returncode,
        done.stderr,
    )


def test_check_knows_one_from_many() -> None:
    """One failure is no plural."""
    assert (
        "down after 1 failed connection in a row or"
        in hapolicy("--check", "-s", "A=127.0.0.1:1", "--fail-max", "1").stdout
    )


def test_check_finds_that_http_lacks_its_library() -> None:
    """What --http needs is missed by --check already, with what to install; without --http nothing is missed."""
    lacking = "import sys; sys.modules['prometheus_client'] = None; from hapolicy.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", lacking, "--check", *SERVICE]
    done = subprocess.run([*command, "--http", "127.0.0.1:10061"], capture_output=True, text=True, check=False)
    assert (CONFIG, "") == (done.returncode, done.stdout)
    assert "--http needs prometheus_client, not installed here: pip install 'hapolicy[http]'" in done.stderr
    assert 0 == subprocess.run(command, capture_output=True, check=False).returncode


def test_check_finds_what_is_wrong() -> None:
    """--check refuses what a start would refuse."""
    check_refusal(hapolicy("--check", "-s", "A=127.0.0.1:0"), {USAGE}, "-s")


@pytest.mark.parametrize("option", ["-h", "--help", "--vers", "-lh"])
def test_a_file_cannot_ask_for_help(option: str, tmp_path: Path) -> None:
    """A file that asks for help or version is refused, by --check as well: no daemon would start."""
    file = tmp_path / "hapolicy.args"
    file.write_text(f"{' '.join(SERVICE)}\n{option}\n")
    for arguments in (["--check", f"@{file}"], [f"@{file}"]):
        check_refusal(hapolicy(*arguments), {USAGE}, f"{file}:2: {option}")


def test_version_and_help() -> None:
    """--version and --help print to stdout and end with 0; they need no service."""
    version = hapolicy("--version")
    assert (0, "", True) == (version.returncode, version.stderr, "2.0.0" in version.stdout)
    text = hapolicy("--help")
    assert (0, "") == (text.returncode, text.stderr)
    for option in (
        "--service",
        "--default",
        "--listen",
        "--stdio",
        "--allow",
        "--probe",
        "--drain",
        "--check",
    ):
        assert option in text.stdout


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ([*SERVICE, "-d", "greylist"], "-d"),
        (["-s", "A=127.0.0.1:10023:1:1:60", "-s", "B=127.0.0.1:10024:1:1:60"], "--deadline"),
    ],
)
def test_doubtful_arguments_are_warned_about(arguments: list[str], argument: str) -> None:
    """What may be right but looks wrong is an event, not an end."""
    with Daemon(*arguments) as daemon:
        assert argument in daemon.wait_event("config.warning")["argument"]


def test_old_command_line_with_empty_fields() -> None:
    """1.00's `name=ip:port:::` takes the defaults, and an upper-case default action is passed on as written."""
    done = hapolicy("--check", "-s", "GREY1=127.0.0.1:10023:::", "-d", "DUNNO", "-l", "-v")
    assert (0, "") == (done.returncode, done.stderr)
    assert "GREY1 at 127.0.0.1:10023, prio 10, weight 1, timeout 30 s" in done.stdout
