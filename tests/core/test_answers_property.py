"""Answers: only what Postfix understands gets through, in whatever pieces it came."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hapolicy.core.protocol import ANSWER_MAX_BYTES, AnswerReader, MalformedAnswer, action_of, answer_of
from tests.support.streams import cuts, pieces, reason

texts = [b"action=", b"action=", b"DUNNO", b"=", b"\xff", b"\xc3\xa9"]
blanks = [b"\n", b"\n\n", b"\r\n", b"\r", b" ", b"\t", b"\0", b"\x0b"]
words = st.sampled_from([*texts, *blanks])
junk = st.lists(words, max_size=12).map(b"".join) | st.binary(max_size=60)
actions = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=80)
    .map(str.strip)
    .filter(lambda action: bool(action.encode().strip()))
)


def outcome(parts: list[bytes]) -> bytes | str:
    """The answer in these pieces, or what became of it."""
    reader = AnswerReader()
    for part in parts:
        try:
            answer = reader.feed(part)
        except MalformedAnswer as error:
            return "malformed" if reason(error) else ""
        if answer is not None:
            return answer
    return "unfinished"


@given(actions, st.booleans(), st.booleans(), cuts)
def test_any_split_gives_the_same_answer(action: str, crlf: bool, crlf_end: bool, cuts: list[int]) -> None:
    """A good answer is the same whole, cut anywhere, and a byte at a time."""
    sent = b"action=" + action.encode() + (b"\r\n" if crlf else b"\n") + (b"\r\n" if crlf_end else b"\n")
    expected = answer_of(action)
    assert expected == outcome([sent])
    assert expected == outcome(pieces(sent, cuts))
    assert expected == outcome([bytes([byte]) for byte in sent])
    assert action == action_of(expected)


@given(junk, cuts)
def test_any_bytes_in_any_split_have_one_outcome(sent: bytes, cuts: list[int]) -> None:
    """An answer, a refusal, or more is needed: whichever it is, pieces do not change it."""
    expected = outcome([sent])
    assert expected == outcome(pieces(sent, cuts))
    assert expected == outcome([bytes([byte]) for byte in sent])


@given(junk)
def test_a_malformed_answer_is_never_returned(data: bytes) -> None:
    """What gets through is one line action=..., not empty, UTF-8, and one empty line."""
    for sent in (data, b"action=" + data, b"action=DUNNO" + data):
        answer = outcome([sent])
        if isinstance(answer, bytes):
            assert answer.startswith(b"action=")
            assert answer.endswith(b"\n\n")
            assert answer[7:].strip()
            assert (2, 0, 0) == (answer.count(b"\n"), answer.count(b"\r"), answer.count(b"\0"))
            assert answer.decode()
            assert len(answer) <= ANSWER_MAX_BYTES


@given(actions, st.binary(min_size=1, max_size=30))
def test_leftovers_are_noticed(action: str, more: bytes) -> None:
    """Any byte behind an answer is."""
    reader = AnswerReader()
    assert answer_of(action) == reader.feed(answer_of(action) + more)
    assert reader.leftover


@settings(max_examples=50)
@given(words, st.integers(16, 5000), st.booleans())
def test_however_much_of_it_there_is(word: bytes, piece_bytes: int, begun: bool) -> None:
    """Any pattern beyond the limit ends in an answer or in a refusal."""
    data = b"action=" * begun + word * (20_000 // len(word))
    parts = [data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)]
    assert "unfinished" != outcome(parts)
