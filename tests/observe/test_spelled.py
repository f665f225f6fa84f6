"""observe.spelled: a line is what json makes of the plain record, byte for byte."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from appliance.observe import events, spelled
from tests.observe.test_events import ANY

SOURCES = st.sampled_from(["tftp.0", "supervisor", "ftp.63", "tftp-custody.0", "events", 'a".x', ""])


@given(ANY, st.integers(0, (1 << 63) - 1), SOURCES)
@example(events.Lost(3, b'"\\\x1b\n\xff' * 400), 7, "tftp.1")
@example(events.Ended(size=-1, acknowledged=1, client=b"192.0.2.1"), 7, "tftp.1")
@example(events.Worker(3, 77), 7, "tftp.1")
def test_a_line_is_the_plain_record_as_json(event: events.Event, number: int, source: str) -> None:
    record = events.Record(number, number, source, event)
    line = spelled.line(record)
    assert line == json.dumps(events.plain(record), separators=(",", ":")).encode() + b"\n"
    assert line.count(b"\n") == 1 and line.isascii()
