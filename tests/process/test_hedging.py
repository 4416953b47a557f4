"""A second service is asked while the first one keeps a client waiting: at a bounded cost, and never mixed up."""

from __future__ import annotations

import time

from tests.faults.numbered import NumberedLoad, check_answers, statuses
from tests.support.daemon import Daemon
from tests.support.procs import SLACK_S, wait_until
from tests.support.sample import Sample

CONNECTIONS = 30
REQUESTS = 400


def test_hedges_of_a_slow_pool_are_bounded() -> None:
    """Every service answers in 300 ms, --hedge 0.1: at most a tenth more is sent, and each answer is its request's."""
    with (
        Sample("A", "--fault", "slow") as a,
        Sample("B", "--fault", "slow") as b,
        Daemon("-s", a.service(), "-s", b.service(), "--hedge", "0.1", "--verbose") as daemon,
    ):
        for service in (a, b):
            service.fault("late", 0.3)  # answers each request after 300 ms, and goes on reading
        with NumberedLoad(daemon.address, CONNECTIONS, deadline_s=5) as load:
            load.wait_answers(REQUESTS)
        time.sleep(0.5)  # the losers
        services = statuses(daemon, 2).values()
        sent, queries = load.ledger.sent, sum(service["queries"] for service in services)
        hedges = len(daemon.events_of("request.hedged"))
        check_answers(load.ledger, 5)
        assert 0 == load.ledger.defaulted
        assert sent < queries <= 1.1 * sent + 1
        assert hedges == queries - sent


def test_a_mail_is_asked_of_the_next_service_after_the_time_that_was_set() -> None:
    """--hedge 0.2, and for one service hedge=off: it is never asked a second time."""
    with (
        Sample("A", "--fault", "hang") as a,
        Sample("B") as b,
        Sample("C") as c,
        Daemon(
            *("-s", a.service(":1"), "-s", b.service(":2,hedge=off"), "-s", c.service(":3")),
            *("--hedge", "0.2", "--verbose"),
        ) as daemon,
        NumberedLoad(daemon.address, 1, deadline_s=5) as load,
    ):
        wait_until(lambda: load.ledger.answers >= 5, "answers")
        load.stop()
        assert set(load.ledger.answered) == {"C"}
        assert load.ledger.slowest_s < 0.2 + SLACK_S
        first = daemon.wait_event("request.hedged")
        assert ("A", "C") == (first["service"], first["next"])
        assert 200 <= first["after_ms"] < 200 + SLACK_S * 1000
