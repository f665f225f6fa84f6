"""Every word of `on` is what some event is for, and the document is one line of ASCII whatever a stranger wrote."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from appliance.hooks import triggers
from appliance.hooks.orders import DOCUMENT_MAX
from appliance.observe import events
from appliance.settings.hooks import HookEvent

CASES: list[tuple[Any, str | None]] = [
    (events.Stored(name=b"report.txt"), "upload-complete"),
    (events.Machine(state=b"booted"), "machine-booted"),
    (events.Machine(state=b"stalled"), "machine-stalled"),
    (events.Machine(state=b"failed"), "machine-failed"),
    (events.Machine(state=b"armed"), "one-shot"),
    (events.Machine(state=b"expired"), "one-shot"),
    (events.Machine(state=b"dreaming"), None),
    (events.Worker(state=b"serving"), None),
    (events.Worker(state=b"serving", restarts=1), "worker-restarted"),
    (events.Worker(state=b"died"), "worker-died"),
    (events.Worker(state=b"hangs"), "worker-died"),
    (events.Ban(seconds=60), "client-banned"),
    (events.Ban(seconds=0), None),
    (events.Published(release=b"r"), "published"),
    (events.Reload(done=1), "reload"),
    (events.Fault(part=b"history"), "fault"),
    (events.Ended(), None),
    (events.Refused(), None),
]


@pytest.mark.parametrize(("event", "wanted"), CASES)
def test_an_event_is_for_one_word_or_for_none(event: Any, wanted: str | None) -> None:
    assert triggers.trigger_of(event) == wanted


def test_every_word_of_the_settings_has_an_event() -> None:
    assert {wanted for _event, wanted in CASES} - {None} == set(get_args(HookEvent))


def test_the_document_is_one_line_of_json_whatever_the_name_holds() -> None:
    name = b'x"; rm -rf /\n$(reboot)\x1b]0;\xe2\x80\xae\xff'
    record = events.Record(7, 1_700_000_000_500, "custody.0", events.Stored(5, 6, b"192.0.2.7", name))
    document = triggers.document("upload-complete", record)
    assert document.endswith(b"}\n") and document.count(b"\n") == 1 and document.isascii()
    told = json.loads(document)
    assert (told["hook"], told["event"], told["room"], told["bytes"]) == ("upload-complete", "stored", "custody", 5)
    assert told["name"] == 'x"; rm -rf /\\x0a$(reboot)\\x1b]0;\\xe2\\x80\\xae\\xff'


def test_the_largest_event_fits_into_an_order() -> None:
    texts = {name: b"\xff" * events.TEXT_MAX for name, kind in events.Machine._field_defaults.items() if kind == b""}
    record = events.Record(2**62, 2**62, "hooks.0", events.Machine(2**62, 2**62, **texts))
    assert len(triggers.document("machine-stalled", record)) < DOCUMENT_MAX
