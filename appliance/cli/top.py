"""`appliance top`: who is on, live on a terminal: sort, filter, kick."""

from __future__ import annotations

import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import configuration, control, kick, output, who
from appliance.cli.options import Config, Json
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from rich.console import RenderableType

_ASK_S = 5.0
SORTS = ("rate", "client", "file", "done", "time")
HELP = "↑↓ select  s sort  r reverse  / filter  K kick  p pause  q quit"
_STUCK_S = 5.0
RATE_S = 5.0
_WIDTHS = (21, 9, 0, 5, 10, 12, 6)  # of the columns; what is left belongs to the file

Every = Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.2, max=60.0, help="Between two looks.")]
Count = Annotated[int, typer.Option("--count", metavar="TIMES", min=0, help="End after so many looks; 0: never.")]


@dataclass(slots=True)
class View:
    """What a person has chosen to see. `asked`: the question that the next key answers."""

    sort: int = 0
    reverse: bool = False
    wanted: str = ""
    typing: bool = False
    paused: bool = False
    chosen: str = ""  # name of the selected row
    place: int = 0
    asked: str = ""
    said: str = ""
    before: dict[str, list[tuple[float, int]]] = field(default_factory=dict)  # of each row: when, bytes then
    rates: dict[str, float] = field(default_factory=dict)


def top(*, config: Config = None, as_json: Json = False, every: Every = 1.0, count: Count = 0) -> None:
    """Show who is on, live: transfers that last a while and FTP sessions, the fastest first.

    Keys: arrows select, s sorts otherwise, r turns the order, / filters, K kicks the selected one, q quits. With --json
    one document a line is written at each look, as `who --json` has it.

    \b
    Examples:
      appliance top
      appliance top --json --count 1
    """
    found = configuration.find(config, quiet=True)
    run_dir = found.run_dir()
    if as_json:
        _lines(run_dir, every, count)
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ApplianceError("top needs a terminal (appliance who, or appliance top --json)")
    _watch(run_dir, every, count)


def _lines(run_dir: str, every: float, count: int) -> None:
    looks = 0
    while not count or looks < count:
        if looks:
            time.sleep(every)
        output.fact(json.dumps(control.who(run_dir, _ASK_S)))
        sys.stdout.flush()
        looks += 1


def _watch(run_dir: str, every: float, count: int) -> None:
    from rich.console import Console
    from rich.live import Live as Display

    view, looks, due = View(), 0, 0.0
    live: list[dict[str, Any]] = []
    console = Console(highlight=False)
    with _keys() as keyboard, Display(console=console, screen=True, auto_refresh=False) as display:
        while True:
            now = time.monotonic()
            if now >= due and not view.paused:
                if count and looks >= count:
                    return
                live, due, looks = _look(run_dir, view, live), now + every, looks + 1
            shown = arrange(live, view)
            display.update(draw(shown, len(live), view, console.size), refresh=True)
            if not select.select([keyboard], [], [], max(0.05, due - now) if not view.paused else 1.0)[0]:
                continue
            for key in keys(os.read(keyboard, 100)):
                if key == "q" and not view.typing and not view.asked:
                    return
                press(key, view, arrange(live, view), run_dir)


