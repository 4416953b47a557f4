"""What a request costs, counted and not timed, so that nothing gets slower unseen.

The path measured is the usual one: clients that stay connected, connections that are used again, logging off. A count
here is a decision, not a fact of nature: a change that makes hapolicy do more for each request raises it, and says in
its commit what for; one that makes it do less lowers it. The tests print what they counted.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from hapolicy.config.settings import Settings
from hapolicy.core.event import Level
from hapolicy.core.service import parse_service
from hapolicy.log.eventlog import EventLog
from hapolicy.log.sinks import NoSink
from hapolicy.proxy.pool import Pool
from tests.e2e.need import missing, need
from tests.support.client import ANSWER_END, PolicyClient, request
from tests.support.procs import PATIENCE_S, Process, wait_until
from tests.support.sample import Sample

pytestmark = pytest.mark.skipif(sys.flags.dev_mode, reason="what is counted here is of Python's normal mode")

CLIENTS = 32
ROUNDS = 20

# A request comes, goes to the service; the answer comes, goes to the client.
CALLS_OF_A_REQUEST = {"recvfrom": 2.0, "sendto": 2.0}

# Of these a request has no need. A few come from the threads beside, and from the clock.
NONE_OF_A_REQUEST = ("epoll_ctl", "futex", "poll", "setsockopt", "connect", "socket", "close", "read", "write", "brk")

# For one request: functions called, of Python and of C; it was 63. A turn's own are shared by as many requests as the
# machine happens to bring at once, so a few may come and go.
CALLS_MAX = 67


def test_system_calls_of_a_request(tmp_path: Path) -> None:
    """Two receives and two sends, at most one epoll_wait, and nothing else that grows with the requests."""
    strace, trace = need("strace", "strace"), tmp_path / "trace"
    with Sample("A") as a, Sample("B") as b:
        services = ["-s", a.service(), "-s", b.service()]
        daemon = [sys.executable, "-m", "hapolicy", "--listen", "127.0.0.1:0", "--log", "stderr", *services]
        process = Process([strace, "--follow-forks", f"--output={trace}", *daemon])
        try:
            started = process.wait_for(lambda: _started(process) or _ended(process), "the daemon's start")
        except AssertionError:
            missing("the right to trace", "run the tests where ptrace(2) is allowed")
        clients = [PolicyClient(started["listen"][0]) for _ in range(CLIENTS)]
        _ask_all(clients, 3)
        begin = trace.stat().st_size
        _ask_all(clients, ROUNDS)
        # The last answer is here before its system call is in the trace.
        requests = CLIENTS * ROUNDS
        wait_until(lambda: _calls(trace, begin)["sendto"] >= 2 * requests, "the last answer in the trace")
        counts = _calls(trace, begin)
        for client in clients:
            client.close()
        os.kill(started["pid"], signal.SIGTERM)
        assert 0 == process.wait()
    assert CALLS_OF_A_REQUEST == {name: round(counts[name] / requests, 1) for name in CALLS_OF_A_REQUEST}, counts
    assert counts["epoll_wait"] <= requests
    assert {} == {name: counts[name] for name in NONE_OF_A_REQUEST if counts[name] > requests // 10}, counts


def test_functions_called_for_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    """No more calls of functions, Python's and C's, than agreed upon; and no lock among them."""
    called: Counter[str] = Counter()
    counting = threading.Event()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call") and counting.is_set():
            name = frame.f_code.co_qualname if event == "call" else getattr(argument, "__qualname__", str(argument))
            called[name] += 1

    log = EventLog(NoSink(), Level.ERROR)
    with _Answering() as one, _Answering() as two:
        services = tuple(parse_service(f"S{number}={service.address}") for number, service in enumerate((one, two)))
        pool = Pool(Settings(services=services), log)
        (worker,) = pool.workers

        def run() -> None:
            sys.setprofile(profile)
            worker.run()

        threading.Thread(target=run, daemon=True).start()
        clients = []
        for _ in range(CLIENTS):
            ours, theirs = socket.socketpair()
            pool.hand_over(ours, "client")
            clients.append(PolicyClient(theirs))
        _ask_all(clients, 3)
        counting.set()
        _ask_all(clients, ROUNDS)
        counting.clear()
        for client in clients:
            client.close()
        wait_until(lambda: not pool.clients, "the clients' end")
        pool.stop()
    # What is done once a turn is shared by more or fewer requests, as the machine has it, and falls out here.
    each = {name: round(count / (CLIENTS * ROUNDS)) for name, count in called.most_common()}
    with capsys.disabled():
        print(f" {sum(each.values())} calls a request")
    assert sum(each.values()) <= CALLS_MAX, "\n".join(f"{number:4} {name}" for name, number in each.items())
    assert [] == [name for name in each if "lock" in name.lower() and each[name]]


def _ask_all(clients: list[PolicyClient], rounds: int) -> None:
    """Each client asks, then each gets its answer, so often."""
    for number in range(rounds):
        for index, client in enumerate(clients):
            client.send(request(instance=f"{number}.{index}"))
        for client in clients:
            assert client.action().startswith("DUNNO")


class _Answering:
    """A policy service that answers each request, on a thread for each connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.address = f"{host}:{port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        threads = []
        while (sock := self._next()) is not None:
            threads.append(threading.Thread(target=self._answer, args=(sock,), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join(PATIENCE_S)

    def _next(self) -> socket.socket | None:
        try:
            return self._listener.accept()[0]
        except OSError:
            return None

    def _answer(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock:
            while data := sock.recv(65_536):
                assert data.endswith(ANSWER_END)
                sock.sendall(b"action=DUNNO\n\n")

    def __enter__(self) -> _Answering:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        self._listener.close()


def _started(process: Process) -> dict[str, Any] | None:
    return next((event for event in process.events if event["event"] == "daemon.started"), None)


def _ended(process: Process) -> None:
    assert process.popen.poll() is None, process.report()


_CALL = re.compile(r"^\d+ +(\w+)\(", re.MULTILINE)  # a call that was interrupted is named there only once


def _calls(trace: Path, begin: int) -> Counter[str]:
    with trace.open() as file:
        file.seek(begin)
        return Counter(_CALL.findall(file.read()))
