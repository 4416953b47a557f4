"""Service definitions: any text is one or is refused, and what is one can be written and read again."""

from __future__ import annotations

import argparse
import re

from hypothesis import example, given
from hypothesis import strategies as st

from hapolicy.config.loading import ConfigError, parse
from hapolicy.config.option import UsageError
from hapolicy.core.address import AddressError, TcpAddress, UnixAddress, parse_address, split_address
from hapolicy.core.service import Service, ServiceError, parse_service
from tests.support.streams import reason

anything = st.text(st.characters())  # lone surrogates too: bytes on a command line that are no UTF-8
addresses = ["::1", "h", "db", "10.0.0.1", "unix", "/p"]
numbers = ["25", "0", "00000", "65536", "1.5"]
parts = st.sampled_from(["A", "=", ":", "::", "[", "]", *addresses, *numbers, *".-+% é\0\udcff"])
texts = anything | st.lists(parts, max_size=12).map("".join) | st.lists(parts, max_size=8).map("A=h:".join)

host_names = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z][a-z0-9]{0,5})?", fullmatch=True)
hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda ip: f"[{ip}]"),
    host_names.filter(lambda name: name != "unix" and not re.fullmatch("[0-9a-f]{3,4}", name)),  # cafe:25:: is IPv6
)
ports = st.integers(1, 65_535)
decimals = st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,3})?", fullmatch=True).filter(lambda text: float(text) > 0)
names = st.from_regex(r"[A-Za-z0-9_.@-]{1,64}", fullmatch=True)
paths = st.from_regex(r"/[a-z0-9/._-]{0,60}", fullmatch=True)
where = st.tuples(hosts, ports).map(lambda pair: f"{pair[0]}:{pair[1]}") | paths.map("unix:{}".format)
definitions = st.builds(
    "{}={}:{}:{}:{}".format, names, where, st.integers(-999_999_999, 999_999_999), decimals, decimals
)


@given(texts)
@example("A=h:000000080000")
@example("A=unix:/\udcff")
def test_any_text_is_a_service_or_is_refused(text: str) -> None:
    """By nothing but a ServiceError, in printable words; and a service is a sound one."""
    try:
        service = parse_service(text)
    except ServiceError as error:
        reason(error)
        return
    assert isinstance(service, Service)
    assert service.weight > 0
    assert service.timeout_s > 0
    assert service.name
    assert service.name.isprintable()
    if isinstance(service.address, TcpAddress):
        assert service.address.host
        assert 1 <= service.address.port <= 65_535
    else:
        assert service.address.path.startswith("/")
        assert len(service.address.path.encode("utf-8", "surrogateescape")) <= 107


@given(definitions)
def test_written_and_read_again(text: str) -> None:
    """Whatever a service is, its text is the same service."""
    service = parse_service(text)
    assert service == parse_service(str(service))


@given(names, where, st.sampled_from(["", ":", "::", ":::"]))
def test_empty_fields_are_defaults(name: str, where: str, fields: str) -> None:
    """Colons with nothing between them change nothing."""
    assert parse_service(f"{name}={where}") == parse_service(f"{name}={where}{fields}")


@given(texts, st.integers(0, 1))
def test_any_text_is_an_address_or_is_refused(text: str, lowest_port: int) -> None:
    """The same for addresses alone."""
    try:
        (host, port), _ = split_address(text)
        address = parse_address(host, port, lowest_port)
    except AddressError as error:
        reason(error)
        return
    assert isinstance(address, TcpAddress | UnixAddress)
    assert address == parse_address(*split_address(str(address))[0], lowest_port)


OPTIONS = """-s -d -l -v -L --listen --stdio --allow --fail-max --cooldown --probe --log --deadline --drain
    --max-clients --check -- -"""
VALUES = "A=h:25 A=h 5 0 -1 query unix:/p"
options = st.sampled_from(f"{OPTIONS} {VALUES}".split())


@given(st.lists(options | texts.filter(lambda text: not text.startswith(("@", "-h", "--h", "--ver"))), max_size=6))
def test_any_command_line_is_understood_or_refused(words: list[str]) -> None:
    """By a UsageError or a ConfigError in one printable line, never otherwise."""
    try:
        assert isinstance(parse(words), argparse.Namespace)
    except (UsageError, ConfigError) as error:
        reason(error)
