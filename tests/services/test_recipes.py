"""The recipes of docs/services.md: each service is tried by `--check --connect`, and comes back by its probe."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.services import Service
from tests.services.few_workers import MtPolicyd, Postfwd2, QuotaStatus
from tests.services.nameserver import NameServer
from tests.services.remembering import PolicydRateLimit, PolicydWeight, Sqlgrey
from tests.services.spf import SpfPerl
from tests.support.client import PolicyClient
from tests.support.daemon import Daemon
from tests.support.procs import hapolicy, wait_until

NEW = {"client_address": "192.0.2.77", "sender": "new@example.net"}
Make = Callable[[Path, NameServer], Service]

# The service, the keys of its recipe, and how its answer begins.
RECIPES: dict[str, tuple[Make, str, str]] = {
    "policyd-spf-perl": (lambda _, names: SpfPerl(names), ":::30", "PREPEND"),
    "mtpolicyd": (lambda folder, _: MtPolicyd(folder), ",max=4", "DUNNO"),
    "postfwd2": (lambda folder, _: Postfwd2(folder), ",max=4", "DUNNO"),
    "quota-status": (lambda folder, _: QuotaStatus(folder), ",max=4", "DUNNO"),
    "policyd-rate-limit": (lambda folder, _: PolicydRateLimit(folder), ",max=4,hedge=off,probe=tcp", "dunno"),
    "policyd-weight": (PolicydWeight, ",hedge=off", "PREPEND"),
    "sqlgrey": (lambda folder, _: Sqlgrey(folder), "", "defer_if_permit Greylisted"),
}


@pytest.fixture
def names() -> Iterator[NameServer]:
    """Nothing is known of anybody."""
    with NameServer() as names:
        yield names


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str, folder: Path, names: NameServer) -> None:
    """It is found well, answers, dies, and is found again without any mail."""
    make, keys, begins = RECIPES[name]
    with make(folder, names) as service:
        definition = f"IT={service.address}{keys}"
        checked = hapolicy("--check", "--connect", "-s", definition)
        assert (0, "") == (checked.returncode, checked.stderr)
        said = re.search(r"^try +IT: (.+)$", checked.stdout, re.MULTILINE)
        assert said
        assert said[1].startswith("takes connections" if "probe=tcp" in keys else begins)
        with (
            Daemon("-s", definition, "-d", "DEFER none", "--fail-max", "1") as daemon,
            PolicyClient(daemon.address, 60) as client,
        ):
            assert client.ask(**NEW).startswith(begins)
            service.kill()
            assert "DEFER none" == client.ask(**NEW)
            daemon.wait_event("service.down")
            service.start()
            daemon.wait_event("service.up")
            assert client.ask(**NEW).startswith(begins)


def test_probes_leave_one_row_in_sqlgrey(folder: Path) -> None:
    """Each probe is the same triplet."""
    with (
        Sqlgrey(folder) as service,
        Daemon("-s", f"IT={service.address}", "-d", "DEFER", "--fail-max", "1", "--cooldown", "0.2") as daemon,
        PolicyClient(daemon.address) as client,
    ):
        for nth in (1, 2):
            service.kill()
            assert "DEFER" == client.ask(**NEW)
            service.start()
            daemon.wait_event("service.up", nth=nth)
        database = sqlite3.connect(service.database)
        rows = wait_until(lambda: database.execute("SELECT sender_name, src FROM connect").fetchall(), "a row")
        assert [("probe", "192.0.2")] == rows
