"""The wire format of Postfix policy delegation: bytes in, requests and answers out.

Pure: no socket, no clock, no thread. A request is lines of ``name=value`` ended by an empty line; an
answer is one line ``action=...`` ended by an empty line (SMTPD_POLICY_README, "Protocol description").

Both directions judge strictly, because each fault has an owner: `MalformedRequest` is the client's and
never charges a service; `MalformedAnswer` is the service's and never reaches Postfix. The one liberty is
the line end: CRLF is taken for LF, as hapolicy 1.00 did, and is passed on as LF.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

from hapolicy.core.text import excerpt

# Postfix sends under 10 kB: some 30 attributes, of which helo, sender and recipient are bounded by
# line_length_limit (2048). 64 KiB leaves room for whatever a later Postfix adds.
REQUEST_MAX_BYTES = 65_536

# The reply text of an SMTP server is bounded to 512 octets a line (RFC 5321, 4.5.3.1.5); 16 KiB is far
# beyond every sensible action, PREPEND of a long header included.
ANSWER_MAX_BYTES = 16_384

# The first line without '=' after a whole line: the empty one that ends a request, or one that should not be there.
# Possessive quantifiers (*+) cannot backtrack, so hostile input costs one pass.
_NO_ATTRIBUTE = re.compile(rb"\n([^=\n]*+)\n")
_ANSWER = re.compile(rb"action=[ \t]*+[^\s\0][^\r\n\0]*+\r?\n\r?\n")
# Without these bytes, what is left of a request is its shape: equals signs, line ends, and NULs that must not be.
_NO_SHAPE = bytes(set(range(256)) - set(b"=\n\0"))
_POLICY_REQUEST = b"request=smtpd_access_policy\n"
_RCPT_REQUEST = b"request=smtpd_access_policy\nprotocol_state=RCPT\n"  # as smtpd begins almost all of them
_ANSWER_PREFIX = b"action="

# An answer and no more, in printable ASCII, as almost all are.
is_one_answer = re.compile(rb"action=[ \t]*+[!-~][ -~\t]*+\n\n").fullmatch

_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # as surrogateescape shows such bytes


class MalformedRequest(ValueError):
    """The client sent something that is no policy request; the text says what, in words for the log."""


class MalformedAnswer(ValueError):
    """The service sent something that is no answer; the text says what, in words for the log."""


class OversizedAnswer(MalformedAnswer):
    """The service sent more than `ANSWER_MAX_BYTES` without ending its answer."""


class Request:
    """One policy request. `raw` is what goes to the service, byte for byte, its empty line included."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        # All requests of one mail (all its recipients, DATA, END-OF-MESSAGE) carry the same instance.
        self.instance = _value(raw, b"\ninstance=")

    @property
    def state(self) -> bytes:
        """protocol_state."""
        return b"RCPT" if self.raw.startswith(_RCPT_REQUEST) else _value(self.raw, b"\nprotocol_state=")

    def value(self, name: str) -> bytes:
        """One attribute as it came; b"" when it is not there."""
        return _value(self.raw, f"\n{name}=".encode())

    def text(self, name: str) -> str:
        """One attribute, as in `attributes` but cheaper than all of them; "" when it is not there."""
        return self.value(name).decode("utf-8", "backslashreplace")

    @cached_property
    def attributes(self) -> Mapping[str, str]:
        """All attributes by name, for logs; bytes that are not UTF-8 are shown as ``\\xNN``.

        Of an attribute given twice the first counts.
        """
        text = self.raw.decode("utf-8", "backslashreplace")
        pairs = (line.partition("=") for line in text.split("\n")[:-2])
        found: dict[str, str] = {}
        for name, _, value in pairs:
            found.setdefault(name, value)
        return found


def _value(raw: bytes, name: bytes) -> bytes:
    """The value of the attribute that `name`, a newline before and "=" after, begins; b"" when it is not there."""
    start = raw.find(name)
    if start < 0:
        if not raw.startswith(name[1:]):
            return b""
        start = -1
    start += len(name)
    return raw[start : raw.index(b"\n", start)]


