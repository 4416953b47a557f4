"""hapolicy under Postfix's real spawn(8): one process a client, started as nobody, on the client's socket."""

from __future__ import annotations

import pwd
from pathlib import Path

from tests.e2e.postfix import Postfix, check
from tests.e2e.smtp import ask_recipient
from tests.e2e.spawnable import USER, spawnable_hapolicy
from tests.support.client import PolicyClient
from tests.support.procs import wait_until
from tests.support.sample import Sample


def test_spawned_hapolicy_serves_smtpd_and_ends_in_peace(folder: Path) -> None:
    """As nobody it answers smtpd and a client of ours, and exits 0 when the client has gone."""
    postfix = Postfix(folder)
    with Sample("A", "--answer", "REJECT {name} was asked") as service:
        spawn_port = postfix.add_spawn([*spawnable_hapolicy(folder), "-l", "-s", service.service(":10")])
        port = postfix.add_smtpd(check(f"127.0.0.1:{spawn_port}"))
        with postfix:
            reply = ask_recipient(port)
            with PolicyClient(f"127.0.0.1:{spawn_port}") as client:
                actions = [client.ask() for _ in range(3)]
                running = spawned_for(service)
            wait_until(lambda: len(spawned_for(service)) < len(running), "a spawned hapolicy ends with its client")
            # spawn(8) warns of every child that ends with another status than 0, or by a signal.
            assert [] == postfix.warnings()
        assert (554, True) == (reply.code, reply.text.endswith("rejected: A was asked"))
        assert ["REJECT A was asked"] * 3 == actions
        assert {USER} == set(running.values())
        wait_until(lambda: not spawned_for(service), "spawned hapolicys end with Postfix")


def test_spawned_hapolicy_works_on_a_unix_socket_as_the_postfix_manual_has_it(folder: Path) -> None:
    """spawn(8) on private/policy hands over a unix socket; that is understood as a client, too."""
    postfix = Postfix(folder)
    with Sample("A", "--answer", "REJECT {name} was asked") as service:
        postfix.add_spawn([*spawnable_hapolicy(folder), "-s", service.service()], socket_name="policy")
        port = postfix.add_smtpd(check("unix:private/policy"))
        with postfix:
            reply = ask_recipient(port)
            assert [] == postfix.warnings()
        assert (554, True) == (reply.code, reply.text.endswith("rejected: A was asked"))


def spawned_for(service: Sample) -> dict[int, str]:
    """The hapolicy processes (not spawn's own) that this service was named to: process id and user."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if service.address in " ".join(words) and "hapolicy" in words and "spawn" not in words[0]:
                found[int(entry.name)] = pwd.getpwuid(entry.stat().st_uid).pw_name
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found
