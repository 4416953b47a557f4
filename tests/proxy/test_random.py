"""Whatever clients, services, operators and the clock do, in any order: every request is answered, and all adds up."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from hapolicy.core.exchange import exchanges
from hapolicy.core.rules import Probe
from hapolicy.proxy.connections import Connection
from tests.proxy.random_ends import LATE_S, Client
from tests.proxy.random_steps import Steps
from tests.proxy.turns import Turns

STEPS = int(os.environ.get("HAPOLICY_TEST_RANDOM_STEPS", "120"))
SEEDS = range(*map(int, os.environ.get("HAPOLICY_TEST_RANDOM_SEEDS", "0:12").split(":")))


class World(Steps):
    """One worker, all that it deals with, and what must hold."""

    # What holds

    def check(self) -> None:
        """All adds up."""
        for client in self.clients:
            client.read()
            client.check()
        worker, carrier = self.worker, self.worker.carrier
        waiting = [(entry[1], entry[2]) for entry in [*carrier._backlogged, *carrier._unresolved]]
        for upstream, connections in worker.connections.items():
            name = upstream.name
            assert upstream.queries == upstream.answers + upstream.failed + len(upstream.in_flight), name
            idle = connections.idle()
            assert len(set(idle)) == len(idle), name
            assert set(idle) <= connections.all, name
            assert set(connections.unproven) <= connections.all, name
            assert connections.opening == sum(each is connections for each, _ in waiting), name
            for connection in connections.all:
                self.check_connection(connection, connection in idle)
            for exchange in exchanges([*upstream.in_flight, *upstream.own]):
                assert not exchange.over, name
                assert self.has_carrier(exchange, waiting), f"{name}: nobody carries {exchange.raw!r}"
            for exchange in connections.queue:
                assert exchange.began < 0, name
            limit = connections.limit
            room = limit is None or len(connections.all) + connections.opening < limit or idle
            assert not (upstream.full and room), f"{name} counts as full"
            if not connections.reuse:
                assert not idle, f"{name} has idle connections"
            if upstream.probing:
                assert upstream.own, f"{name}: no probe is under way"
            if upstream.breaker.state.value == "probing":
                trials = [*upstream.own, *upstream.in_flight, *connections.queue]
                assert any(each.permit.trial for each in trials), f"{name}: no trial is under way"
            if upstream.breaker._last_resort_taken and upstream.state == "down":
                assert upstream.in_flight or connections.queue, f"{name}: no last resort is under way"
            self.check_limit(connections)
        for failover in worker.waiting:
            due = max(failover.deadline, self.stood_until) + LATE_S
            assert self.now <= due, f"{failover.request.instance!r} is overdue"
            assert any(not exchange.over for exchange in failover._tried), f"{failover.request.instance!r} is an orphan"
        for session in worker.partial:
            assert not session.gone
        for due, answers in self.queries:
            assert len(answers) <= 1
            assert answers or self.now <= max(due, self.stood_until) + LATE_S, "a query without an answer"

    def check_limit(self, connections: Any) -> None:
        """No more connections than max=N, but for those of our own."""
        returned = sum(each.connections is connections for each in self.worker._returned)
        count = len(connections.all) + connections.opening - len(connections.upstream.own) - returned
        limit, before = self.counts.get(connections, (None, 0))
        self.counts[connections] = connections._limit, count
        if limit is not None and limit == connections._limit:  # else it was another a moment ago
            assert count <= max(limit, before), f"{connections.upstream.name} has {count} connections"

    def check_connection(self, connection: Connection, idle: bool) -> None:
        """One connection."""
        assert self.worker.peers.get(connection.fd) is connection
        exchange = connection.exchange
        if exchange is None:
            assert idle or connection in self.worker._returned, "neither idle nor busy"
        else:
            assert not idle, "idle and busy"
            assert exchange.carrier is connection
            assert not exchange.over

    def has_carrier(self, exchange: Any, waiting: list[Any]) -> bool:
        """Whether something will come of it."""
        connection = exchange.carrier
        if connection is None:
            return any(each is exchange for _, each in waiting)
        return connection.exchange is exchange and connection in connection.connections.all

    # The end

    def all_is_well(self, seconds: float, *, ask: bool, step_s: float = 0.05) -> None:
        """Everybody does what they should, for so long."""
        rng = random.Random(1)
        until = self.now + seconds
        while self.now < until:
            for service in self.services:
                service.start()
                service.make_room()
                for link in service.read():
                    link.answer(rng)
            if ask:
                for client in self.clients:
                    client.reads = True
                    if not client.asked and not client.half:
                        client.say(rng, "one")
            self.turns.wait(step_s)
            self.check()

    def end(self, seed: int) -> None:
        """In the end everything is well, and then nothing is left."""
        self.turns.turn(2)
        for client in self.clients:
            client.reads = True
            client.since = self.now if client.asked else 0.0
        for upstream in self.worker.plan.upstreams:
            self.ops.ready(upstream.name)
        self.all_is_well(3, ask=True)
        while len(self.clients) < 4:
            self.numbers += 1
            self.clients.append(Client(self, self.numbers, small=False))
        self.all_is_well(7, ask=True)
        for upstream in self.worker.plan.upstreams:
            assert upstream.available, f"{upstream.name} is {upstream.state}"
            assert upstream.state == "up" or upstream.probe_kind is Probe.OFF, f"{upstream.name} is {upstream.state}"
            assert not upstream.silent
        self.ending = True
        if seed % 2:
            self.turns.pool.finish()
        else:
            for client in self.clients:
                client.gone()
        self.all_is_well(6, ask=False, step_s=0.1)
        worker = self.worker
        assert {} == worker.sessions
        assert ([], [], [], []) == (list(worker.waiting), list(worker.partial), list(worker.again), list(worker.ready))
        self.all_is_well(75, ask=False, step_s=0.5)
        for upstream, connections in worker.connections.items():
            probed = self.settings.health.probe_every_s is not None
            assert probed or not connections.all, f"{upstream.name} keeps {len(connections.all)}"
            assert (0, 0) == (connections.opening, len(connections.queue))
            assert not upstream.in_flight
            assert probed or not upstream.own
        assert set(worker.plan.upstreams) == set(worker.connections)
        carrier = worker.carrier
        assert not carrier._connecting
        peers = {peer for peer in worker.peers.values() if isinstance(peer, Connection)}
        assert peers == {connection for each in worker.connections.values() for connection in each.all}


def run(turns: Turns, folder: Path, seed: int, steps: list[int], trace: list[str]) -> None:
    """One life of a worker."""
    world = World(turns, folder, seed)
    try:
        for step in steps:
            trace.append("?")
            trace[-1] = f"{world.now:.2f} {step} {world.step(step)}"
        trace.append("end")
        world.end(seed)
    finally:
        world.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens(turns: Turns, tmp_path: Path, seed: int) -> None:
    """Every request has its answer, and nothing is left."""
    rng = random.Random(seed)
    run(turns, tmp_path, seed, [rng.randrange(10**9) for _ in range(STEPS)], [])
