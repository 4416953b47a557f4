"""A greylister that hangs or is killed while mail comes: no mail waits for it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.postfix import Postfix, check
from tests.e2e.services import Postgrey
from tests.services.sessions import Sessions
from tests.support.daemon import Daemon
from tests.support.procs import SLACK_S

SESSIONS = 20
RECIPIENTS = int(os.environ.get("HAPOLICY_TEST_RCPTS", "1000"))  # 4000 takes half a minute each
PAUSE_S = 0.05
HANGS_S = 2.5


def hang(grey: Postgrey) -> None:
    """SIGSTOP for a while: the kernel still takes connections and requests."""
    grey.signal(signal.SIGSTOP)
    time.sleep(HANGS_S)
    grey.signal(signal.SIGCONT)


def crash(grey: Postgrey) -> None:
    """SIGKILL, and a start."""
    grey.kill()
    time.sleep(0.2)
    grey.start()


@pytest.mark.parametrize(
    ("trouble", "options", "slowest_s"),
    [(hang, (), 1.0), (crash, (), 0.5), (hang, ("--hedge", "0.2"), 0.5)],
    ids=["hung", "killed", "hung, --hedge 0.2"],
)
def test_no_mail_waits_for_it(
    folder: Path, trouble: Callable[[Postgrey], None], options: tuple[str, ...], slowest_s: float
) -> None:
    """Two postgreys behind a real Postfix: no 451 of Postfix's own, and each recipient has its reply in time."""
    postfix = Postfix(folder)
    postfix.add_text("smtpd_soft_error_limit = 10000\nsmtpd_hard_error_limit = 10000\n", "")
    with (
        Postgrey("grey1", folder) as grey1,
        Postgrey("grey2", folder) as grey2,
        Daemon("-s", f"A={grey1.address}:::5", "-s", f"B={grey2.address}:::5", "-d", "DEFER none", *options) as daemon,
    ):
        port = postfix.add_smtpd(check(daemon.address))
        with postfix, Sessions(port, SESSIONS, RECIPIENTS // SESSIONS, PAUSE_S) as sessions:
            time.sleep(1.0)
            times = 0
            while sessions.running:
                trouble(grey1)
                times += 1
                time.sleep(1.5)
        late = sorted(round(reply.took_s, 3) for reply in sessions.replies if reply.took_s > 0.2)
        print(f"{times} times, {len(sessions.replies)} recipients, slowest {sessions.slowest_s():.3f} s; late: {late}")
        assert RECIPIENTS // SESSIONS * SESSIONS == len(sessions.replies)
        assert {450} >= set(sessions.codes())
        assert [] == [reply.text for reply in sessions.replies if "Greylisted by grey" not in reply.text]
        assert [] == daemon.events_of("request.defaulted")
        assert sessions.slowest_s() < slowest_s + SLACK_S
        assert times >= 1
