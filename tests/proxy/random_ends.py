"""The other ends of a random life: services that come and go, clients that check their answers."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
from collections import deque
from pathlib import Path
from typing import Any, Protocol

from tests.proxy.turns import Turns
from tests.support.client import request

LATE_S = 0.1


class World(Protocol):
    """What a client must know of the rest."""

    turns: Turns
    ending: bool
    deadline_max_s: float
    stood_until: float

    @property
    def now(self) -> float:
        """The rig's time."""


class Service:
    """A policy service that may come and go; what it says names the request."""

    def __init__(self, folder: Path, name: str, *, tcp: bool) -> None:
        self.name, self.tcp = name, tcp
        self.path = str(folder / name)
        self.where: Any = self.path
        self.listener: socket.socket | None = None
        self.held: socket.socket | None = None  # while it does not listen, nobody else gets its port
        self.links: list[Link] = []
        self.fillers: list[socket.socket] = []
        self.full = False
        self.start()
        self.address = f"127.0.0.1:{self.where[1]}" if tcp else f"unix:{self.path}"

    def start(self) -> None:
        """Listen, again at the same place."""
        if self.listener is not None:
            return
        self.listener, self.held = self.held or self.bound(), None
        self.listener.setblocking(False)
        self.listener.listen(64)
        self.full = False

    def bound(self) -> socket.socket:
        """A socket at its place."""
        sock = socket.socket(socket.AF_INET if self.tcp else socket.AF_UNIX)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.tcp:
            sock.bind(("127.0.0.1", 0) if self.where is self.path else self.where)
            self.where = sock.getsockname()
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            sock.bind(self.path)
        return sock

    def stop(self) -> None:
        """Nobody listens."""
        if self.listener is not None:
            self.listener.close()
            if self.tcp:
                self.held = self.bound()
        self.listener = None
        self.make_room()

    def fill_up(self) -> None:
        """Its backlog is full."""
        if self.listener is None or self.full:
            return
        self.accept()
        self.listener.listen(0)
        self.full = True
        other = socket.socket(self.listener.family)
        other.setblocking(False)
        other.connect_ex(self.where)
        self.fillers.append(other)

    def make_room(self) -> None:
        """It is not any more."""
        for filler in self.fillers:
            filler.close()
        self.fillers, self.full = [], False
        if self.listener is not None:
            self.listener.listen(64)

    def accept(self) -> None:
        """All that have connected."""
        while self.listener is not None and not self.full:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            self.links.append(Link(self, sock))

    def read(self) -> list[Link]:
        """Those that have something to answer."""
        self.accept()
        for link in self.links:
            link.read()
        self.links = [link for link in self.links if link.sock.fileno() >= 0]
        return [link for link in self.links if link.asked]

    def close(self) -> None:
        """All of it."""
        self.stop()
        if self.held is not None:
            self.held.close()
        for link in self.links:
            link.sock.close()


