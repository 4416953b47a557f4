"""All the ways to get an address wrong, as `hapolicy --check` answers: what is wrong, and a right one of that kind."""

from __future__ import annotations

import os

import pytest

from hapolicy.cli import main

LONG = "unix:/" + "x" * 107

LISTEN = "--listen 127.0.0.1:10060"
LISTEN_IPV6 = "--listen [::1]:10060"
LISTEN_UNIX = "--listen unix:/run/hapolicy/policy.sock:660"
CONTROL = "--control unix:/run/hapolicy/control.sock"
HTTP = "--http 127.0.0.1:10061"
HTTP_IPV6 = "--http [::1]:10061"
SERVICE = "-s GREY1=10.0.0.1:10031:10"
SERVICE_IPV6 = "-s GREY1=[2001:db8::1]:10031:10"
SERVICE_UNIX = "-s GREY1=unix:/run/grey1.sock:10"

NO_HOST, BOTH_MISSING = "no host before the port", "no host and no port"
BRACKETS = "an IPv6 address needs brackets around it"
NEEDS_UNIX, NEEDS_TCP = "hapolicyctl needs a unix socket", "need HOST:PORT, not a unix socket"
NOT_A_MODE = "is not three octal digits such as 660"

WRONG = [  # option, what it was given, what is wrong with it, what is shown as right
    ("--listen", "", BOTH_MISSING, LISTEN),
    ("--listen", ":", BOTH_MISSING, LISTEN),
    ("--listen", "10060", NO_HOST, LISTEN),
    ("--listen", "127.0.0.1", "no port after '127.0.0.1'", LISTEN),
    ("--listen", "localhost:", "no port after 'localhost'", LISTEN),
    ("--listen", "127.0.0.1:70000", "port 70000 is not between 0 and 65535", LISTEN),
    ("--listen", "127.0.0.1:abc", "port 'abc' is not a number", LISTEN),
    ("--listen", "127.0.0.1:10060:660", "'660' after the port", LISTEN),
    ("--listen", " 127.0.0.1:10060", "a space in ' 127.0.0.1:10060'", LISTEN),
    ("--listen", "127.0.0.1 10060", "a space in '127.0.0.1 10060'", LISTEN),
    ("--listen", "300.0.0.1:10060", "'300.0.0.1' is not an IPv4 address", LISTEN),
    ("--listen", "inet:127.0.0.1:10060", "'inet:' does not belong before it", LISTEN),
    ("--listen", "::1", BRACKETS, LISTEN_IPV6),
    ("--listen", "::1:10060", BRACKETS, LISTEN_IPV6),
    ("--listen", "[::1]", "no port after '[::1]'", LISTEN_IPV6),
    ("--listen", "[::1:10060", "'[' without ']'", LISTEN_IPV6),
    ("--listen", "[::1]10060", "'10060' after ']'", LISTEN_IPV6),
    ("--listen", "[fe80::1%a..b]:10060", "'fe80::1%a..b' in brackets is not an IPv6 address", LISTEN_IPV6),
    ("--listen", "unix:", "no path after 'unix:'", LISTEN_UNIX),
    ("--listen", "unix:run/p", "socket path 'run/p' does not begin with '/'", LISTEN_UNIX),
    ("--listen", "unix: /run/p", "socket path ' /run/p' does not begin with '/'", LISTEN_UNIX),
    ("--listen", "unix:/run/p ", "socket path '/run/p ' ends with a space", LISTEN_UNIX),
    ("--listen", " unix:/run/p", "a space in ' unix:/run/p'", LISTEN_UNIX),
    ("--listen", "unix :/run/p", "a space in 'unix :/run/p'", LISTEN_UNIX),
    ("--listen", "/run/p", "a socket path needs 'unix:' before it", LISTEN_UNIX),
    ("--listen", LONG, "socket path of 108 bytes, and the kernel takes at most 107", LISTEN_UNIX),
    ("--listen", "unix:/run/p:999", f"mode '999' {NOT_A_MODE}", LISTEN_UNIX),
    ("--listen", "unix:/run/p:66", f"mode '66' {NOT_A_MODE}", LISTEN_UNIX),
    ("--listen", "unix:/run/p:", f"mode '' {NOT_A_MODE}", LISTEN_UNIX),
    ("--listen", "unix:/run/p:660:1", f"mode '660:1' {NOT_A_MODE}", LISTEN_UNIX),
    ("--control", "", NEEDS_UNIX, CONTROL),
    ("--control", "10060", NEEDS_UNIX, CONTROL),
    ("--control", "127.0.0.1:10060", NEEDS_UNIX, CONTROL),
    ("--control", "[::1]:10060", NEEDS_UNIX, CONTROL),
    ("--control", "unix.example:10060", NEEDS_UNIX, CONTROL),
    ("--control", "/run/p", "a socket path needs 'unix:' before it", CONTROL),
    ("--control", "unix:run/p", "socket path 'run/p' does not begin with '/'", CONTROL),
    ("--control", LONG, "socket path of 108 bytes", CONTROL),
    ("--control", "unix:/run/p:rw", f"mode 'rw' {NOT_A_MODE}", CONTROL),
    ("--http", "", BOTH_MISSING, HTTP),
    ("--http", "10061", NO_HOST, HTTP),
    ("--http", "localhost", "no port after 'localhost'", HTTP),
    ("--http", "http://127.0.0.1:10061/", "'http:' does not belong before it", HTTP),
    ("--http", "::1:10061", BRACKETS, HTTP_IPV6),
    ("--http", "unix:/run/p", NEEDS_TCP, HTTP),
    ("--http", "unix:", NEEDS_TCP, HTTP),
    ("--http", "/run/p", NEEDS_TCP, HTTP),
    ("-s", "", "no NAME= before the address", SERVICE),
    ("-s", "10.0.0.1:25", "no NAME= before the address", SERVICE),
    ("-s", "unix:/run/p", "no NAME= before the address", SERVICE_UNIX),
    ("-s", "A=", BOTH_MISSING, SERVICE),
    ("-s", "A=10031", NO_HOST, SERVICE),
    ("-s", "A=:10031", NO_HOST, SERVICE),
    ("-s", "A=10.0.0.1", "no port after '10.0.0.1'", SERVICE),
    ("-s", "A=10.0.0.1:0", "port 0 is not between 1 and 65535", SERVICE),
    ("-s", "A=10.0.0.1: 25", "a space in '10.0.0.1: 25'", SERVICE),
    ("-s", "A=10.0.0.1:25::0", "weight is 0", SERVICE),
    ("-s", "A=tcp:10.0.0.1:25", "'tcp:' does not belong before it", SERVICE),
    ("-s", "A=::1:25", BRACKETS, SERVICE_IPV6),
    ("-s", "A=2001:db8::1", BRACKETS, SERVICE_IPV6),
    ("-s", "A=[fe80::1%a..b]:25", "'fe80::1%a..b' in brackets is not an IPv6 address", SERVICE_IPV6),
    ("-s", "A=fd12:3456::7", f"{BRACKETS}; for a host of that name leave no field empty", SERVICE_IPV6),
    ("-s", "A=unix:", "no path after 'unix:'", SERVICE_UNIX),
    ("-s", "A=unix:run/p", "socket path 'run/p' does not begin with '/'", SERVICE_UNIX),
    ("-s", "A=/run/p", "a socket path needs 'unix:' before it", SERVICE_UNIX),
    ("-s", f"A={LONG}", "socket path of 108 bytes", SERVICE_UNIX),
    ("-s", "A=unix:/run/p:rw", "prio 'rw' is not a whole number", SERVICE_UNIX),
]


@pytest.mark.parametrize(("option", "given", "reason", "right"), WRONG)
def test_a_wrong_address(capsys: pytest.CaptureFixture[str], option: str, given: str, reason: str, right: str) -> None:
    """One line: the option, what it was given in a way that can be seen, what is wrong, and how it should look."""
    assert os.EX_USAGE == main(["--check", "-s", "B=h:25", option, given])
    out, err = capsys.readouterr()
    assert ("", 1, True) == (out, err.count("\n"), err.strip().isprintable())
    named = "-s/--service" if option == "-s" else option
    shown = "empty" if not given else repr(given) if given != given.strip() else given
    assert err.startswith(f"hapolicy: {named}: {shown}: ")
    assert reason in err
    assert err.endswith(f"; example: {right}\n")
