"""The table of `hapolicyctl status`: what a person reads, word for word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hapolicy.admin.control import render as table
from hapolicy.core.failures import FailureKind


def service(name: str, **values: Any) -> dict[str, Any]:
    """A service's status, idle and well but for `values`."""
    well = {
        "name": name,
        "address": "10.0.0.1:10031",
        "prio": 10,
        "weight": 1.0,
        "timeout_s": 30.0,
        "state": "up",
        "trial_in_s": None,
        "queries": 0,
        "answers": 0,
        "failed": 0,
        "in_flight": 0,
        "failures": {},
        "last_error": "",
        "last_error_age_s": None,
        "probes_answered": 0,
        "probes_failed": 0,
        "suspects": 0,
        "hedges_sent": 0,
        "hedges_won": 0,
        "hedges_lost": 0,
        "connections_busy": 0,
        "connections_idle": 0,
        "connections_waiting": 0,
        "max_connections": None,
        "queued": 0,
        "queued_for_s": 0.0,
        "share": None,
        "p50_s": None,
        "p99_s": None,
    }
    return well | values


def status(*services: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A daemon's status."""
    usual = {
        "version": "2.0.0",
        "pid": 4711,
        "uptime_s": 273_900.5,
        "clients": 87,
        "max_clients": 1000,
        "default_action": "dunno",
        "affinity": [],
        "log_level": "info",
        "log_requests": False,
        "log_dropped": 0,
        "requests": [
            {"outcome": "answered", "state": "RCPT", "count": 18_000},
            {"outcome": "answered", "state": "DATA", "count": 339},
            {"outcome": "defaulted", "state": "RCPT", "count": 2},
            {"outcome": "suspect", "state": "RCPT", "count": 1},
        ],
        "services": list(services),
        "changes": [],
    }
    return usual | values


BUSY = status(
    service(
        "GREY1", weight=2.0, queries=12_349, answers=12_340, failed=3, in_flight=6, share=2 / 3, p50_s=0.00123,
        p99_s=0.0141, failures={"closed": 1, "answer_timeout": 2}, last_error="answer_timeout: no answer within 30 s",
        last_error_age_s=11_530.5, connections_busy=5, connections_waiting=1, max_connections=6,
        queued=5, queued_for_s=0.25, hedges_sent=8, hedges_won=5, hedges_lost=2, suspects=1,
    ),
    service(
        "GREY2", address="[2001:db8::2]:10031", weight=0.5, state="down", trial_in_s=16.2, queries=6002,
        answers=5999, failed=3, share=1 / 3, p50_s=0.000456, p99_s=1.52, failures={"refused": 3}, probes_failed=4,
        last_error="refused: Connection refused", last_error_age_s=1.2,
    ),
    service("SPARE", address="unix:/run/spare", prio=20, state="probing"),
    service("OLD", address="old.example.org:10031", prio=30, state="draining"),
)  # fmt: skip

GOLDEN = """\
hapolicy 2.0.0, pid 4711, running for 3 d 4 h, 87 of 1000 clients
requests: 18339 answered, 2 defaulted, 1 suspect; default action dunno; log level info

SERVICE  ADDRESS                PRIO  WEIGHT  STATE                  IN FLIGHT  QUERIES  ANSWERS  FAILED      P50    P99   SHARE
GREY1    10.0.0.1:10031           10       2  up                             6    12349    12340       3   1.2 ms  14 ms  66.7 %
GREY2    [2001:db8::2]:10031      10     0.5  down for another 17 s          0     6002     5999       3  0.46 ms  1.5 s  33.3 %
SPARE    unix:/run/spare          20       1  probing                        0        0        0       0        -      -       -
OLD      old.example.org:10031    30       1  draining                       0        0        0       0        -      -       -

CONNECTIONS
GREY1  5 busy, 1 waiting of 6; 5 requests queued for 250 ms; 8 hedged, 5 won, 2 lost; 1 suspect

FAILURES
GREY1  answer_timeout 2, closed 1; last: answer_timeout: no answer within 30 s (3 h 12 min ago)
GREY2  refused 3, probes 4; last: refused: Connection refused (1 s ago)"""  # noqa: E501


def test_the_golden_table() -> None:
    """Each state in its word, numbers to the right, who failed and how below."""
    assert GOLDEN == table.render(BUSY, colours=False)


def test_the_documents_show_this_table() -> None:
    """Not one from memory."""
    assert GOLDEN in (Path(__file__).parents[2] / "docs" / "operating.md").read_text()


def test_colours_are_the_only_difference() -> None:
    """The state is painted, green, red or yellow, and nothing moves."""
    painted = table.render(BUSY, colours=True)
    assert "\x1b[32mup " in painted
    assert "\x1b[31mdown for another 17 s" in painted
    assert "\x1b[33mprobing " in painted
    assert "\x1b[33mdraining " in painted
    for code in ("\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[0m"):
        painted = painted.replace(code, "")
    assert GOLDEN == painted


@pytest.mark.parametrize("width", [120, 100, 80, 60, 40])
def test_a_narrow_screen_keeps_what_matters(width: int) -> None:
    """The table shrinks by whole columns; name, state and failures stay."""
    lines = table.render(BUSY, colours=False, width=width).split("\n\n")[1].splitlines()
    assert max(map(len, lines)) <= width
    assert ["SERVICE", "STATE", "FAILED"] == [
        word for word in lines[0].split() if word in {"SERVICE", "STATE", "FAILED"}
    ]
    assert "down for another 17 s" in lines[2]


def test_a_wide_screen_has_all() -> None:
    """Where there is room nothing is left out."""
    assert GOLDEN == table.render(BUSY, colours=False, width=200)


def test_without_failures_there_is_no_such_part() -> None:
    """A day without trouble says nothing of trouble."""
    assert "FAILURES" not in table.render(status(service("A")), colours=False)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("up", {"state": "up"}),
        ("up, silent", {"state": "up", "silent": True}),
        ("probing", {"state": "probing"}),
        ("draining", {"state": "draining"}),
        ("down for another 17 s", {"state": "down", "trial_in_s": 16.01}),
        ("down for another 1 s", {"state": "down", "trial_in_s": 0.01}),
        ("down, to be tried now", {"state": "down", "trial_in_s": 0.0}),
        ("down", {"state": "down", "trial_in_s": None}),
    ],
)
def test_states_in_words(words: str, values: dict[str, Any]) -> None:
    """A cooldown is rounded up: it is never over before it is said to be."""
    assert words == table.state_in_words(service("A", **values))


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("-", None),
        ("0.050 ms", 0.00005),
        ("1.0 ms", 0.001),
        ("9.9 ms", 0.0099),
        ("10 ms", 0.00996),
        ("123 ms", 0.1234),
        ("1.5 s", 1.52),
        ("30.0 s", 30.0),
    ],
)
def test_latencies(words: str, seconds: float | None) -> None:
    """Two digits where they tell something."""
    assert words == table.rows(status(service("A", p50_s=seconds)))[0].cells[9]


