"""A name server for one test: knows one name, and whatever the file of its first argument says at the moment.

The file is JSON: {"mode": "answer" | "nxdomain" | "servfail" | "silent", "a": [...], "aaaa": [...]}.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
import sys
from pathlib import Path

A, AAAA = 1, 28
CODES = {"answer": 0, "servfail": 2, "nxdomain": 3}


def reply(query: bytes, zone: dict[str, object]) -> bytes:
    """The answer (RFC 1035, 4.1) to a query of one question."""
    end = query.index(b"\0", 12) + 5
    question, kind = query[12:end], struct.unpack(">H", query[end - 4 : end - 2])[0]
    found = {A: zone.get("a", []), AAAA: zone.get("aaaa", [])}.get(kind, []) if zone["mode"] == "answer" else []
    records = b""
    for address in found:
        data = ipaddress.ip_address(address).packed
        records += struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(data)) + data
    head = query[:2] + struct.pack(">HHHHH", 0x8180 | CODES[zone["mode"]], 1, len(found), 0, 0)
    return head + question + records


def main(path: Path) -> None:
    """Serve until the process is ended."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 53))
        print("{}", flush=True)
        while True:
            query, client = sock.recvfrom(4096)
            zone = json.loads(path.read_text())
            if zone["mode"] != "silent":
                sock.sendto(reply(query, zone), client)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
