"""boot.armed: what is handed to the keeper comes back as it went, and nothing else does."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.boot import armed
from appliance.boot.armed import Armed

ARMED = Armed(
    "0123456789abcdef",
    "web-1",
    "debian",
    7,
    ("pxelinux.cfg/01-52-54-00-12-34-56",),
    ("d/linux", "d/initrd.gz"),
    1 << 31,
)


def test_it_comes_back_as_it_went() -> None:
    assert armed.decode(armed.encode(ARMED)) == ARMED
    assert armed.decode(armed.encode(replace(ARMED, confirm="done/web-1"))).confirm == "done/web-1"
    assert armed.file_of(ARMED.key) == "0123456789abcdef.json"


@pytest.mark.parametrize(
    "change",
    [
        {"key": "0123456789abcde"},
        {"key": "0123456789ABCDEF"},
        {"key": "../../0123456789"},
        {"key": 1},
        {"overlay": 0},
        {"overlay": True},
        {"overlay": 1 << 31},
        {"overlay": "7"},
        {"expires": 0},
        {"expires": 1.5},
        {"expires": (1 << 40) + 1},
        {"machine": ""},
        {"machine": None},
        {"machine": "a\nb"},
        {"machine": "x" * 1001},
        {"configs": []},
        {"configs": "a"},
        {"configs": [1]},
        {"configs": ["x"] * 65},
        {"loads": []},
        {"loads": {"a": 1}},
        {"confirm": None},
        {"more": 1},
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|range|needed"):
        armed.decode(json.dumps({**asdict(ARMED), **change}).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b"{}", b"[" * 60_000, b" " * 70_000, b"\xff", b'{"key": }'])
def test_what_is_no_such_file_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        armed.decode(content)


@given(st.binary(max_size=200))
def test_garbage_is_refused_by_the_one_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        armed.decode(content)
