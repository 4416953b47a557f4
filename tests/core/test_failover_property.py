"""Any interleaving of what may happen: one answer a request, never after the deadline, permits and counters add up."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hapolicy.core.failures import FailureKind
from hapolicy.core.plan import Plan
from hapolicy.core.rules import HealthRules, Probe, RequestRules
from hapolicy.core.service import parse_service
from hapolicy.core.upstream import Upstream
from tests.core.world import World

DEADLINE_S = 9.0
NAMES = ("A", "B", "C")

STEP = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 4)),
    st.tuples(st.just("answer"), st.integers(0, 20)),
    st.tuples(st.just("fail"), st.integers(0, 20), st.sampled_from(list(FailureKind))),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.1, 0.6, 2.0, 5.0])),
    st.tuples(st.just("hedge"), st.integers(0, 20)),
    st.tuples(st.just("probe"), st.sampled_from(NAMES), st.sampled_from([None, FailureKind.REFUSED])),
    st.tuples(st.sampled_from(["drain", "ready", "trip", "reset"]), st.sampled_from(NAMES)),
    st.tuples(st.just("reload"), st.booleans()),
)


class Checked(World):
    """A world that does one step after the other, and what time brings."""

    def step(self, name: str, *arguments: object) -> None:
        """Do one; what does not apply does nothing."""
        getattr(self, f"do_{name}")(*arguments)
        for upstream in self.upstreams:
            upstream.look(self.now)
        self.check()

    def do_ask(self, client: int) -> None:
        """A client asks."""
        self.ask(f"192.0.{client}.1")

    def do_answer(self, index: int) -> None:
        """A service answers, perhaps late."""
        if self.sent:
            self.answer(self.sent[index % len(self.sent)])

    def do_fail(self, index: int, kind: FailureKind) -> None:
        """An exchange fails."""
        if self.sent:
            self.fail(self.sent[index % len(self.sent)], kind)

    def do_hedge(self, index: int) -> None:
        """A client has waited for long."""
        waiting = [asked for asked in self.asked if not asked.replies and asked.failover.attempts]
        if waiting:
            failover = waiting[index % len(waiting)].failover
            mine = [exchange for exchange in self.sent if exchange.asker is failover]
            if mine:
                self.send(failover.hedge(mine[0], self.now), kept=bool(index % 2))

    def do_wait(self, seconds: float) -> None:
        """Time passes, and brings its own."""
        self.now += seconds
        for asked in self.asked:
            if not asked.replies and self.now >= asked.failover.deadline:
                asked.failover.expired(self.now)
        for upstream in self.upstreams:
            for exchange in upstream.in_flight.expired(self.now):
                self.fail(exchange, FailureKind.ANSWER_TIMEOUT)

    def do_probe(self, name: str, outcome: FailureKind | None) -> None:
        """The probe that is due."""
        self.probe(name, outcome)

    def do_drain(self, name: str) -> None:
        """An operator drains."""
        self[name].draining = True
        self.plan.scheduler.changed()

    def do_ready(self, name: str) -> None:
        """An operator ends a drain."""
        self[name].ready()
        self.plan.scheduler.changed()

    def do_trip(self, name: str) -> None:
        """An operator trips."""
        self[name].trip(self.now)

    def do_reset(self, name: str) -> None:
        """An operator resets."""
        self[name].reset(self.now)

    def do_reload(self, shorter: bool) -> None:
        """Another timeout, another plan."""
        service = parse_service(f"A=h:1:10:2:{2 if shorter else 5}")
        self["A"].redefine(service, self.health, self["A"].hedge)
        self.plan = Plan(self.plan.rules, self.upstreams)

    def check(self) -> None:
        """What always holds."""
        for asked in self.asked:
            assert len(asked.replies) <= 1
            if not asked.replies:
                assert self.now < asked.failover.deadline
                mine = [exchange for exchange in self.sent if exchange.asker is asked.failover]
                assert mine, "it waits for nobody"
        for upstream in self.upstreams:
            assert upstream.queries == upstream.answers + upstream.failed + len(upstream.in_flight)
            assert upstream.failed == sum(upstream.failures.values())
            assert {exchange for exchange in self.sent if exchange.upstream is upstream} == set(upstream.in_flight)


def world_with(probe: Probe) -> Checked:
    """Three services, two of them equals."""
    health = HealthRules(probe=probe)
    rules = RequestRules(deadline_s=DEADLINE_S)
    return Checked("A=h:1:10:2:5", "B=h:2:10:1:5", "C=h:3:20:1:5", health=health, rules=rules)


@settings(max_examples=400)
@given(st.sampled_from(list(Probe)), st.lists(STEP, max_size=60))
def test_any_interleaving(probe: Probe, steps: list[tuple[object, ...]]) -> None:
    """Whatever happens in whatever order; and in the end nothing has leaked."""
    world = world_with(probe)
    for name, *arguments in steps:
        world.step(str(name), *arguments)
    world.step("wait", 2 * DEADLINE_S)
    while world.sent:
        world.do_answer(0)
    assert all(len(asked.replies) == 1 for asked in world.asked)
    for upstream in world.upstreams:
        world.step("ready", upstream.name)
        world.step("wait", 61.0)
        world.ask()
        leave = upstream.admit(world.now)
        while world.sent:
            world.do_answer(0)
        if probe is Probe.OFF or leave is not None:
            continue
        assert upstream.probing or world.probe(upstream.name, None), "a permit was lost"
        assert upstream.available


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["answer", "CLOSED", "MALFORMED", "OVERSIZED", "ANSWER_TIMEOUT"])),
        max_size=120,
    )
)
def test_no_mails_alone_take_down_a_service_that_answers_probes(mails: list[tuple[int, str]]) -> None:
    """Whatever many senders do to it: with probes that are answered at once it stays up."""
    world = World("A=h:1:10:1:5", "B=h:2:20:1:5")
    for client, outcome in mails:
        world.wait(0.3)
        world.ask(f"192.0.{client}.1")
        for exchange in world.at("A"):
            if outcome == "answer":
                world.answer(exchange)
            else:
                world.fail(exchange, FailureKind[outcome])
        world.answer_all()
        for upstream in world.upstreams:
            upstream.look(world.now)
            while world.probe(upstream.name, None):
                pass
        assert {"up"} == {upstream.state for upstream in world.upstreams}


def test_the_world_notices_what_is_wrong() -> None:
    """The checks above can fail: an exchange that is forgotten is noticed."""
    world = world_with(Probe.QUERY)
    world.ask()
    world.sent.clear()
    try:
        world.check()
    except AssertionError:
        return
    raise AssertionError("an exchange was forgotten, and nobody noticed")


def test_an_upstream_is_what_a_plan_holds() -> None:
    """A reload keeps the same upstreams in another plan."""
    world = world_with(Probe.QUERY)
    before = world.plan.upstreams
    world.do_reload(True)
    assert before == world.plan.upstreams
    assert all(isinstance(upstream, Upstream) for upstream in before)
