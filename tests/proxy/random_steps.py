"""What may happen in a random life, one step at a time; each is drawn from a seed of its own."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hapolicy.config.settings import Settings
from hapolicy.core.rules import HealthRules, Hedge, Probe, RequestRules
from hapolicy.core.service import parse_service
from hapolicy.proxy.services import UnknownService
from tests.proxy.random_ends import Client, Link, Service
from tests.proxy.turns import Turns
from tests.support.client import request

NAMES = "ABCD"


class Steps:
    """One worker, and all that it deals with."""

    def __init__(self, turns: Turns, folder: Path, seed: int) -> None:
        rng = random.Random(seed)
        self.turns = turns
        self.services = [Service(folder, name, tcp=rng.random() < 0.4) for name in [*NAMES, "E"]]
        self.clients: list[Client] = []
        self.numbers = 0
        self.ending = False
        self.queries: list[tuple[float, list[object]]] = []
        self.deadline_max_s = 0.0
        self.stood_until = 0.0
        self.counts: dict[Any, tuple[int | None, int]] = {}  # connections of each service: max=N, and how many
        self.settings = self.random_settings(rng, NAMES)
        turns.start()
        turns.pool._services[0].reconfigure(self.settings)
        self.worker = turns.worker
        self.ops = turns.pool._services[0]

    @property
    def now(self) -> float:
        """The rig's."""
        return self.turns.clock.now

    def random_settings(self, rng: random.Random, names: str) -> Settings:
        """Of everything a bit."""
        definitions = []
        for name in names:
            where = rng.choice(self.services[-2:]) if name == "D" else self.services[NAMES.index(name)]
            prio, weight, timeout = rng.choice([1, 1, 2]), rng.choice([1, 1, 2, 0.5]), rng.choice([0.5, 1, 2])
            text = f"{name}={where.address}:{prio}:{weight}:{timeout}"
            keys: dict[str, list[Any]] = {
                "max": ["", "", 1, 2, 3],
                "probe": ["", "", "query", "tcp", "off"],
                "hedge": ["", "", "auto", "0.1", "off"],
                "slow-start": ["", "", "2"],
            }
            for key, values in keys.items():
                value = rng.choice(values)
                text += f",{key}={value}" if value else ""
            definitions.append(parse_service(text))
        deadline_s = rng.choice([1.5, 3.0, 5.0])
        self.deadline_max_s = max(self.deadline_max_s, deadline_s)
        hedge = rng.choice([Hedge(), Hedge(after_s=0.2), Hedge(enabled=False)])
        affinity = rng.choice([(), ("client_address",)])
        return Settings(
            services=tuple(definitions),
            requests=RequestRules(deadline_s=deadline_s, hedge=hedge, affinity=affinity),
            health=HealthRules(
                fail_max=rng.choice([1, 2, 3]),
                cooldown_s=rng.choice([0.2, 1.0]),
                cooldown_max_s=rng.choice([1.0, 3.0]),
                probe=rng.choice(list(Probe)),
                probe_every_s=rng.choice([None, None, 1.0]),
            ),
            connect_timeout_s=rng.choice([0.3, 1.0]),
        )

    # Steps

    def step(self, seed: int) -> str:
        """Something happens; returns what."""
        rng = random.Random(seed)
        choices = [(self.client_step, 10), (self.service_step, 10), (self.operator_step, 1), (self.time_step, 5)]
        act = rng.choices([act for act, _ in choices], [weight for _, weight in choices])[0]
        done = act(rng)
        if rng.random() < 0.7:
            self.turns.turn(rng.randint(1, 3))
            self.check()
        return done

    def client_step(self, rng: random.Random) -> str:
        """A client does something."""
        if not self.clients or (len(self.clients) < 12 and rng.random() < 0.2):
            self.numbers += 1
            self.clients.append(Client(self, self.numbers, small=rng.random() < 0.3))
        client = rng.choice(self.clients)
        how = rng.choices(["one", "many", "part", "half", "gone", "deaf", "nonsense"], [12, 3, 2, 1, 1, 1, 0.3])[0]
        if how == "gone":
            client.gone()
        elif how == "deaf":
            client.reads = not client.reads
            client.since = self.now if client.asked else 0.0
        elif len(client.asked) < 6:
            client.say(rng, how)
        self.clients = [client for client in self.clients if not client.ended]
        return f"client {client.number} {how} {list(client.asked)}"

    def service_step(self, rng: random.Random) -> str:
        """A service does something."""
        service = rng.choice(self.services)
        what = rng.choices(
            ["answers", "all", "odd", "ends idle", "unasked", "stop", "start", "fill", "room"],
            [10, 5, 5, 1, 0.3, 1, 2.5, 1, 2],
        )[0]
        asked = service.read()
        if what == "stop":
            service.stop()
        elif what == "start":
            service.start()
        elif what == "fill":
            service.fill_up()
        elif what == "room":
            service.make_room()
        elif what in ("ends idle", "unasked"):
            for link in [link for link in service.links if not link.asked][: rng.randint(1, 3)]:
                if what == "unasked":
                    if self.is_idle(link):
                        link.send(b"action=DUNNO X unasked\n\n")
                else:
                    link.sock.close()
        elif asked and what == "all":
            for link in asked:
                link.answer(rng)
        elif asked:
            how = "whole" if what == "answers" else rng.choice(["part", "part", "ends", "resets", "nonsense", "twice"])
            rng.choice(asked).answer(rng, how)
        return f"service {service.name} {what} {len(asked)}"

    def is_idle(self, link: Link) -> bool:
        """Whether nothing is asked on it as the worker knows."""
        for connections in self.worker.connections.values():
            for connection in connections.all:
                try:
                    if link.service.tcp and connection.sock.getsockname() == link.sock.getpeername():
                        return connection.exchange is None
                except OSError:
                    pass
        return False

    def operator_step(self, rng: random.Random) -> str:
        """An operator gives an order."""
        what = rng.choice(["drain", "ready", "trip", "reset", "reload", "reload", "query"])
        names = [upstream.name for upstream in self.worker.plan.upstreams]
        name = rng.choice(names)
        if what == "reload":
            names = rng.sample(NAMES, rng.randint(1, len(NAMES)))
            self.settings = self.random_settings(rng, "".join(sorted(names)))
            self.worker.post(partial(self.ops.reconfigure, self.settings))
            return f"reload {' '.join(map(str, self.settings.services))}"
        if what == "query":
            answers: list[object] = []
            ask = partial(self.ops.query, name, request(instance="query"), answers.append)
            self.order(lambda: self.queries.append((self.now + ask(), answers)))
        else:
            self.order(partial(getattr(self.ops, what), name))
        return f"{what} {name}"

    def order(self, order: Callable[[], object]) -> None:
        """Have the worker do it in its next turn."""

        def carry_out() -> None:
            with contextlib.suppress(UnknownService):  # a reload came first
                order()

        self.worker.post(carry_out)

    def time_step(self, rng: random.Random) -> str:
        """Time passes."""
        seconds = rng.choice([0.03, 0.1, 0.1, 0.3, 1.0])
        if rng.random() < 0.1:
            seconds = rng.choice([0.2, 1.0, 5.0, 15.0])
            self.turns.turn(9)
            self.turns.stand_still(seconds)
            self.stood_until = self.now
            self.turns.turn(2)
            self.check()
            return f"stood still {seconds}"
        self.turns.wait(seconds)
        self.check()
        return f"waited {seconds}"

    def check(self) -> None:
        """All that must hold, after each step."""
        raise NotImplementedError

    def close(self) -> None:
        """All sockets."""
        for service in self.services:
            service.close()
        for client in self.clients:
            client.sock.close()
