"""Answers: what reaches Postfix, and what never does."""

from __future__ import annotations

import pytest

from hapolicy.core.protocol import (
    ANSWER_MAX_BYTES,
    AnswerReader,
    MalformedAnswer,
    OversizedAnswer,
    action_of,
    answer_of,
)

# What a service sends, and what goes to Postfix for it.
ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "dunno": (b"action=DUNNO\n\n", b"action=DUNNO\n\n"),
    "one-letter": (b"action=x\n\n", b"action=x\n\n"),
    "text": (b"action=REJECT go away; a=b\n\n", b"action=REJECT go away; a=b\n\n"),
    "utf-8": ("action=PREPEND X: né\n\n".encode(), "action=PREPEND X: né\n\n".encode()),
    "spaces": (b"action= \tDUNNO \n\n", b"action= \tDUNNO \n\n"),
    "crlf": (b"action=DUNNO\r\n\r\n", b"action=DUNNO\n\n"),
    "crlf-then-lf": (b"action=DUNNO\r\n\n", b"action=DUNNO\n\n"),
    "lf-then-crlf": (b"action=DUNNO\n\r\n", b"action=DUNNO\n\n"),
}
MALFORMED: dict[str, tuple[bytes, str]] = {
    "http": (b"HTTP/1.1 200 OK\r\n", "answer does not begin with action=: 'HTTP/1.1 200 OK\\r\\n'"),
    "tls": (b"\x16\x03\x01", "answer does not begin with action=: '\\x16\\x03\\x01'"),
    "case": (b"Action=DUNNO\n\n", "answer does not begin with action=: 'Action=DUNNO\\n\\n'"),
    "space-first": (b" action=DUNNO\n\n", "answer does not begin with action=: ' action=DUNNO\\n\\n'"),
    "empty-line-first": (b"\naction=DUNNO\n\n", "answer does not begin with action=: '\\naction=DUNNO\\n\\n'"),
    "other-name": (b"action2=DUNNO\n\n", "answer does not begin with action=: 'action2=DUNNO\\n\\n'"),
    "empty": (b"action=\n\n", "empty action: 'action=\\n\\n'"),
    "empty-crlf": (b"action=\r\n\r\n", "empty action: 'action=\\r\\n\\r\\n'"),
    "blank": (b"action= \t \n\n", "empty action: 'action= \\t \\n\\n'"),
    "nul": (b"action=DUN\0NO\n\n", "control character in the answer: 'action=DUN\\x00NO\\n\\n'"),
    "cr": (b"action=DUN\rNO\n\n", "control character in the answer: 'action=DUN\\rNO\\n\\n'"),
    "two-cr": (b"action=DUNNO\r\r\n\n", "control character in the answer: 'action=DUNNO\\r\\r\\n\\n'"),
    "two-lines": (b"action=DUNNO\nx=y\n\n", "not one line action=... and an empty line: 'action=DUNNO\\nx=y\\n\\n'"),
    "two-actions": (
        b"action=DUNNO\naction=OK\n\n",
        "not one line action=... and an empty line: 'action=DUNNO\\naction=OK\\n\\n'",
    ),
    "long-excerpt": (b"y" * 100, f"answer does not begin with action=: '{'y' * 60}'"),
}
by_answer = pytest.mark.parametrize(("sent", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
by_fault = pytest.mark.parametrize(("sent", "reason"), MALFORMED.values(), ids=MALFORMED.keys())


def feed(reader: AnswerReader, data: bytes, piece_bytes: int) -> bytes | None:
    """Feed `data` in pieces until it gives an answer."""
    for start in range(0, len(data), piece_bytes):
        answer = reader.feed(data[start : start + piece_bytes])
        if answer is not None:
            return answer
    return None


def answer_of_size(size: int) -> bytes:
    """An answer of so many bytes."""
    return b"action=" + b"x" * (size - 9) + b"\n\n"


@by_answer
@pytest.mark.parametrize("piece_bytes", [1000, 1, 3])
def test_answer(sent: bytes, expected: bytes, piece_bytes: int) -> None:
    """A sample is one answer, in whatever pieces, with nothing left over."""
    reader = AnswerReader()
    assert reader.empty
    assert expected == feed(reader, sent, piece_bytes)
    assert not reader.leftover
    assert not reader.empty


@by_answer
@pytest.mark.parametrize("more", [b"\n", b"x", b"\0", b"action=DUNNO\n\n"])
def test_leftover(sent: bytes, expected: bytes, more: bytes) -> None:
    """What comes behind an answer does not change it, but is noticed."""
    reader = AnswerReader()
    assert expected == reader.feed(sent + more)
    assert reader.leftover


@by_answer
def test_needs_all(sent: bytes, expected: bytes) -> None:
    """No beginning of an answer is one."""
    reader = AnswerReader()
    assert reader.feed(b"") is None
    assert reader.empty
    assert feed(reader, sent[:-1], 1) is None
    assert not reader.empty
    assert expected == reader.feed(sent[-1:])


@by_fault
def test_malformed(sent: bytes, reason: str) -> None:
    """What is no answer is refused, with its beginning in printable words."""
    with pytest.raises(MalformedAnswer) as caught:
        AnswerReader().feed(sent)
    assert reason == str(caught.value)
    assert not isinstance(caught.value, OversizedAnswer)


@by_fault
def test_malformed_byte_by_byte(sent: bytes, reason: str) -> None:
    """The same, a byte at a time: refused, for the same kind of reason, never taken."""
    with pytest.raises(MalformedAnswer) as caught:
        feed(AnswerReader(), sent, 1)
    assert reason.partition(":")[0] == str(caught.value).partition(":")[0]


@pytest.mark.parametrize(("size", "piece_bytes"), [(16_383, 4096), (16_384, 4096), (16_384, 1 << 20), (16_384, 1)])
def test_up_to_16_kib(size: int, piece_bytes: int) -> None:
    """An answer of up to 16 KiB is taken."""
    assert 16_384 == ANSWER_MAX_BYTES
    assert answer_of_size(size) == feed(AnswerReader(), answer_of_size(size), piece_bytes)


@pytest.mark.parametrize("piece_bytes", [1 << 20, 16_385, 16_384, 4096, 4095])
def test_over_16_kib(piece_bytes: int) -> None:
    """One byte more is oversized."""
    with pytest.raises(OversizedAnswer) as caught:
        feed(AnswerReader(), answer_of_size(16_385), piece_bytes)
    assert "answer longer than 16384 bytes" == str(caught.value)


def test_endless() -> None:
    """An answer without an end is refused at 16 KiB, not a byte before."""
    reader = AnswerReader()
    assert reader.feed(answer_of_size(20_000)[:16_383]) is None
    with pytest.raises(OversizedAnswer):
        reader.feed(b"x")


def test_action_there_and_back() -> None:
    """An action makes an answer, and an answer shows its action."""
    assert b"action=REJECT a=b\n\n" == answer_of("REJECT a=b")
    assert "REJECT a=b" == action_of(answer_of("REJECT a=b"))
    assert "né" == action_of(answer_of("né"))
    assert answer_of("né") == AnswerReader().feed(answer_of("né"))
    assert "n\\xe9" == action_of(b"action=n\xe9\n\n")


def test_a_new_reader_has_nothing() -> None:
    """Neither bytes nor a reason not to use the connection again."""
    reader = AnswerReader()
    assert (True, False) == (reader.empty, reader.leftover)


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (b"action=REJECT Empf\xe4nger\n\n", b"action=REJECT Empf?nger\n\n"),
        (b"action=REJECT Empf\xc3\xa4nger\n\n", b"action=REJECT Empf\xc3\xa4nger\n\n"),
        (b"action=\xed\xa0\x80x\r\n\r\n", b"action=???x\n\n"),
    ],
)
def test_bytes_that_are_not_utf_8_are_replaced(sent: bytes, taken: bytes) -> None:
    """Some sender wrote them, so nobody is to blame; Postfix would answer 451 to all of it."""
    assert taken == AnswerReader().feed(sent)
