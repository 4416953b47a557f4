"""A name server for the services under test, in the place of the host's."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Self

TXT = 16


class NameServer:
    """Knows one thing of every domain: the TXT record that it was given for it; all else has none.

    It says nothing at all of what is below `silent`.
    """

    def __init__(self, silent: str = "silent.example", **records: str) -> None:
        self._silent = silent
        self._records = {name.replace("_", "."): text for name, text in records.items()}
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        # Before the command of a program that looks names up with Perl's Net::DNS::Resolver.
        self.prefix = ("/usr/bin/env", "RES_NAMESERVERS=127.0.0.1", f"RES_OPTIONS=port:{self.port}")
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            query, client = self._sock.recvfrom(4096)
            if query == b"end":
                return
            reply = self._reply(query)
            if reply is not None:
                self._sock.sendto(reply, client)

    def _reply(self, query: bytes) -> bytes | None:
        end = query.index(b"\0", 12) + 5
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        name = ".".join(labels).lower()
        if name.endswith(self._silent):
            return None
        text = self._records.get(name, "").encode()
        wanted = struct.unpack(">H", query[end - 4 : end - 2])[0]
        found = text if wanted == TXT else b""
        head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, bool(found), 0, 0) + query[12:end]
        data = bytes([len(found)]) + found
        return head + (struct.pack(">HHHIH", 0xC00C, TXT, 1, 0, len(data)) + data if found else b"")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"end", ("127.0.0.1", self.port))
        self._thread.join(5)
        self._sock.close()
