"""Service definitions: every field, its default, and what is wrong with a bad one."""

from __future__ import annotations

from fractions import Fraction

import pytest

from hapolicy.core.address import TcpAddress, UnixAddress
from hapolicy.core.rules import HEDGE_AUTO, HEDGE_OFF, Hedge, Probe
from hapolicy.core.service import Service, ServiceError, parse_service

HOST = TcpAddress("h", 25)
ONE = Fraction(1)

GOOD = {
    "A=h:25": Service("A", HOST, 10, ONE, 30.0),
    "A=h:25:": Service("A", HOST, 10, ONE, 30.0),
    "A=h:25::::"[:-1]: Service("A", HOST, 10, ONE, 30.0),
    "A=h:25:9": Service("A", HOST, 9, ONE, 30.0),
    "A=h:25:0": Service("A", HOST, 0, ONE, 30.0),
    "A=h:25:-5": Service("A", HOST, -5, ONE, 30.0),
    "A=h:25:+5": Service("A", HOST, 5, ONE, 30.0),
    "A=h:25::2": Service("A", HOST, 10, Fraction(2), 30.0),
    "A=h:25::0.5": Service("A", HOST, 10, Fraction(1, 2), 30.0),
    "A=h:25::.125": Service("A", HOST, 10, Fraction(1, 8), 30.0),
    "A=h:25::2.": Service("A", HOST, 10, Fraction(2), 30.0),
    "A=h:25::0.001": Service("A", HOST, 10, Fraction(1, 1000), 30.0),
    "A=h:25:::7.5": Service("A", HOST, 10, ONE, 7.5),
    "A=h:25:9:2:7": Service("A", HOST, 9, Fraction(2), 7.0),
    "A=[::1]:25:9:2:7": Service("A", TcpAddress("::1", 25), 9, Fraction(2), 7.0),
    "A=127.0.0.1:25:9": Service("A", TcpAddress("127.0.0.1", 25), 9, ONE, 30.0),
    "A=db:25::2:7": Service("A", TcpAddress("db", 25), 10, Fraction(2), 7.0),
    "A=unix:/run/p": Service("A", UnixAddress("/run/p"), 10, ONE, 30.0),
    "A=unix:/run/p::2:7": Service("A", UnixAddress("/run/p"), 10, Fraction(2), 7.0),
    "GREY-1.a/b:c@d=h:25": Service("GREY-1.a/b:c@d", HOST, 10, ONE, 30.0),
    "né=h:25": Service("né", HOST, 10, ONE, 30.0),
    "x" * 64 + "=h:25": Service("x" * 64, HOST, 10, ONE, 30.0),
    "A=h:25,max=4": Service("A", HOST, 10, ONE, 30.0, max_connections=4),
    "A=h:25,max=100000": Service("A", HOST, 10, ONE, 30.0, max_connections=100_000),
    "A=h:25,max=000000004": Service("A", HOST, 10, ONE, 30.0, max_connections=4),
    "A=h:25,hedge=off": Service("A", HOST, 10, ONE, 30.0, hedge=HEDGE_OFF),
    "A=h:25,hedge=auto": Service("A", HOST, 10, ONE, 30.0, hedge=HEDGE_AUTO),
    "A=h:25,hedge=0.5": Service("A", HOST, 10, ONE, 30.0, hedge=Hedge(after_s=0.5)),
    "A=h:25,probe=tcp": Service("A", HOST, 10, ONE, 30.0, probe=Probe.TCP),
    "A=h:25,slow-start=20": Service("A", HOST, 10, ONE, 30.0, slow_start_s=20.0),
    "A=h:25,slow-start=0.5": Service("A", HOST, 10, ONE, 30.0, slow_start_s=0.5),
    "A=h:25,suspect=REJECT a=b": Service("A", HOST, 10, ONE, 30.0, suspect_action="REJECT a=b"),
    "A=h:25,suspect=DEFER a,, b,, c": Service("A", HOST, 10, ONE, 30.0, suspect_action="DEFER a, b, c"),
    "A=unix:/run/a,,b,,c:5,max=1,probe=off": Service(
        "A", UnixAddress("/run/a,b,c"), 5, ONE, 30.0, max_connections=1, probe=Probe.OFF
    ),
    "A=h:25,suspect= DUNNO ": Service("A", HOST, 10, ONE, 30.0, suspect_action="DUNNO"),
}
WRITTEN = {
    "A=h:25": "A=h:25:10:1:30",
    "A=h:25:9:100:60": "A=h:25:9:100:60",
    "A=h:25::0.5:7.50": "A=h:25:10:0.5:7.5",
    "A=unix:/run/a,,b:5": "A=unix:/run/a,,b:5:1:30",
    "A=h:25,suspect=DEFER a,, b,slow-start=20.0,probe=tcp,hedge=0.50,max=4": (
        "A=h:25:10:1:30,max=4,hedge=0.5,probe=tcp,slow-start=20,suspect=DEFER a,, b"
    ),
}
_NO_KEY = "after a comma is not KEY=VALUE; there are: max, hedge, probe, slow-start, suspect"
_NO_MAX = "is not a whole number from 1 to 100000"
BAD = {
    "A=h:25\0max=1": "a NUL, which no name, path or action can hold",
    "": "no NAME= before the address",
    "A": "no NAME= before the address",
    "h:25": "no NAME= before the address",
    "=h:25": "no name before '='",
    "A=": "no host and no port",
    "A=25": "no host before the port",
    "A=h": "no port after 'h'",
    "A=:25": "no host before the port",
    "A==h:25": "'=h' is not an IPv4 address, [IPv6] address or host name",
    "A=h:0": "port 0 is not between 1 and 65535",
    "A=h:65536": "port 65536 is not between 1 and 65535",
    "A=h:x": "port 'x' is not a number",
    "A=::1:25": "an IPv6 address needs brackets around it",
    "A=unix:p": "socket path 'p' does not begin with '/'",
    "A=h:25:x": "prio 'x' is not a whole number",
    "A=h:25:1.5": "prio '1.5' is not a whole number",
    "A=h:25: 1": "prio ' 1' is not a whole number",
    "A=h:25:1234567890": "prio '1234567890' is not a whole number",
    "A=h:25::x": "weight 'x' is not a number from 0.001 to 999999.999",
    "A=h:25::-1": "weight '-1' is not a number from 0.001 to 999999.999",
    "A=h:25::1e3": "weight '1e3' is not a number from 0.001 to 999999.999",
    "A=h:25::.": "weight '.' is not a number from 0.001 to 999999.999",
    "A=h:25::0.0001": "weight '0.0001' is not a number from 0.001 to 999999.999",
    "A=h:25::1000000": "weight '1000000' is not a number from 0.001 to 999999.999",
    "A=h:25::nan": "weight 'nan' is not a number from 0.001 to 999999.999",
    "A=h:25::inf": "weight 'inf' is not a number from 0.001 to 999999.999",
    "A=h:25::1/2": "weight '1/2' is not a number from 0.001 to 999999.999",
    "A=h:25::٢": "weight '٢' is not a number from 0.001 to 999999.999",
    "A=h:25::0": "weight is 0, it must be above 0",
    "A=h:25::0.000": "weight is 0, it must be above 0",
    "A=h:25:::0": "timeout is 0, it must be above 0",
    "A=h:25:::x": "timeout 'x' is not a number from 0.001 to 999999.999",
    "A=h:25:1:1:1:x": "too many fields: 'x' comes after the timeout",
    "A=h:25:::::": "too many fields: ':' comes after the timeout",
    "A B=h:25": "name 'A B' is not 1 to 64 printable characters, no spaces",
    "A\n=h:25": "name 'A\\n' is not 1 to 64 printable characters, no spaces",
    "\x1b[2J=h:25": "name '\\x1b[2J' is not 1 to 64 printable characters, no spaces",
    "A=h:25,max": f"'max' {_NO_KEY}",
    "A=h:25,most=4": f"'most=4' {_NO_KEY}",
    "A=h:25,max=4,max=5": "max= is given twice",
    "A=h:25,max=0": f"max '0' {_NO_MAX}",
    "A=h:25,max=100001": f"max '100001' {_NO_MAX}",
    "A=h:25,max=1000000001": f"max '1000000001' {_NO_MAX}",
    "A=h:25,max=0000000012": f"max '0000000012' {_NO_MAX}",
    "A=h:25,max=-1": f"max '-1' {_NO_MAX}",
    "A=h:25,max=٢": f"max '٢' {_NO_MAX}",
    "A=h:25,hedge=soon": "hedge 'soon' is neither auto, off nor a number of seconds above 0",
    "A=h:25,hedge=0": "hedge '0' is neither auto, off nor a number of seconds above 0",
    "A=h:25,probe=smtp": "probe 'smtp' is none of query, tcp, off",
    "A=h:25,slow-start=0": "slow-start is 0, it must be above 0",
    "A=h:25,slow-start=x": "slow-start 'x' is not a number from 0.001 to 999999.999",
    "A=h:25,suspect= ": "an empty action; Postfix would answer 451 4.3.5 to the mail",
    "A=h:25,suspect=a\tb": "the action holds a control character, which would break the answer",
    "x" * 65 + "=h:25": f"name '{'x' * 65}' is not 1 to 64 printable characters, no spaces",
}


