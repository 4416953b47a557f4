"""Requests: framing, strictness, limits; each sample whole, a byte at a time, and with more behind it."""

from __future__ import annotations

import time

import pytest

from hapolicy.core.protocol import REQUEST_MAX_BYTES, MalformedRequest, Request, RequestReader, is_one_request

HEAD = b"request=smtpd_access_policy\n"
SMALLEST = HEAD + b"\n"
POSTFIX = HEAD + (
    b"protocol_state=RCPT\nprotocol_name=ESMTP\nhelo_name=some.domain.tld\nqueue_id=8045F2AB23\n"
    b"sender=foo@bar.tld\nrecipient=bar@foo.tld\nrecipient_count=0\nclient_address=1.2.3.4\n"
    b"client_name=another.domain.tld\nreverse_client_name=another.domain.tld\ninstance=123.456.7\n"
    b"sasl_method=plain\nsize=12345\nccert_subject=solaris9.porcupine.org\nstress=\npolicy_context=\n\n"
)

# What a client sends, and what goes to the service for it.
SAMPLES: dict[str, tuple[bytes, list[bytes]]] = {
    "smallest": (SMALLEST, [SMALLEST]),
    "postfix": (POSTFIX, [POSTFIX]),
    "request-last": (b"sender=a\n" + SMALLEST, [b"sender=a\n" + SMALLEST]),
    "empty-values": (HEAD + b"sender=\nstress=\n\n", [HEAD + b"sender=\nstress=\n\n"]),
    "equals-signs": (HEAD + b"sender=a=b=@c==\nx==\n\n", [HEAD + b"sender=a=b=@c==\nx==\n\n"]),
    "spaces": (HEAD + b" a name = a value \t\n\n", [HEAD + b" a name = a value \t\n\n"]),
    "not-utf-8": (HEAD + b"helo_name=\xff\xfe\x80\n\xe9=\n\n", [HEAD + b"helo_name=\xff\xfe\x80\n\xe9=\n\n"]),
    "control": (HEAD + b"helo_name=\x01\x1b[2J\x7f\r.\n\n", [HEAD + b"helo_name=\x01\x1b[2J\x7f\r.\n\n"]),
    "duplicates": (HEAD + b"sender=a\nsender=b\n\n", [HEAD + b"sender=a\nsender=b\n\n"]),
    "request-twice": (b"request=other\n" + SMALLEST, [b"request=other\n" + SMALLEST]),
    "crlf": (POSTFIX.replace(b"\n", b"\r\n"), [POSTFIX]),
    "pipelined": (POSTFIX + SMALLEST + POSTFIX, [POSTFIX, SMALLEST, POSTFIX]),
    "pipelined-crlf": ((SMALLEST + POSTFIX).replace(b"\n", b"\r\n"), [SMALLEST, POSTFIX]),
    "crlf-and-lf": (POSTFIX + SMALLEST.replace(b"\n", b"\r\n") + POSTFIX, [POSTFIX, SMALLEST, POSTFIX]),
    "name-of-one-first": (SMALLEST + b"a=b\n" + SMALLEST, [SMALLEST, b"a=b\n" + SMALLEST]),
    "name-of-one": (HEAD + b"a=b\n\n", [HEAD + b"a=b\n\n"]),
    "name-with-cr": (HEAD + b"\r=b\n\n", [HEAD + b"\r=b\n\n"]),
}
MALFORMED: dict[str, tuple[bytes, str]] = {
    "no-request": (b"sender=a\n\n", "no request=smtpd_access_policy in the request"),
    "other-request": (b"request=junk\nsender=a\n\n", "no request=smtpd_access_policy in the request"),
    "other-case": (b"Request=smtpd_access_policy\n\n", "no request=smtpd_access_policy in the request"),
    "longer-value": (b"request=smtpd_access_policy2\n\n", "no request=smtpd_access_policy in the request"),
    "longer-name": (b"xrequest=smtpd_access_policy\n\n", "no request=smtpd_access_policy in the request"),
    "as-a-value": (b"sender=request=smtpd_access_policy\n\n", "no request=smtpd_access_policy in the request"),
    "no-equals": (HEAD + b"junk\n", "line is not name=value: 'junk'"),
    "no-equals-first": (b"GET / HTTP/1.1\r\n", "line is not name=value: 'GET / HTTP/1.1'"),
    "no-name": (HEAD + b"=value\n", "line is not name=value: '=value'"),
    "capital": (b"X\n", "line is not name=value: 'X'"),
    "space": (b" \n", "line is not name=value: ' '"),
    "hostile-line": (b"\x1b[2J\xff\n", "line is not name=value: '\\x1b[2J\\xff'"),
    "long-line": (b"x" * 100 + b"\n", f"line is not name=value: '{'x' * 60}'"),
    "nul": (HEAD + b"sender=a\0b\n", "NUL byte in the request"),
    "nul-in-name": (HEAD + b"a\0b=c\n", "NUL byte in the request"),
    "nul-unended": (HEAD + b"sender=\0", "NUL byte in the request"),
    "nul-alone": (b"\0", "NUL byte in the request"),
    "empty-first": (b"\n", "empty line where a request should begin"),
    "empty-only": (b"\n\n", "empty line where a request should begin"),
    "empty-crlf": (b"\r\n", "empty line where a request should begin"),
    "first-fault-first": (b"junk\nsender=\0\n\n", "line is not name=value: 'junk'"),
}
by_sample = pytest.mark.parametrize(("sent", "expected"), SAMPLES.values(), ids=SAMPLES.keys())
by_fault = pytest.mark.parametrize(("sent", "reason"), MALFORMED.values(), ids=MALFORMED.keys())