def _look(run_dir: str, view: View, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    try:
        told = control.who(run_dir, _ASK_S)
    except (control.NotRunning, control.NoAnswer) as error:
        view.said = str(error)
        return before
    measure(told["live"], told["time"], view)
    return list(told["live"])


def measure(live: list[dict[str, Any]], now: float, view: View) -> None:
    """The rate of each row over the looks of the last RATE_S, or since the last look; since its start where there was
    none. A slow client takes what lies in the kernel, and then much at once: from one look to the next that is no rate.
    """
    before, view.before, view.rates = view.before, {}, {}
    for one in live:
        name = kick.name(one)
        looks = before.get(name, [])
        if looks and (now <= looks[-1][0] or one["bytes"] < looks[-1][1]):
            looks = []  # the clock was set, or it is another transfer
        looks = [look for look in looks if now - look[0] <= RATE_S] or looks[-1:]
        view.before[name] = [*looks, (now, one["bytes"])]
        view.rates[name] = (one["bytes"] - looks[0][1]) / (now - looks[0][0]) if looks else one["rate"]


def arrange(live: list[dict[str, Any]], view: View) -> list[dict[str, Any]]:
    """What is shown, in its order."""
    text = view.wanted.lower()
    found = [one for one in live if text in f"{one['client']} {one['service']} {one['verb']} {one['file']}".lower()]
    keys: dict[str, Any] = {
        "rate": lambda one: -view.rates.get(kick.name(one), 0.0),
        "client": lambda one: (len(one["client"]), one["client"], one["port"]),
        "file": lambda one: one["file"],
        "done": lambda one: -(one["percent"] if one["percent"] is not None else -1),
        "time": lambda one: -one["seconds"],
    }
    return sorted(found, key=keys[SORTS[view.sort]], reverse=view.reverse)


def draw(shown: list[dict[str, Any]], total: int, view: View, size: tuple[int, int]) -> RenderableType:
    """The whole screen: a head, as many rows as there is room for, a foot."""
    from rich.text import Text

    width, height = size
    names = [kick.name(one) for one in shown]
    if view.chosen in names:
        view.place = names.index(view.chosen)
    view.place = max(0, min(view.place, len(shown) - 1))
    view.chosen = names[view.place] if names else ""
    room = max(1, height - 3)
    first = max(0, min(view.place - room // 2, len(shown) - room))
    rate = output.size(sum(view.rates.get(name, 0.0) for name in names))
    head = f"{len(shown)} of {total} shown  {rate}/s  sorted by {SORTS[view.sort]}{' turned' if view.reverse else ''}"
    head += f"  filter: {view.wanted}" if view.wanted else ""
    head += "  PAUSED" if view.paused else ""
    text = Text(no_wrap=True, overflow="crop")
    text.append(head[:width].ljust(width) + "\n", style="bold")
    text.append(_line(("client", "what", "file", "done", "moved", "rate", "for"), width) + "\n", style="underline")
    for place, one in enumerate(shown[first : first + room], first):
        cells = who.cells(one)
        moved = f"{output.size(view.rates.get(names[place], 0.0))}/s" if one["verb"] else "-"
        style = "reverse" if place == view.place else "dim" if not one["verb"] else "yellow" if stuck(one) else ""
        text.append(_line((*cells[:5], moved, cells[6]), width) + "\n", style=style)
    text.append("\n" * (room - len(shown[first : first + room])))
    foot = view.asked or (f"filter: {view.wanted}▏" if view.typing else view.said or HELP)
    text.append(foot[:width], style="bold red" if view.asked else "")
    return text


def stuck(one: dict[str, Any]) -> bool:
    """Under way, and nothing has moved for a while."""
    return bool(one["verb"]) and one["silent_s"] > _STUCK_S


def _line(cells: tuple[str, ...], width: int) -> str:
    """Cells in columns; the file takes what the others leave."""
    rest = max(8, width - sum(_WIDTHS) - len(_WIDTHS) + 1)
    parts = []
    for cell, wide in zip(cells, _WIDTHS, strict=True):
        most = wide or rest
        cut = cell if len(cell) <= most else ("…" + cell[-most + 1 :] if not wide else cell[:most])
        parts.append(cut.ljust(most))
    return " ".join(parts)[:width].ljust(width)


def press(key: str, view: View, shown: list[dict[str, Any]], run_dir: str) -> None:
    """One key."""
    view.said = ""
    if view.asked:
        _answer(key, view, shown, run_dir)
    elif view.typing:
        _type(key, view)
    elif key in ("up", "k", "down", "j", "page up", "page down"):
        view.place += {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10}[key]
        view.place = max(0, min(view.place, len(shown) - 1))
        view.chosen = kick.name(shown[view.place]) if shown else ""
    elif key == "s":
        view.sort = (view.sort + 1) % len(SORTS)
    elif key == "r":
        view.reverse = not view.reverse
    elif key == "p":
        view.paused = not view.paused
    elif key == "/":
        view.typing = True
    elif key == "escape":
        view.wanted = ""
    elif key == "K" and view.chosen:
        one = next((one for one in shown if kick.name(one) == view.chosen), None)
        view.asked = f"End {' '.join(who.cells(one)[:3])}? (y/n)" if one else ""


def _answer(key: str, view: View, shown: list[dict[str, Any]], run_dir: str) -> None:
    view.asked = ""
    one = next((one for one in shown if kick.name(one) == view.chosen), None)
    if key != "y" or one is None:
        view.said = "not ended"
        return
    try:
        view.said = kick.end(run_dir, one) or "ended"
    except (control.NotRunning, control.NoAnswer) as error:
        view.said = str(error)


def _type(key: str, view: View) -> None:
    if key in ("enter", "escape"):
        view.typing = False
        view.wanted = view.wanted if key == "enter" else ""
    elif key == "backspace":
        view.wanted = view.wanted[:-1]
    elif len(key) == 1 and key.isprintable():
        view.wanted += key


_SEQUENCES = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down", "\x1b[5~": "page up", "\x1b[6~": "page down",
    "\x1b": "escape", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x03": "q", "\x04": "q",
}  # fmt: skip


def keys(raw: bytes) -> Iterator[str]:
    """What was pressed, by name; what is no key of ours is left out."""
    text = raw.decode("utf-8", "ignore")
    while text:
        sequence = next((one for one in sorted(_SEQUENCES, key=len, reverse=True) if text.startswith(one)), "")
        if sequence == "\x1b" and len(text) > 1:
            text = ""  # a key that we do not know
        elif sequence:
            yield _SEQUENCES[sequence]
            text = text[len(sequence) :]
        else:
            yield text[0]
            text = text[1:]


@contextmanager
def _keys() -> Iterator[int]:
    """The keyboard, a key at a time and without echo."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
