"""A worker's thread: what it is called, what it survives, and its end."""

from __future__ import annotations

import threading

from tests.proxy.asking import client_of
from tests.support.capture import Capture
from tests.support.fixtures import MakePool
from tests.support.procs import wait_until

NOBODY = "A=unix:/nowhere"  # a service that is not there: all clients get the default action


def workers() -> set[tuple[str, bool]]:
    """The names of the threads that are workers', and whether the process may end without them."""
    return {(each.name, each.daemon) for each in threading.enumerate() if each.name.startswith("worker-")}


def test_each_worker_has_a_thread_of_its_own_name(make_pool: MakePool) -> None:
    """As top -H shows them; one that hangs does not keep the daemon from ending. Told to end, they are not empty."""
    emptied = threading.Event()
    pool = make_pool(NOBODY, workers=2, on_empty=emptied.set)
    assert {("worker-0", True), ("worker-1", True)} <= workers()
    assert {"worker-0", "worker-1"} == pool.heartbeat_ages_s().keys()
    pool.stop()
    wait_until(lambda: not workers(), "their end")
    assert not emptied.is_set()


def test_a_fault_in_one_turn_is_told_and_mail_goes_on(make_pool: MakePool, capture: Capture) -> None:
    """Whatever was wrong."""
    emptied = threading.Event()
    pool = make_pool(NOBODY, on_empty=emptied.set)

    def fail() -> None:
        raise ZeroDivisionError("as the test wants")

    with client_of(pool) as client:
        for nth in (1, 2):
            pool.workers[0].post(fail)
            assert "as the test wants" in capture.wait("daemon.error", nth)["error"]
            assert "dunno" == client.ask()
        assert not emptied.is_set()
    wait_until(emptied.is_set, "the last client's end to be told")
