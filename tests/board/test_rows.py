"""What the page is told."""

from __future__ import annotations

import json

from appliance.board.diagnosis import World, diagnose
from appliance.board.rows import row, story
from appliance.board.story import Book, Fact
from tests.board.test_diagnosis import told
from tests.board.test_story import BOOT, MAC, fact, whole


def test_a_row_of_a_booted_machine() -> None:
    machine = told(*BOOT)
    line = row(machine, None, "lab-01")
    assert (line["key"], line["name"], line["state"], line["stage"]) == (MAC, "lab-01", "booted", "initrd")
    assert line["marks"] == [
        ["loader", "done", 100],
        ["module", "done", 100],
        ["configuration", "done", 100],
        ["kernel", "done", 100],
        ["initrd", "done", 100],
    ]
    assert json.loads(json.dumps(line)) == line


def test_a_row_shows_a_missing_file_only_where_nothing_of_that_stage_came() -> None:
    line = row(told(*whole(0, "pxelinux.0"), fact(2, "refused", "pxelinux.cfg/default")), None)
    assert line["marks"] == [["loader", "done", 100], ["configuration", "missing", -1]]


def test_a_row_of_a_machine_of_which_nothing_is_known_yet() -> None:
    line = row(Book().tell(Fact(3, "address", "192.0.2.7")), None)
    assert (line["file"], line["percent"], line["marks"], line["address"]) == ("", -1, [], "192.0.2.7")
    machine = Book().tell(Fact(3, "address", "192.0.2.7"))
    machine.addresses.clear()
    assert row(machine, None)["address"] == ""


def test_the_rate_of_a_row_is_that_of_what_runs() -> None:
    facts = [*whole(0, "pxelinux.0"), fact(1, "start", "initrd", size=900), fact(2, "progress", "initrd", bytes=300)]
    assert row(told(*facts), None)["rate"] == 300


def test_a_story_has_every_step_and_what_mends_it() -> None:
    machine = told(*whole(0, "pxelinux.0"), fact(2, "refused", "vmlinux"), later=30)
    told_of = story(machine, diagnose(machine, World(("vmlinuz",))))
    assert [(step["file"], step["state"], step["stage"]) for step in told_of["steps"]] == [
        ("pxelinux.0", "done", "loader"),
        ("vmlinux", "missing", "kernel"),
    ]
    assert (told_of["rule"], "did you mean vmlinuz" in told_of["trouble"], told_of["remedy"] != "") == (
        "missing", True, True,
    )  # fmt: skip
    assert story(told(*BOOT), None)["remedy"] == ""
