"""What a request costs, counted and not timed, so that nothing gets slower unseen.

The path measured is the usual one: a client that stays connected, a kept link, logging off. A count here is a decision,
not a fact of nature: who makes hapolicy do more for each request raises it, and says in the commit what for;
who makes it do less lowers it. The tests print what they counted, and how to see where it went.
"""

from __future__ import annotations

import dis
import os
import re
import signal
import socket
import sys
import threading
from _thread import allocate_lock
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hapolicy.log.events import EventLog
from hapolicy.proxy.channel import SocketChannel

from hapolicy.config.settings import Settings
from hapolicy.core.events import Level
from hapolicy.core.service import parse_service
from hapolicy.log.sinks import NoSink
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.session import Session
from tests.e2e.need import missing, need
from tests.support.client import ANSWER_END, PolicyClient
from tests.support.procs import PATIENCE_S, Process, wait_until
from tests.support.sample import Sample

pytestmark = pytest.mark.skipif(sys.flags.dev_mode, reason="what is counted here is of Python's normal mode")

REQUESTS = 200

# A request comes, goes to the service; the answer comes, goes to the client. The look whether the kept link is quiet is
# what keeps a late answer from the next request (link.Link.exchange).
CALLS_OF_A_REQUEST = {"recvfrom": 2, "sendto": 2, "poll": 1}

# Of these a request has no need. A few come from the threads beside: the listener's poll, the look for idle links.
NONE_OF_A_REQUEST = ("setsockopt", "futex", "connect", "socket", "close", "read", "write", "ppoll", "select", "brk")

# For one request: functions called (of Python, of C), and instructions of Python 3.11, whose compiler and whose way of
# counting differ from the others'. Raise by what a change needs, lower to what it saves.
CALLS_MAX = 80
INSTRUCTIONS_MAX = 905
INSTRUCTIONS_OF = (3, 11)
LOCKS = 3  # two of the service's counters, one of the tally; one more where a tier has several services