class RequestReader:
    """Frames the bytes of one client into requests, whatever the pieces they arrive in."""

    def __init__(self) -> None:
        self._buffer = b""
        # A byte at a time must not cost a pass over all that came before.
        self._line_start = 0  # all lines before are attributes
        self._scanned = 0  # no line ends between there and here

    @property
    def partial(self) -> bool:
        """Whether the client has begun a request that is not whole yet (call after `next_request`)."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the client."""
        self._buffer = self._buffer + data if self._buffer else data

    def next_request(self) -> Request | None:
        """The next whole request, None when more bytes are needed.

        Raises `MalformedRequest`; after that the stream has no meaning any more.
        """
        buffer = self._buffer
        if not buffer:
            return None
        if not self._scanned and is_one_request(buffer):
            self._buffer = b""
            return Request(buffer)
        if buffer.find(b"\n", self._scanned) < 0:
            self._refuse_oversized()
            self._refuse_nul()
            return None
        found = _NO_ATTRIBUTE.search(buffer, max(0, self._line_start - 1), REQUEST_MAX_BYTES)
        if found is None:
            self._refuse_hopeless()
            return None
        raw = buffer[: found.end()]
        self._buffer, self._line_start, self._scanned = buffer[found.end() :], 0, 0
        if found.group(1):
            raw = raw.replace(b"\r\n", b"\n")
        if not raw.startswith(_POLICY_REQUEST) or found.group(1) or b"\n=" in raw or b"\0" in raw:
            _check_all(raw)  # not as Postfix has it: look closely
        return Request(raw)

    def _refuse_hopeless(self) -> None:
        """Raise when nothing that may follow could make the buffer a request."""
        self._refuse_oversized()
        *lines, tail = self._buffer[self._line_start :].split(b"\n")
        for line in lines:
            _check_line(line)
        self._line_start = len(self._buffer) - len(tail)
        self._refuse_nul()

    def _refuse_oversized(self) -> None:
        if len(self._buffer) >= REQUEST_MAX_BYTES:
            raise MalformedRequest(f"request longer than {REQUEST_MAX_BYTES} bytes")

    def _refuse_nul(self) -> None:
        """In the line that has no end yet."""
        if self._buffer.find(b"\0", self._scanned) >= 0:
            raise MalformedRequest("NUL byte in the request")
        self._scanned = len(self._buffer)


def is_one_request(data: bytes) -> bool:
    """Whether `data` is a request and no more, as smtpd sends it: half the price of the search for all else."""
    if not data.startswith(_POLICY_REQUEST) or not data.endswith(b"\n\n") or len(data) > REQUEST_MAX_BYTES:
        return False
    shape = data.translate(None, _NO_SHAPE)
    return shape.find(b"\n\n") == len(shape) - 2 and b"\0" not in shape and b"\n=" not in data


def _check_all(raw: bytes) -> None:
    lines = raw.removesuffix(b"\n\n").split(b"\n")
    for line in lines:
        _check_line(line)
    if _POLICY_REQUEST.rstrip() not in lines:
        raise MalformedRequest("no request=smtpd_access_policy in the request")


def _check_line(line: bytes) -> None:
    if b"\0" in line:
        raise MalformedRequest("NUL byte in the request")
    if not line.strip(b"\r"):
        raise MalformedRequest("empty line where a request should begin")
    if b"=" not in line[1:]:
        shown = excerpt(line.rstrip(b"\r"))
        raise MalformedRequest(f"line is not name=value: {shown}")


class AnswerReader:
    """Collects one answer of a service, whatever the pieces it arrives in."""

    def __init__(self) -> None:
        self._buffer = b""
        self.leftover = False  # whether more than the answer came: such a connection is no use

    @property
    def empty(self) -> bool:
        """Whether the service has not said anything yet."""
        return not self._buffer

    def feed(self, data: bytes) -> bytes | None:
        """The whole answer as it goes to Postfix, None when more bytes are needed.

        Raises `MalformedAnswer` (as soon as it is certain) or `OversizedAnswer`.
        """
        buffer = self._buffer = self._buffer + data if self._buffer else data
        whole = _ANSWER.match(buffer, 0, ANSWER_MAX_BYTES)
        if whole is None:
            _refuse_hopeless_answer(buffer)
            return None
        answer = whole.group()
        self.leftover = len(answer) != len(buffer)
        if b"\r" in answer:
            answer = answer.replace(b"\r", b"")
        return answer if answer.isascii() else _as_utf8(answer)


def _refuse_hopeless_answer(buffer: bytes) -> None:
    """Raise when nothing that may follow could make `buffer` an answer."""
    if not buffer.startswith(_ANSWER_PREFIX[: len(buffer)]):
        raise MalformedAnswer(f"answer does not begin with action=: {excerpt(buffer)}")
    line, line_end, rest = buffer.partition(b"\n")
    if b"\0" in line or b"\r" in line[:-1]:
        raise MalformedAnswer(f"control character in the answer: {excerpt(buffer)}")
    if line_end and not line[len(_ANSWER_PREFIX) :].strip():
        raise MalformedAnswer(f"empty action: {excerpt(buffer)}")
    if len(buffer) >= ANSWER_MAX_BYTES:
        raise OversizedAnswer(f"answer longer than {ANSWER_MAX_BYTES} bytes")
    if line_end and rest not in (b"", b"\r"):
        raise MalformedAnswer(f"not one line action=... and an empty line: {excerpt(buffer)}")


def _as_utf8(answer: bytes) -> bytes:
    """`answer` with "?" for each byte that is not UTF-8.

    Some sender wrote that byte, so nobody is to blame; with smtputf8_enable Postfix would answer 451 4.3.5 to all of
    it.
    """
    return _NOT_UTF8.sub("?", answer.decode("utf-8", "surrogateescape")).encode()


def answer_of(action: str) -> bytes:
    """The answer that carries `action` (access(5)), as it goes to Postfix."""
    return b"action=%b\n\n" % action.encode()


def action_of(answer: bytes) -> str:
    """The action in a whole answer, for logs."""
    return answer[len(_ANSWER_PREFIX) : -2].decode("utf-8", "backslashreplace")
