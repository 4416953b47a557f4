"""Policy clients, as Postfix is one: a single one to talk with, and a load of many that check each answer."""

from __future__ import annotations

import collections
import itertools
import socket
import threading
import time
from dataclasses import dataclass, field

from tests.support.procs import wait_until

CLIENT_TIMEOUT_S = 20.0  # a client that waits longer has found a fault
ANSWER_END = b"\n\n"

_numbers = itertools.count(1)


def new_instance() -> str:
    """An instance that no other request of this test run has."""
    return f"i{next(_numbers)}.{time.monotonic_ns():x}"


def request(**attributes: str) -> bytes:
    """A request like Postfix's; `attributes` replace or add to the usual ones."""
    usual = {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "protocol_name": "ESMTP",
        "client_address": "192.0.2.7",
        "client_name": "mail.example.com",
        "reverse_client_name": "mail.example.com",
        "helo_name": "mail.example.com",
        "sender": "from@example.com",
        "recipient": "to@example.org",
        "recipient_count": "0",
        "queue_id": "",
        "instance": "",
    }
    lines = [f"{name}={value}\n" for name, value in {**usual, **attributes}.items()]
    return "".join(lines).encode("utf-8", "surrogateescape") + b"\n"


def connect(address: str, timeout_s: float = CLIENT_TIMEOUT_S) -> socket.socket:
    """A connection to HOST:PORT, [IPV6]:PORT or unix:/path."""
    if address.startswith("unix:"):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(timeout_s)
        link.connect(address.removeprefix("unix:"))
        return link
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout_s)


def refuses(address: str) -> bool:
    """Whether nobody takes connections there."""
    try:
        connect(address, 2).close()
    except (ConnectionRefusedError, ConnectionResetError, FileNotFoundError):  # reset: it closed at this moment
        return True
    return False


class PolicyClient:
    """One connection to hapolicy."""

    def __init__(self, where: str | socket.socket, timeout_s: float = CLIENT_TIMEOUT_S) -> None:
        """Connect to an address, or take over a connection."""
        self.link = connect(where, timeout_s) if isinstance(where, str) else where
        self.link.settimeout(timeout_s)
        self._buffer = b""
        self.usual: dict[str, str] = {}  # attributes of each request that `ask` sends

    def ask(self, **attributes: str) -> str:
        """Send a request, with an instance of its own unless it is given one; returns the action."""
        attributes.setdefault("instance", new_instance())
        self.send(request(**self.usual | attributes))
        return self.action()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.link.sendall(data)

    def action(self) -> str:
        """The action of the next answer. ConnectionError when the connection ends instead, TimeoutError."""
        while ANSWER_END not in self._buffer:
            data = self.link.recv(65536)
            if not data:
                raise ConnectionError(f"closed after {self._buffer!r}")
            self._buffer += data
        answer, _, self._buffer = self._buffer.partition(ANSWER_END)
        assert answer.startswith(b"action="), answer
        assert b"\n" not in answer, answer
        return answer.removeprefix(b"action=").decode()

    def rest(self) -> bytes:
        """All that still comes until hapolicy closes the connection (or resets it)."""
        data = self._buffer
        try:
            while more := self.link.recv(65536):
                data += more
        except ConnectionResetError:
            pass
        return data

    @property
    def name(self) -> str:
        """Our end of a TCP connection, as hapolicy's log calls it."""
        host, port = self.link.getsockname()[:2]
        return f"{host}:{port}"

    def close(self) -> None:
        """End the connection."""
        self.link.close()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Tally:
    """What became of a load's requests; times are of the monotonic clock."""

    names: collections.Counter[str] = field(default_factory=collections.Counter)  # right answers by service
    wrong: list[str] = field(default_factory=list)  # an answer that is not to its request
    lost: list[str] = field(default_factory=list)  # no answer
    waits: list[tuple[float, float]] = field(default_factory=list)  # (sent at, seconds until answered)

    @property
    def answered(self) -> int:
        """How many requests had the right answer."""
        return self.names.total()

    def slowest_s(self, since: float = 0.0, until: float = float("inf")) -> float:
        """The longest wait of those sent within a time."""
        return max((wait_s for sent, wait_s in self.waits if since <= sent < until), default=0.0)


class Load:
    """`connections` clients, each asking as soon as it was answered, each request with its own instance.

    Right is a sample service's answer that names the instance. `pause_s` lies between a client's requests. With
    `hosts` each client asks about mail of another sending host.
    """

    def __init__(self, address: str, connections: int, pause_s: float = 0.0, *, hosts: bool = False) -> None:
        self.tally = Tally()
        self._address = address
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._ending = threading.Event()
        mails = [{"client_address": f"198.51.100.{number}"} if hosts else {} for number in range(connections)]
        self._threads = [threading.Thread(target=self._run, args=(mail,), daemon=True) for mail in mails]

    def _run(self, mail: dict[str, str]) -> None:
        while not self._ending.is_set():
            try:
                with PolicyClient(self._address) as client:
                    client.usual = mail
                    while not self._ending.is_set():
                        self._ask(client)
                        if self._pause_s:
                            self._ending.wait(self._pause_s)
            except AssertionError as error:
                with self._lock:
                    self.tally.wrong.append(repr(error))
            except OSError as error:
                with self._lock:
                    self.tally.lost.append(repr(error))
                self._ending.wait(0.05)  # a proxy that is gone must not be hammered

    def _ask(self, client: PolicyClient) -> None:
        instance = new_instance()
        sent = time.monotonic()
        words = client.ask(instance=instance).split()
        wait_s = time.monotonic() - sent
        with self._lock:
            self.tally.waits.append((sent, wait_s))
            if len(words) == 3 and words[2] == instance:
                self.tally.names[words[1]] += 1
            else:
                self.tally.wrong.append(f"{instance}: {' '.join(words)}")

    def wait_answered(self, more: int, timeout_s: float = 30.0) -> None:
        """Wait until so many more requests have had their answer."""
        goal = self.tally.answered + more
        wait_until(lambda: self.tally.answered >= goal, f"{more} more answers", timeout_s)

    def check(self) -> None:
        """Assert that nothing was lost or answered wrongly."""
        assert ([], []) == (self.tally.lost[:5], self.tally.wrong[:5])
        assert self.tally.answered > 0

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(CLIENT_TIMEOUT_S + 5)
