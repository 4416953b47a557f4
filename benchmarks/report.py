"""results.json as a page that a postmaster can read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.faults import LATE_MS
from benchmarks.speed import CONNECTIONS, EVER_MAX, Rounds, median
from benchmarks.targets import HAPROXY, NEW, OLD, added_us, judge


def page(found: Mapping[str, Any]) -> str:
    """The Markdown page."""
    run = found["run"]
    head = f"""\
# Benchmark

`make bench`, {run["date"]}, {run["machine"]}, Linux {run["kernel"]}, Python {run["python"]}.
{_versions(run["versions"])}

Load, services and proxies share the machine's {run["processors"]} processors and speak over loopback. Each figure is
the median of {run["rounds"]} rounds of {run["seconds"]:g} s; in each round every proxy has its turn at every number
of connections, before the same two services. A connection asks again as soon as it is answered; each request has an
instance of its own, and only the answer that names it is right. Lost and wrong over all rounds (a default
action given while both services were well is wrong, too): {_losses(found)}.
{_leftout(found)}
![Requests a second](throughput.svg)
"""
    parts = [head, _targets(found), _speed(found), _others(found), _faults(found)]
    return "\n".join(parts)


def summary(found: Mapping[str, Any]) -> str:
    """The table that the README shows."""
    speed: Rounds = found["speed"]

    def row(text: str, cell: Callable[[str], str]) -> tuple[str, ...]:
        return (text, *(cell(name) for name in (NEW, OLD, HAPROXY)))

    def rate(name: str) -> str:
        return _figure(median(speed, name, 32, "per_second"))

    def cpu(name: str) -> str:
        return f"{median(speed, name, 32, 'cpu_us') or 0:.0f} µs"

    def added(name: str) -> str:
        return f"{added_us(speed, name) or 0:.0f} µs"

    def lost(name: str) -> str:
        return str(found["faults"]["killed, and stays away"][name]["lost"])

    def hung(name: str) -> str:
        result = found["faults"]["hung for 2 s"][name]
        return f"{result['lost']} / {_ms(result['max_us'])} ms"

    rows = (
        row("requests a second, 32 connections", rate),
        row("CPU per request, 32 connections", cpu),
        row("added latency, 1 connection (median)", added),
        row("a service killed under load: requests lost", lost),
        row("a service hung for 2 s, TIMEOUT 1: lost / slowest", hung),
    )
    return _table(("", NEW, OLD, HAPROXY), rows)


def _targets(found: Mapping[str, Any]) -> str:
    rows = [
        (t.text, f"{'≥' if t.at_least else '≤'} {t.limit:g} {t.unit}", _number(t.value, t.unit), t.verdict)
        for t in judge(found)
    ]
    return "## Targets\n\n" + _table(("", "target", "measured", ""), rows)


def _speed(found: Mapping[str, Any]) -> str:
    speed: Rounds = found["speed"]
    rows = []
    for connections in CONNECTIONS:
        for name in speed:
            values = [median(speed, name, connections, field) for field in _COLUMNS]
            if values[0] is not None:
                ramp_ms = _figure((median(speed, name, connections, "ramp_s") or 0) * 1000)
                rows.append((f"{connections:,}", name, *(_figure(value) for value in values), ramp_ms))
    head = (
        "connections",
        "",
        "requests/s",
        "p50 µs",
        "p99 µs",
        "p999 µs",
        "max µs",
        "proxy's CPU µs/request",
        "ramp ms",
    )
    note = "\nRamp: from the first connect() until each connection has its first answer; those answered go on asking.\n"
    return "## Speed\n\n" + _table(head, rows) + note


_COLUMNS = ("per_second", "p50_us", "p99_us", "p999_us", "max_us", "cpu_us")


def _others(found: Mapping[str, Any]) -> str:
    memory, start, first = found["idle_memory"], found["start_ms"], found["first_answer_ms"]
    names = [name for name in found["speed"] if name in memory or name in start or name in first]
    rows = [
        (
            name,
            _figure(memory.get(name, {}).get("each_kb")),
            _figure(start.get(name)),
            _figure(first.get(name)),
        )
        for name in names
    ]
    table = _table(("", "kB an idle connection", "start to ready, ms", "spawned: first answer, ms"), rows)
    logging = [
        (name, _figure(result["per_second"]), _figure(result.get("cpu_us")), _share(result["logged"]))
        for name, result in found["logging"].items()
    ]
    log_table = _table(("hapolicy 2, 32 connections, log", "requests/s", "CPU µs/request", "logged"), logging)
    sink = next(iter(found["logging"].values()))["sink"]
    return (
        "## Memory, start, log\n\nIdle: after one request each, 2,000 connections (of 1.00, which is a process each,"
        " 50, its proportional set size).\nReady: READY=1 of hapolicy; HAProxy takes a connection.\n\n"
        f"{table}\nThe log goes to {'a real journald' if sink == 'journal' else 'the null device'}. Logged: the share"
        " of requests that is found there; lines\nthat do not fit the queue are dropped and counted, answers do not"
        f" wait. Calm is about 1,000 requests a second.\n\n{log_table}"
    )


def _faults(found: Mapping[str, Any]) -> str:
    rows = []
    for fault, by_proxy in found["faults"].items():
        for name, result in by_proxy.items():
            counts = (result["lost"], result["wrong"], result["late"] + result["hanging"])
            rows.append(
                (fault, name, f"{result['all_answers']:,}", *counts, _ms(result["max_us"]), f"{result['gap_ms']:.0f}")
            )
    head = ("one of two services is", "", "answers", "lost", "wrong", "late", "slowest ms", "longest silence ms")
    return (
        "\n## One of two services fails\n\n32 connections, 5 s, a timeout of 1 s for a service. Lost: the connection"
        " ended on a request, which Postfix answers\nwith a pause of a second and one more try, then 451. Late: after"
        f" more than {LATE_MS} ms. Silence: no answer on any connection.\nHAProxy checks each service with a policy"
        " request every second and ends the sessions of one that is down.\n\n" + _table(head, rows)
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({version})" if version else name for name, version in versions.items()) + "."


def _losses(found: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {lost} and {wrong}" for name, (lost, wrong) in found["losses"].items())


def _leftout(found: Mapping[str, Any]) -> str:
    said = [f"{name} is left out above {most} connections, a process each." for name, most in EVER_MAX.items()]
    said += [f"{name} was not measured: {what} is missing." for name, what in found["missing"].items()]
    return "\n".join(said) + "\n"


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.2f} {unit}" if value < 10 else f"{value:.0f} {unit}"


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _ms(microseconds: float) -> str:
    return f"{microseconds / 1000:,.0f}"
