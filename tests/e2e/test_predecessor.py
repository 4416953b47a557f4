"""The command lines of hapolicy 1.00's manual, given to 1.00 and to this hapolicy beside each other.

Where 1.00 was right, both must answer the same; where it was wrong, the test says what each does.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hapolicy.core.service import DEFAULT_TIMEOUT_S
from tests.e2e.journal import Journald
from tests.e2e.postfix import Postfix, check
from tests.e2e.services import Hapolicy100, hapolicy_100
from tests.e2e.smtp import ask_recipient
from tests.e2e.spawnable import spawnable_hapolicy
from tests.support.client import PolicyClient, request
from tests.support.daemon import Daemon
from tests.support.procs import PATIENCE_S, free_port, wait_until
from tests.support.sample import Sample

Scenario = Callable[[str], object]


def both(scenario: Scenario, *options: str) -> tuple[object, object]:
    """What a scenario, given the address of a hapolicy with these options, sees of 1.00 and of ours."""
    with Hapolicy100(*options) as old:
        seen_of_old = scenario(old.address)
    with Daemon(*options) as new:
        return seen_of_old, scenario(new.address)


def services_asked(address: str, requests: int) -> list[str]:
    """Ask so often over one connection; the names in the sample services' answers, in order."""
    with PolicyClient(address) as client:
        return [client.ask().split()[1] for _ in range(requests)]


def one_action(address: str) -> str:
    """Ask once over a connection of its own."""
    with PolicyClient(address) as client:
        return client.ask(instance="i1")


def test_lower_prio_is_asked_first_and_the_next_one_when_it_fails() -> None:
    """The manual's first example: always grey1 while it is there, else grey2."""
    with Sample("grey1") as grey1, Sample("grey2") as grey2:
        options = ("-s", grey1.service(":10"), "-s", grey2.service(":20"))
        assert (["grey1"] * 10,) * 2 == both(lambda address: services_asked(address, 10), *options)
        grey1.fault("refuse")
        assert (["grey2"] * 10,) * 2 == both(lambda address: services_asked(address, 10), *options)


def test_weights_2_to_1_give_the_same_distribution() -> None:
    """The manual's second example: polw1 twice as often as polw2, exactly, in 300 and in any 3 requests."""
    with Sample("polw1") as polw1, Sample("polw2") as polw2:
        options = ("-s", polw1.service(":10:2"), "-s", polw2.service(":10:1"))
        seen = both(lambda address: services_asked(address, 300), *options)
        assert ({"polw1": 200, "polw2": 100},) * 2 == tuple(Counter(names) for names in seen)  # type: ignore[call-overload]
        for names in seen:
            assert isinstance(names, list)
            assert {2} == {names[start : start + 3].count("polw1") for start in range(0, 300, 3)}


def test_weights_2_to_1_hold_across_connections_which_1_00_could_not_do() -> None:
    """300 requests, each over a connection of its own, are shared 200 to 100; 1.00 began anew in each."""
    with Sample("polw1") as polw1, Sample("polw2") as polw2:
        options = ("-s", polw1.service(":10:2"), "-s", polw2.service(":10:1"))
        with Daemon(*options) as new:
            names = Counter(one_action(new.address).split()[1] for _ in range(300))
        assert {"polw1": 200, "polw2": 100} == names


def test_prio_9_goes_before_10_which_1_00_had_the_other_way_round() -> None:
    """1.00 sorted prios as strings, so 10 came before 9."""
    with Sample("nine") as nine, Sample("ten") as ten:
        options = ("-s", nine.service(":9"), "-s", ten.service(":10"))
        assert (["ten"] * 3, ["nine"] * 3) == both(lambda address: services_asked(address, 3), *options)


@pytest.mark.parametrize("default", [(), ("-d", "REJECT no policy today"), ("--default=450 4.7.1 100% later",)])
def test_all_services_down_give_the_same_default_action(default: tuple[str, ...]) -> None:
    """``-d`` word for word, and dunno without it."""
    options = (*default, "-l", "-s", f"A=127.0.0.1:{free_port()}:", "-s", f"B=127.0.0.1:{free_port()}:20")
    old, new = both(one_action, *options)
    assert old == new
    assert (default[-1].removeprefix("--default=") if default else "dunno") == new


@pytest.mark.parametrize("fields", [":", "::", ":::", ":10", "::2:", ":10::5", ":10:1:30"])
def test_empty_fields_take_the_default(fields: str) -> None:
    """Each way that 1.00 let a field be left out is understood."""
    with Sample("A") as service:
        assert ("DUNNO A i1",) * 2 == both(one_action, "-s", service.service(fields))


