"""Addresses: what is one, what is none and why."""

from __future__ import annotations

import contextlib
from ipaddress import IPv6Address

import pytest

from hapolicy.core.address import (
    Address,
    AddressError,
    TcpAddress,
    UnixAddress,
    kind_of,
    parse_address,
    split_address,
)

LONGEST_NAME = ".".join(["x" * 49] * 5) + ".xyz"  # 253 characters (RFC 1035, without the root's dot)
GOOD: dict[str, Address] = {
    "127.0.0.1:10031": TcpAddress("127.0.0.1", 10031),
    "10.0.0.1:1": TcpAddress("10.0.0.1", 1),
    "10.0.0.1:65535": TcpAddress("10.0.0.1", 65535),
    "[::1]:10031": TcpAddress("::1", 10031),
    "[2001:DB8:0::1]:25": TcpAddress("2001:db8::1", 25),
    "[::ffff:10.0.0.1]:25": TcpAddress(str(IPv6Address("::ffff:10.0.0.1")), 25),
    "localhost:25": TcpAddress("localhost", 25),
    "grey-1.example.com:25": TcpAddress("grey-1.example.com", 25),
    "grey_1.example.com.:25": TcpAddress("grey_1.example.com.", 25),
    "1and1.example:25": TcpAddress("1and1.example", 25),
    "http:25": TcpAddress("http", 25),
    "unix.example:25": TcpAddress("unix.example", 25),
    ":25": TcpAddress("", 25),
    "h:0025": TcpAddress("h", 25),
    "h:0000000025": TcpAddress("h", 25),
    f"{LONGEST_NAME}:25": TcpAddress(LONGEST_NAME, 25),
    "unix:/run/policy": UnixAddress("/run/policy"),
    "unix:/run/with space/ü": UnixAddress("/run/with space/ü"),
    "unix:/" + "x" * 106: UnixAddress("/" + "x" * 106),
    "unix:/" + "ü" * 53: UnixAddress("/" + "ü" * 53),
}
BAD = {
    "": "no host and no port",
    ":": "no host and no port",
    "10060": "no host before the port",
    "10.0.0.1": "no port after '10.0.0.1'",
    "10.0.0.1:": "no port after '10.0.0.1'",
    "[::1]": "no port after '[::1]'",
    "[::1]:": "no port after '[::1]'",
    "[::1": "'[' without ']'",
    "[::1]25": "'25' after ']' where ':PORT' should be",
    "::1:25": "an IPv6 address needs brackets around it",
    "::1": "an IPv6 address needs brackets around it",
    "2001:db8::1": "an IPv6 address needs brackets around it",
    "2001:123::1": "an IPv6 address needs brackets around it",
    "2001:db8::1:25": "an IPv6 address needs brackets around it",
    "[10.0.0.1]:25": "'10.0.0.1' in brackets is not an IPv6 address",
    "[]:25": "'' in brackets is not an IPv6 address",
    "[::1::]:25": "'::1::' in brackets is not an IPv6 address",
    "10.0.0.256:25": "'10.0.0.256' is not an IPv4 address",
    "10.0.0:25": "'10.0.0' is not an IPv4 address",
    "10.0.0.1.:25": "'10.0.0.1.' is not an IPv4 address",
    "010.0.0.1:25": "'010.0.0.1' is not an IPv4 address",
    "-h:25": "'-h' is not an IPv4 address, [IPv6] address or host name",
    "h-.example:25": "'h-.example' is not an IPv4 address, [IPv6] address or host name",
    "h..example:25": "'h..example' is not an IPv4 address, [IPv6] address or host name",
    "a b:25": "a space in 'a b:25'",
    "h\n:25": "a space in 'h\\n:25'",
    "h 25": "a space in 'h 25'",
    " unix:/run/policy": "a space in ' unix:/run/policy'",
    "ü.example:25": "'ü.example' is not an IPv4 address, [IPv6] address or host name",
    "*:25": "'*' is not an IPv4 address, [IPv6] address or host name",
    "x" * 64 + ":25": f"'{'x' * 64}' is not an IPv4 address, [IPv6] address or host name",
    f"x{LONGEST_NAME}:25": f"'x{LONGEST_NAME}' is not an IPv4 address, [IPv6] address or host name",
    "unix:/a\0b": "NUL in the socket path",
    "unix:/a\x1bb": "the socket path contains an unprintable character",
    "[::1]]:25": "']:25' after ']' where ':PORT' should be",
    "h:smtp": "port 'smtp' is not a number",
    "h:-1": "port '-1' is not a number",
    "h:25 ": "a space in 'h:25 '",
    "h:٢٥": "port '٢٥' is not a number",
    "h:0": "port 0 is not between 1 and 65535",
    "h:65536": "port 65536 is not between 1 and 65535",
    "h:9999999999": "port 9999999999 is not between 1 and 65535",
    "unix": "no path after 'unix:'",
    "unix:": "no path after 'unix:'",
    "unix:run/policy": "socket path 'run/policy' does not begin with '/'",
    "unix:/run/policy ": "socket path '/run/policy ' ends with a space",
    "unix:/" + "x" * 107: "socket path of 108 bytes, and the kernel takes at most 107",
    "unix:/" + "ü" * 54: "socket path of 109 bytes, and the kernel takes at most 107",
    "/run/policy": "a socket path needs 'unix:' before it",
    "Unix:/run/policy": "a socket path needs 'unix:' before it",
    "inet:10.0.0.1:25": "'inet:' does not belong before it",
    "tcp:10.0.0.1:25": "'tcp:' does not belong before it",
    "http://10.0.0.1:25/": "'http:' does not belong before it",
}


