"""The status document for people: aligned lines for a pipe or a log, a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.cli import output

_HEADS = ("worker", "pid", "state", "restarts", "uid", "confinement", "now", "done", "bytes")


def lines(facts: dict[str, Any]) -> list[str]:
    """The whole status as plain lines."""
    table = [_HEADS, *_rows(facts)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADS))]
    aligned = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return [headline(facts), *_services(facts), *aligned, *_problems(facts)]


def draw(facts: dict[str, Any]) -> None:
    """The same on a terminal, with what is wrong in colour."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(headline(facts), style="bold green" if facts["ready"] else "bold red"))
    for line in _services(facts):
        console.print(Text(line))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for head in _HEADS:
        table.add_column(head, no_wrap=True)
    for row in _rows(facts):
        style = "" if row[_HEADS.index("state")] == "serving" else "yellow"
        table.add_row(*(Text(cell, style=style) for cell in row))
    console.print(table)
    for line in _problems(facts):
        console.print(Text(line, style="red" if line.startswith("error") else "yellow"))


def headline(facts: dict[str, Any]) -> str:
    """One line: is it well, which program, since when, by which configuration."""
    state = "ready" if facts["ready"] else f"NOT READY ({facts.get('state', 'unknown')})"
    return (
        f"{state}: appliance {facts.get('version', '?')}, pid {facts.get('pid', '?')}, "
        f"up {_span(facts.get('uptime_s', 0))}, configuration {facts.get('config', '?')}"
    )


def _services(facts: dict[str, Any]) -> list[str]:
    found = []
    for name, service in facts["services"].items():
        listen = " ".join(service.get("listen", ())) or "-"
        found.append(f"{name}: {service.get('state', '?')}, listens on {listen}")
    return found


def _rows(facts: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, service in facts["services"].items():
        for worker in service.get("workers", ()):
            plain = (worker.get(key, "-") for key in ("pid", "state", "restarts", "uid"))
            yield (
                f"{name}/{worker.get('index', '?')}",
                *map(str, plain),
                confinement(worker.get("confinement", {})),
                str(worker.get("active", "-")),
                str(worker.get("transfers", "-")),
                output.size(worker.get("bytes", 0)),
            )


def confinement(layers: dict[str, Any]) -> str:
    """One worker's layers in a few words: the level, the system calls that are left, and what is missing."""
    if not layers:
        return "-"
    missing = [name for name in ("capabilities", "no_new_privs", "landlock", "seccomp") if not layers.get(name)]
    if layers.get("jail") == "none":
        missing.insert(0, "jail")
    text = f"{layers.get('level', '?')}, {layers.get('seccomp', 0)} calls"
    return text + (f", no {', '.join(missing)}" if missing else "")


def _problems(facts: dict[str, Any]) -> list[str]:
    return [
        f"{p['severity']}: {p['what']}" + (f" ({p['remedy']})" if p.get("remedy") else "") for p in facts["problems"]
    ]


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if count]
    return " ".join(parts[:2]) or f"{rest}s"
