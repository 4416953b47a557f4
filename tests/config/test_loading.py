"""Argument files, and what does not go together."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hapolicy.config.loading import ConfigError, expand_files, parse, settings_from
from hapolicy.config.option import Asked, UsageError
from hapolicy.config.settings import Settings

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes an argument file; returns its @FILE."""

    def write(text: str) -> str:
        path = tmp_path / "args"
        path.write_text(text, encoding="utf-8")
        return f"@{path}"

    return write


def settings(*arguments: str, stdin_is_client: bool = False) -> Settings:
    """What a command line means."""
    return settings_from(parse(arguments), stdin_is_client=stdin_is_client)


SPLIT = {
    "": [],
    "\n \n\t\n": [],
    "-s A=h:25": ["-s", "A=h:25"],
    "-s A=h:25 -l\n  --deadline 5\n": ["-s", "A=h:25", "-l", "--deadline", "5"],
    "-d 'DEFER later'": ["-d", "DEFER later"],
    '-d "DEFER it\'s \\"late\\""': ["-d", 'DEFER it\'s "late"'],
    "-d DEFER\\ later": ["-d", "DEFER later"],
    "-d ''": ["-d", ""],
    "# all\n-l # it's a comment\n #-v\n": ["-l"],
    "-d a#b": ["-d", "a#b"],
    "#-v 'unclosed\n-l": ["-l"],
    "-l\r\n-v\r\n": ["-l", "-v"],
    "-d né": ["-d", "né"],
    "@other": ["@other"],
}


@pytest.mark.parametrize(("text", "expected"), SPLIT.items())
def test_files_are_split_as_a_shell_would(write: Write, text: str, expected: list[str]) -> None:
    """Words, quotes, escapes and comments of an argument file."""
    assert expected == expand_files([write(text)])


@pytest.mark.parametrize("text", ["#don't\n-l", "#'\n-l", '-l #"x', "-l #\\"])
def test_a_comment_may_hold_anything(write: Write, text: str) -> None:
    """A quote in the first word of a comment opens nothing."""
    assert ["-l"] == expand_files([write(text)])


@pytest.mark.parametrize("end", ["\f", "\v", "\x1c", "\x85", "\u2028"])
def test_only_a_newline_ends_a_line(write: Write, end: str) -> None:
    """As for a shell: what follows another one in a comment is no argument, and in quotes it closes none."""
    assert ["-l", "-v"] == expand_files([write(f"-l # see{end}-s\n-v\r\n")])
    assert [f"a{end}b"] == expand_files([write(f"'a{end}b'")])


def test_a_byte_order_mark_is_no_part_of_the_first_word(write: Write) -> None:
    """Some editors put one before all text."""
    assert ["-l"] == expand_files([write("\ufeff-l\n")])


def test_a_quoted_number_sign_begins_no_comment(write: Write) -> None:
    """As in a shell."""
    assert ["-d", "#1 fault", "-l"] == expand_files([write("-d '#1 fault' -l")])


def test_a_file_stands_where_it_is_named(write: Write) -> None:
    """The arguments of a file come between those before and behind it."""
    file = write("-d OK\n-l")
    assert ["-v", "-d", "OK", "-l", "-d", "DUNNO"] == expand_files(["-v", file, "-d", "DUNNO"])
    assert "DUNNO" == settings("-s", "A=h:25", file, "-d", "DUNNO").requests.default_action


BAD_LINES = {
    "-s A=h:25\n\n-s B": (3, "-s/--service: B: no NAME= before the address"),
    "-s\nA=h": (2, "-s/--service: A=h: no port"),
    "# one\n-l --fail-max=x": (2, "--fail-max: x: not a whole number"),
    "-l\n--probe ping": (2, "--probe: ping: none of query"),
    "-l\n--log=file": (2, "--log: file: neither"),
    "-l\n-d": (2, "-d/--default: expected one argument"),
    "-l\n-d ''": (2, "-d/--default: empty: an empty action"),
    "-s A=h:25\n-s A=h:0 -s B=h:26": (2, "-s/--service: A=h:0: port 0"),
    "-l\n\n--nonsense 5": (3, "--nonsense"),
    "-l\nstray": (2, "stray"),
}


@pytest.mark.parametrize(("text", "expected"), BAD_LINES.items())
def test_errors_name_file_and_line(write: Write, text: str, expected: tuple[int, str]) -> None:
    """What is wrong in a file is found by its file and line."""
    file = write(text)
    with pytest.raises(UsageError) as caught:
        parse([file])
    assert str(caught.value).startswith(f"{file[1:]}:{expected[0]}: ")
    assert expected[1] in str(caught.value)


