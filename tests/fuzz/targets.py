"""What is fuzzed: each function takes any bytes and fails only where the parser does what it must not.

A parser may refuse, in its own exception and in printable words. It may not raise anything else, hang, or judge
the same bytes otherwise when they come in other pieces.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from hapolicy.admin.control.protocol import (
    Order,
    OrderError,
    error_line,
    line_of,
    order_of,
    request_of,
    result_line,
    result_of,
)
from hapolicy.config.loading import parse, settings_from
from hapolicy.config.settings import SettingsError
from hapolicy.core.address import AddressError, parse_address, split_address
from hapolicy.core.protocol import (
    ANSWER_MAX_BYTES,
    REQUEST_MAX_BYTES,
    AnswerReader,
    MalformedAnswer,
    MalformedRequest,
    RequestReader,
    action_of,
)
from hapolicy.core.service import ServiceError, parse_service

_FOLDER = tempfile.TemporaryDirectory(prefix="hapolicy-fuzz-")  # removed at the end of the process
_FILE = Path(_FOLDER.name) / "hapolicy.args"


def requests(data: bytes) -> None:
    """Requests of a client: the same whole and cut in two, each well-formed."""
    whole = _requests_in([data])
    cut = len(data) // 2
    assert whole == _requests_in([data[:cut], data[cut:]])
    if len(data) < 200:
        assert whole == _requests_in([data[i : i + 1] for i in range(len(data))])
    for raw in whole[0]:
        assert raw.endswith(b"\n\n")
        assert len(raw) <= REQUEST_MAX_BYTES
        assert b"\0" not in raw
        assert b"request=smtpd_access_policy\n" in raw


def _requests_in(pieces: list[bytes]) -> tuple[list[bytes], bool]:
    """What is found, and whether the rest is refused."""
    reader, found = RequestReader(), []
    for piece in pieces:
        reader.feed(piece)
        try:
            while (request := reader.next_request()) is not None:
                found.append(request.raw)
                assert all(isinstance(value, str) for value in request.attributes.values())
                assert isinstance(request.text("protocol_state"), str)
                assert request.instance in request.raw
        except MalformedRequest as error:
            return found, bool(_printable(error))
    return found, False


def answers(data: bytes) -> None:
    """One answer of a service: what Postfix gets is one line, UTF-8, ended by an empty one."""
    whole = _answer_in([data])
    if len(data) < 300:
        bytewise = _answer_in([data[i : i + 1] for i in range(len(data))])
        assert whole[0] == bytewise[0] or b"\n\n" in data[:-1] or b"\n\r\n" in data
    if (answer := whole[0]) is not None:
        assert answer.startswith(b"action=")
        assert answer.endswith(b"\n\n")
        assert len(answer) <= ANSWER_MAX_BYTES
        assert 2 == answer.count(b"\n")
        assert b"\r" not in answer
        assert b"\0" not in answer
        assert answer[7:-2].strip(b" \t\f\v")
        assert answer[7:-2].decode() == action_of(answer)


def _answer_in(pieces: list[bytes]) -> tuple[bytes | None, str]:
    reader = AnswerReader()
    for piece in pieces:
        try:
            if (answer := reader.feed(piece)) is not None:
                return answer, ""
        except MalformedAnswer as error:
            return None, _printable(error)
    return None, ""


def orders(data: bytes) -> None:
    """A line of the control protocol, either way: understood or refused, and what is said back is printable ASCII."""
    line = data.replace(b"\n", b" ")
    try:
        order = order_of(line)
    except OrderError as error:
        reply = error_line(error)
    else:
        assert order == order_of(line_of(Order(order.command, order.arguments)))
        with contextlib.suppress(OrderError):
            assert request_of(order.arguments.get("attributes")).raw.endswith(b"\n\n")
        reply = result_line(order.arguments)
        assert json.loads(reply)["ok"] is True
    assert reply.endswith(b"\n")
    assert reply[:-1].decode("ascii").isprintable()
    with contextlib.suppress(OrderError, ValueError):
        result_of(line)


def services(data: bytes) -> None:
    """A ``-s``: a service, or what is wrong with it."""
    try:
        service = parse_service(_text(data))
    except ServiceError as error:
        assert str(error)  # noqa: PT017
    else:
        assert str(service)
        assert service.timeout_s > 0
        assert service.weight > 0


def addresses(data: bytes) -> None:
    """HOST:PORT and unix:/path: what is one can be written and read again."""
    try:
        where, _ = split_address(_text(data))
        address = parse_address(*where, lowest_port=0)
    except AddressError as error:
        assert str(error)  # noqa: PT017
    else:
        again, _ = split_address(str(address))
        assert address == parse_address(*again, lowest_port=0)


def arguments(data: bytes) -> None:
    """An argument file: settings, or one complaint; nothing is printed, nothing else is raised."""
    # Another file of the machine's is none of a fuzzer's business.
    _FILE.write_bytes(data.replace(b"@", b""))
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            settings_from(parse([f"@{_FILE}"]), stdin_is_client=False)
    except SettingsError as error:
        assert 1 == len(str(error).splitlines()), str(error)  # noqa: PT017
    assert "" == out.getvalue()


def _text(data: bytes) -> str:
    """Words as Python has them from a command line: what is no UTF-8 comes as lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def _printable(error: Exception) -> str:
    text = str(error)
    assert text
    assert text.isprintable()
    return text


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (requests, answers, orders, services, addresses, arguments)
}
