"""Services that serve fewer connections at once than they are offered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from hapolicy.proxy.pool import Pool
from tests.proxy.asking import client_of, service_of
from tests.support import frail
from tests.support.fixtures import MakePool
from tests.support.sample import Sample

WORKERS = 2
CLIENTS = 12


@pytest.mark.parametrize("timeout_s", [0.4, 5.0])
def test_nobody_waits_in_vain_for_one_of_few_workers(make_pool: MakePool, timeout_s: float) -> None:
    """However short the timeout: who waits in the listen backlog is answered on a connection that is served."""
    with Sample("A", program=(*frail.PROGRAM, str(WORKERS))) as service:
        pool = make_pool(service.service(f":1:1:{timeout_s}"))
        with ThreadPoolExecutor(CLIENTS) as clients:
            answers = [answer for each in clients.map(_ask_often, [pool] * CLIENTS) for answer in each]
        assert ["DUNNO"] * len(answers) == [answer.split()[0] for answer in answers]
        assert ({}, "up") == (service_of(pool).failures, service_of(pool).state)


def _ask_often(pool: Pool) -> list[str]:
    with client_of(pool) as client:
        return [client.ask() for _ in range(20)]
