"""Framing: the pieces in which bytes arrive change nothing, and no bytes do worse than to be refused."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hapolicy.core.protocol import MalformedRequest, Request, RequestReader
from tests.support.streams import cuts, pieces, reason

POLICY = b"request=smtpd_access_policy"

names = st.binary(min_size=1, max_size=12).map(lambda raw: raw.translate(None, b"=\n\0\r")).filter(bool)
values = st.binary(max_size=40).map(lambda raw: raw.translate(None, b"\n\0\r"))
attributes = st.lists(st.tuples(names, values).map(b"=".join), max_size=6)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A policy request, its attributes in any order, with LF."""
    lines = draw(attributes)
    lines.insert(draw(st.integers(0, len(lines))), POLICY)
    return b"".join(line + b"\n" for line in lines) + b"\n"


streams = st.lists(st.tuples(requests(), st.booleans()), max_size=6)  # whether it is sent with CRLF
words = st.sampled_from(
    [POLICY, b"\n", b"\n", b"\n\n", b"\r\n", b"\r", b"=", b"a", b"a=b\n", b"instance=1\n", b"\0", b"\xff", b"x" * 300]
)
junk = st.lists(words, max_size=30).map(b"".join) | st.binary(max_size=200)


def outcome(parts: list[bytes]) -> tuple[list[bytes], str | None, bool]:
    """The requests in these pieces, why the next one was refused (None: it was not), whether one is begun."""
    reader, found = RequestReader(), []
    for part in parts:
        reader.feed(part)
        try:
            while (request := reader.next_request()) is not None:
                assert isinstance(request, Request)
                found.append(request.raw)
        except MalformedRequest as error:
            return found, reason(error), False
    return found, None, reader.partial


@given(streams, cuts)
def test_any_split_gives_the_same_requests(stream: list[tuple[bytes, bool]], cuts: list[int]) -> None:
    """What was sent is what is found, in its order, in whatever pieces; CRLF is LF."""
    sent = b"".join(raw.replace(b"\n", b"\r\n") if crlf else raw for raw, crlf in stream)
    expected = [raw for raw, _ in stream], None, False
    assert expected == outcome([sent])
    assert expected == outcome(pieces(sent, cuts))
    assert expected == outcome([bytes([byte]) for byte in sent])


@given(st.lists(requests(), max_size=3), junk, cuts)
@example([], b"\n\0", [])  # nonsense for two reasons: the first counts
@example([], b"\r\r\n\r\n", [])
@example([], b"\xff\r\n\r\n", [])
def test_any_bytes_in_any_split_have_one_outcome(whole: list[bytes], rest: bytes, cuts: list[int]) -> None:
    """Nonsense too means the same whole and in pieces, and takes nothing from what came before it."""
    sent = b"".join(whole) + rest
    expected = outcome([sent])
    assert whole == expected[0][: len(whole)]
    assert expected == outcome(pieces(sent, cuts))
    assert expected == outcome([bytes([byte]) for byte in sent])


@given(junk)
def test_what_is_taken_is_well_formed(data: bytes) -> None:
    """Whatever comes through has lines of name=value, no NUL, one empty line at its end, and asks for a policy."""
    for raw in outcome([data])[0]:
        *lines, empty, end = raw.split(b"\n")
        assert (b"", b"") == (empty, end)
        assert all(line.partition(b"=")[0] and b"=" in line for line in lines)
        assert b"\0" not in raw
        assert POLICY in lines


@given(requests())
def test_a_request_is_read_as_its_lines_say(raw: bytes) -> None:
    """The first of each name counts."""
    request = Request(raw)
    expected: dict[str, str] = {}
    for line in raw.split(b"\n")[:-2]:
        name, _, value = line.partition(b"=")
        expected.setdefault(name.decode("utf-8", "backslashreplace"), value.decode("utf-8", "backslashreplace"))
    assert expected == request.attributes
    assert expected.get("instance", "") == request.instance.decode("utf-8", "backslashreplace")


@settings(max_examples=50)
@given(words, st.integers(16, 9000), st.booleans())
def test_however_much_of_it_there_is(word: bytes, piece_bytes: int, begun: bool) -> None:
    """Any pattern, repeated beyond the limit, ends in requests or in a refusal, never in endless waiting."""
    data = (POLICY + b"\n") * begun + word * (70_000 // len(word))
    found, refused, _ = outcome([data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)])
    assert found or refused
