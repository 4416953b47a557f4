"""Real mail through a real Postfix, with hapolicy between it and real policy services that crash."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tests.e2e.postfix import Postfix, check, smtp_source
from tests.e2e.services import Postgrey, policyd_spf
from tests.e2e.smtp import send_mail
from tests.support.daemon import Daemon
from tests.support.procs import Event, wait_until

MAILS = 1000
SESSIONS = 20
DELAY_MAX_S = 2.0
NOBODY_ANSWERED = "DEFER 4.7.1 no policy service answered"
LOAD = "load@test.invalid"
SERVER_ERROR = "451 4.3.5"
# A service that crashes every second must be found well again within it, or it would only crash once.
QUICK_RECOVERY = ("--cooldown", "0.2", "--cooldown-max", "0.4")

T = TypeVar("T")


@contextlib.contextmanager
def again_and_again(act: Callable[[], T], pause_s: float) -> Iterator[list[T]]:
    """While the ``with`` block runs, pause and act in turn on a thread of its own; gives what the acts returned."""
    returned: list[T] = []
    ending = threading.Event()

    def run() -> None:
        while not ending.wait(pause_s):
            returned.append(act())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield returned
    finally:
        ending.set()
        thread.join(30)


def crash(service: Postgrey) -> None:
    """Kill (-9) it, and start it after a moment, so that requests find the port closed and not only a link."""
    service.kill()
    time.sleep(0.2)
    service.start()


def is_postgrey_answer(event: Event) -> bool:
    """Whether this action can only have come from the postgrey that the event names."""
    text = f"Greylisted by {event['service']}"
    greylisted = (f"DEFER_IF_PERMIT {text}", f"DEFER_IF_PERMIT 4.2.0 {text}")  # the code where it was EHLO
    passed = event["action"] == "DUNNO" or event["action"].startswith("PREPEND X-Greylist: delayed")
    return passed or event["action"] in greylisted


def test_mail_flows_while_a_greylister_crashes_every_second(folder: Path) -> None:
    """1,000 mails over 20 sessions each get a postgrey's and policyd-spf's answer within 2 s, and no 451 4.3.5."""
    postfix = Postfix(folder)
    spf_port = postfix.add_spawn(policyd_spf(folder))
    with (
        Postgrey("grey1", folder) as grey1,
        Postgrey("grey2", folder) as grey2,
        Daemon(
            *("-l", "-d", NOBODY_ANSWERED, *QUICK_RECOVERY),
            *("-s", f"grey1={grey1.address}", "-s", f"grey2={grey2.address}"),
        ) as greylisting,
        Daemon("-l", "-d", NOBODY_ANSWERED, "-s", f"spf=127.0.0.1:{spf_port}") as spf,
    ):
        port = postfix.add_smtpd(check(greylisting.address), check(spf.address))
        with postfix:
            with (
                again_and_again(lambda: crash(grey1), 0.8) as crashes,
                again_and_again(lambda: send_mail(port, "sender@test.invalid"), 0.1) as dialogues,
            ):
                began = time.monotonic()
                # -R 1: up to a second between two mails of a session, so that many crashes fall between.
                smtp_source(port, MAILS, SESSIONS, LOAD, "-R", "1")
                took_s = time.monotonic() - began
            rejected = postfix.rejected(LOAD)
            passed = MAILS - len(rejected)
            wait_until(lambda: postfix.delivered(LOAD) >= passed, f"{passed} mails delivered")
            maillog, warnings = postfix.maillog(), postfix.warnings()
        to = {"to": LOAD}
        answers = wait_until(lambda: _all(MAILS, greylisting.events_of("request.answered", **to)), "all logged")
        headers = wait_until(lambda: _all(MAILS, spf.events_of("request.answered", **to)), "all logged")
        replies = [reply for dialogue in dialogues for reply in dialogue]
        slowest_ms = max(event["delay_ms"] for event in answers + headers)

        assert [] == warnings
        assert 0 == maillog.count(SERVER_ERROR)
        strange = {event["action"] for event in answers if not is_postgrey_answer(event)}
        assert set() == strange
        assert {"grey1", "grey2"} == {event["service"] for event in answers}
        assert {"prepend X-Comment: SPF"} == {event["action"][:22] for event in headers}
        assert [] == greylisting.events_of("request.defaulted") + spf.events_of("request.defaulted")
        assert passed == postfix.delivered(LOAD)
        assert {450} == {refusal.code for refusal in rejected}
        assert [] == [refusal for refusal in rejected if "Greylisted by grey" not in refusal.text]
        assert {250, 450} >= {reply.code for reply in replies}
        assert slowest_ms < DELAY_MAX_S * 1000
        assert max(reply.took_s for reply in replies) < DELAY_MAX_S
        assert len(crashes) >= 5
        assert len(greylisting.events_of("service.failed", service="grey1")) >= 5
    slowest_smtp_ms = max(reply.took_s for reply in replies) * 1000
    print(
        f"{MAILS} mails in {took_s:.1f} s, {len(crashes)} crashes: {len(rejected)} greylisted, 0 x 451 4.3.5,"
        f" slowest policy step {slowest_ms:.0f} ms, slowest SMTP reply {slowest_smtp_ms:.0f} ms"
    )


def _all(count: int, events: list[Event]) -> list[Event]:
    """The events once there are so many of them: they are written by a thread of their own."""
    return events if len(events) >= count else []