def parse(text: str, lowest_port: int = 1) -> Address:
    """The address in `text`, with nothing behind it."""
    where, more = split_address(text)
    assert [] == more
    return parse_address(*where, lowest_port)


@pytest.mark.parametrize(("text", "expected"), GOOD.items())
def test_good(text: str, expected: Address) -> None:
    """A good address is understood, and written so that it is understood again."""
    assert expected == parse(text)
    assert expected == parse(str(expected))


@pytest.mark.parametrize(("text", "reason"), BAD.items())
def test_bad(text: str, reason: str) -> None:
    """A bad one is refused in words."""
    with pytest.raises(AddressError) as caught:
        parse(text)
    assert reason == str(caught.value)


@pytest.mark.parametrize("port", ["000000080000", "0000000010000000", "0" * 5000 + "25", "000000001" + "0" * 5000])
def test_zeros_before_a_port_do_not_hide_it(port: str) -> None:
    """A port is between 1 and 65535 however many zeros are before it, or it is refused."""
    try:
        address = parse(f"h:{port}")
    except AddressError:
        return
    assert isinstance(address, TcpAddress)
    assert 1 <= address.port <= 65535


def test_a_path_that_is_no_text() -> None:
    """Bytes on the command line that are no UTF-8 (PEP 383) make an address or an AddressError."""
    with contextlib.suppress(AddressError):
        assert isinstance(parse("unix:/run/\udcff"), UnixAddress)


def test_nul_in_a_path() -> None:
    """A path with a NUL byte is refused, for that."""
    with pytest.raises(AddressError, match="NUL"):
        parse("unix:/run/a\0b")


def test_port_0_only_where_it_is_allowed() -> None:
    """To listen, port 0 lets the kernel choose."""
    assert TcpAddress("127.0.0.1", 0) == parse("127.0.0.1:0", lowest_port=0)
    with pytest.raises(AddressError, match="65536 is not between 0 and 65535"):
        parse("127.0.0.1:65536", lowest_port=0)


def test_what_comes_after_the_address() -> None:
    """Further fields are handed back, empty ones too; colons in brackets do not split."""
    assert (("h", "25"), ["", "2", ""]) == split_address("h:25::2:")
    assert (("[::1]", "25"), ["10"]) == split_address("[::1]:25:10")
    assert (("unix", "/p"), ["660"]) == split_address("unix:/p:660")


IPV6 = ["fd00:1::5:10031", "2001:123::1:25", "db8:25::1:25", "fe80:1::2:25", "1:2::3:25", "64:25::1"]
IPV6 += ["fd12:3456::7", "fd00:1:2::5", "FD12:3456::7", "fd00:1::", "2001:db8:0:0:0:0:0:1", "db:a::1"]


@pytest.mark.parametrize("text", IPV6)
def test_what_reads_as_an_ipv6_address_is_never_a_host_name(text: str) -> None:
    """Brackets forgotten must not make a host "fd00" of it, with weight 5 and a timeout of 10031 s."""
    with pytest.raises(AddressError, match="brackets"):
        split_address(text)


def test_what_may_be_either_is_told_how_to_write_the_other() -> None:
    """A host whose name is three or four hex digits needs its prio written out; then it is understood."""
    with pytest.raises(AddressError, match="needs brackets around it; for a host of that name leave no field empty"):
        split_address("cafe:25::5")
    assert (("cafe", "25"), ["10", "5"]) == split_address("cafe:25:10:5")


SHORT = ["db:25:10:5:3", "cafe:25", "db:10031::5", "db:10031:::3", "a:1::2", "db:25::2:30", "be:25:::30", "fd:25::2"]


@pytest.mark.parametrize("text", SHORT)
def test_a_short_host_name_of_hex_digits_is_one(text: str) -> None:
    """No IPv6 address in use begins with a group as short as that."""
    host, port, *more = text.split(":")
    assert ((host, port), more) == split_address(text)


def test_literals_need_no_look_up() -> None:
    """Only a host name has to be looked up."""
    assert [True, True, False] == [
        address.is_literal for address in (TcpAddress("10.0.0.1", 1), TcpAddress("::1", 1), TcpAddress("h", 1))
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [("[10.0.0.1]:25", "tcp"), ("h:25", "tcp"), ("[::1", "ipv6"), ("::1:25", "ipv6"), ("unix", "unix"), ("/p", "unix")],
)
def test_the_example_is_of_the_kind_that_was_meant(text: str, kind: str) -> None:
    """Also of what is wrong: brackets alone make no IPv6 address."""
    assert kind == kind_of(text)
