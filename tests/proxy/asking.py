"""Clients of a pool within this process."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from hapolicy.proxy.pool import Pool
from tests.support.client import PolicyClient


@contextlib.contextmanager
def client_of(pool: Pool) -> Iterator[PolicyClient]:
    """A client of a pool."""
    ours, theirs = socket.socketpair()
    pool.hand_over(ours, "client")
    with PolicyClient(theirs) as client:
        yield client


def ask_at_once(pool: Pool, count: int) -> list[str]:
    """So many clients ask at the same time; returns their answers."""

    def ask(number: int) -> str:
        with client_of(pool) as client:
            return client.ask(instance=f"n{number}")

    with ThreadPoolExecutor(count) as clients:
        return list(clients.map(ask, range(count)))


def service_of(pool: Pool, name: str = "A"):  # type: ignore[no-untyped-def]
    """One service's status."""
    return next(service for service in pool.status().services if service.name == name)
