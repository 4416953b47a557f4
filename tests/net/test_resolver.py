"""Who is told which addresses of a name, and in which order."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from hapolicy.core.address import TcpAddress
from hapolicy.log.eventlog import EventLog
from hapolicy.net import resolver
from hapolicy.net.resolver import Deliver, Resolution, Resolver, Watched
from tests.support.procs import PATIENCE_S, wait_until

OLD, NEW = (Resolution(((socket.AF_INET, (f"192.0.2.{number}", 25)),)) for number in (1, 2))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Resolution]:
    """What the name service says, one after the other; the last for good."""
    answers = [OLD, NEW]
    monkeypatch.setattr(resolver, "look_up", lambda _: answers.pop(0) if len(answers) > 1 else answers[0])
    monkeypatch.setattr(resolver, "REFRESH_PAUSE_S", 0.0)
    return answers


@pytest.fixture
def names(told: list[Resolution], log: EventLog) -> Iterator[Resolver]:
    """A resolver that ends."""
    names = Resolver(log)
    yield names
    names.stop()


def test_what_is_told_last_is_what_is_known(names: Resolver) -> None:
    """To who begins to watch a name, too, while that is looked up: it would ask where the service is no more."""
    address = TcpAddress("a.test", 25)
    before: list[Resolution] = []
    watch = names.watch(address, before.append)
    wait_until(lambda: before, "the first look-up")
    got: list[Resolution] = []
    came = threading.Event()

    def deliver(found: Resolution) -> None:
        if found is OLD:
            watch.refresh()
            assert came.wait(PATIENCE_S)
        got.append(found)
        came.set()

    names.watch(address, deliver)
    assert [OLD, NEW] == before
    assert NEW is got[-1]


def test_a_zone_is_looked_up_again(names: Resolver) -> None:
    """Its interface gets another number when it is made anew."""
    got: list[Resolution] = []
    watch = names.watch(TcpAddress("fe80::1%lo", 25), got.append)
    wait_until(lambda: got == [OLD], "the first look-up")
    watch.refresh()
    wait_until(lambda: got[1:] == [NEW], "another one")


def test_an_interest_that_begins_while_the_last_one_ends(
    names: Resolver, told: list[Resolution], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another worker: the name is looked up on."""
    address = TcpAddress("a.test", 25)
    last = names.watch(address, lambda _: None)
    ender = threading.Thread(target=last.stop)
    add = Watched.add

    def add_late(watched: Watched, deliver: Deliver) -> None:
        ender.start()
        ender.join(0.3)  # it ends here, unless it has to wait for us
        add(watched, deliver)

    monkeypatch.setattr(Watched, "add", add_late)
    got: list[Resolution] = []
    watch = names.watch(address, got.append)
    ender.join()
    wait_until(lambda: got, "the first look-up")
    came = len(got)
    watch.refresh()
    wait_until(lambda: len(got) > came, "another one")