def test_third_colon_is_not_needed_any_more() -> None:
    """``name=ip:port`` was ignored by 1.00, which then answered dunno for ever."""
    with Sample("A") as service:
        assert ("dunno", "DUNNO A i1") == both(one_action, "-s", service.service())


def test_hung_service_costs_its_timeout_and_the_other_one_answers() -> None:
    """The fifth field is the seconds after which the next service is asked."""
    with Sample("A", "--fault", "hang") as hung, Sample("B") as well:

        def timed(address: str) -> tuple[str, bool]:
            began = time.monotonic()
            action = one_action(address)
            return action, 0.9 < time.monotonic() - began < float(DEFAULT_TIMEOUT_S) / 2

        options = ("-s", hung.service(":10:1:1"), "-s", well.service(":20"))
        assert (("DUNNO B i1", True),) * 2 == both(timed, *options)


def test_long_values_are_forwarded_whole_which_1_00_cut() -> None:
    """A value of 600 bytes reaches the service; of 1.00 it had the first 512."""
    instance = "i" * 600

    def echoed(address: str) -> int:
        with PolicyClient(address) as client:
            return len(client.ask(instance=instance).split()[2])

    with Sample("A") as service:
        assert (512, 600) == both(echoed, "-s", service.service(":10"))


def test_crlf_requests_are_understood() -> None:
    """A client that ends its lines with CRLF is answered as by 1.00."""

    def asked(address: str) -> str:
        with PolicyClient(address) as client:
            client.send(request(instance="i1").replace(b"\n", b"\r\n"))
            return client.action()

    with Sample("A") as service:
        assert ("DUNNO A i1",) * 2 == both(asked, "-s", service.service(":10"))


def test_request_log_has_the_fields_of_1_00() -> None:
    """Each field of 1.00's ``-l`` line is in the request.answered event, with the same value."""
    with Sample("A", "--fault", "refuse") as down, Sample("B") as service:
        options = ("-l", "-s", down.service(":10"), "-s", service.service(":20:0.5"))
        line = log_line_of_100("B", *options)
        with Daemon(*options) as new:
            one_action(new.address)
            event = new.wait_event("request.answered", service="B")
    assert line == {name: as_100_wrote_it(event[name]) for name in line}


def test_under_spawn_both_say_the_same_to_a_sender(folder: Path) -> None:
    """Spawned as the manual has it, with a service that answers and with none, the SMTP replies are equal."""
    postfix = Postfix(folder)
    hapolicys = (hapolicy_100(), spawnable_hapolicy(folder))
    with Sample("GREY1", "--answer", "REJECT {name} was asked") as service:
        answering = ("-l", "-s", service.service(":10"), "-s", f"GREY2=127.0.0.1:{free_port()}:10")
        alone = ("-l", "-d", "REJECT no policy today", "-s", f"GREY1=127.0.0.1:{free_port()}:10")
        ports = [
            postfix.add_smtpd(check(f"127.0.0.1:{postfix.add_spawn([*hapolicy, *options])}"))
            for options in (answering, alone)
            for hapolicy in hapolicys
        ]
        with postfix:
            replies = [ask_recipient(port) for port in ports]
    said = [(reply.code, reply.text.partition("rejected: ")[2]) for reply in replies]
    assert [(554, "GREY1 was asked")] * 2 + [(554, "no policy today")] * 2 == said


LOG_LINE = re.compile(
    r"\[(?P<service>\w+)\] \((?P<address>\S+)\), prio: (?P<prio>\S+), weight: (?P<weight>\S+),"
    r" queries: (?P<queries>\S+), answers: (?P<answers>\d+), failed: (?P<failed>\d+), delay: \S+,"
    r" client: (?P<client>\S+), helo: <(?P<helo>.*)>, from: <(?P<from>.*)>, to: <(?P<to>.*)>,"
    r" action: '(?P<action>.*)'"
)


def log_line_of_100(service: str, *options: str) -> dict[str, str]:
    """The fields of 1.00's syslog line on one request that this service answered (its ``-L -l`` dies of taint)."""
    with Journald() as journald:
        command = [*journald.prefix, *hapolicy_100(*options)]
        subprocess.run(command, input=request(instance="i1"), capture_output=True, timeout=PATIENCE_S, check=True)
        # By its text: a process that has ended when journald looks has no _COMM.
        lines = wait_until(lambda: _matching(journald.entries(), service), "1.00's log line")
    return lines[0]


def _matching(entries: list[dict[str, str]], service: str) -> list[dict[str, str]]:
    found = [match.groupdict() for entry in entries if (match := LOG_LINE.match(entry["MESSAGE"]))]
    return [fields for fields in found if fields["service"] == service]


def as_100_wrote_it(value: object) -> str:
    """A value as Perl prints it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
