"""hapolicy with --http, and a client that can be as rude as a stranger: bytes out, bytes in."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

from tests.support.client import connect
from tests.support.daemon import Daemon


class WebDaemon(Daemon):
    """A running hapolicy with ``--http``; `web` is where, a free port unless it is said."""

    def __init__(self, *arguments: str, web: str = "", **options: Any) -> None:
        super().__init__("--http", web or "127.0.0.1:0", *arguments, **options)
        self.web = self.wait_event("daemon.started")["http"][0]

    def __enter__(self) -> WebDaemon:
        return self

    def get(self, path: str, **headers: str) -> Reply:
        """One GET over a connection of its own."""
        return get(self.web, path, **headers)

    def status(self) -> dict[str, Any]:
        """What the page is made of."""
        found: dict[str, Any] = json.loads(self.get("/status.json").body)
        return found


@dataclass
class Reply:
    """An HTTP answer; the names of the headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def get(address: str, path: str, **headers: str) -> Reply:
    """One GET over a connection of its own; "_" stands for "-" in the headers' names."""
    named = {"Host": address, "Connection": "close"} | {name.replace("_", "-"): text for name, text in headers.items()}
    lines = "".join(f"{name}: {text}\r\n" for name, text in named.items())
    with connect(address) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"))
        return read_reply(link)


def read_reply(link: socket.socket, *, head: bool = False) -> Reply:
    """The next answer, to the byte; ConnectionError when there is none."""
    data = b""
    while b"\r\n\r\n" not in data:
        # A byte at a time: what follows belongs to the next answer.
        more = link.recv(1)
        if not more:
            raise ConnectionError(f"closed after {data!r}")
        data += more
    first, *lines = data.decode("latin-1").split("\r\n")
    headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines if line)}
    length = 0 if head else int(headers["content-length"])
    body = b""
    while len(body) < length:
        more = link.recv(length - len(body))
        if not more:
            raise ConnectionError("closed in the middle of a body")
        body += more
    return Reply(int(first.split()[1]), headers, body)