@pytest.mark.parametrize(
    ("words", "uptime_s"),
    [("0 s", 0.4), ("59 s", 59.9), ("1 min 1 s", 61), ("1 h", 3600), ("2 d 5 min", 173_100), ("400 d", 34_560_000)],
)
def test_uptimes(words: str, uptime_s: float) -> None:
    """The two largest units."""
    assert f"running for {words}," in table.render(status(service("A"), uptime_s=uptime_s), colours=False)


def test_dropped_log_events_are_told() -> None:
    """Whoever looks sees that the log has holes; else nothing of it."""
    assert "log events dropped" not in table.render(BUSY, colours=False)
    assert ", 5 log events dropped;" in table.render(status(service("A"), log_dropped=5), colours=False)


def test_one_is_no_plural() -> None:
    """A count of one is followed by a noun of one."""
    shown = table.render(status(service("A"), log_dropped=1, clients=1, max_clients=1), colours=False)
    assert ", 1 log event dropped;" in shown
    assert "1 of 1 client\n" in shown


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\n\x7f\u202etxt.exe\udc80[red]" + "x" * 500


def test_nothing_from_outside_reaches_the_terminal() -> None:
    """Escape sequences, line ends, bidi overrides: shown, not obeyed, and cut."""
    shown = table.render(
        status(service(HOSTILE, address=HOSTILE, state=HOSTILE, last_error=HOSTILE), default_action=HOSTILE),
        colours=False,
    )
    assert all(line.isprintable() for line in shown.splitlines())
    assert 8 == len(shown.splitlines())
    assert "\\x1b[2J" in shown
    assert "x" * 250 not in shown


def test_every_kind_of_failure_is_shown_by_its_name() -> None:
    """The words are those of the log."""
    failures = {kind.value: 1 for kind in FailureKind}
    ((name, text),) = table.troubles(status(service("A", failures=failures, last_error="e")))
    assert "A" == name
    assert all(f"{kind.value} 1" in text for kind in FailureKind)
