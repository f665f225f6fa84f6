"""The file of one machine: what is written is read back the same, quickly and slowly, and only that quickly."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.boot.hosts import file_name, quick, written
from appliance.boot.manifest import read
from appliance.boot.model import ARCHES, Machine, Once, Var
from tests.boot.support import MAC, text_of

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
LINES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
VALUES = st.one_of(LINES, st.integers(-(10**9), 10**9), st.booleans(), st.none(), st.lists(LINES).map(tuple))
VARIABLES = st.dictionaries(st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True), VALUES, max_size=3)
LABELS = st.dictionaries(st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True), LINES, max_size=3)
MACHINES = st.builds(
    Machine,
    name=NAMES,
    macs=st.lists(st.integers(1, 2**40).map(lambda n: f"00{n:010x}"[:12]), max_size=2).map(
        lambda found: tuple(dict.fromkeys(bytes.fromhex(one).hex(":") for one in found))
    ),
    uuid=st.sampled_from(["", "4c4c4544-0043-3510-8052-b4c04f4e3732"]),
    serial=st.one_of(st.just(""), LINES),
    ip=st.sampled_from(["10.0.0.1", "192.0.2.255"]),
    arch=st.sampled_from(["", *ARCHES]),
    labels=LABELS.map(lambda found: tuple(Var(*item) for item in found.items())),
    profile=st.one_of(st.just(""), NAMES),
    vars=VARIABLES.map(lambda found: tuple(Var(*item) for item in found.items())),
    once=st.one_of(st.none(), st.builds(Once, NAMES, st.integers(1, 10**11), NAMES)),
)


@given(MACHINES)
def test_what_is_written_is_read_back_the_same_both_ways(machine: Machine) -> None:
    content = written(machine)
    fast = quick("hosts.d/m.yaml", content)
    slow = read("hosts.d/m.yaml", content, text_of, machines_only=True)
    assert fast is not None and slow.problems == []
    assert [replace(one, origin="") for one in fast.machines] == [machine]
    assert [replace(one, origin="") for one in slow.machines] == [machine]
    assert file_name(machine) == f"{machine.name}.yaml"


@pytest.mark.parametrize(
    "text",
    [
        f"machines: {{m: {{mac: '{MAC}'}}}}",  # YAML, but no JSON
        "{",
        "[]",
        '{"machines": {}}',
        '{"machines": {"m": {"ip": "10.0.0.1"}, "n": {"ip": "10.0.0.2"}}}',
        '{"machines": {"m": {"ip": "10.0.0.1"}}, "vars": {}}',
        '{"machines": {"m": {"ip": "10.0.0.1", "ip": "10.0.0.2"}}}',
        '{"machines": {"m": {"profile": "x"}}}',
        '{"machines": {"m": {"ip": "10.0.0.999"}}}',
        '{"machines": {"m": {"ip": 5}}}',
        '{"machines": {"m": {"ip": ""}}}',
        '{"machines": {"m": {"mac": ["zz"]}}}',
        '{"machines": {"m": {"ip": "10.0.0.1", "arch": "vax"}}}',
        '{"machines": {"m": {"ip": "10.0.0.1", "vars": {"a": {}}}}}',
        '{"machines": {"m": {"ip": "10.0.0.1", "vars": {"a": 1.5}}}}',
        '{"machines": {"m": {"ip": "10.0.0.1", "labels": {"a": "x\\ny"}}}}',
        '{"machines": {"m": {"ip": "10.0.0.1", "once": {"profile": "x"}}}}',
        '{"machines": {"m": {"ip": "10.0.0.1", "once": {"profile": "x", "until": true, "id": "y"}}}}',
        '{"machines": {"m": {"ip": "10.0.0.1", "once": {"profile": "x", "until": 0, "id": "y"}}}}',
        '{"machines": {"-m": {"ip": "10.0.0.1"}}}',
        "[" * 100_000,
    ],
)
def test_everything_else_is_left_to_the_reader_that_tells_what_is_wrong(text: str) -> None:
    assert quick("x", text.encode()) is None


def test_the_file_is_what_a_person_would_read() -> None:
    machine = Machine("web1", (MAC,), profile="linux", once=Once("install", 5, "x"))
    assert json.loads(written(machine)) == {
        "machines": {
            "web1": {"mac": [MAC], "profile": "linux", "once": {"profile": "install", "until": 5, "id": "x"}},
        }
    }
