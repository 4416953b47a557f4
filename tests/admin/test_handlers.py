"""The orders of the control socket: each carried out, or refused with a reason, and logged with who gave it."""

from __future__ import annotations

import json
import os
from concurrent.futures import Future

import pytest

from hapolicy.admin.control.handlers import COMMANDS
from hapolicy.config.settings import SettingsError, Warnings
from hapolicy.core.event import Level
from tests.admin.controlled import Control, status_of
from tests.support.capture import Capture


def test_status(running: Control) -> None:
    """The whole status, as plain values."""
    reply = running.order("status")
    assert (1, True) == (reply["v"], reply["ok"])
    assert (0, 1000, "dunno") == tuple(reply["result"][name] for name in ("clients", "max_clients", "default_action"))
    assert ("A", "up") == (reply["result"]["services"][0]["name"], reply["result"]["services"][0]["state"])


@pytest.mark.parametrize(("command", "back", "state"), [("drain", "ready", "draining"), ("trip", "reset", "down")])
def test_orders_about_a_service(running: Control, capture: Capture, command: str, back: str, state: str) -> None:
    """They are carried out, reply with the state that follows, and the log says who gave them."""
    warnings = ["no service is left: each request gets the default action dunno"]
    now = {"service": "A", "state": state, "in_flight": 0, "warnings": warnings}
    assert now == running.order(command, service="A")["result"]
    assert state == status_of("state", running)
    now = {"service": "A", "state": "up", "in_flight": 0, "warnings": []}
    assert now == running.order(back, service="A")["result"]
    assert f"{command} A" == capture.wait("control.ordered")["command"]
    assert f"{back} A" == capture.wait("control.ordered", 2)["command"]


def test_a_refused_order_is_logged(running: Control, capture: Capture) -> None:
    """Who ordered what, and why not; of a long name no more than the log shows."""
    bad: Future[Warnings] = Future()
    bad.set_exception(SettingsError("hapolicy.args:3: no"))
    running.reloads = [bad]
    for nth, (command, fields, reason) in enumerate(
        [
            ("drain B", {"service": "B"}, "no service 'B'; there are: A"),
            ("log-level loud", {"level": "loud"}, "no log level 'loud'; there are: debug, info, warning, error"),
            ("reload", {}, "hapolicy.args:3: no"),
            (f"trip {'B' * 507}", {"service": "B" * 50_000}, f"no service '{'B' * 500}"),
        ],
        1,
    ):
        assert running.order(command.split()[0], **fields)["ok"] is False
        given = {"command": command, "uid": os.getuid(), "pid": os.getpid()}
        assert given.items() <= capture.wait("control.ordered", nth).items()
        assert {"level": "warning", **given, "reason": reason}.items() <= capture.wait("control.refused", nth).items()


def test_what_is_carried_out_or_changes_nothing_is_not_logged_as_refused(running: Control, capture: Capture) -> None:
    """Nor is a question that has no answer."""
    running.order("drain", service="A")
    assert "refused" == running.order("query", attributes={"request": "smtpd_access_policy"}, service="B")["code"]
    capture.wait("control.ordered")
    assert [] == capture.named("control.refused")


def test_log_level(running: Control, capture: Capture) -> None:
    """The level changes; an unknown one changes nothing."""
    assert {"level": "error"} == running.order("log-level", level="error")["result"]
    assert Level.ERROR is capture.log.level
    for level in ("loud", "\u0131nfo"):  # a dotless i, whose capital is I
        reply = running.order("log-level", level=level)
        assert ("refused", Level.ERROR) == (reply["code"], capture.log.level)
        assert "debug, info, warning, error" in reply["error"]


def test_reload(running: Control) -> None:
    """A reload waits for its end; a bad configuration, or none in time, is refused."""
    good: Future[Warnings] = Future()
    good.set_result((("-d x", "doubtful"),))
    bad: Future[Warnings] = Future()
    bad.set_exception(SettingsError("hapolicy.args:3: no"))
    late: Future[Warnings] = Future()
    late.set_exception(TimeoutError())
    running.reloads = [good, late, bad, good]
    assert {"services": ["A"], "warnings": ["-d x: doubtful"]} == running.order("reload")["result"]
    reply = running.order("reload")
    assert ("refused", "hapolicy.args:3: no") == (reply["code"], reply["error"])
    assert "refused" == running.order("reload")["code"]
    running.order("drain", service="A")
    assert 2 == len(running.order("reload")["result"]["warnings"]), "nor is a service left"


def test_query(running: Control) -> None:
    """A query goes the way of a request, or to one service past all."""
    attributes = {"request": "smtpd_access_policy"}
    answered = running.order("query", attributes=attributes)["result"]
    assert ("DUNNO recorded", "A") == (answered["action"], answered["service"])
    running.order("trip", service="A")
    answered = running.order("query", attributes=attributes)["result"]
    assert ("dunno", None) == (answered["action"], answered["service"])
    answered = running.order("query", attributes=attributes, service="A")["result"]
    assert ("DUNNO recorded", "A") == (answered["action"], answered["service"])
    assert answered["took_ms"] > 0


BAD_ORDERS: list[tuple[str, dict[str, object], str]] = [
    ("malformed", {"command": "stat"}, "no command 'stat'"),
    ("malformed", {"command": "status", "servce": "A"}, "unknown field: servce"),
    ("malformed", {"command": "drain"}, "field missing: service"),
    ("malformed", {"command": "drain", "service": ["A"]}, "must be a string"),
    ("refused", {"command": "drain", "service": "B\n"}, "no service 'B\\n'; there are: A"),
    ("malformed", {"command": "log-level", "level": 10}, "must be a string"),
    ("malformed", {"command": "query"}, "field missing: attributes"),
    ("malformed", {"command": "query", "attributes": {}}, "empty line"),
    ("malformed", {"command": "query", "attributes": {"request": "smtpd_access_policy"}, "service": None}, "a string"),
    ("refused", {"command": "query", "attributes": {"request": "smtpd_access_policy"}, "service": "B"}, "no service"),
]


@pytest.mark.parametrize(("code", "fields", "text"), BAD_ORDERS)
def test_a_bad_order_changes_nothing(running: Control, code: str, fields: dict[str, object], text: str) -> None:
    """It gets an error with a reason, and the next order of the same conversation is carried out."""
    bad = json.dumps({"v": 1, **fields}).encode() + b"\n"
    error, status = running.say(bad, b'{"v": 1, "command": "status"}\n')
    assert (1, False, code) == (error["v"], error["ok"], error["code"])
    assert text in error["error"]
    assert "up" == status["result"]["services"][0]["state"]


def test_every_command_is_tested() -> None:
    """A new command is to be added here, and above."""
    assert {"status", "drain", "ready", "trip", "reset", "log-level", "reload", "query"} == COMMANDS.keys()