@pytest.mark.parametrize(("text", "reason"), [("-l\n-d 'x", "No closing quotation"), ("-l\nx\\", "No escaped")])
def test_a_line_that_no_shell_could_split(write: Write, text: str, reason: str) -> None:
    """An open quote ends with its line, and is a bad configuration."""
    file = write(text)
    with pytest.raises(ConfigError, match=f"{file[1:]}:2: {reason}"):
        parse([file])


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and bytes that are no text are told with their path and an example."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"-s \xff\n")
    for path, reason in (("/nowhere/args", "No such file"), (tmp_path, "Is a directory"), (binary, "not a text file")):
        with pytest.raises(ConfigError, match=f"@{path}: {reason}.*; example: @/"):
            parse([f"@{path}"])


def test_no_service() -> None:
    """Without a service there is nothing to do."""
    with pytest.raises(ConfigError, match=r"no service defined; example: -s GREY1="):
        settings("-l")


def test_a_name_twice() -> None:
    """Two services of one name could not be told apart in a log."""
    with pytest.raises(ConfigError, match=r"^-s A=\.\.\.: another service has this name; each needs its own"):
        settings("-s", "A=h:25", "-s", "B=h:25", "-s", "A=h:26")
    assert 2 == len(settings("-s", "A=h:25", "-s", "a=h:25").services)


CANNOT_BE = {
    "-s A=h:25\n-s B=h:25\n-s A=h:26": "3: -s A=...: another service has this name at {file}:1; each needs its own",
    "-s A=h:25 --workers 2\n\n-s B=h:25,max=1": "3: -s B: max=1 is below --workers 2",
    "-l\n-s A=127.0.0.1:10060": "2: -s A=127.0.0.1:10060: that is where hapolicy itself listens",
}


@pytest.mark.parametrize(("text", "expected"), CANNOT_BE.items())
def test_a_service_that_cannot_be_is_told_with_its_line(write: Write, text: str, expected: str) -> None:
    """Not only one that cannot be understood; where a service was written makes it no other service."""
    file = write(text)
    with pytest.raises(ConfigError) as caught:
        settings(file)
    assert str(caught.value).startswith(f"{file[1:]}:{expected.format(file=file[1:])}")
    assert settings(write("-s A=h:25")).services == settings(write("-l\n-s A=h:25")).services


@pytest.mark.parametrize("listen", ["0.0.0.0:25", "*:25", ":25", "[::]:25", "10.0.0.1:25", "mail.example.com:25"])
def test_listening_beyond_loopback_needs_allow(listen: str) -> None:
    """Others than this host may connect only when it is said who."""
    arguments = ["-s", "A=h:25", "--listen", "127.0.0.1:25", "--listen", listen]
    with pytest.raises(ConfigError, match=r"--listen .*:25: .*--allow must say who may; example: --allow"):
        settings(*arguments)
    assert 1 == len(settings(*arguments, "--allow", "10.0.0.0/24").allow)


LOCAL = ["127.0.0.1:25", "127.1.2.3:25", "[::1]:25", "localhost:25", "LocalHost:25", "unix:/run/p"]


@pytest.mark.parametrize("listen", LOCAL)
def test_listening_on_loopback_needs_no_allow(listen: str) -> None:
    """Who is on this host may ask."""
    assert () == settings("-s", "A=h:25", "--listen", listen).allow


OURSELVES = [  # --listen, and a service at that place
    ("127.0.0.1:25", "127.0.0.1:25"),
    ("unix:/run/p", "unix:/run/p"),
    ("mx.example:25", "MX.example:25"),
    ("localhost:25", "127.0.0.1:25"),
    ("localhost:25", "[::1]:25"),
    ("127.0.0.1:25", "LOCALHOST:25"),
    ("127.0.0.1:25", "[::ffff:127.0.0.1]:25"),
    ("*:25", "127.0.0.2:25"),
    ("*:25", "localhost:25"),
    ("0.0.0.0:25", "127.0.0.1:25"),
    ("[::]:25", "[::1]:25"),
    ("[::]:25", "localhost:25"),
]
OTHERS = [
    ("127.0.0.1:25", "127.0.0.1:26"),
    ("127.0.0.1:25", "127.0.0.2:25"),
    ("127.0.0.1:25", "[::1]:25"),
    ("0.0.0.0:25", "[::1]:25"),
    ("0.0.0.0:25", "10.0.0.1:25"),
    ("mx1.example:25", "mx2.example:25"),
    ("*:25", "mx.example:25"),
    ("unix:/run/p", "unix:/run/q"),
]


@pytest.mark.parametrize(("listen", "service"), OURSELVES)
def test_a_service_that_is_hapolicy_itself(listen: str, service: str) -> None:
    """However the one place is written."""
    with pytest.raises(ConfigError, match="that is where hapolicy itself listens"):
        settings("-s", f"A={service}", "--listen", listen, "--allow", "10.0.0.0/8")


