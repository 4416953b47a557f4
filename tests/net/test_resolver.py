"""Host names: looked up aside, never waited for longer than a request can."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hapolicy.core.address import TcpAddress, UnixAddress
from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.net.resolver import FRESH_S, Resolver
from tests.proxy.racing import race
from tests.proxy.scripted import REQUEST, Full, Scripted, refusing, well
from tests.support.fixtures import MakeUpstream
from tests.support.procs import SLACK_S, wait_until

NAME = TcpAddress("policy.example", 10031)


def entry(host: str, port: int = 10031) -> tuple[Any, ...]:
    """One result as getaddrinfo gives it."""
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)


class Names:
    """A name service: `answer` is what it says, after `silent` is not set any more."""

    def __init__(self) -> None:
        self.answer: list[tuple[Any, ...]] | OSError = []
        self.asked: list[tuple[str, int]] = []
        self.speaks = threading.Event()
        self.speaks.set()

    def getaddrinfo(self, host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        """In the place of the real one."""
        self.asked.append((host, port))
        self.speaks.wait(10)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """A name service in the place of the host's."""
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    yield names
    names.speaks.set()


class Clock:
    """The time that a resolver sees."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        """Now."""
        return self.time


def unresolvable(resolver: Resolver, timeout_s: float = 5.0) -> ServiceFailure:
    """How a look-up fails."""
    with pytest.raises(ServiceFailure) as caught:
        resolver.addresses(timeout_s)
    assert FailureKind.UNRESOLVABLE is caught.value.kind
    return caught.value


def test_literals_are_not_looked_up_later() -> None:
    """IPv4, IPv6 and unix addresses are known from the start."""
    assert ((socket.AF_INET, ("127.0.0.1", 25)),) == Resolver(TcpAddress("127.0.0.1", 25)).addresses(0)
    assert ((socket.AF_INET6, ("::1", 25, 0, 0)),) == Resolver(TcpAddress("::1", 25)).addresses(0)
    assert ((socket.AF_UNIX, "/run/p"),) == Resolver(UnixAddress("/run/p")).addresses(0)


def test_an_unknown_zone_does_not_end_the_daemon(make_upstream: MakeUpstream) -> None:
    """An interface that is not there (yet) makes the service unresolvable, as an unknown name does."""
    upstream = make_upstream("A=[fe80::1%nosuchif]:25")
    with pytest.raises(ServiceFailure):
        upstream.ask(REQUEST, time.monotonic() + 5)


def test_what_python_cannot_encode_is_unresolvable() -> None:
    """The idna codec refuses an empty label, be it one of a zone."""
    resolver = Resolver(TcpAddress("fe80::1%a..b", 25))
    with pytest.raises(ServiceFailure) as caught:
        resolver.addresses(5)
    assert FailureKind.UNRESOLVABLE is caught.value.kind


def test_all_addresses_of_a_name(names: Names) -> None:
    """In the order in which the name service gave them, and not asked for again while they are fresh."""
    clock = Clock()
    resolver = Resolver(NAME, clock)
    names.answer = [entry("10.0.0.1"), entry("10.0.0.2")]
    expected = ((socket.AF_INET, ("10.0.0.1", 10031)), (socket.AF_INET, ("10.0.0.2", 10031)))
    for _ in range(5):
        assert expected == resolver.addresses(5)
        clock.time += FRESH_S / 6
    assert [("policy.example", 10031)] == names.asked


def test_a_name_without_an_address(names: Names) -> None:
    """Fails with the name service's own words, and is looked up again for the next request."""
    resolver = Resolver(NAME)
    names.answer = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert "Name or service not known" == unresolvable(resolver).error
    names.answer = [entry("10.0.0.1")]
    assert ((socket.AF_INET, ("10.0.0.1", 10031)),) == resolver.addresses(5)


