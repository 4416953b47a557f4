"""Options: what each takes, what it refuses, and that the complaint helps."""

from __future__ import annotations

import argparse
import ipaddress
import shlex

import pytest

from hapolicy.cli import main
from hapolicy.config.loading import parse, settings_from
from hapolicy.config.option import UsageError
from hapolicy.config.options import OPTIONS
from hapolicy.config.settings import Listener, LogSink, Settings
from hapolicy.core.address import TcpAddress, UnixAddress
from hapolicy.core.event import Level
from hapolicy.core.rules import HEDGE_OFF, HealthRules, Hedge, Probe, RequestRules
from hapolicy.core.text import quoted

SERVICE = ["-s", "A=h:25"]
EXAMPLES = {option.label: option.example for option in OPTIONS if option.example}

GOOD: list[tuple[list[str], dict[str, object]]] = [
    ([], {}),
    (["-d", "DEFER_IF_PERMIT try later"], {"requests": RequestRules(default_action="DEFER_IF_PERMIT try later")}),
    (["--default", " OK né "], {"requests": RequestRules(default_action="OK né")}),
    (["-l"], {"log_requests": True}),
    (["--logging"], {"log_requests": True}),
    (["-v"], {"log_requests": True, "log_level": Level.DEBUG}),
    (["-L"], {"log_sink": LogSink.STDOUT}),
    (["--log", "journal"], {"log_sink": LogSink.JOURNAL}),
    (["--log", "syslog"], {"log_sink": LogSink.SYSLOG}),
    (["--log", "stderr"], {"log_sink": LogSink.STDERR}),
    (["--listen", "127.0.0.1:0"], {"listeners": (Listener(TcpAddress("127.0.0.1", 0)),)}),
    (["--listen", "localhost:25"], {"listeners": (Listener(TcpAddress("localhost", 25)),)}),
    (
        ["--listen", "[::1]:25", "--listen", "unix:/run/p:660"],
        {"listeners": (Listener(TcpAddress("::1", 25)), Listener(UnixAddress("/run/p"), 0o660))},
    ),
    (["--listen", "unix:/run/p:0600"], {"listeners": (Listener(UnixAddress("/run/p"), 0o600),)}),
    (["--listen", "unix:/run/p"], {"listeners": (Listener(UnixAddress("/run/p"), 0o666),)}),
    (
        ["--listen", "*:25", "--allow", "10.0.0.0/8", "--allow", "2001:db8::/32"],
        {
            "listeners": (Listener(TcpAddress("", 25)),),
            "allow": (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")),
        },
    ),
    (["--stdio"], {"stdio": True}),
    (["--fail-max", "1"], {"health": HealthRules(fail_max=1)}),
    (["--cooldown", "0.5"], {"health": HealthRules(cooldown_s=0.5)}),
    (["--cooldown", "600"], {"health": HealthRules(cooldown_s=600, cooldown_max_s=600)}),
    (["--cooldown-max", "60"], {"health": HealthRules(cooldown_max_s=60)}),
    (["--probe", "tcp"], {"health": HealthRules(probe=Probe.TCP)}),
    (["--probe", "off"], {"health": HealthRules(probe=Probe.OFF)}),
    (["--connect-timeout", ".5"], {"connect_timeout_s": 0.5}),
    (["--deadline", "95"], {"requests": RequestRules(deadline_s=95.0)}),
    (["--max-clients", "5"], {"max_clients": 5}),
    (["--drain", "0"], {"drain_s": 0.0}),
    (["--suspect", "HOLD"], {"requests": RequestRules(suspect_action="HOLD")}),
    (["--hedge", "off"], {"requests": RequestRules(hedge=HEDGE_OFF)}),
    (["--hedge", "auto"], {}),
    (["--hedge", "0.2"], {"requests": RequestRules(hedge=Hedge(after_s=0.2))}),
    (["--affinity", "client_address"], {"requests": RequestRules(affinity=("client_address",))}),
    (["--affinity", "sender,recipient"], {"requests": RequestRules(affinity=("sender", "recipient"))}),
    (["--affinity", "off"], {}),
    (["--fail-rate", "50"], {"health": HealthRules(fail_rate=0.5)}),
    (["--fail-rate", "off"], {"health": HealthRules(fail_rate=1)}),
    (["--probe-every", "60"], {"health": HealthRules(probe_every_s=60)}),
    (["--probe-every", "off"], {}),
    (
        ["--probe-attribute", "sender=a=b", "--probe-attribute", "x="],
        {"probe_attributes": (("sender", "a=b"), ("x", ""))},
    ),
    (["--workers", "3"], {"workers": 3}),
    (["--log", "/var/log/hapolicy.log"], {"log_path": "/var/log/hapolicy.log"}),
]
BAD: list[tuple[list[str], str, str]] = [  # arguments, value, what is wrong with it
    (["-s", "B"], "-s/--service: B", "no NAME= before the address"),
    (["-s", "B=h:25:x"], "-s/--service: B=h:25:x", "prio 'x' is not a whole number"),
    (["-s", "B=h:25::0"], "-s/--service: B=h:25::0", "weight is 0"),
    (["-d", ""], "-d/--default: empty: ", "an empty action; Postfix would answer 451"),
    (["-d", "  "], "-d/--default: empty: ", "an empty action; Postfix would answer 451"),
    (["-d", "a\nb"], "-d/--default: 'a\\nb'", "control character"),
    (["-d", "a\x1b[2J"], "-d/--default: 'a\\x1b[2J'", "control character"),
    (["--allow", "10.0.0.1/8"], "--allow: 10.0.0.1/8", "has host bits set"),
    (["--allow", "here"], "--allow: here", "not an IP network"),
    (["--allow", "::ffff:10.0.0.0/104"], "--allow: ::ffff:10.0.0.0/104", "write 10.0.0.0/8;"),
    (["--allow", "::ffff:10.0.0.1"], "--allow: ::ffff:10.0.0.1", "write 10.0.0.1/32;"),
    (["--http-allow", "::ffff:0:0/96"], "--http-allow: ::ffff:0:0/96", "write 0.0.0.0/0;"),
    (["--fail-max", "0"], "--fail-max: 0", "not a whole number from 1"),
    (["--fail-max", "1.5"], "--fail-max: 1.5", "not a whole number from 1"),
    (["--fail-max", "1000001"], "--fail-max: 1000001", "not a whole number from 1"),
    (["--max-clients", "-1"], "--max-clients: -1", "not a whole number from 1"),
    (["--cooldown", "0"], "--cooldown: 0", "must be above 0 seconds"),
    (["--cooldown-max", "x"], "--cooldown-max: x", "not a number of seconds"),
    (["--connect-timeout", "1e3"], "--connect-timeout: 1e3", "not a number of seconds"),
    (["--deadline", "inf"], "--deadline: inf", "not a number of seconds"),
    (["--deadline", "0.0"], "--deadline: 0.0", "must be above 0 seconds"),
    (["--drain", "nan"], "--drain: nan", "not a number of seconds"),
    (["--probe", "ping"], "--probe: ping", "none of query, tcp, off"),
    (["--log", "file"], "--log: file", "nor the absolute path of a file"),
    (["--hedge", "soon"], "--hedge: soon", "neither auto, off nor a number of seconds above 0"),
    (["--hedge", "0"], "--hedge: 0", "neither auto, off nor a number of seconds above 0"),
    (["--affinity", "a,,b"], "--affinity: a,,b", "'' is not the name of an attribute"),
    (["--fail-rate", "0"], "--fail-rate: 0", "neither off nor a whole number of percent"),
    (["--fail-rate", "101"], "--fail-rate: 101", "neither off nor a whole number of percent"),
    (["--probe-attribute", "sender"], "--probe-attribute: sender", "not NAME=VALUE"),
    (["--probe-attribute", "a=b\nc=d"], "--probe-attribute: 'a=b\\nc=d'", "line end"),
    (["--workers", "65"], "--workers: 65", "from 1 to 64"),
    (["--suspect", ""], "--suspect: empty: ", "an empty action"),
    (["-s", "B=h:25,max=0"], "-s/--service: B=h:25,max=0", "max '0' is not a whole number"),
    (["-s", "B=h:25,most=1"], "-s/--service: B=h:25,most=1", "is not KEY=VALUE; there are: max, hedge, probe"),
    (["-s", "B=h:25,max=1,max=2"], "-s/--service: B=h:25,max=1,max=2", "max= is given twice"),
    (["-s", "B=h:25,hedge=x"], "-s/--service: B=h:25,hedge=x", "hedge 'x' is neither auto, off nor"),
    (["-s", "B=h:25,probe=x"], "-s/--service: B=h:25,probe=x", "probe 'x' is none of query, tcp, off"),
    (["-s", "B=h:25,slow-start=0"], "-s/--service: B=h:25,slow-start=0", "slow-start is 0, it must be above 0"),
    (["-s", "B=h:25,suspect="], "-s/--service: B=h:25,suspect=", "an empty action"),
]


def settings(*arguments: str) -> Settings:
    """What a command line means."""
    return settings_from(parse([*SERVICE, *arguments]), stdin_is_client=False)


@pytest.mark.parametrize(("arguments", "changes"), GOOD, ids=[" ".join(arguments) for arguments, _ in GOOD])
def test_good(arguments: list[str], changes: dict[str, object]) -> None:
    """An option changes its setting and no other one; what is not given has its default."""
    found = settings(*arguments)
    defaults = vars(Settings(services=found.services))
    assert {**defaults, **changes} == vars(found)


@pytest.mark.parametrize(("arguments", "value", "reason"), BAD, ids=[" ".join(case[0]) for case in BAD])
def test_bad(arguments: list[str], value: str, reason: str) -> None:
    """A complaint is one printable line: the option, its value, the reason, an example of a right one."""
    with pytest.raises(UsageError) as caught:
        parse([*SERVICE, *arguments])
    text = str(caught.value)
    assert text.startswith(value)
    assert reason in text
    assert text.isprintable()
    option = value.partition(":")[0]
    assert text.endswith(f"; example: {EXAMPLES[option]}")


SENTENCES = {
    ("--control", "127.0.0.1:1"): "127.0.0.1:1: hapolicyctl needs a unix socket, unix:/path",
    ("--http", "unix:/x"): "unix:/x: a browser and Prometheus need HOST:PORT, not a unix socket",
    ("--allow", "10.0.0.1/8"): "10.0.0.1/8: not a network: the address has host bits set; write 10.0.0.0/8",
    ("--allow", "x"): "x: not an IP network",
    ("--workers", "0"): "0: not a whole number from 1 to 64",
    ("--fail-rate", "x"): "x: neither off nor a whole number of percent from 1 to 100",
    ("--deadline", "0"): "0: must be above 0 seconds",
    ("--drain", "x"): "x: not a number of seconds",
    ("--log", "/tmp/"): "/tmp/: neither auto, journal, stderr, stdout, syslog nor the absolute path of a file",
    ("--probe", "x"): "x: none of query, tcp, off",
    ("--fail-max", "1000001"): "1000001: not a whole number from 1 to 1000000",
    ("--listen", "h:25:x:y"): "h:25:x:y: 'x:y' after the port",
}


@pytest.mark.parametrize(("option", "value"), SENTENCES)
def test_complaints_to_the_letter(option: str, value: str) -> None:
    """One of each kind, in full."""
    with pytest.raises(UsageError) as caught:
        parse([*SERVICE, option, value])
    assert f"{option}: {SENTENCES[option, value]}; example: {EXAMPLES[option]}" == str(caught.value)


@pytest.mark.parametrize(
    ("option", "most", "name", "found"),
    [
        ("--fail-max", "1000000", "health", HealthRules(fail_max=1_000_000)),
        ("--workers", "64", "workers", 64),
        ("--workers", "1", "workers", 1),
        ("--fail-rate", "1", "health", HealthRules(fail_rate=0.01)),
        ("--fail-rate", "100", "health", HealthRules(fail_rate=1.0)),
    ],
)
def test_the_ends_of_a_range_belong_to_it(option: str, most: str, name: str, found: object) -> None:
    """As the complaint says."""
    assert found == getattr(settings(option, most), name)


def test_every_option_that_takes_a_value_has_an_example() -> None:
    """Whoever got one wrong is shown a right one."""
    assert [] == [option.name for option in OPTIONS if option.parse and not option.example]


@pytest.mark.parametrize("example", [*EXAMPLES.values(), *(e for o in OPTIONS for e in o.examples.values())])
def test_examples_are_right(example: str) -> None:
    """What is shown as right is taken."""
    assert isinstance(parse(shlex.split(example)), argparse.Namespace)


@pytest.mark.parametrize("arguments", [["--nonsense"], ["stray"], ["-x", "1"], ["--co", "5"]])
def test_unknown_arguments(arguments: list[str]) -> None:
    """What is no option, or may be several, is a usage error that names it."""
    with pytest.raises(UsageError, match=arguments[0]):
        parse([*SERVICE, *arguments])


def test_unknown_arguments_cannot_write_to_the_terminal() -> None:
    """An unknown argument is shown printable."""
    with pytest.raises(UsageError) as caught:
        parse([*SERVICE, "\x1b[2J"])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("count", ["000000001000000000", "000000001" + "0" * 5000])
def test_zeros_before_a_count_do_not_hide_it(count: str) -> None:
    """A count beyond its limit is refused, however many zeros are before it."""
    with pytest.raises(UsageError, match="not a whole number from 1 to 1000000"):
        parse([*SERVICE, "--max-clients", count])


@pytest.mark.parametrize("option", ["-s", "-d", "--listen", "--fail-max"])
def test_a_value_is_missing(option: str) -> None:
    """An option without its value is a usage error with an example."""
    with pytest.raises(UsageError, match=r"expected one argument; example:"):
        parse([*SERVICE, option])


def test_a_service_that_is_no_text() -> None:
    """Bytes that are no UTF-8 (PEP 383) are refused in the words of the daemon, not of the parser."""
    with pytest.raises(UsageError) as caught:
        parse(["-s", "A=unix:/\udcff"])
    assert "_service" not in str(caught.value)


def test_version_and_help_come_before_all_else(capsys: pytest.CaptureFixture[str]) -> None:
    """--version and --help, be it in short or with other flags, print and end with 0, without any service."""
    options = {
        "--version": "hapolicy 2.",
        "--vers": "hapolicy 2.",
        "--help": "--cooldown-max SECONDS",
        "-lh": "usage: ",
    }
    for option, expected in options.items():
        assert 0 == main([option, "--nonsense"])
        out, err = capsys.readouterr()
        assert (True, "") == (expected in out, err)


def test_printable() -> None:
    """What is printable is shown as it is, else escaped; a space at an end is made visible."""
    shown = {"plain né": "plain né", "\x1b": "'\\x1b'", "\udcff": "'\\udcff'", " a b": "' a b'"}
    assert shown == {text: quoted(text) for text in shown}
