"""An SMTP client that keeps what the server said and how long it took to say it."""

from __future__ import annotations

import smtplib
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Reply:
    """The server's answer to one command."""

    code: int
    text: str
    took_s: float


def ask_recipient(
    port: int,
    recipient: str = "user@test.invalid",
    sender: str = "sender@example.invalid",
    helo: str = "client.example.invalid",
    client: str = "",
) -> Reply:
    """Open a session, name sender and recipient, leave; ``client`` is the address to pretend (XCLIENT)."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname=helo, timeout=60) as session:
        if client:
            session.docmd("XCLIENT", f"ADDR={client} NAME=[UNAVAILABLE]")
        session.ehlo()
        session.mail(sender)
        return recipient_reply(session, recipient)


def recipient_reply(session: smtplib.SMTP, recipient: str) -> Reply:
    """Send RCPT, where Postfix asks its policy services, and time the answer."""
    began = time.monotonic()
    code, text = session.rcpt(recipient)
    return Reply(code, text.decode(errors="replace"), time.monotonic() - began)


def send_mail(port: int, recipient: str, sender: str = "sender@example.invalid") -> list[Reply]:
    """Send one small mail; the replies to RCPT and, where that was accepted, to the message."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example.invalid", timeout=60) as session:
        session.ehlo()
        session.mail(sender)
        replies = [recipient_reply(session, recipient)]
        if replies[0].code == 250:
            began = time.monotonic()
            code, text = session.data(b"Subject: e2e\r\n\r\nbody\r\n")
            replies.append(Reply(code, text.decode(errors="replace"), time.monotonic() - began))
        return replies