@pytest.mark.parametrize(("listen", "service"), OTHERS)
def test_a_service_at_another_place(listen: str, service: str) -> None:
    """Each address of loopback is a place of its own, and so is IPv6 beside IPv4."""
    assert 1 == len(settings("-s", f"A={service}", "--listen", listen, "--allow", "10.0.0.0/8").services)


def test_stdio() -> None:
    """A client on stdin is served when nothing else is asked for; --stdio and --listen exclude each other."""
    assert settings("-s", "A=h:25", stdin_is_client=True).stdio
    assert settings("-s", "A=h:25", "--stdio").stdio
    assert not settings("-s", "A=h:25").stdio
    assert not settings("-s", "A=h:25", "--listen", "127.0.0.1:0", stdin_is_client=True).stdio
    with pytest.raises(ConfigError, match=r"--stdio .* does not go with --listen"):
        settings("-s", "A=h:25", "--stdio", "--listen", "127.0.0.1:0")


def test_cooldown_max_below_cooldown() -> None:
    """The longest cooldown is no shorter than the first."""
    with pytest.raises(ConfigError, match="--cooldown-max 5 is below --cooldown 10"):
        settings("-s", "A=h:25", "--cooldown", "10", "--cooldown-max", "5")
    assert 10 == settings("-s", "A=h:25", "--cooldown", "10", "--cooldown-max", "10").health.cooldown_max_s


KNOWN_ACTIONS = ["dunno", "DUNNO", "OK", "reject", "DEFER_IF_PERMIT x", "450 4.7.1 later", "PREPEND X: y", "permit"]


@pytest.mark.parametrize("action", [*KNOWN_ACTIONS, "permit_mynetworks", "reject_unauth_destination", "FILTER smtp:x"])
def test_known_actions(action: str) -> None:
    """access(5) actions and restrictions are taken without a word."""
    assert () == settings("-s", "A=h:25", "-d", action).warnings


@pytest.mark.parametrize("action", ["dunnno", "greylisting", "OKAY", "reject: x", "re", "-x"])
def test_unknown_actions(action: str) -> None:
    """Another first word is taken (it may be a restriction class), with a warning."""
    found = settings("-s", "A=h:25", f"-d{action}")
    assert action == found.requests.default_action
    assert [f"-d {action}"] == [argument for argument, _ in found.warnings]
    assert "4.3.5" in found.warnings[0][1]


def test_doubtful_deadlines() -> None:
    """Timeouts that exceed the deadline, and a deadline that exceeds Postfix's, are warned about."""
    three = ["-s", "A=h:25", "-s", "B=h:25", "-s", "C=h:25"]
    assert () == settings(*three).warnings
    assert [("--deadline 89", "the timeouts of all services add up to 90 s")] == [
        (argument, warning.partition(",")[0]) for argument, warning in settings(*three, "--deadline", "89").warnings
    ]
    assert "smtpd_policy_service_timeout" in settings(*three, "--deadline", "100").warnings[0][1]


@pytest.mark.parametrize("asking", ["-h", "--help", "--version", "-lh", "--hel"])
def test_help_in_a_file_is_refused(write: Write, asking: str) -> None:
    """A daemon could not start with it; on the command line it is what the user wants, a file behind it or not."""
    argument = write(f"-s A=h:25\n-l\n{asking}\n")
    with pytest.raises(UsageError) as caught:
        parse([argument])
    expected = f"{argument[1:]}:3: {asking}: not in a file; hapolicy --help lists the options"
    assert expected == str(caught.value)
    with pytest.raises(Asked):
        parse(["-l", asking, argument])


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """A pipe that nobody writes to would hold up the start for ever, a device has no end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (str(pipe), os.devnull, str(tmp_path)):
        with pytest.raises(ConfigError) as caught:
            expand_files([f"@{path}"])
        assert str(caught.value).startswith(f"@{path}: ")
    with pytest.raises(ConfigError) as caught:
        expand_files([f"@{pipe}"])
    assert f"@{pipe}: not a regular file; example: @/etc/hapolicy/hapolicy.args" == str(caught.value)


def test_a_file_that_is_refused_is_closed(tmp_path: Path) -> None:
    """A daemon that is reloaded again and again runs out of descriptors otherwise."""
    (tmp_path / "binary").write_bytes(b"-s \xff\n")
    os.mkfifo(tmp_path / "pipe")
    before = os.listdir("/proc/self/fd")
    for path in (tmp_path, tmp_path / "binary", tmp_path / "pipe"):
        with pytest.raises(ConfigError):
            expand_files([f"@{path}"])
    assert before == os.listdir("/proc/self/fd")
