"""Records as the lines of the history: what `json.dumps(events.plain(record))` says, in two thirds of the time. Pure.

The recorder does this for every event of every worker, and on a small machine its time is taken from theirs.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NamedTuple

from appliance.observe import events
from appliance.observe.text import printable

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
_FLAGS = ("acknowledged", "over", "done", "pxe")


class _Form(NamedTuple):
    head: str  # what follows the name of the room
    numbers: int
    flag: int  # the place of the number that is a yes or no; -1 without one
    body: str
    texts: tuple[str, ...]  # what stands before each text


def _form(event: type[Any], name: str) -> _Form:
    fields, defaults = event._fields, event._field_defaults
    numbers = [field for field in fields if defaults[field] == 0]
    flag = next((place for place, field in enumerate(numbers) if field in _FLAGS), -1)
    body = "".join(f',"{field}":%{"s" if field in _FLAGS else "d"}' for field in numbers)
    texts = tuple(f',"{field}":' for field in fields[len(numbers) :])
    return _Form(f',"event":"{name}"', len(numbers), flag, body, texts)


_FORMS = {event: _form(event, name) for event, name in events.NAMES.items()}


def line(record: events.Record) -> bytes:
    """One line of JSON, with its end."""
    event: tuple[Any, ...] = record.event
    head, count, flag, body, texts = _FORMS[type(record.event)]
    numbers = event[:count]
    if numbers and min(numbers) < 0:  # null: seldom
        return _ENCODE(events.plain(record)).encode("ascii") + b"\n"
    if flag >= 0:
        numbers = (*numbers[:flag], "true" if numbers[flag] else "false", *numbers[flag + 1 :])
    room, _dot, worker = record.source.partition(".")
    parts = [f'{{"n":{record.number},"time":{record.at_ms / 1000!r},"v":{events.VERSION},"room":{quoted(room)}{head}']
    if worker.isdecimal() and not isinstance(record.event, events.Worker):  # that one names the worker it is about
        parts.append(f',"worker":{int(worker)}')
    parts.append(body % numbers)
    for before, text in zip(texts, event[count:], strict=True):
        if text:
            parts.append(before + quoted(printable(text, events.TEXT_MAX)))
    parts.append("}\n")
    return "".join(parts).encode("ascii")
