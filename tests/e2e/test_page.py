"""The status page in a real browser."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from hapolicy.admin.http.server import WebServer
from hapolicy.admin.operations import Status
from tests.e2e.browser import Browser, contrast, luminance
from tests.support.capture import Capture
from tests.support.client import Load, PolicyClient
from tests.support.procs import wait_until
from tests.support.sample import Sample
from tests.support.statuses import SERVICE, status_with
from tests.support.web import WebDaemon

HOSTILE = "\"'><img src=x onerror=\"window.hacked='yes'\"><script>window.hacked='yes'</script>{{7*7}}</script>"
PHONE = (360, 740)
DESK = (1280, 900)

# A text and what it stands on.
READABLE = ["#says", "#detail", "header", "#figures dt", "#figures dd", ".card h3", ".card .soft", ".state", ".trouble"]

BACKGROUND = """
let element = document.querySelector(arguments[0]), colour = getComputedStyle(element).color;
for (; element; element = element.parentElement) {
  const background = getComputedStyle(element).backgroundColor;
  if (background !== "rgba(0, 0, 0, 0)") return [colour, background];
}
"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    """One browser for all tests here."""
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(tab: Browser) -> Iterator[Browser]:
    """The browser as it was at first; a page that it complains about fails the test."""
    tab.resize(*DESK)
    tab.prefer("light")
    yield tab
    lost = "Failed to"  # what it says of a daemon that is gone
    assert [] == [complaint for complaint in tab.complaints() if lost not in complaint]
    tab.open("about:blank")


class Shown:
    """The page of a status that the test makes up and changes."""

    def __init__(self, **fields: Any) -> None:
        self._capture = Capture()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.status: Status = status_with(**fields)
        self._server = WebServer(self._socket, lambda: self.status, self._capture.log, ())
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"

    def __enter__(self) -> Shown:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._socket.close()
        self._capture.close()


def service(name: str, state: str = "up", **fields: Any) -> Any:
    """A service in a state."""
    known = {"state": state, "trial_in_s": 17.0 if state == "down" else None}
    return dataclasses.replace(SERVICE, name=name, **{**known, **fields})


def test_a_killed_service_turns_red_and_green_when_it_is_back(browser: Browser) -> None:
    """Without a reload, in words as in colour, with the change in the list."""
    quick = ("--fail-max", "1", "--cooldown", "0.5", "--cooldown-max", "0.5")
    with (
        Sample("GREY1") as grey1,
        Sample("GREY2") as grey2,
        WebDaemon(*quick, "-s", grey1.service(":10"), "-s", grey2.service(":20")) as daemon,
    ):
        browser.open(f"http://{daemon.web}/")
        browser.run("window.notReloaded = true")
        browser.wait_text("#says", "All 2 services up")
        green = browser.style(".card .state", "color")
        with Load(daemon.address, 2, 0.01) as load:
            load.wait_answered(20)
            grey1.kill()
            browser.wait_text("#says", "GREY1 is down, GREY2 answers")
            browser.wait_text("#detail", "Mail flows.")
            assert "down" == browser.text(".card.down .state, .card.probing .state").replace("probing", "down")
            red = browser.style(".card .state", "color")
            browser.wait_text("#changes", "GREY1 went down")
            assert browser.run("return document.title").startswith("✗ GREY1 is down")
            grey1.start()
            browser.wait_text("#says", "All 2 services up")
            browser.wait_text("#changes", "GREY1 is back")
        assert (green, "well") == (
            browser.style(".card .state", "color"),
            browser.run("return document.body.dataset.mood"),
        )
        assert _is_green(green)
        assert _is_red(red)
        assert browser.run("return window.notReloaded")


def test_an_outage_is_among_the_changes(browser: Browser) -> None:
    """It is no single service's, so it has words of its own."""
    with (
        Sample("GREY1") as grey1,
        WebDaemon("--fail-max", "1", "--cooldown", "0.5", "-s", grey1.service()) as daemon,
        PolicyClient(daemon.address) as client,
    ):
        browser.open(f"http://{daemon.web}/")
        grey1.kill()
        client.ask()
        browser.wait_text("#changes", "All services are down or drained default action dunno")
        grey1.start()
        browser.wait_text("#changes", "A service answers again after")
        assert "undefined" not in browser.text("body")


def _is_red(colour: str) -> bool:
    red, green, blue = _channels(colour)
    return red > 1.5 * max(green, blue)


