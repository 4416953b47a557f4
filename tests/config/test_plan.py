"""What --check prints, to the letter."""

from __future__ import annotations

from hapolicy.config.loading import parse, settings_from
from hapolicy.config.plan import lines_of

USUAL = """\
listen    127.0.0.1:10060, unless a socket unit of systemd's listens in its place
service   A at h:25, prio 10, weight 1, timeout 30 s
default   dunno, at the latest after 90 s
suspect   DEFER_IF_PERMIT 4.3.0 Policy service error, try again later
health    down after 3 failed connections in a row or when 30 % of its answers and a probe fail, for 1 s up to 60 s
probe     query
hedge     auto
affinity  off
"""
ALL = """\
listen    [::1]:25, unix:/run/p, unless a socket unit of systemd's listens in its place
control   unix:/run/c
http      127.0.0.1:10061
service   B at unix:/b, prio 5, weight 0.5, timeout 7.5 s, max 3, hedge off
service   A at h:25, prio 10, weight 1, timeout 30 s
default   DEFER x, at the latest after 5 s
suspect   REJECT y
health    down after 1 failure in a row, for 0.5 s up to 2 s
probe     tcp, also after 30 s without a request
hedge     0.2
affinity  client_address,sender
"""


def printed(*words: str) -> str:
    """The plan of a command line."""
    settings = settings_from(parse(words), stdin_is_client=False)
    return "".join(f"{line}\n" for line in lines_of(settings))


def test_the_plan_of_what_is_usual() -> None:
    """Every default is said."""
    assert USUAL == printed("-s", "A=h:25")


def test_the_plan_of_all_there_is() -> None:
    """In the order in which they are asked."""
    assert ALL == printed(
        *("-s", "A=h:25", "-s", "B=unix:/b:5:0.5:7.5,max=3,hedge=off"),
        *("--listen", "[::1]:25", "--listen", "unix:/run/p", "--control", "unix:/run/c", "--http", "127.0.0.1:10061"),
        *("-d", "DEFER x", "--suspect", "REJECT y", "--deadline", "5", "--hedge", "0.2"),
        *("--fail-max", "1", "--fail-rate", "off", "--cooldown", "0.5", "--cooldown-max", "2"),
        *("--probe", "tcp", "--probe-every", "30", "--affinity", "client_address,sender"),
    )


def test_under_spawn_nothing_listens() -> None:
    """The one client is on stdin."""
    assert "listen    stdin\nservice " in printed("-s", "A=h:25", "--stdio")
