"""SMTP sessions that name one recipient after the other to a real Postfix, and note each reply and its time."""

from __future__ import annotations

import smtplib
import threading
import time
from collections import Counter

from tests.e2e.smtp import Reply, recipient_reply


class Sessions:
    """`count` sessions of `recipients` mails each, with one recipient and a sender of its own a mail."""

    def __init__(self, port: int, count: int, recipients: int, pause_s: float) -> None:
        self._port = port
        self._recipients = recipients
        self._pause_s = pause_s
        self.replies: list[Reply] = []  # appended to by all, which is atomic
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def _run(self, number: int) -> None:
        with smtplib.SMTP("127.0.0.1", self._port, local_hostname="client.example.invalid", timeout=120) as session:
            session.ehlo()
            for mail in range(self._recipients):
                session.rset()
                session.mail(f"s{number}m{mail}@example.invalid")  # postgrey takes numbers with hyphens for VERP
                self.replies.append(recipient_reply(session, "user@test.invalid"))
                time.sleep(self._pause_s)

    def __enter__(self) -> Sessions:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(180)

    @property
    def running(self) -> bool:
        """Whether a session goes on."""
        return any(thread.is_alive() for thread in self._threads)

    def codes(self) -> Counter[int]:
        """How many replies of each code."""
        return Counter(reply.code for reply in self.replies)

    def slowest_s(self) -> float:
        """The longest that a recipient waited for its reply."""
        return max(reply.took_s for reply in self.replies)
