"""A policy service to try hapolicy with: it answers every request, and fails in whatever way it is told to.

    python3 examples/policy_service.py --name A --listen 127.0.0.1:0 --control 127.0.0.1:0
    python3 examples/policy_service.py tell 127.0.0.1:40002 fault slow 2

It speaks the Postfix policy delegation protocol on one address and takes orders, one a line, on another:
``stats`` and ``fault NAME [SECONDS]``. Its answer names the service and the request's instance, so that
whoever asked can tell whether the answer is to that request. A fault is a small function: what becomes of
one answer. For demonstrations and tests: it obeys whoever can reach its control address.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import signal
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from io import BufferedIOBase

REQUEST_MAX_BYTES = 64 * 1024  # as much as hapolicy forwards
INSTANCE_MAX_BYTES = 1024  # Postfix's are about 30; the answer must stay below hapolicy's 16 KiB
INSTANCES_KEPT = 1000  # in the statistics: enough for a test, and one JSON line of some 30 kB
ANSWER = "DUNNO {name} {instance}"
ORDERS = "stats | fault NAME [SECONDS]"

# Answers are lines of text: whatever else an instance holds becomes a question mark.
PRINTABLE = bytes(byte if 0x20 <= byte < 0x7F else ord("?") for byte in range(256))


class Hangup(Exception):
    """The link is to be closed now."""


# Faults. Each gets the link a request came over, the right answer to it, and the seconds the fault was given.
def none(link: socket.socket, answer: bytes, seconds: float) -> None:
    """No fault: answers at once."""
    link.sendall(answer)


def slow(link: socket.socket, answer: bytes, seconds: float) -> None:
    """Thinks for a while first; whatever else came over this link waits."""
    time.sleep(seconds)
    link.sendall(answer)


def late(link: socket.socket, answer: bytes, seconds: float) -> None:
    """Answers after a while, too, but goes on reading: the answer comes even when it was given up on."""
    threading.Thread(target=_slow_or_gone, args=(link, answer, seconds), daemon=True).start()


def double(link: socket.socket, answer: bytes, seconds: float) -> None:
    """Answers, and 50 ms later answers the same request again."""
    link.sendall(answer)
    late(link, answer, 0.05)


def hang(link: socket.socket, answer: bytes, seconds: float) -> None:
    """Takes the request and never answers."""


def reset(link: socket.socket, answer: bytes, seconds: float) -> None:
    """Takes the request and resets the connection: what the kernel does at a close that may not linger."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise Hangup


def half(link: socket.socket, answer: bytes, seconds: float) -> None:
    """Ends in the middle of its answer."""
    link.sendall(b"action=DUN")
    raise Hangup


def drip(link: socket.socket, answer: bytes, seconds: float) -> None:
    """Answers one byte a second: never silent, never done."""
    for byte in answer:
        link.sendall(bytes([byte]))
        time.sleep(1)


def garbage(link: socket.socket, answer: bytes, seconds: float) -> None:
    """Says something that is no answer."""
    link.sendall(b"\x16\x03\x01\xff\x00 this is no policy answer\n\n")


def oversized(link: socket.socket, answer: bytes, seconds: float) -> None:
    """Talks on without an end: 1 MiB, then leaves the link open."""
    link.sendall(b"action=")
    for _ in range(256):
        link.sendall(b"x" * 4096)


def refuse(link: socket.socket, answer: bytes, seconds: float) -> None:
    """Takes no connections; a link that was still open when the listener closed goes the same way."""
    raise Hangup


def _slow_or_gone(link: socket.socket, answer: bytes, seconds: float) -> None:
    with contextlib.suppress(OSError):
        slow(link, answer, seconds)


Fault = Callable[[socket.socket, bytes, float], None]
FAULTS: dict[str, Fault] = {
    fault.__name__: fault for fault in (none, slow, hang, refuse, reset, half, drip, garbage, oversized, late, double)
}


