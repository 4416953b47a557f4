"""A name service that tells what the test says, when it says so, and nothing else; addresses it tells at once."""

from __future__ import annotations

import socket
from typing import cast

import pytest

from hapolicy.core.address import Address, UnixAddress
from hapolicy.net.connect import SocketAddress
from hapolicy.net.resolver import Deliver, Resolution, Watch, Watched
from tests.proxy.ends import Service
from tests.proxy.turns import Turns


class ToldNames:
    """In the place of the resolver, whose threads look names up by a clock of their own."""

    def __init__(self, turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
        self.watched: dict[str, Deliver] = {}
        self.refreshed: list[str] = []  # names that were to be looked up again soon
        self._turns = turns
        monkeypatch.setattr("hapolicy.proxy.pool.Resolver", lambda log: self)

    def watch(self, address: Address, deliver: Deliver) -> Watch:
        """As `Resolver` has it."""
        if isinstance(address, UnixAddress):
            deliver(Resolution(((socket.AF_UNIX, address.path),)))
            return Watch(None, lambda: None)
        name = str(address)
        self.watched[name] = deliver
        return Watch(cast("Watched", _Refresh(self, name)), lambda: self.watched.pop(name) and None)

    def stop(self) -> None:
        """As `Resolver` has it."""

    def tell(self, name: str, *services: Service, error: str = "") -> None:
        """Where `name` leads."""
        addresses: tuple[SocketAddress, ...] = tuple((service.listener.family, service.where) for service in services)
        self.watched[name](Resolution(addresses, error))
        self._turns.turn(2)


class _Refresh:
    def __init__(self, names: ToldNames, name: str) -> None:
        self._names = names
        self._name = name

    def refresh(self) -> None:
        self._names.refreshed.append(self._name)
