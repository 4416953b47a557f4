"""One client, turn by turn: what it is answered, in which order, and when it is parted with."""

from __future__ import annotations

from hapolicy.proxy.session import REQUEST_MAX_S
from tests.proxy.turns import Turns
from tests.support.client import request


def test_a_request_that_comes_in_pieces_has_ten_seconds(turns: Turns) -> None:
    """From its first byte; the pieces that follow give it no more time."""
    service = turns.service()
    turns.start(f"A={service.address}")
    whole, cut = turns.client("whole"), turns.client("cut")
    for client in (whole, cut):
        client.send(request(instance="x")[:20])
        turns.turn()
    turns.wait(REQUEST_MAX_S - 0.5)
    cut.send(request(instance="x")[20:40])
    whole.send(request(instance="x")[20:])
    service.accept().serve("DUNNO in time")
    assert "DUNNO in time" == whole.action()
    assert cut.hears_nothing()
    turns.wait(0.6)
    assert cut.has_ended()
    assert whole.hears_nothing()
    assert [{"client": "cut", "reason": "request not complete 10 s after its first byte"}] == turns.told.named(
        "client.rejected"
    )
