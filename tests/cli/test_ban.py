"""`appliance ban`: what is typed, what the supervisor is told, what is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.ftp.addresses import client_of, plain
from tests.cli.conftest import Call, act_server, status_server

ADDRESSES = [
    ("192.0.2.7", "192.0.2.7"),
    ("2001:db8::1:2:3:4", "2001:db8::/64"),
    ("2001:DB8::/64", "2001:db8::/64"),
    ("::ffff:192.0.2.7", "192.0.2.7"),
    ("192.0.2.7/32", "192.0.2.7"),
    ("2001:db8::7/128", "2001:db8::/64"),
]


@pytest.mark.parametrize(("address", "key"), ADDRESSES)
def test_a_client_is_named_as_the_workers_know_it(
    call: Call, config: Path, run_dir: Path, address: str, key: str
) -> None:
    with act_server(run_dir, b"done", b"ok") as heard:
        assert call("ban", "add", address, "--for", "60", "-c", config).out == "done\n"
    assert heard == [f"ban {key} 60".encode()]
    assert client_of(plain(address.partition("/")[0])) == key


@pytest.mark.parametrize(("address", "key"), ADDRESSES)
def test_a_ban_that_is_not_there_cannot_be_removed(
    call: Call, config: Path, run_dir: Path, address: str, key: str
) -> None:
    with act_server(run_dir, b"done", b"failed") as heard:
        assert call("ban", "remove", address, "-c", config).code == 1
    assert heard == [f"unban {key}".encode()]


def test_what_is_no_address_is_told_where_networks_belong(call: Call, config: Path) -> None:
    said = call("ban", "add", "example.org", "-c", config)
    assert said.code == 1
    assert "example.org is not an address (a whole network is refused by ftp.deny)" in said.err


@pytest.mark.parametrize(
    "network", ["10.0.0.0/8", "192.0.2.6/31", "2001:db8::/48", "2001:db8::/63", "::ffff:10.0.0.0/104"]
)
def test_a_network_is_refused_and_not_cut_down_to_its_first_address(call: Call, config: Path, network: str) -> None:
    """Seen: `ban add 10.0.0.0/8` banned 10.0.0.0 alone and ended with 0."""
    for verb in ("add", "remove"):
        said = call("ban", verb, network, "-c", config)
        assert said.code == 1
        assert f"{network} is more than one client" in said.err and "ftp.deny" in said.err


@pytest.mark.parametrize("text", ["", "192.0.2.7/33", "192.0.2.7/x", "/24"])
def test_half_an_address_is_none(call: Call, config: Path, text: str) -> None:
    said = call("ban", "add", text, "-c", config)
    assert said.code == 1 and f"{text or 'nothing'} is not an address" in said.err


@pytest.mark.parametrize("as_json", [False, True])
def test_the_list_shows_client_time_and_cause(call: Call, config: Path, run_dir: Path, as_json: bool) -> None:
    bans = [{"client": "192.0.2.7", "seconds": 59, "cause": "abuse"}]
    with status_server(run_dir, json.dumps({"bans": bans}).encode()):
        said = call("ban", "list", "-c", config, *(["--json"] if as_json else []))
    if as_json:
        assert said.json()["bans"] == bans
    else:
        assert said.out == "192.0.2.7  59 s left  abuse\n"


def test_an_empty_list_says_so(call: Call, config: Path, run_dir: Path) -> None:
    with status_server(run_dir, b'{"bans": []}'):
        assert call("ban", "list", "-c", config).out == "nobody is banned\n"
