"""Which hook an event is for, and the document that it gets. Pure."""

from __future__ import annotations

import json

from appliance.hooks.orders import DOCUMENT_MAX
from appliance.observe import events

_MACHINES = {b"booted": "machine-booted", b"stalled": "machine-stalled", b"failed": "machine-failed"}
_ONE_SHOT = (b"armed", b"loaded", b"confirmed", b"expired")


def trigger_of(event: events.Event) -> str | None:
    """The word of `observe.hooks[].on` that an event is for; None for one that no hook hears of."""
    if isinstance(event, events.Stored):
        return "upload-complete"
    if isinstance(event, events.Machine):
        return _MACHINES.get(event.state, "one-shot" if event.state in _ONE_SHOT else None)
    if isinstance(event, events.Worker):
        if event.state == b"serving":
            return "worker-restarted" if event.restarts else None
        return "worker-died"
    if isinstance(event, events.Ban):
        return "client-banned" if event.seconds else None
    if isinstance(event, events.Published):
        return "published"
    if isinstance(event, events.Reload):
        return "reload"
    return "fault" if isinstance(event, events.Fault) else None


def document(trigger: str, record: events.Record) -> bytes:
    r"""What the program reads: one JSON object in ASCII and a newline; names of strangers escaped as in the log.

    The fields are those of docs/EVENTS.md, with `hook` before them.
    """
    text = json.dumps({"hook": trigger, **events.plain(record)}, separators=(",", ":"))
    return text.encode("ascii")[: DOCUMENT_MAX - 1] + b"\n"