def requests_in(reader: RequestReader) -> list[bytes]:
    """The requests that are whole by now."""
    return [request.raw for request in iter(reader.next_request, None)]


def feed(reader: RequestReader, data: bytes, piece_bytes: int) -> list[bytes]:
    """Feed `data` in pieces; the requests in it."""
    found = []
    for start in range(0, len(data), piece_bytes):
        reader.feed(data[start : start + piece_bytes])
        found += requests_in(reader)
    return found


def request_of(size: int) -> bytes:
    """A request of so many bytes."""
    head = HEAD + b"sender="
    return head + b"x" * (size - len(head) - 2) + b"\n\n"


@by_sample
def test_whole(sent: bytes, expected: list[bytes]) -> None:
    """A sample that comes in one piece is what it is, and nothing is left over."""
    reader = RequestReader()
    reader.feed(sent)
    assert expected == requests_in(reader)
    assert not reader.partial


@by_sample
def test_byte_by_byte(sent: bytes, expected: list[bytes]) -> None:
    """A sample that comes a byte at a time is the same."""
    reader = RequestReader()
    assert expected == feed(reader, sent, 1)
    assert not reader.partial


@by_sample
def test_with_trailing_data(sent: bytes, expected: list[bytes]) -> None:
    """The beginning of a next request waits for its rest."""
    reader = RequestReader()
    reader.feed(sent + POSTFIX[:40])
    assert expected == requests_in(reader)
    assert reader.partial
    reader.feed(POSTFIX[40:])
    assert [POSTFIX] == requests_in(reader)
    assert not reader.partial


@by_sample
def test_cut_short(sent: bytes, expected: list[bytes]) -> None:
    """A sample without its last byte is one request short, and begun."""
    reader = RequestReader()
    reader.feed(sent[:-1])
    assert expected[:-1] == requests_in(reader)
    assert reader.partial


@by_fault
def test_malformed_whole(sent: bytes, reason: str) -> None:
    """Nonsense is refused with its reason."""
    reader = RequestReader()
    reader.feed(sent)
    with pytest.raises(MalformedRequest) as caught:
        reader.next_request()
    assert reason == str(caught.value)


@by_fault
def test_malformed_byte_by_byte(sent: bytes, reason: str) -> None:
    """Nonsense that comes a byte at a time has the same reason, first or after a request."""
    for before in (b"", POSTFIX):
        with pytest.raises(MalformedRequest) as caught:
            feed(RequestReader(), before + sent, 1)
        assert reason == str(caught.value)


@by_fault
def test_malformed_after_a_request(sent: bytes, reason: str) -> None:
    """A whole request before the nonsense is not lost."""
    reader = RequestReader()
    reader.feed(POSTFIX + sent + POSTFIX)
    first = reader.next_request()
    assert first is not None
    assert POSTFIX == first.raw
    with pytest.raises(MalformedRequest) as caught:
        reader.next_request()
    assert reason == str(caught.value)


@pytest.mark.parametrize("piece_bytes", [1 << 20, 4096, 4095])
@pytest.mark.parametrize("size", [65_535, 65_536])
def test_up_to_64_kib(size: int, piece_bytes: int) -> None:
    """A request of up to 64 KiB is taken, alone and before another one."""
    sent = request_of(size)
    assert size == len(sent)
    assert [sent, sent, SMALLEST] == feed(RequestReader(), sent + sent + SMALLEST, piece_bytes)


