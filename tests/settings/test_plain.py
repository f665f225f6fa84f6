"""Settings cross to a worker as plain JSON values and come back equal, or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from appliance.settings.main import Settings
from appliance.settings.plain import decode, encode


@dataclass(frozen=True)
class Inner:
    names: tuple[str, ...] = ("a",)


@dataclass(frozen=True)
class Outer:
    maybe: Inner | None = None
    inner: Inner = Inner()


@dataclass(frozen=True)
class Need:
    name: str


@pytest.mark.parametrize("value", [Settings(), Outer(), Outer(Inner(("b", "c")))])
def test_a_value_comes_back_equal(value: Settings | Outer) -> None:
    assert decode(type(value), json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize("plain", [{}, {"maybe": None}, {"maybe": None, "inner": {"names": []}, "more": 1}])
def test_another_shape_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises(KeyError):
        decode(Outer, plain)


def test_what_an_older_build_made_has_the_defaults_of_what_it_did_not_know() -> None:
    assert decode(Outer, {"maybe": {}}, older=True) == Outer(Inner())
    assert decode(Outer, {"inner": {"names": ["x"]}}, older=True) == Outer(None, Inner(("x",)))
    with pytest.raises(KeyError):  # of a newer one
        decode(Outer, {"more": 1}, older=True)
    with pytest.raises(KeyError):
        decode(Need, {}, older=True)