class Link:
    """A service's end of a connection."""

    def __init__(self, service: Service, sock: socket.socket) -> None:
        sock.setblocking(False)
        if service.tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is sent has come
        self.service, self.sock, self._buffer = service, sock, b""
        self.asked: deque[str] = deque()
        self.rest = b""  # of an answer that was begun

    def read(self) -> None:
        """What has come; an end is answered with the end."""
        while self.sock.fileno() >= 0:
            try:
                data = self.sock.recv(65_536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.sock.close()
                return
            *whole, self._buffer = (self._buffer + data).split(b"\n\n")
            for each in whole:
                attributes = dict(line.split("=", 1) for line in each.decode().split("\n"))
                self.asked.append(attributes["instance"])
            assert len(self.asked) <= 1, "asked again before the answer"

    def send(self, data: bytes) -> None:
        """As it is, if anybody still hears it."""
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def answer(self, rng: random.Random, how: str = "whole") -> None:
        """Say something to the request that waits."""
        if self.rest:
            rest, self.rest = self.rest, b""
            self.asked.popleft()
            self.send(rest)
            return
        padding = " " + "x" * 12_000 if rng.random() < 0.1 else ""
        whole = f"action=DUNNO {self.service.name} {self.asked[0]}{padding}\n\n".encode()
        if how == "part":
            cut = rng.randrange(1, len(whole))
            self.rest = whole[cut:]
            self.send(whole[:cut])
            return
        self.asked.popleft()
        if how == "twice":
            self.send(whole + whole)
        elif how == "nonsense":
            self.send(b"250 OK\n\n")
        elif how == "ends":
            self.sock.close()
        elif how == "resets":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
        else:
            self.send(whole)


class Client:
    """A client that checks its answers."""

    def __init__(self, world: World, number: int, *, small: bool) -> None:
        self.world, self.number, self.small = world, number, small
        ours, self.sock = socket.socketpair()
        if small:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        self.sock.setblocking(False)
        world.turns.pool.hand_over(ours, f"client{number}")
        self.asked: deque[str] = deque()
        self.since = 0.0  # the first of them is answered since
        self.rest = b""  # of a request that was begun
        self.pending = ""  # its instance
        self.buffer = b""
        self.reads = True
        self.may_end = self.half = self.ended = False
        self.began_part = self.active = world.now
        self.mail = 0

    def say(self, rng: random.Random, how: str) -> None:
        """Ask, in one of several ways."""
        if self.half or self.ended or (self.may_end and not self.rest):
            return
        if how == "nonsense" and (self.rest or self.asked):
            return
        data, self.rest = self.rest, b""
        if data:
            self.asked.append(self.pending)
        for _ in range(rng.randint(2, 4) if how == "many" else 1):
            self.mail += rng.random() < 0.5
            instance = f"c{self.number}.m{self.mail}"
            self.asked.append(instance)
            host = f"192.0.{rng.randrange(4)}.7"
            helo = "x" * rng.choice([5, 5, 5, 4096, 9000])
            data += request(instance=instance, client_address=host, helo_name=helo)
        if how == "part":
            cut = rng.randrange(1, 200)
            data, self.rest = data[:-cut], data[-cut:]
            self.pending = self.asked.pop()
            self.began_part, self.may_end = self.world.now, True
        else:
            self.may_end = False
        if how == "nonsense":
            self.asked.pop()
            data, self.may_end = b"GET / HTTP/1.0\n\n", True
        if len(self.asked) > 0 and self.since == 0:
            self.since = self.world.now
        self.active = self.world.now
        try:
            if data and self.sock.send(data) != len(data):
                self.gone()
        except OSError:
            self.may_end = True
        if how == "half":
            self.half = True
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def gone(self) -> None:
        """Vanish."""
        self.sock.close()
        self.ended = True
        self.asked.clear()

    def read(self) -> None:
        """What has come is the next answer."""
        while self.reads and not self.ended:
            try:
                data = self.sock.recv(65_536)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            if not data:
                fine = self.may_end or self.half or self.world.ending or self.world.now - self.active > 1000
                assert fine, f"client {self.number} was parted with"
                assert not self.asked or self.may_end, f"client {self.number} was parted with before {self.asked}"
                self.gone()
                break
            self.buffer += data
            *whole, self.buffer = self.buffer.split(b"\n\n")
            for each in whole:
                self.answered(each.decode())

    def answered(self, answer: str) -> None:
        """Check it."""
        assert self.asked, f"unasked: {answer[:60]}"
        instance = self.asked.popleft()
        self.since = self.world.now if self.asked else 0.0
        self.active = self.world.now
        words = answer.split()
        assert words[0] in ("action=dunno", "action=DEFER_IF_PERMIT") or words[2] == instance, (instance, answer[:60])

    def check(self) -> None:
        """It does not wait for too long."""
        if (
            self.asked
            and self.reads
            and not self.small
            and not self.ended
            and self.since
            and not (self.may_end and not self.rest)
        ):
            due = max(self.since + self.world.deadline_max_s, self.world.stood_until) + LATE_S
            assert self.world.now <= due, f"client {self.number} waits since {self.since} for {self.asked}"
