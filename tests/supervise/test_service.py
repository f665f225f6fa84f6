"""The supervisor distrusts what the settings reader sends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.errors import StartError
from appliance.supervise.change import difference
from appliance.supervise.service import Listen, Service, decode, encode


def make(name: str = "tftp", **changes: Any) -> Service:
    fields: dict[str, Any] = {
        "main": "appliance.tftp.worker:prepare",
        "workers": 2, "listen": (Listen("udp", "127.0.0.1", 69),), "jail": "/srv", "promise": "tftp",
        "user": "u", "uid": 5, "gid": 6, "writes": False, "owns": False, "nofile": 10, "fsize": -1, "bind_tcp": (0, 0),
        "required": True, "links": ("custody",), "requests": (), "files": (),
        "settings": {"a": 1},
    }  # fmt: skip
    return Service(**{**fields, **changes, "name": name})


def plain(**changes: Any) -> list[dict[str, Any]]:
    value: list[dict[str, Any]] = json.loads(json.dumps(encode([make()])))
    value[0].update(changes)
    return value


def test_services_come_back_from_their_plain_form() -> None:
    assert decode(plain()) == [make()]


@pytest.mark.parametrize(
    "change",
    [
        {"uid": 0},
        {"gid": 0},
        {"uid": -1},
        {"uid": "5"},
        {"uid": True},
        {"record": "/etc/passwd"},
        {"record": "x.log"},
        {"record": "/var/\0.log"},
        {"record": None},
        {"workers": 0},
        {"workers": 65},
        {"jail": "srv"},
        {"writes": 1},
        {"listen": None},
        {"listen": [{"kind": "sctp", "host": "", "port": 1}]},
        {"more": 1},
        {"main": "os:system"},
        {"promise": "custody"},
        {"name": "custody"},
        {"name": "x"},
        {"jail": "/a\0b"},
        {"listen": [{"kind": "udp", "host": "", "port": 70000}]},
        {"links": [1]},
        {"settings": []},
        {"bind_tcp": [1]},
        {"files": [1]},
        {"files": ["key.pem"]},
        {"files": ["/key\0.pem"]},
    ],
)
def test_anything_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(StartError):
        decode(plain(**change))


@pytest.mark.parametrize("value", [None, {}, [1], [[]], "x"])
def test_another_shape_is_refused(value: object) -> None:
    with pytest.raises(StartError):
        decode(value)


def test_a_service_named_twice_is_refused() -> None:
    with pytest.raises(StartError, match="twice"):
        decode(plain() + plain())


def test_only_what_changed_is_replaced() -> None:
    before = [make("a"), make("b"), make("c")]
    after = [make("a"), make("b", workers=3), make("d")]
    change = difference(before, after)
    assert change.added == (make("d"),)
    assert change.replaced == (make("b", workers=3),)
    assert change.removed == ("c",)
    assert str(change) == "d added, b replaced, c removed"


def test_the_same_services_are_no_change() -> None:
    change = difference([make("a")], [make("a")])
    assert change.empty
    assert str(change) == "nothing changed"


def test_a_service_whose_files_were_renewed_is_replaced_though_its_value_is_the_same() -> None:
    one, two = make("tftp"), make("ftp")
    change = difference([one, two], [one, two], frozenset(("ftp", "gone")))
    assert (change.added, change.replaced, change.removed) == ((), (two,), ())


def test_listeners_on_picked_ports_keep_apart_in_their_plain_form() -> None:
    listen = (Listen("udp", "::1", 0), Listen("udp", "::1", 0, 1))
    assert decode(json.loads(json.dumps(encode([make(listen=listen)]))))[0].listen == listen