def test_system_calls_of_a_request(tmp_path: Path) -> None:
    """On kept links: two receives, two sends and one poll, and nothing else that grows with the requests."""
    strace, trace = need("strace", "strace"), tmp_path / "trace"
    with Sample("A") as a:
        daemon = [sys.executable, "-m", "hapolicy", "--listen", "127.0.0.1:0", "--log", "stderr", "-s", a.service()]
        process = Process([strace, "--follow-forks", f"--output={trace}", *daemon])
        try:
            started = process.wait_for(lambda: _started(process) or _ended(process), "the daemon's start")
        except AssertionError:
            missing("the right to trace", "run the tests where ptrace(2) is allowed")
        with PolicyClient(started["listen"][0]) as client:
            client.ask()
            begin = trace.stat().st_size
            for _ in range(REQUESTS):
                client.ask()
            # The last answer is here before its system call is in the trace.
            wait_until(lambda: _calls(trace, begin)["sendto"] >= 2 * REQUESTS, "the last answer in the trace")
            counts = _calls(trace, begin)
        os.kill(started["pid"], signal.SIGTERM)
        assert 0 == process.wait()
    per_request = {name: round(counts[name] / REQUESTS, 1) for name in CALLS_OF_A_REQUEST}
    assert CALLS_OF_A_REQUEST == per_request, counts
    assert {} == {name: counts[name] for name in NONE_OF_A_REQUEST if counts[name] > REQUESTS // 10}, counts


def test_functions_called_for_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    """No more calls of functions, Python's and C's, than agreed upon."""
    called: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            called[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            called[getattr(argument, "__qualname__", str(argument))] += 1

    each = _slope(lambda requests: _counted(requests, called, lambda: sys.setprofile(profile), sys.setprofile))
    with capsys.disabled():
        print(f" {sum(each.values())} calls a request")
    assert sum(each.values()) <= CALLS_MAX, "\n".join(f"{number:4} {name}" for name, number in each.most_common())


@pytest.mark.skipif(sys.version_info[:2] != INSTRUCTIONS_OF, reason="other Pythons have other instructions")
def test_instructions_of_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    """No more of Python's instructions than agreed upon."""
    executed: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and frame.f_code.co_code[frame.f_lasti] != dis.opmap["CACHE"]:
            executed[frame.f_code.co_qualname] += 1
        return trace

    each = _slope(lambda requests: _counted(requests, executed, lambda: sys.settrace(trace), sys.settrace))
    with capsys.disabled():
        print(f" {sum(each.values())} instructions a request")
    assert sum(each.values()) <= INSTRUCTIONS_MAX, "\n".join(f"{n:4} {name}" for name, n in each.most_common())


@pytest.mark.parametrize(("services", "locks"), [(1, LOCKS), (2, LOCKS + 1)])
def test_locks_taken_for_a_request(services: int, locks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly so many locks are taken, and the breaker's is none of them."""
    taken: Counter[str] = Counter()

    def counting() -> Any:
        creator = sys._getframe(1)
        ours = creator.f_globals["__name__"].startswith("hapolicy.")
        return _CountingLock(creator.f_code.co_qualname, taken) if ours else allocate_lock()

    def run(requests: int) -> Counter[str]:
        taken.clear()
        with monkeypatch.context() as patch:
            patch.setattr(threading, "Lock", counting)
            _serve(requests, services)
        return taken.copy()

    each = _slope(run)
    assert locks == sum(each.values()), each


class _CountingLock:
    """A lock that counts who takes it."""

    def __init__(self, name: str, taken: Counter[str]) -> None:
        self._lock = allocate_lock()
        self._name = name
        self._taken = taken

    def __enter__(self) -> bool:
        self._taken[self._name] += 1
        return bool(self._lock.__enter__())

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(*error)


def _slope(run: Callable[[int], Counter[str]], few: int = 50, many: int = 150) -> Counter[str]:
    """What each request adds: what it takes to begin and to end is the same in both runs, and falls out."""
    run(few)  # what is done once in a process, such as imports, is done
    less, more = run(few), run(many)
    return Counter({name: round((more[name] - less[name]) / (many - few)) for name in more})


def _counted(
    requests: int, counts: Counter[str], begin: Callable[[], object], end: Callable[[None], object]
) -> Counter[str]:
    counts.clear()
    _serve(requests, 1, begin, lambda: end(None))
    return counts.copy()


def _nothing() -> None:
    """Nothing to begin or to end."""


def _serve(
    requests: int, services: int, begin: Callable[[], object] = _nothing, end: Callable[[], object] = _nothing
) -> None:
    """A session on this thread, with a client and services that are the same each time."""
    log = EventLog(NoSink, Level.WARNING)
    with _Answering() as answering:
        words = [f"S{number}={answering.address}" for number in range(services)]
        pool = Pool(Settings(services=tuple(map(parse_service, words))), log)
        ours, theirs = socket.socketpair()
        client = threading.Thread(target=_ask, args=(theirs, requests), daemon=True)
        session = Session(SocketChannel(ours), lambda: pool.relay, log, "client")
        client.start()
        begin()
        try:
            session.run()
        finally:
            end()
        client.join(PATIENCE_S)
        ours.close()
        pool.stop()
    log.close(PATIENCE_S)


def _ask(link: socket.socket, requests: int) -> None:
    with PolicyClient(link) as client:
        for _ in range(requests):
            client.ask()


class _Answering:
    """A policy service that answers each request, on a thread for each link."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.address = f"{host}:{port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        threads = []
        while (link := self._next()) is not None:
            threads.append(threading.Thread(target=self._answer, args=(link,), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join(PATIENCE_S)

    def _next(self) -> socket.socket | None:
        try:
            return self._listener.accept()[0]
        except OSError:
            return None

    def _answer(self, link: socket.socket) -> None:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with link:
            while data := link.recv(65_536):
                assert data.endswith(ANSWER_END)
                link.sendall(b"action=DUNNO\n\n")

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
