"""The same sender to the same service, on every host and after every restart."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from types import SimpleNamespace

import pytest

from hapolicy.core.affinity import key_of, network_of, score
from hapolicy.core.failures import FailureKind
from hapolicy.core.rules import RequestRules
from hapolicy.core.scheduler import Scheduler
from tests.core.test_scheduler import Member
from tests.core.world import World


def keys() -> list[bytes]:
    """2,000 clients, each in a network of its own."""
    return [key_of([("client_address", f"10.{n // 250}.{n % 250}.7".encode())]) or b"" for n in range(2000)]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.77", True),
        ("unknown", "unknown", True),
        ("192.0.2.1x", "192.0.2.2x", False),
    ],
)
def test_networks(one: str, other: str, same: bool) -> None:
    """IPv4 by its /24, IPv6 by its /64, all else as it is: as greylisters do."""
    assert same == (network_of(one.encode()) == network_of(other.encode()))


def test_an_empty_attribute_takes_a_turn() -> None:
    """There is nothing to hash; and values cannot run into each other."""
    assert None is key_of([("sender", b""), ("recipient", b"x@example.com")])
    assert key_of([("a", b"bc"), ("d", b"e")]) != key_of([("a", b"b"), ("d", b"ce")])
    assert key_of([("sender", b"A@Example.com")]) == key_of([("sender", b"a@example.com")]) == b"a@example.com"


def test_a_clients_network_is_hashed_and_nothing_else_as_one() -> None:
    """A helo that looks like an address is a helo. What is hashed never changes: it is the same on every host."""
    assert key_of([("client_address", b"192.0.2.1"), ("sender", b"a@b")]) == b"\xc0\x00\x02\0a@b"
    assert key_of([("helo_name", b"192.0.2.1")]) == b"192.0.2.1"
    assert key_of([("client_address", b"192.0.2.1")]) == key_of([("client_address", b"192.0.2.99")])


def test_the_hash_is_the_same_everywhere() -> None:
    """Computed here once more, by hand: it depends on nothing but the name and the key."""
    digest = hashlib.blake2b(b"key", digest_size=8, key=b"GREY1").digest()
    expected = -2.0 / math.log((int.from_bytes(digest, "big") + 0.5) / 2**64)
    assert expected == score("GREY1", b"key", 2.0)


def test_a_long_name_is_hashed_by_its_first_64_bytes() -> None:
    """blake2b's keys are no longer."""
    assert score("\N{SNOWMAN}" * 64, b"key", 1.0) == score("\N{SNOWMAN}" * 21 + "\N{SNOWMAN}", b"key", 1.0)
    assert score("x" * 64, b"key", 1.0) != score("x" * 63, b"key", 1.0)


def test_shares_by_weight() -> None:
    """2,000 clients over weights 2:1:1, within 5 %."""
    tier = [Member("A", 2), Member("B"), Member("C")]
    scheduler = Scheduler(tier)
    taken = Counter(str(scheduler.first(key)) for key in keys())
    for name, share in {"A": 0.5, "B": 0.25, "C": 0.25}.items():
        assert abs(taken[name] / 2000 - share) < 0.05 * (1 if name == "A" else 0.5) + 0.0125


def test_the_same_after_a_restart_and_on_another_host() -> None:
    """Another scheduler, its services named in another order."""
    tier = [Member("A", 2), Member("B"), Member("C")]
    one, other = Scheduler(tier), Scheduler(tier[::-1])
    assert [str(one.first(key)) for key in keys()] == [str(other.first(key)) for key in keys()]


@pytest.mark.parametrize("trouble", ["available", "silent"])
def test_only_the_clients_of_a_dead_service_move_and_they_come_back(trouble: str) -> None:
    """The others stay where they were."""
    tier = [Member("A", 2), Member("B"), Member("C")]
    scheduler = Scheduler(tier)
    before = {key: str(scheduler.first(key)) for key in keys()}
    setattr(tier[1], trouble, trouble == "silent")
    scheduler.changed()
    during = {key: str(scheduler.first(key)) for key in keys()}
    assert {"B"} == {before[key] for key in before if before[key] != during[key]}
    assert {"A", "C"} == {during[key] for key in before if before[key] == "B"}
    setattr(tier[1], trouble, trouble != "silent")
    scheduler.changed()
    assert before == {key: str(scheduler.first(key)) for key in keys()}


def test_without_a_key_turns_decide() -> None:
    """As without --affinity."""
    scheduler = Scheduler([Member("A"), Member("B")])
    assert ["A", "B", "A", "B"] == [str(scheduler.first(None)) for _ in range(4)]


def test_the_next_try_is_the_senders_too() -> None:
    """Of those whose service fails some come to the one, some to the other, as they do on every host."""
    world = World("A=h:1", "B=h:2", "C=h:3", rules=RequestRules(affinity=("client_address",)))
    next_of: dict[str, set[str]] = {name: set() for name in "ABC"}
    for number in range(60):
        world.ask(f"10.0.{number}.1")
        (first,) = world.sent
        world.fail(first, FailureKind.UNRESOLVED)
        next_of[first.upstream.name].add(world.sent[0].upstream.name)
        world.answer_all()
    assert {"A": {"B", "C"}, "B": {"A", "C"}, "C": {"A", "B"}} == next_of


@pytest.mark.parametrize("digest", [bytes(8), b"\xff" * 8])
def test_the_ends_of_the_hash_are_scores_too(monkeypatch: pytest.MonkeyPatch, digest: bytes) -> None:
    """Neither is rounded to a share of 0 or 1, which have no logarithm or a useless one."""
    monkeypatch.setattr(hashlib, "blake2b", lambda *_, **__: SimpleNamespace(digest=lambda: digest))
    assert 0 < score("A", b"key", 1.0) < math.inf
