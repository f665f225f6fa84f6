"""`appliance log`: what happened, by the history of the events service, and what happens while it is followed."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.cli import configuration, control, output
from appliance.cli.options import Config, Json
from appliance.cli.who import Client, Csv, matcher
from appliance.errors import ApplianceError

_ASK_S = 5.0
_SEGMENTS_MAX = 253
_PIECE = 1 << 20
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FIRST = ("n", "time", "v", "room", "worker", "event", "client", "port")

Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="WHEN", help="15m, 2h, 3d ago, or 2026-01-31 or 2026-01-31T14:05.", show_default=False
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")]
Kind = Annotated[
    list[str] | None,
    typer.Option(
        "--event", metavar="KIND", help="Only these: transfer, refused, stored, worker, …", show_default=False
    ),
]
Last = Annotated[int, typer.Option("--last", "-n", metavar="LINES", min=0, help="At most so many of the past; 0: all.")]


def log(
    *,
    config: Config = None,
    as_json: Json = False,
    as_csv: Csv = False,
    since: Since = None,
    client: Client = None,
    event: Kind = None,
    follow: Follow = False,
    last: Last = 0,
) -> None:
    """Tell what happened: who fetched what, when and how it ended, what was refused and why, uploads, restarts.

    It reads the history of the running appliance; when none runs, the files in state_dir/events. With --json each event
    is one line; docs/EVENTS.md explains every field.

    \b
    Examples:
      appliance log --since 1h --client 192.0.2.7
      appliance log --event refused --follow
    """
    wanted = _filter(since, client, event)
    found = configuration.find(config, quiet=True)
    show = _as_json if as_json else _as_csv if as_csv else _as_line
    if as_csv:
        output.fact(output.csv(_COLUMNS))
    past: list[str] = []
    sock, segments = _open(found)
    try:
        for one in filter(wanted, _past(segments)):
            if last:
                past = [*past[-last + 1 :], show(one)] if last > 1 else [show(one)]
            else:
                output.fact(show(one))
        for line in past:
            output.fact(line)
        if follow and sock is None:
            raise ApplianceError("nothing to follow: the appliance is not running")
        if follow and sock is not None:
            _follow(sock, wanted, show)
    except KeyboardInterrupt:
        pass
    finally:
        for descriptor in segments:
            os.close(descriptor)
        if sock is not None:
            sock.close()


def history(found: configuration.Found) -> Iterator[dict[str, Any]]:
    """Every record of the past, the oldest first. Raises ApplianceError where it may not be read."""
    sock, segments = _open(found)
    try:
        yield from _past(segments)
    finally:
        for descriptor in segments:
            os.close(descriptor)
        if sock is not None:
            sock.close()


def _filter(since: str | None, client: str | None, kinds: list[str] | None) -> Callable[[dict[str, Any]], bool]:
    start, mine = moment(since, time.time()), matcher(client)

    def wanted(one: dict[str, Any]) -> bool:
        if start is not None and one.get("time", 0) < start:
            return False
        if kinds and one.get("event") not in kinds:
            return False
        return client is None or mine(str(one.get("client", "")))

    return wanted


def moment(text: str | None, now: float) -> float | None:
    """The time that was typed, in seconds since the epoch. Raises ApplianceError."""
    if text is None:
        return None
    ago = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if ago:
        return now - int(ago[1]) * _UNITS[ago[2]]
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"):
        try:
            return time.mktime(time.strptime(text, form))
        except (ValueError, OverflowError):
            continue
    raise ApplianceError(f"--since {text}: no time (write 15m, 2h, 3d, or 2026-01-31T14:05)")


def _open(found: configuration.Found) -> tuple[socket.socket | None, list[int]]:
    """A connection that tells what happens, and the history; without an appliance the history alone."""
    run_dir = found.run_dir()
    try:
        sock = control.connect(run_dir, "events.sock", socket.SOCK_SEQPACKET, _ASK_S)
    except control.NotRunning:
        return None, _from_files(found)
    try:
        text, descriptors, _flags, _peer = socket.recv_fds(sock, 100, _SEGMENTS_MAX)
    except OSError as error:
        sock.close()
        raise control.NoAnswer(f"{run_dir}/events.sock does not answer: {error.strerror or error}") from error
    if not text:
        sock.close()
        raise control.NoAnswer(f"{run_dir}/events.sock: too many are reading")
    return sock, descriptors


def _from_files(found: configuration.Found) -> list[int]:
    folder = Path(found.load()[0].state_dir) / "events"
    try:
        places = sorted(place for place in folder.glob("*.jsonl") if place.is_file())
        return [os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW) for place in places]
    except OSError as error:
        raise ApplianceError(f"cannot read {folder}: {error.strerror} (ask as root)") from error


def _past(segments: list[int]) -> Iterator[dict[str, Any]]:
    for descriptor in segments:
        at, rest = 0, b""
        while piece := os.pread(descriptor, _PIECE, at):
            at += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            yield from _parsed(lines)
        yield from _parsed([rest])


def _parsed(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    """What cannot be read is left out: a line that the disk tore, or anything else that happened to the file."""
    for line in lines:
        try:
            one = json.loads(line)
        except ValueError:
            continue
        if isinstance(one, dict):
            yield one


def _follow(
    sock: socket.socket, wanted: Callable[[dict[str, Any]], bool], show: Callable[[dict[str, Any]], str]
) -> None:
    sock.settimeout(None)
    while data := sock.recv(1 << 17):
        for one in filter(wanted, _parsed(data.split(b"\n"))):
            output.fact(show(one))
        sys.stdout.flush()
    raise ApplianceError("the appliance has ended, or the events service has (ask again)")


def _as_json(one: dict[str, Any]) -> str:
    return json.dumps(one)


_COLUMNS = (
    "n", "time", "room", "worker", "event", "client", "port", "mac", "verb", "file", "path", "layer", "release",
    "outcome", "cause", "bytes", "size", "ms", "seconds", "retransmits", "blksize", "windowsize", "acknowledged",
    "repeated", "name", "files", "state", "machine", "service", "pid", "restarts", "lost", "why", "reason", "detail",
    "remedy", "what", "text",
)  # fmt: skip
"""Of CSV: in the order in which people look. Columns are only ever added, at the end."""


def _as_csv(one: dict[str, Any]) -> str:
    return output.csv(one.get(name) for name in _COLUMNS)


def _as_line(one: dict[str, Any]) -> str:
    """Time, room, event and client first; everything in it was escaped when it was told."""
    seconds = one.get("time")
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if isinstance(seconds, int | float) else "?"
    who = f" {one['client']}" if one.get("client") else ""
    fields = [
        f"{name}={_shown(value)}" for name, value in one.items() if name not in _FIRST and value not in (None, "")
    ]
    return f"{at} {one.get('room', '?')} {one.get('event', '?')}{who} {' '.join(fields)}".rstrip()


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return f'"{text}"' if " " in text else text
