"""Two MX hosts and two greylisters without a common database: where does a sender's retry arrive?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.postfix import Postfix, check
from tests.e2e.services import Postgrey
from tests.e2e.smtp import ask_recipient
from tests.support.daemon import Daemon

SENDERS = 100
DELAY_S = 2
RETRY_S = 3.0


@contextlib.contextmanager
def two_mx(folder: Path, *options: str) -> Iterator[tuple[int, int]]:
    """Two Postfix, each with a hapolicy of its own, and the two postgreys that both of these ask; gives the ports."""
    with contextlib.ExitStack() as stack:
        greys = [stack.enter_context(Postgrey(name, folder, DELAY_S)) for name in ("grey1", "grey2")]
        services = [word for grey in greys for word in ("-s", f"{grey.name}={grey.address}")]
        ports = []
        for name in ("mx1", "mx2"):
            home = folder / name
            home.mkdir(mode=0o755)
            daemon = stack.enter_context(Daemon(*services, "-d", "DEFER none", *options))
            postfix = Postfix(home)
            ports.append(postfix.add_smtpd(check(daemon.address)))
            stack.enter_context(postfix)
        yield ports[0], ports[1]


def deliver(port: int) -> int:
    """Each sender, from a network of its own, names its recipient; returns how many were let through."""

    def one(number: int) -> bool:
        sender, client = f"s{number}@example.invalid", f"198.18.{number}.7"
        return ask_recipient(port, sender=sender, client=client).code == 250

    with ThreadPoolExecutor(10) as senders:
        return sum(senders.map(one, range(SENDERS)))


@pytest.mark.parametrize("options", [("--affinity", "client_address"), ()], ids=["affinity", "turns"])
def test_a_retry_at_the_other_mx(folder: Path, options: tuple[str, ...]) -> None:
    """With affinity it meets the greylister that has seen the first try; by turns it may be greylisted once more."""
    with two_mx(folder, *options) as (first, second):
        assert 0 == deliver(first)
        time.sleep(RETRY_S)
        passed = deliver(second)
    print(f"{passed} of {SENDERS} passed at the first retry, {' '.join(options) or 'by turns'}")
    if options:
        assert SENDERS == passed
    else:
        assert 0 < passed < SENDERS
