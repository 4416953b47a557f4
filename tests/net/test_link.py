"""One connection to a service: each fault has its kind, and no wait outlives its budget."""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.net.link import Expiry, Link, SocketAddress, StaleLink, connect
from tests.proxy.scripted import REQUEST, Full, Scripted, refusing, well
from tests.support.procs import PATIENCE_S, SLACK_S

ANSWER = b"action=DUNNO\n\n"
Pair = tuple[Link, socket.socket]


def within(seconds: float) -> Expiry:
    """From now on."""
    return Expiry(time.monotonic(), seconds)


def tcp(address: str | tuple[str, int]) -> SocketAddress:
    """An address as the resolver gives it."""
    if isinstance(address, str):
        host, _, port = address.rpartition(":")
        return socket.AF_INET, (host, int(port))
    return socket.AF_INET, address


@pytest.fixture(params=["fresh", "kept"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A link and its other end, once as it begins, once as after an exchange."""
    ours, theirs = socket.socketpair()
    link = Link(ours)
    link.kept = request.param == "kept"
    theirs.settimeout(5)
    with theirs:
        yield link, theirs
    link.close()


@contextlib.contextmanager
def answering(theirs: socket.socket, *pieces: bytes, pause_s: float = 0.0, end: bool = False) -> Iterator[None]:
    """Read a request, then send `pieces`, on a thread."""

    def run() -> None:
        with contextlib.suppress(OSError):
            theirs.recv(65_536)
            for piece in pieces:
                theirs.sendall(piece)
                time.sleep(pause_s)
            if end:
                theirs.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    theirs.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def failure_of(link: Link, budget_s: float = 5.0) -> ServiceFailure:
    """How an exchange fails."""
    with pytest.raises(ServiceFailure) as caught:
        link.exchange(REQUEST, within(budget_s))
    return caught.value


def test_exchanges(pair: Pair) -> None:
    """The request arrives as it is, the answer comes back in whatever pieces, and the link may be used again."""
    link, theirs = pair
    heard = []

    def serve() -> None:
        for _ in range(3):
            heard.append(theirs.recv(65_536))
            theirs.sendall(ANSWER[:5])
            time.sleep(0.01)
            theirs.sendall(ANSWER[5:])

    thread = threading.Thread(target=serve)
    thread.start()
    for _ in range(3):
        assert ANSWER == link.exchange(REQUEST, within(5))
        assert not link.out_of_turn
        link.kept = True
    thread.join(5)
    assert [REQUEST] * 3 == heard


def test_a_leftover_spoils_the_link(pair: Pair) -> None:
    """The answer counts, but a link that carries more than it must not be used again."""
    link, theirs = pair
    with answering(theirs, ANSWER + b"a"):
        assert ANSWER == link.exchange(REQUEST, within(5))
        assert link.out_of_turn


BAD_ANSWERS = {
    "garbage": (b"HTTP/1.1 400 Bad Request\r\n", FailureKind.MALFORMED),
    "empty-action": (b"action=\n\n", FailureKind.MALFORMED),
    "not-utf-8": (b"action=\xff\n\n", FailureKind.MALFORMED),
    "oversized": (b"action=" + b"x" * 17_000, FailureKind.OVERSIZED),
}


@pytest.mark.parametrize(("data", "kind"), BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_what_is_no_answer(pair: Pair, data: bytes, kind: FailureKind) -> None:
    """It fails by its kind, on a kept link too, and the error says what came."""
    link, theirs = pair
    with answering(theirs, data):
        failure = failure_of(link)
    assert (kind, link.kept) == (failure.kind, failure.kept)
    assert len(failure.error) > 10


def test_half_an_answer(pair: Pair) -> None:
    """A link that ends amid its answer has failed, kept or not."""
    link, theirs = pair
    with answering(theirs, b"action=DUN", end=True):
        failure = failure_of(link)
    assert (FailureKind.CLOSED, link.kept) == (failure.kind, failure.kept)


def test_the_end_instead_of_an_answer(pair: Pair) -> None:
    """On a fresh link that is a failure; a kept one was stale."""
    link, theirs = pair
    with answering(theirs, end=True), pytest.raises(StaleLink if link.kept else ServiceFailure) as caught:
        link.exchange(REQUEST, within(5))
    if isinstance(caught.value, ServiceFailure):
        assert FailureKind.CLOSED is caught.value.kind


def test_ended_before_the_request(pair: Pair) -> None:
    """The same for a link that had already ended."""
    link, theirs = pair
    theirs.close()
    with pytest.raises(StaleLink if link.kept else ServiceFailure):
        link.exchange(REQUEST, within(5))


@pytest.mark.parametrize("stray", [b"a", b"action=STRAY\n\n"])
def test_what_a_service_said_unasked_is_no_answer(stray: bytes) -> None:
    """A kept link on which something has come in the meantime is stale."""
    ours, theirs = socket.socketpair()
    link = Link(ours)
    link.kept = True
    with theirs:
        theirs.sendall(stray)
        with pytest.raises(StaleLink):
            link.exchange(REQUEST, within(5))
    link.close()


def test_silence(pair: Pair) -> None:
    """No answer within the budget is an answer timeout, not a moment early."""
    start = time.monotonic()
    failure = failure_of(pair[0], 0.3)
    assert (FailureKind.ANSWER_TIMEOUT, pair[0].kept) == (failure.kind, failure.kept)
    assert "no answer within 0.3 s" == failure.error
    assert 0.29 <= time.monotonic() - start < 0.3 + SLACK_S


def test_a_dripping_service_is_late_as_a_whole(pair: Pair) -> None:
    """Many short waits are one long one."""
    link, theirs = pair
    with answering(theirs, *[bytes([byte]) for byte in ANSWER * 4], pause_s=0.05):
        start = time.monotonic()
        failure = failure_of(link, 0.3)
        assert (FailureKind.ANSWER_TIMEOUT, "no whole answer within 0.3 s") == (failure.kind, failure.error)
        assert 0.29 <= time.monotonic() - start < 0.3 + SLACK_S


def test_a_service_that_does_not_read(pair: Pair) -> None:
    """A request that is not taken times out as an answer would."""
    link, _ = pair
    start = time.monotonic()
    with pytest.raises(ServiceFailure) as caught:
        link.exchange(b"x" * 10_000_000, within(0.3))
    assert FailureKind.ANSWER_TIMEOUT is caught.value.kind
    assert time.monotonic() - start < 2 * 0.3 + SLACK_S


def test_a_time_limit_of_the_kernels() -> None:
    """When the kernel gives up on a connection before we do, the error does not speak of our limit."""
    with (
        Scripted(lambda peer: peer.ending.wait(PATIENCE_S)) as service,
        socket.create_connection(service.where) as sock,
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 100)
        with pytest.raises(ServiceFailure) as caught:
            Link(sock).exchange(b"x" * 10_000_000, within(PATIENCE_S))
    assert (FailureKind.ANSWER_TIMEOUT, "Connection timed out") == (caught.value.kind, caught.value.error)


@pytest.mark.parametrize(
    ("budget_s", "text"),
    [(30.0, "30 s"), (0.001, "0.001 s"), (1.23456, "1.235 s"), (89.99999, "90 s"), (999_999.999, "999999.999 s")],
)
def test_how_long_was_waited(budget_s: float, text: str) -> None:
    """As it was written, or to the millisecond."""
    assert f"no answer within {text}" == within(budget_s).missed("no answer")


def test_no_time_left(pair: Pair) -> None:
    """An exchange whose deadline has passed fails at once."""
    start = time.monotonic()
    failure = failure_of(pair[0], -0.5)
    assert (FailureKind.ANSWER_TIMEOUT, "no answer within 0 s") == (failure.kind, failure.error)
    assert time.monotonic() - start < SLACK_S


def test_a_reset() -> None:
    """A connection that the service resets is closed."""
    with Scripted(lambda peer: peer.reset() if peer.request() else None) as service:
        link = connect((tcp(service.where),), within(5))
        assert FailureKind.CLOSED is failure_of(link).kind
        link.close()


def test_connect_refused(tmp_path: Path) -> None:
    """Nobody listens: on a port, on a unix socket's path, and where there is no such path."""
    left_behind = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(left_behind)
    for where in (tcp(refusing()), (socket.AF_UNIX, left_behind), (socket.AF_UNIX, str(tmp_path / "nothing"))):
        with pytest.raises(ServiceFailure) as caught:
            connect((where,), within(5))
        assert FailureKind.REFUSED is caught.value.kind


def test_connect_unreachable(tmp_path: Path) -> None:
    """No way there: a broadcast address has no connections, and a datagram socket is another kind of thing."""
    datagram = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(datagram)
        for where in (tcp("127.255.255.255:9"), (socket.AF_UNIX, datagram)):
            with pytest.raises(ServiceFailure) as caught:
                connect((where,), within(5))
            assert FailureKind.UNREACHABLE is caught.value.kind


def test_connect_timeout() -> None:
    """A host that leaves a connection without an answer is given up in time."""
    with Full() as full:
        start = time.monotonic()
        with pytest.raises(ServiceFailure) as caught:
            connect((tcp(full.where),), within(0.3))
        assert (FailureKind.CONNECT_TIMEOUT, "not connected within 0.3 s") == (caught.value.kind, caught.value.error)
        assert 0.29 <= time.monotonic() - start < 0.3 + SLACK_S


def test_several_addresses_share_the_time() -> None:
    """Black holes before a good address do not hide it, and the last address has the last word."""
    with Full() as full, Scripted(well()) as service:
        start = time.monotonic()
        link = connect((tcp(full.where), tcp(full.where), tcp(service.where)), within(0.9))
        assert ANSWER == link.exchange(REQUEST, within(5))
        link.close()
        assert 0.58 <= time.monotonic() - start < 0.6 + SLACK_S
        with pytest.raises(ServiceFailure) as caught:
            connect((tcp(full.where), tcp(refusing())), within(0.4))
        assert FailureKind.REFUSED is caught.value.kind
        with pytest.raises(ServiceFailure, match=r"not connected within 0\.4 s"):
            connect((tcp(refusing()), tcp(full.where)), within(0.4))


def test_no_address_at_all() -> None:
    """A name without an address is unresolvable."""
    with pytest.raises(ServiceFailure) as caught:
        connect((), within(5))
    assert FailureKind.UNRESOLVABLE is caught.value.kind


def test_out_of_descriptors_is_our_want() -> None:
    """This host's limit is not the service's fault."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    failures = []
    with Scripted(well()) as service:
        with socket.socket() as lowest_free:
            number = lowest_free.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
        try:
            connect((tcp(service.where),), within(5))
        except ServiceFailure as failure:
            failures.append(failure)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [FailureKind.LOCAL] == [failure.kind for failure in failures]


def test_time_limits_are_in_the_kernel() -> None:
    """Whole and broken seconds are set as they are."""
    from hapolicy.net.link import arm

    with socket.socket() as sock:
        for seconds, expected in ((2.5, (2, 500_000)), (0.25, (0, 250_000)), (90.0, (90, 0))):
            arm(sock, seconds)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                found = struct.unpack("@ll", sock.getsockopt(socket.SOL_SOCKET, option, 16))
                assert expected[0] == found[0]
                assert abs(expected[1] - found[1]) <= 10_000  # the kernel counts in ticks
        arm(sock, 0.0)  # 0 would mean to wait for ever
        assert (0, 0) != struct.unpack("@ll", sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16))