def test_a_hanging_look_up_is_not_waited_for(names: Names) -> None:
    """Longer than a request can; the answer serves the next ones."""
    resolver = Resolver(NAME)
    names.answer = [entry("10.0.0.1")]
    names.speaks.clear()
    start = time.monotonic()
    assert "no answer" in unresolvable(resolver, 0.2).error
    assert 0.19 <= time.monotonic() - start < 0.2 + SLACK_S
    unresolvable(resolver, 0.0)
    unresolvable(resolver, -1.0)
    names.speaks.set()
    assert 1 == len(resolver.addresses(5))
    assert 1 == len(names.asked)


def test_one_look_up_for_all_who_wait(names: Names) -> None:
    """Sixteen requests that wait for the same name ask once."""
    resolver = Resolver(NAME)
    names.answer = [entry("10.0.0.1")]
    names.speaks.clear()
    threading.Timer(0.1, names.speaks.set).start()
    found: list[object] = []
    race(*[lambda: found.append(resolver.addresses(5))] * 16)
    assert [((socket.AF_INET, ("10.0.0.1", 10031)),)] * 16 == found
    assert 1 == len(names.asked)


def test_known_addresses_serve_while_a_look_up_hangs(names: Names) -> None:
    """Nobody waits for a new look-up of a name whose addresses are known."""
    clock = Clock()
    resolver = Resolver(NAME, clock)
    names.answer = [entry("10.0.0.1")]
    known = resolver.addresses(5)
    clock.time += FRESH_S + 1
    names.speaks.clear()
    names.answer = [entry("10.0.0.2")]
    start = time.monotonic()
    assert [known] * 100 == [resolver.addresses(5) for _ in range(100)]
    assert time.monotonic() - start < SLACK_S
    assert 2 == len(names.asked)
    names.speaks.set()
    wait_until(lambda: resolver.addresses(5) != known, "the new address")
    assert ((socket.AF_INET, ("10.0.0.2", 10031)),) == resolver.addresses(5)


@pytest.mark.parametrize("answer", [socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), OSError(5, "x"), []])
def test_known_addresses_survive_a_failed_look_up(names: Names, answer: list[tuple[Any, ...]] | OSError) -> None:
    """A name service that is away does not take its names with it."""
    clock = Clock()
    resolver = Resolver(NAME, clock)
    names.answer = [entry("10.0.0.1")]
    known = resolver.addresses(5)
    names.answer = answer
    for _ in range(3):
        clock.time += FRESH_S + 1
        before = len(names.asked)
        assert known == resolver.addresses(5)
        wait_until(lambda seen=before: len(names.asked) > seen, "a look-up")  # type: ignore[misc]
        assert known == resolver.addresses(5)


def test_a_name_that_no_name_service_takes(make_upstream: MakeUpstream) -> None:
    """A label beyond what IDNA encodes is unresolvable, not a crash."""
    resolver = Resolver(TcpAddress("x" * 64 + ".example", 25))
    unresolvable(resolver)


def test_unresolvable_in_use(make_upstream: MakeUpstream, names: Names) -> None:
    """A request to such a service fails as unresolvable, within its connect timeout."""
    names.speaks.clear()
    upstream = make_upstream("A=policy.example:25", connect_timeout_s=0.2)
    start = time.monotonic()
    with pytest.raises(ServiceFailure) as caught:
        upstream.ask(REQUEST, start + 10)
    assert FailureKind.UNRESOLVABLE is caught.value.kind
    assert 0.19 <= time.monotonic() - start < 0.2 + SLACK_S


def test_several_addresses_in_use(make_upstream: MakeUpstream, names: Names) -> None:
    """A name's second address is tried when the first refuses, the third when the second is a black hole."""
    with Full() as full, Scripted(well()) as service:
        refused = refusing().rpartition(":")
        names.answer = [entry(refused[0], int(refused[2])), entry(*full.where), entry(*service.where)]
        upstream = make_upstream("A=policy.example:25", connect_timeout_s=0.6)
        start = time.monotonic()
        assert b"action=DUNNO\n\n" == upstream.ask(REQUEST, start + 10)
        assert 0.29 <= time.monotonic() - start < 0.3 + SLACK_S
