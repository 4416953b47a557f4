"""For an argument that is wrong, an example of a right one of the same kind: who means a unix socket is shown one."""

from __future__ import annotations

from hapolicy.core.address import kind_of

EXAMPLES = {
    "-s/--service": "-s GREY1=10.0.0.1:10031:10",
    "-d/--default": "-d dunno",
    "--listen": "--listen 127.0.0.1:10060",
    "--allow": "--allow 10.0.0.0/24",
    "--control": "--control unix:/run/hapolicy/control.sock",
    "--http": "--http 127.0.0.1:10061",
    "--http-allow": "--http-allow 10.0.0.0/24",
    "--fail-max": "--fail-max 3",
    "--cooldown": "--cooldown 30",
    "--cooldown-max": "--cooldown-max 300",
    "--probe": "--probe query",
    "--connect-timeout": "--connect-timeout 5",
    "--deadline": "--deadline 90",
    "--max-clients": "--max-clients 1000",
    "--drain": "--drain 30",
    "--cpu": "--cpu auto",
    "--log": "--log auto",
    "@FILE": "@/etc/hapolicy/hapolicy.args",
}

OTHER_KINDS = {
    ("-s/--service", "unix"): "-s GREY1=unix:/run/grey1.sock:10",
    ("-s/--service", "ipv6"): "-s GREY1=[2001:db8::1]:10031:10",
    ("--listen", "unix"): "--listen unix:/run/hapolicy/policy.sock:660",
    ("--listen", "ipv6"): "--listen [::1]:10060",
    ("--http", "ipv6"): "--http [::1]:10061",
}


def right_example(option: str, given: str = "") -> str:
    """The end of a complaint about what was `given`; nothing for an option without an example."""
    where = given.partition("=")[2] or given if option == "-s/--service" else given
    example = OTHER_KINDS.get((option, kind_of(where))) or EXAMPLES.get(option)
    return f"; right is for example {example}" if example else ""
