"""What a sender reads in the SMTP dialogue is what a policy service, or the default action, says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.postfix import Postfix, check
from tests.e2e.services import Postfwd
from tests.e2e.smtp import ask_recipient
from tests.support.daemon import Daemon
from tests.support.procs import free_port
from tests.support.sample import Sample

RULE = "id=R1; sender==spam@example.invalid; action=REJECT postfwd does not like you"


def test_postfwd_refuses_a_sender_in_its_own_words(folder: Path) -> None:
    """postfwd's REJECT text reaches the sender it is meant for, and nobody else."""
    postfix = Postfix(folder)
    with Postfwd(folder, RULE) as postfwd, Daemon("-l", "-s", f"postfwd={postfwd.address}") as daemon:
        port = postfix.add_smtpd(check(daemon.address))
        with postfix:
            refused = ask_recipient(port, sender="spam@example.invalid")
            passed = ask_recipient(port, sender="ham@example.invalid")
            assert [] == postfix.warnings()
        assert 554 == refused.code
        assert refused.text.endswith("Recipient address rejected: postfwd does not like you")
        assert 250 == passed.code
        daemon.wait_event("request.answered", nth=2, service="postfwd")


def test_default_action_is_what_the_sender_reads_when_all_services_are_down(folder: Path) -> None:
    """Each of three default actions has its own effect in the dialogue, and none is a 451 4.3.5."""
    postfix = Postfix(folder)
    down = f"127.0.0.1:{free_port()}"
    with (
        Daemon("-d", "REJECT no policy today", "-s", f"A={down}") as rejecting,
        Daemon("-d", "DEFER_IF_PERMIT 4.7.1 come back tomorrow", "-s", f"A={down}") as deferring,
        Daemon("-s", f"A={down}") as silent,
    ):
        daemons = (rejecting, deferring, silent)
        ports = [postfix.add_smtpd(check(daemon.address)) for daemon in daemons]
        with postfix:
            replies = [ask_recipient(port) for port in ports]
            assert [] == postfix.warnings()
        rejected, deferred, accepted = replies
        assert (554, True) == (rejected.code, rejected.text.endswith("rejected: no policy today"))
        assert (450, True) == (deferred.code, deferred.text.endswith("rejected: come back tomorrow"))
        assert 250 == accepted.code
        assert max(reply.took_s for reply in replies) < 1
        for daemon in daemons:
            event = daemon.wait_event("request.defaulted")
            assert {"A": "refused"} == event["failures"]
            assert "sender@example.invalid" == event["from"]


@pytest.mark.parametrize(("chroot", "socket_name"), [("n", "private/hapolicy"), ("y", "hapolicy/policy")])
def test_smtpd_asks_through_a_unix_socket_in_its_queue_folder(folder: Path, chroot: str, socket_name: str) -> None:
    """A socket in private/, or in a folder for it that only Postfix may enter, works with and without chroot."""
    postfix = Postfix(folder)
    port = postfix.add_smtpd(check(f"unix:{socket_name}"), chroot=chroot)
    path = postfix.queue / socket_name
    with postfix:
        if not path.parent.exists():
            path.parent.mkdir()
            shutil.chown(path.parent, group="postfix")
            path.parent.chmod(0o710)
        with (
            Sample("A", "--answer", "REJECT {name} was asked") as service,
            Daemon("--listen", f"unix:{path}", "-s", service.service()),
        ):
            reply = ask_recipient(port)
        assert (554, True) == (reply.code, reply.text.endswith("rejected: A was asked"))
        assert "problem talking to server" not in postfix.maillog()