@pytest.mark.parametrize("piece_bytes", [1 << 20, 65_537, 65_536, 4096, 4095])
def test_over_64_kib(piece_bytes: int) -> None:
    """One byte more is too long, in whatever pieces."""
    with pytest.raises(MalformedRequest) as caught:
        feed(RequestReader(), request_of(65_537) + POSTFIX, piece_bytes)
    assert "request longer than 65536 bytes" == str(caught.value)


def test_too_long_before_its_end() -> None:
    """A request without an end is refused once no end can come in time, not a byte before."""
    reader = RequestReader()
    reader.feed(request_of(70_000)[:65_535])
    assert reader.next_request() is None
    reader.feed(b"x")
    with pytest.raises(MalformedRequest, match="longer than 65536"):
        reader.next_request()


def test_64_kib_of_crlf() -> None:
    """The limit counts what was sent."""
    sent = request_of(65_534)[:-2] + b"\r\n\r\n"
    assert 65_536 == len(sent)
    reader = RequestReader()
    reader.feed(sent)
    assert [sent.replace(b"\r\n", b"\n")] == requests_in(reader)
    with pytest.raises(MalformedRequest, match="longer"):
        feed(RequestReader(), b"a" + sent, 1 << 20)


@pytest.mark.parametrize("pattern", [b"=", b"a", b"a=b\n", b"a=\r\n", b"a=\r", b"\r", b"==\n", b"a="])
@pytest.mark.parametrize("piece_bytes", [1 << 20, 512, 16])
def test_hostile_patterns_cost_little(pattern: bytes, piece_bytes: int) -> None:
    """What can never become a request is refused at the limit, without a pass a byte."""
    sent = (HEAD + pattern * REQUEST_MAX_BYTES)[: REQUEST_MAX_BYTES + 10]
    start = time.process_time()
    with pytest.raises(MalformedRequest):
        feed(RequestReader(), sent, piece_bytes)
    assert time.process_time() - start < 3


def test_a_long_line_a_byte_at_a_time_costs_little() -> None:
    """64 KiB of a line without an end, dripped, must not keep the processor from everybody else."""
    start = time.process_time()
    with pytest.raises(MalformedRequest):
        feed(RequestReader(), HEAD + b"a" * REQUEST_MAX_BYTES, 1)
    assert time.process_time() - start < 4


def test_nothing_fed() -> None:
    """A reader that got nothing, or only empty pieces, has begun nothing."""
    reader = RequestReader()
    assert reader.next_request() is None
    reader.feed(b"")
    assert reader.next_request() is None
    assert not reader.partial


def test_instance() -> None:
    """The instance is the first attribute of exactly that name, wherever it stands."""
    assert b"" == Request(SMALLEST).instance
    assert b"123.456.7" == Request(POSTFIX).instance
    assert b"1=2" == Request(b"instance=1=2\n" + SMALLEST).instance
    assert b"first" == Request(HEAD + b"instance=first\ninstance=second\n\n").instance
    assert b"" == Request(HEAD + b"xinstance=1\nsender=instance=2\n\n").instance
    assert b"\xff" == Request(HEAD + b"instance=\xff\n\n").instance


def test_one_attribute_as_text() -> None:
    """As among all of them: what is not UTF-8 is shown, not lost, and what is not there is empty."""
    request = Request(HEAD + b"sender=a=b\nhelo_name=\xc3\xa9\xff\nsize=\n\n")
    assert ("é\\xff", "a=b", "", "") == tuple(
        request.text(name) for name in ("helo_name", "sender", "size", "queue_id")
    )


@pytest.mark.parametrize("size", [REQUEST_MAX_BYTES, REQUEST_MAX_BYTES + 1])
def test_the_short_cut_takes_what_the_reader_takes(size: int) -> None:
    """A request of the greatest length, and one byte more; and all that is wrong with one that looks well."""
    whole = HEAD + b"helo_name=" + b"x" * (size - len(HEAD) - 12) + b"\n\n"
    assert len(whole) == size
    assert is_one_request(whole) == (size == REQUEST_MAX_BYTES)
    for wrong in (
        SMALLEST[:-1],
        SMALLEST + b"\n",
        SMALLEST + SMALLEST,
        HEAD + b"=x\n\n",
        HEAD + b"a=\0\n\n",
        b"x" + SMALLEST,
    ):
        assert not is_one_request(wrong)
    assert is_one_request(SMALLEST)
    assert is_one_request(POSTFIX)


def test_attributes() -> None:
    """Attributes are text for logs: the first of a name counts, what is not UTF-8 is shown escaped."""
    request = Request(HEAD + b"sender=a=b\nsender=c\nhelo_name=\xc3\xa9\xff\nstress=\n\n")
    expected = {"request": "smtpd_access_policy", "sender": "a=b", "helo_name": "é\\xff", "stress": ""}
    assert expected == request.attributes
