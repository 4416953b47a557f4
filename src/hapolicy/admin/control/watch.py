"""``hapolicyctl status --watch``: the status, refreshed in place. The only room that imports rich."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hapolicy.admin.control import render as table
from hapolicy.admin.control.render import Status

PERIOD_S = 1.0


def watch(fetch: Callable[[], Status], failures: type[Exception]) -> None:
    """Show what `fetch` returns, until interrupted; while it raises `failures`, that above what was last known."""
    console = Console(highlight=False, soft_wrap=False)
    shown: RenderableType = Text()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                status = fetch()
                shown = _render(status, console.width)
                live.update(shown, refresh=True)
            except failures as error:
                live.update(Group(Text(table.safe(error), style="bold red"), Text(), shown), refresh=True)
            time.sleep(PERIOD_S)


def _render(status: Status, width: int) -> RenderableType:
    """Only `Text`, never markup: a name may hold brackets."""
    rows = table.rows(status)
    columns = [(index, *table.COLUMNS[index]) for index in table.columns_within(rows, width)]
    services = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for _, title, side in columns:
        services.add_column(title, justify=side, no_wrap=True)
    for row in rows:
        styles = {"STATE": row.colour}
        services.add_row(*(Text(row.cells[index], styles.get(title, "")) for index, title, _ in columns))
    lines = [Text(line) for line in table.headline(status)]
    below: list[RenderableType] = []
    for title, said in table.sections(status):
        grid = Table.grid(padding=(0, 2, 0, 0))
        for name, text in said:
            grid.add_row(Text(name), Text(text))
        below += [Text(), Text(title, style="bold"), grid]
    clock = Text(time.strftime("%H:%M:%S, every second; Ctrl-C ends"), style="dim")
    return Group(*lines, clock, Text(), services, *below)
