"""Counters that only their worker can write, and log lines that nobody can forge."""

from __future__ import annotations

import json
import mmap
import os
import select
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.observe import tables
from appliance.observe.log import Log, TurnLog
from appliance.observe.text import printable


def test_a_reader_sees_what_the_writer_counts() -> None:
    descriptor = tables.create("x")
    reader = tables.Reader(descriptor)
    assert reader.snapshot()["bytes"] == 0
    counters = tables.Counters(descriptor)
    counters.add("bytes", 7)
    counters.add("bytes")
    counters.set("active", 3)
    counters.tick()
    found = reader.snapshot()
    assert (found["bytes"], found["active"]) == (8, 3)
    assert found["tick"] > 0
    reader.close()
    os.close(descriptor)


def test_once_the_writer_has_mapped_it_nobody_else_can_write_or_resize() -> None:
    descriptor = tables.create("x")
    tables.Counters(descriptor)
    with pytest.raises(PermissionError):
        mmap.mmap(descriptor, tables.SIZE)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)


def test_a_reader_clamps_and_distrusts() -> None:
    descriptor = tables.create("x")
    counters = tables.Counters(descriptor)
    reader = tables.Reader(descriptor)
    counters.slots[tables.SLOT["bytes"]] = (1 << 64) - 1
    assert reader.snapshot()["bytes"] == tables.LARGEST
    counters.slots[0] = 1
    assert set(reader.snapshot().values()) == {0}
    os.close(descriptor)


@given(st.one_of(st.binary(), st.text(alphabet=st.characters(codec="utf-8"))))
def test_printable_text_has_no_control_byte_and_no_newline(raw: bytes | str) -> None:
    assert all(0x20 <= ord(c) < 0x7F for c in printable(raw))


def test_printable_escapes_are_unambiguous_and_bounded() -> None:
    assert printable(b"a\x1b[31m\nb\\x") == "a\\x1b[31m\\x0ab\\x5cx"
    assert printable("f\udcffg") == "f\\xffg"
    assert printable(b"a" * 300) == "a" * 255 + "..."


def written(form: str, **fields: Any) -> bytes:
    read_end, write_end = os.pipe()
    Log("tftp.0", form, write_end).info("sent", **fields)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as out:
        return out.read()


def test_a_text_line_starts_with_the_level_and_shows_fields_in_order() -> None:
    line = written("text", client="192.0.2.1", file=b"a b\nINFO forged", bytes=5)
    assert line.startswith(b"INFO    tftp.0[")
    assert line.endswith(b']: sent client=192.0.2.1 file="a b\\x0aINFO forged" bytes=5\n')
    assert line.count(b"\n") == 1


def test_without_a_journal_its_lines_are_those_for_people_and_have_no_mark() -> None:
    assert written("journal").startswith(b"INFO    tftp.0[")


def test_a_json_line_is_valid_json_whatever_the_name() -> None:
    found = json.loads(written("json", file=printable(b'"\n\xff'), bytes=1))
    assert found["event"] == "sent"
    assert found["file"] == '"\\x0a\\xff'


def test_a_line_is_cut_so_that_lines_of_several_processes_never_mix() -> None:
    assert len(written("text", a="x" * 3000, b="y" * 3000)) <= 4001


def test_a_reader_that_does_not_read_costs_lines_and_nothing_else() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    lost: list[int] = []
    log = Log("x", "text", write_end, lost=lambda: lost.append(1))
    for _ in range(100):
        log.info("x", a="y" * 2900)
    assert lost
    os.close(read_end)
    log.info("nobody there")
    os.close(write_end)


def test_lines_of_one_turn_are_written_together_in_order_and_never_more_than_a_pipe_takes_at_once() -> None:
    read_end, write_end = os.pipe2(os.O_DIRECT)  # each read returns what one write brought
    log = TurnLog("x", "text", write_end)
    for number in range(100):
        log.info("ended", number=number, file="f" * 60)
    log.flush()
    log.flush()
    os.close(write_end)
    writes = []
    while piece := os.read(read_end, 1 << 16):
        writes.append(piece)
    os.close(read_end)
    assert 1 < len(writes) < 10 and all(len(piece) <= select.PIPE_BUF and piece.endswith(b"\n") for piece in writes)
    lines = b"".join(writes).splitlines()
    assert [line.split(b"number=")[1].split()[0] for line in lines] == [b"%d" % number for number in range(100)]


def test_each_held_line_that_nobody_reads_is_counted() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    lost: list[int] = []
    log = TurnLog("x", "text", write_end, lost=lambda: lost.append(1))
    for _ in range(3):
        log.info("ended")
    assert not lost
    log.flush()
    assert len(lost) == 3
    os.close(write_end)


def test_a_crash_carries_its_traceback_on_one_line() -> None:
    read_end, write_end = os.pipe()
    try:
        raise RuntimeError("boom\nboom")
    except RuntimeError:
        Log("x", "text", write_end).crash("session ended")
    os.close(write_end)
    with os.fdopen(read_end, "rb") as out:
        line = out.read()
    assert line.count(b"\n") == 1
    assert b"RuntimeError: boom" in line


@given(
    st.one_of(st.binary(max_size=300), st.text(max_size=300), st.integers(), st.just(b"boot/x.efi"), st.just("a\\b"))
)
def test_a_value_that_takes_the_short_way_looks_as_on_the_long_one(value: bytes | str | int) -> None:
    text = printable(value, 3000) if isinstance(value, (bytes, str)) else str(value)
    expected = f'"{text}"' if " " in text or not text else text
    line = Log("tftp")._format("info", "event", {"key": value})
    assert line.partition("]: ")[2] == f"event key={expected}"


def test_a_log_goes_on_in_another_form_and_from_another_level_on() -> None:
    read_end, write_end = os.pipe()
    try:
        log = Log("x", "text", write_end)
        log.info("one")
        log.take("json:warning")
        log.info("two")
        log.warning("three")
        first, second = os.read(read_end, 4096).splitlines()
    finally:
        os.close(read_end)
        os.close(write_end)
    assert first.endswith(b": one") and json.loads(second)["event"] == "three"