def _is_green(colour: str) -> bool:
    red, green, blue = _channels(colour)
    return green > 1.3 * max(red, blue)


def _channels(colour: str) -> list[int]:
    return [int(number) for number in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def test_a_daemon_that_is_gone_is_said_and_one_that_is_back_is_shown(browser: Browser) -> None:
    """The page does not go on showing what was."""
    with Sample("GREY1") as grey1:
        with WebDaemon("-s", grey1.service()) as daemon:
            browser.open(f"http://{daemon.web}/")
            browser.wait_text("#says", "GREY1 is up")
        browser.wait_text("#says", "hapolicy does not answer")
        browser.wait_text("#detail", "Last heard at")
        assert "lost" == browser.run("return document.body.dataset.mood")
        with WebDaemon("-s", grey1.service(), web=daemon.web):
            browser.wait_text("#says", "GREY1 is up")


HEADLINES = {
    "All 3 services up": ("well", ["up", "up", "up"]),
    "B is down, A answers": ("hurt", ["up", "down"]),
    "A and B are down, C and D answer": ("hurt", ["down", "probing", "up", "up"]),
    "A is drained, B answers": ("eased", ["draining", "up"]),
    "A is down, B is drained, C answers": ("hurt", ["down", "draining", "up"]),
    "4 of 5 services are down, E answers": ("hurt", ["down"] * 4 + ["up"]),
    "No service answers: default action DUNNO": ("alarm", ["down", "probing"]),
    "All services are drained: default action DUNNO": ("alarm", ["draining", "draining"]),
    "A is up": ("well", ["up"]),
}


def test_the_headline_says_in_words_whether_mail_flows(browser: Browser) -> None:
    """Each situation has its sentence and its mood."""
    with Shown() as shown:
        browser.open(shown.url)
        for says, (mood, states) in HEADLINES.items():
            shown.status = status_with(
                services=[service(name, state) for name, state in zip("ABCDE", states, strict=False)]
            )
            browser.run("refresh()")  # no need to wait for the next second
            browser.wait_text("#says", says)
            assert mood == browser.run("return document.body.dataset.mood"), says


def test_who_answers_is_told_from_who_waits_in_the_next_tier(browser: Browser) -> None:
    """Tiers have headings in the order in which they are asked."""
    services = [service("A", "down"), service("B"), service("C", prio=20)]
    with Shown(services=services) as shown:
        browser.open(shown.url)
        browser.wait_text("#says", "A is down, B answers")
        assert "Asked first prio 10" in browser.text("#tiers")
        assert "When those fail prio 20" in browser.text("#tiers")
        shown.status = status_with(services=[service("A", "down"), service("B", "down"), service("C", prio=20)])
        browser.wait_text("#says", "A and B are down, C answers")


def test_default_actions_given_and_full_houses_trouble_a_good_headline(browser: Browser) -> None:
    """All services up is not well when requests are defaulted all the same, or clients must wait."""
    with Shown() as shown:
        browser.open(shown.url)
        browser.wait_text("#says", "GREY1 is up")
        assert "well" == browser.run("return document.body.dataset.mood")
        shown.status = status_with(requests=[{"outcome": "defaulted", "state": "RCPT", "count": 3}])
        browser.wait_text("#detail", "1 request got the default action")
        shown.status = status_with(requests=[{"outcome": "defaulted", "state": "RCPT", "count": 7}])
        browser.wait_text("#detail", "5 requests got the default action")
        shown.status = status_with(clients=1000)
        browser.wait_text("#detail", "All places for clients (1,000) are taken")
        assert "hurt" == browser.run("return document.body.dataset.mood")


def test_the_last_error_has_an_age(browser: Browser) -> None:
    """What went wrong minutes ago looks other than what goes wrong now."""
    with Shown(services=[service("A", "down")]) as shown:
        browser.open(shown.url)
        browser.wait_text(".trouble", "Last error: refused: Connection refused (3 min ago)")
        shown.status = status_with(services=[service("A", failures={}, last_error="", last_error_age_s=None)])
        browser.wait_text("#says", "A is up")
        assert "" == browser.text(".trouble")


def test_a_service_that_owes_answers_is_up_but_silent(browser: Browser) -> None:
    """Else nobody sees why it has no traffic."""
    with Shown(services=[service("A", silent=True), service("B")]) as shown:
        browser.open(shown.url)
        browser.wait_text(".card .state", "up, silent")
        shown.status = status_with(services=[service("A"), service("B")])
        wait_until(lambda: browser.text(".card .state") == "up", "no more silent")


def test_nothing_from_outside_becomes_markup(browser: Browser) -> None:
    """Hostile names, addresses, errors, actions and kinds are shown letter by letter, and nothing of them runs."""
    change = {"when": 1e9, "event": f"service.{HOSTILE}", "fields": {"service": HOSTILE, "kind": HOSTILE}}
    hostile = service(HOSTILE, "down", address=HOSTILE, last_error=HOSTILE, failures={HOSTILE: 1})
    with Shown(services=[hostile], default_action=HOSTILE, version=HOSTILE, changes=[change]) as shown:
        browser.open(shown.url)
        browser.wait_text("#says", "No service answers")
        assert HOSTILE == browser.text(".card h3")
        assert HOSTILE in browser.text(".trouble")
        assert HOSTILE in browser.text("#changes")
        assert (None, 0, 1) == tuple(
            browser.run(
                "return [window.hacked, document.querySelectorAll('img, [onerror]').length,"
                " document.querySelectorAll('script').length]"
            )
        )
        # The browser refuses what the page never tries.
        refused = "try { document.body.innerHTML = arguments[0]; return 'taken' } catch (error) { return error.name }"
        assert "TypeError" == browser.run(refused, HOSTILE)
        browser.complaints()


LONG = {
    "name": "a-very-long-name-of-a-greylisting-service-" * 2,
    "address": f"unix:/var/spool/postfix/{'x' * 80}",
    "last_error": f"refused: {'y' * 200} Connection refused",
    "failures": {"refused": 1_234_567, "connect_timeout": 98_765_432},
    "queries": 1_234_567_890,
    "answers": 1_234_567_890,
}


@pytest.mark.parametrize("size", [PHONE, (320, 600), DESK])
def test_no_width_scrolls_sideways(browser: Browser, size: tuple[int, int]) -> None:
    """Not even a phone's with the longest of names."""
    changes = [{"when": 1e9, "event": "service.down", "fields": {"service": LONG["name"], "kind": "refused"}}] * 50
    services = [dataclasses.replace(service("", "down"), **LONG), dataclasses.replace(service(""), **LONG, prio=20)]
    services[1] = dataclasses.replace(services[1], name="b" * 90)
    browser.resize(*size)
    with Shown(services=services, changes=changes, clients=1000) as shown:
        browser.open(shown.url)
        browser.wait_text("#says", "is down")
        width, room = browser.run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        beyond = browser.run(
            "return [...document.querySelectorAll('main *, footer *, header *')]"
            ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
        )
        assert [] == beyond
        assert width <= room
        assert 50 == browser.run("return document.querySelectorAll('#changes li').length")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("states", [["up"], ["down", "up"], ["draining", "up"], ["down"]])
def test_light_and_dark_are_both_readable(browser: Browser, scheme: str, states: list[str]) -> None:
    """The page follows the reader's preference; each text has the contrast that WCAG AA asks for (4.5)."""
    browser.prefer(scheme)
    with Shown(services=[service(name, state) for name, state in zip("AB", states, strict=False)]) as shown:
        browser.open(shown.url)
        browser.wait_text("#says", "A " if "up" in states else "No")
        ground = luminance(browser.style("body", "backgroundColor"))
        assert ground > 0.85 if scheme == "light" else ground < 0.05
        pale = {selector: contrast(browser.run(BACKGROUND, selector)) for selector in READABLE}
        assert {} == {selector: ratio for selector, ratio in pale.items() if ratio < 4.5}


def test_a_screen_reader_hears_the_headline_and_not_every_second(browser: Browser) -> None:
    """The live region holds the sentence alone; states are words; pictures that say something have names."""
    with Shown(services=[service("A", "down", sparkline_s=[0.01] * 30), service("B")]) as shown:
        browser.open(shown.url)
        browser.wait_text("#says", "A is down")
        assert "A is down, B answers" == browser.text("[role=status]")
        assert ["down", "up"] == browser.run("return [...document.querySelectorAll('.state')].map(e => e.innerText)")
        headings = browser.accessibility_names("heading")
        assert {"A is down, B answers", "Services prio 10", "A", "B", "Last changes"} == set(headings)
        assert "Latency of the last minute, highest 10 ms" in browser.accessibility_names("image")