@pytest.mark.parametrize(("text", "expected"), GOOD.items())
def test_good(text: str, expected: Service) -> None:
    """A good definition is understood, empty fields as their defaults."""
    assert expected == parse_service(text)


@pytest.mark.parametrize(("text", "reason"), BAD.items())
def test_bad(text: str, reason: str) -> None:
    """A bad one is refused in words that name the field and its value."""
    with pytest.raises(ServiceError) as caught:
        parse_service(text)
    assert reason == str(caught.value)


@pytest.mark.parametrize("text", [*GOOD, "A=h:25::1234.567", "A=h:25::999999.999:", "A=h:25:::86400.125"])
def test_written_and_read_again(text: str) -> None:
    """A service is written so that it is read as the same."""
    service = parse_service(text)
    assert service == parse_service(str(service))


@pytest.mark.parametrize(("text", "written"), WRITTEN.items())
def test_written(text: str, written: str) -> None:
    """In full, but for keys that were not given, in one order; trailing zeros are dropped, those of 100 are not."""
    assert written == str(parse_service(text))


def test_keys_as_they_are_written() -> None:
    """For the status: what the user set, in the user's words."""
    service = parse_service("A=h:25,suspect=a,,b,slow-start=2,probe=off,hedge=off,max=3")
    assert service.keys() == {"max": "3", "hedge": "off", "probe": "off", "slow-start": "2", "suspect": "a,,b"}
    assert {} == parse_service("A=h:25").keys()
    assert {"service": "A", "address": "h:25", "prio": 10, "weight": 1.0} == parse_service("A=h:25").described


def test_a_zone_that_is_no_interface_name() -> None:
    """The zone of an IPv6 address is no way around what a host name may hold."""
    for zone in ("eth0", "eth0.100", "a" * 15):
        assert TcpAddress(f"fe80::1%{zone}", 25) == parse_service(f"A=[fe80::1%{zone}]:25").address
    for zone in ("\x1b[2J", "a..b", ".a", "a.", "a" * 16, "a.b" * 6):
        with pytest.raises(ServiceError):
            parse_service(f"A=[fe80::1%{zone}]:25")