class SampleService:
    """One sample service: listens from the start, until the process ends or it is told to refuse."""

    def __init__(self, name: str, listen: str = "127.0.0.1:0", answer: str = ANSWER) -> None:
        self.name = name
        self._template = answer.replace("{name}", name)
        self._fault: tuple[Fault, float] = (none, 0.0)
        self._orders = threading.Lock()  # one at a time: closing the listener takes a moment
        self._lock = threading.Lock()  # for what follows
        self._counts = {"requests": 0, "connections": 0}
        self._instances: collections.deque[str] = collections.deque(maxlen=INSTANCES_KEPT)
        self._links: set[socket.socket] = set()
        self._server: _Server | None = _Server(listen, self._answer_all)
        self.listen = self._server.address

    def set_fault(self, name: str, seconds: float = 1.0) -> None:
        """Let every later request or connection meet this fault. ValueError for an absurd waiting time."""
        if not 0 <= seconds <= 86400:
            raise ValueError(f"{seconds} is not between 0 and 86400 seconds")
        with self._orders:
            self._fault = (FAULTS[name], seconds)
            if name == "refuse":
                self._close()
            elif self._server is None:
                self._server = _Server(self.listen, self._answer_all)

    def stats(self) -> dict[str, object]:
        """What has happened so far."""
        with self._lock:
            known = {"name": self.name, "fault": self._fault[0].__name__, **self._counts}
            return {**known, "open": len(self._links), "instances": list(self._instances)}

    def control(self, listen: str = "127.0.0.1:0") -> str:
        """Take orders at this address; returns it with the port that was really taken."""
        return _Server(listen, self._obey_all).address

    def obey(self, line: str) -> str:
        """Carry out one order; returns the reply, one line."""
        match line.split():
            case ["stats"]:
                return json.dumps(self.stats())
            case ["fault", name, *rest] if name in FAULTS and len(rest) <= 1:
                try:
                    self.set_fault(name, *map(float, rest))
                except (ValueError, OSError) as error:
                    return f"error: {error}"
                return "ok"
        return f"error: not {ORDERS} (NAME one of {', '.join(FAULTS)})"

    def _obey_all(self, link: socket.socket, stream: BufferedIOBase) -> None:
        with contextlib.suppress(OSError):
            while line := stream.readline(1024):
                link.sendall(self.obey(line.decode("utf-8", "replace")).encode() + b"\n")

    def _answer_all(self, link: socket.socket, stream: BufferedIOBase) -> None:
        with self._lock:
            self._counts["connections"] += 1
            self._links.add(link)
        try:
            while self._fault[0] is not refuse and (instance := read_request(stream)) is not None:
                fault, seconds = self._fault
                fault(link, self._answer(instance), seconds)
        except (OSError, Hangup):
            pass  # the other side has gone, or is to see us go
        finally:
            with self._lock:
                self._links.discard(link)

    def _answer(self, instance: bytes) -> bytes:
        text = instance[:INSTANCE_MAX_BYTES].translate(PRINTABLE).decode("ascii")
        with self._lock:
            self._counts["requests"] += 1
            self._instances.append(text)
        return f"action={self._template.replace('{instance}', text)}\n\n".encode()

    def _close(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
        self._server = None
        with self._lock:
            for link in self._links:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)  # wakes its thread, which closes it


def read_request(stream: BufferedIOBase) -> bytes | None:
    """The instance of the next request (may be empty); None when the link ended or talked too long."""
    instance, size = b"", 0
    while line := stream.readline(REQUEST_MAX_BYTES):
        size += len(line)
        line = line.rstrip(b"\r\n")
        if not line or size > REQUEST_MAX_BYTES:
            return None if line else instance
        if line.startswith(b"instance="):
            instance = line.partition(b"=")[2]
    return None


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens on HOST:PORT, [IPV6]:PORT or unix:/path; one thread a connection."""

    daemon_threads = True
    allow_reuse_address = True  # listening again on the same port is the point of "refuse"
    request_queue_size = 128

    def __init__(self, listen: str, serve: Callable[[socket.socket, BufferedIOBase], None]) -> None:
        self.serve = serve
        self.address_family, where = parse_address(listen)
        if self.address_family == socket.AF_UNIX:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(str(where))
        super().__init__(where, _Link)  # type: ignore[arg-type]  # typeshed knows of no unix path here
        is_unix, name = self.address_family == socket.AF_UNIX, self.socket.getsockname()
        self.address = listen if is_unix else f"{listen.rpartition(':')[0]}:{name[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Just close: the orderly shutdown of the base class would spoil a reset."""
        self.close_request(request)


class _Link(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.serve(self.connection, self.rfile)


def parse_address(text: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    """HOST:PORT, [IPV6]:PORT or unix:/path, as a socket wants it. ValueError if it is none of these."""
    if text.startswith("unix:/"):
        return socket.AF_UNIX, text.removeprefix("unix:")
    host, _, port = text.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 65536):
        raise ValueError(f"{text!r} is no address; one is 127.0.0.1:10061, [::1]:10061 or unix:/run/sample")
    host = host.removeprefix("[").removesuffix("]")
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, int(port))


def tell(control: str, order: str, timeout_s: float = 5.0) -> str:
    """Send one order to a control address; returns the reply. It begins with "error" if that went wrong."""
    try:
        family, where = parse_address(control)
        with socket.socket(family) as link:
            link.settimeout(timeout_s)
            link.connect(where)
            link.sendall(order.encode() + b"\n")
            return link.makefile().readline().rstrip("\n") or "error: no reply"
    except (OSError, ValueError) as error:
        return f"error: {error}"


def main(arguments: Sequence[str]) -> int:
    """Run one sample service until SIGINT or SIGTERM, or send an order to one."""
    if len(arguments) > 2 and arguments[0] == "tell":
        print(reply := tell(arguments[1], " ".join(arguments[2:])))
        return int(reply.startswith("error"))
    parser = argparse.ArgumentParser("policy_service.py", epilog=f"Or: tell HOST:PORT {ORDERS}")
    parser.add_argument("--name", default="SAMPLE")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDRESS", help="for requests")
    parser.add_argument("--control", default="127.0.0.1:0", metavar="ADDRESS", help="for orders")
    parser.add_argument("--answer", default=ANSWER, metavar="ACTION", help="default: %(default)s")
    parser.add_argument("--fault", default="none", metavar="NAME", help=f"one of {', '.join(FAULTS)}")
    options = parser.parse_args(arguments)
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before the first thread, which inherits it
    try:
        service = SampleService(options.name, options.listen, options.answer)
        control = service.control(options.control)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if (reply := service.obey(f"fault {options.fault}")) != "ok":
        parser.error(reply)
    ready = {"name": service.name, "listen": service.listen, "control": control, "pid": os.getpid()}
    print(json.dumps(ready), flush=True)
    signal.sigwait(ends)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
