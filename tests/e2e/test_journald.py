"""A real journald keeps hapolicy's events with their fields, so that journalctl finds them by service."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.journal import INFO, WARNING, Journald
from tests.e2e.postfix import Postfix, check
from tests.e2e.smtp import ask_recipient
from tests.e2e.spawnable import spawnable_hapolicy
from tests.support.client import PolicyClient
from tests.support.procs import Process, free_port
from tests.support.sample import Sample

FAIL_MAX = 2
MAIL_FACILITY = "2"

Entry = dict[str, str]


@pytest.fixture
def journald() -> Iterator[Journald]:
    """A journald of this test's own."""
    with Journald() as running:
        yield running


@contextlib.contextmanager
def logging_daemon(journald: Journald, *options: str) -> Iterator[str]:
    """hapolicy with ``--log auto`` beside that journald; its address is learnt from the journal."""
    command = [sys.executable, "-m", "hapolicy", "--listen", "127.0.0.1:0", *options]
    process = Process([*journald.prefix, *command])
    try:
        started = journald.wait_for("daemon.started", f"_PID={process.pid}")[0]
        yield json.loads(started["MESSAGE"])["listen"][0]
    finally:
        status = process.stop()
    assert (0, [], []) == (status, process.events, process.noise)


def message(entry: Entry) -> dict[str, Any]:
    """The event itself: MESSAGE is one JSON object."""
    event: dict[str, Any] = json.loads(entry["MESSAGE"])
    assert entry["HAPOLICY_EVENT"] == event["event"]
    return event


def test_journalctl_finds_the_story_of_a_service_by_its_name(journald: Journald) -> None:
    """``journalctl -o json HAPOLICY_SERVICE=grey1`` shows failed, down, up and answered, each with its fields."""
    quick = ("--fail-max", str(FAIL_MAX), "--cooldown", "0.3")
    with Sample("grey1") as grey1, Sample("grey2") as grey2:
        options = ("-l", *quick, "-s", grey1.service(":10"), "-s", grey2.service(":20"))
        with logging_daemon(journald, *options) as address, PolicyClient(address) as client:
            assert "DUNNO grey1 first" == client.ask(instance="first")
            grey1.fault("refuse")
            assert ["grey2"] * FAIL_MAX == [client.ask().split()[1] for _ in range(FAIL_MAX)]
            journald.wait_for("service.down", "HAPOLICY_SERVICE=grey1")
            grey1.fault("none")
            journald.wait_for("service.up", "HAPOLICY_SERVICE=grey1")
            assert "DUNNO grey1 last" == client.ask(instance="last")
        journald.wait_for("request.answered", "HAPOLICY_INSTANCE=last")
        entries = journald.entries("HAPOLICY_SERVICE=grey1")

    by_event: dict[str, list[Entry]] = {}
    for entry in entries:
        by_event.setdefault(entry["HAPOLICY_EVENT"], []).append(entry)
    assert {"grey1"} == {message(entry)["service"] for entry in entries}
    assert {("hapolicy", MAIL_FACILITY)} == {(e["SYSLOG_IDENTIFIER"], e["SYSLOG_FACILITY"]) for e in entries}

    failed = by_event["service.failed"]
    assert [("refused", WARNING)] * FAIL_MAX == [(message(e)["kind"], e["PRIORITY"]) for e in failed]
    down = by_event["service.down"]
    assert [(FAIL_MAX, WARNING)] == [(message(e)["failures"], e["PRIORITY"]) for e in down]
    assert message(down[0])["cooldown_s"] == pytest.approx(0.3, rel=0.2)
    up = by_event["service.up"]
    assert 1 == len(up)
    assert 0 < message(up[0])["down_s"] < 10
    answered = by_event["request.answered"]
    assert ["first", "last"] == [entry["HAPOLICY_INSTANCE"] for entry in answered]
    assert {INFO} == {entry["PRIORITY"] for entry in answered}
    assert {
        "service": "grey1",
        "address": grey1.address,
        "prio": 10,
        "client": "mail.example.com[192.0.2.7]",
        "helo": "mail.example.com",
        "from": "from@example.com",
        "to": "to@example.org",
        "action": "DUNNO grey1 first",
        "protocol_state": "RCPT",
        "instance": "first",
    }.items() <= message(answered[0]).items()


def test_hostile_sender_forges_no_entry_and_no_field(journald: Journald) -> None:
    """What a helo or sender holds stays within its own JSON string: no line, field or escape of its own."""
    helo = 'x\x1b[31m"}, {"event":"service.up"\x85\u2028MESSAGE=forged'
    with Sample("grey1") as grey1, logging_daemon(journald, "-l", "-s", grey1.service()) as address:
        with PolicyClient(address) as client:
            client.ask(helo_name=helo, sender="\udcff@example.com", instance="i1")
        entries = journald.wait_for("request.answered")
    assert 1 == len(entries)
    assert entries[0]["MESSAGE"].isascii() or "\x1b" not in entries[0]["MESSAGE"]
    assert entries[0]["MESSAGE"].isprintable()
    assert "x" == message(entries[0])["helo"][0]
    assert [] == journald.entries("MESSAGE=forged")


def test_spawned_hapolicy_logs_to_journald(journald: Journald, folder: Path) -> None:
    """Under spawn(8), where the streams are the client's, events reach the journal from user nobody."""
    postfix = Postfix(folder, journald.prefix)
    with Sample("grey1") as grey1:
        options = ("-l", "-s", grey1.service(":10"), "-s", f"grey2=127.0.0.1:{free_port()}:5")
        spawn_port = postfix.add_spawn([*spawnable_hapolicy(folder), *options])
        port = postfix.add_smtpd(check(f"127.0.0.1:{spawn_port}"))
        with postfix:
            assert 250 == ask_recipient(port, sender="spawned@example.invalid").code
            answered = journald.wait_for("request.answered", "HAPOLICY_SERVICE=grey1")
            failed = journald.wait_for("service.failed", "HAPOLICY_SERVICE=grey2")
            assert [] == postfix.warnings()
    assert ["spawned@example.invalid"] == [message(entry)["from"] for entry in answered]
    assert ["refused"] == [message(entry)["kind"] for entry in failed]
