"""admission: caps, budgets and memories, with the time as an argument."""

from __future__ import annotations

import pytest

from appliance.observe.tally import Tally
from appliance.tftp.admission import Admission, Known, Networks, TokenBucket, client_of, near_networks
from appliance.tftp.terms import Quota


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"), ("::1", "::"),
        ("fe80::1%eth0", "fe80::"),
    ],
)  # fmt: skip
def test_a_client_is_an_ipv4_address_or_an_ipv6_64(host: str, client: str) -> None:
    assert client_of(host) == client


def test_networks_contain_addresses_of_their_own_family() -> None:
    networks = Networks(["192.0.2.0/24", "2001:db8::/32", "198.51.100.9"])
    assert "192.0.2.255" in networks and "198.51.100.9" in networks and "2001:db8::1" in networks
    assert "192.0.3.0" not in networks and "198.51.100.8" not in networks and "::1" not in networks
    assert "fe80::1%eth0" not in networks
    assert not Networks([]) and "192.0.2.1" not in Networks([])


def test_a_bucket_gives_its_rate_and_saves_for_one_second() -> None:
    bucket = TokenBucket(8)
    assert [bucket.take(100.0) for _ in range(9)] == [True] * 8 + [False]
    assert bucket.take(100.125)
    assert not bucket.take(100.125)
    assert sum(bucket.take(500.0) for _ in range(50)) == 8


def admission(**more: object) -> Admission:
    limits = {"transfers": 3, "per_client": 2, "unseen_per_second": 5, "near": Networks(["10.0.0.0/8"])}
    return Admission(**{**limits, **more})  # type: ignore[arg-type]


def test_an_empty_bucket_says_so_and_saying_so_uses_nothing() -> None:
    bucket = TokenBucket(2)
    assert not any(bucket.empty(100.0) for _ in range(9))
    assert bucket.take(100.0) and bucket.take(100.0) and bucket.empty(100.0)
    assert bucket.empty(100.25) and not bucket.empty(100.5)


def test_an_exhausted_budget_concerns_only_clients_neither_near_nor_known() -> None:
    desk = admission()
    assert not any(desk.exhausted("192.0.2.1", "192.0.2.1", 0.0) for _ in range(9))
    assert sum(desk.answer("192.0.2.1", "192.0.2.1", 0.0) for _ in range(9)) == 5
    assert desk.exhausted("192.0.2.1", "192.0.2.1", 0.0) and not desk.exhausted("192.0.2.1", "192.0.2.1", 0.5)
    assert not desk.exhausted("10.1.2.3", "10.1.2.3", 0.0)
    desk.begin("192.0.2.1")
    desk.confirm("192.0.2.1", 0.0)
    assert not desk.exhausted("192.0.2.1", "192.0.2.1", 0.0)


def test_unknown_clients_share_a_budget_and_near_or_known_ones_need_none() -> None:
    desk = admission()
    assert sum(desk.answer("192.0.2.1", "192.0.2.1", 0.0) for _ in range(9)) == 5
    assert desk.answer("10.1.2.3", "10.1.2.3", 0.0)
    assert not desk.answer("192.0.2.2", "192.0.2.2", 0.0)
    desk.begin("192.0.2.2")
    desk.confirm("192.0.2.2", 0.0)
    assert desk.answer("192.0.2.2", "192.0.2.2", 0.0)


@pytest.mark.parametrize("per_client", [1, 2])
def test_running_transfers_of_one_client_are_capped(per_client: int) -> None:
    desk = admission(per_client=per_client, transfers=9)
    for _ in range(per_client):
        assert desk.refusal("a") == ""
        desk.begin("a")
        desk.confirm("a", 0.0)
    assert desk.refusal("a") == "too many transfers of this client"
    assert desk.refusal("b") == ""
    desk.end("a", confirmed=True)
    assert desk.refusal("a") == ""


def test_all_running_transfers_are_capped_and_half_open_ones_do_not_count() -> None:
    tally = Tally()
    desk = admission(tally=tally)
    for number in range(20):
        desk.begin(f"forged{number}")
    for client in "abc":
        assert desk.refusal(client) == ""
        desk.begin(client)
        desk.confirm(client, 0.0)
    assert desk.refusal("d") == "too many transfers"
    assert (desk.half_open, tally.taken) == (20, 3)
    desk.end("a", confirmed=True)
    assert desk.refusal("d") == ""


def test_forged_half_open_requests_take_nothing_from_a_running_client() -> None:
    desk = admission(transfers=9)
    for _ in range(2):
        desk.begin("a")
    assert desk.refusal("a") == "too many unanswered requests of this client"
    desk.end("a", confirmed=False)
    assert desk.refusal("a") == ""


def test_clients_of_one_network_share_its_cap_and_others_do_not_feel_it() -> None:
    desk, quota = admission(transfers=9), Quota(" 192.0.2.0/24", 2, 0)
    for client in ("a", "b"):
        assert desk.refusal(client, quota) == ""
        desk.begin(client)
        desk.confirm(client, 0.0, quota)
    assert desk.refusal("c", quota) == "too many transfers of this network"
    assert desk.refusal("c", Quota(" 192.0.2.0/24", 3, 0)) == ""
    assert desk.refusal("c", Quota(" 198.51.100.0/24", 2, 0)) == desk.refusal("c") == ""
    desk.end("a", confirmed=True, quota=quota)
    assert desk.refusal("c", quota) == ""


def test_a_network_with_a_rate_alone_has_no_cap_on_transfers() -> None:
    desk, quota = admission(transfers=9, per_client=9), Quota(" 192.0.2.0/24", 0, 1 << 20)
    for _ in range(8):
        desk.begin("a")
        desk.confirm("a", 0.0, quota)
    assert desk.refusal("a", quota) == ""


def test_requests_that_came_together_do_not_pass_a_cap_together() -> None:
    desk = admission(transfers=9)
    desk.begin("a")
    desk.confirm("a", 0.0)
    for _ in range(2):
        assert desk.refusal("a") == ""
        desk.begin("a")
    assert desk.over_cap("a") == ""
    desk.confirm("a", 0.0)
    assert desk.over_cap("a") == "too many transfers of this client"


def test_what_is_known_of_clients_that_left_makes_room_as_others_come() -> None:
    """It had stayed until there were 16,384 of them: an hour of soak took it for a leak."""
    known = Known()
    for number in range(1000):
        known.note(f"10.0.{number // 250}.{number % 250}", 0.0)
    for _ in range(1500):
        known.note("192.0.2.1", 601.0)
    assert len(known._until) == 1 and known.knows("192.0.2.1", 602.0)


def test_a_known_client_is_forgotten_after_ten_minutes_or_when_there_are_too_many() -> None:
    known = Known()
    known.note("a", 0.0)
    assert known.knows("a", 599.0) and not known.knows("a", 601.0) and not known.knows("b", 0.0)
    for number in range(16384):
        known.note(str(number), 0.0)
    assert not known.knows("a", 1.0) and known.knows("16383", 1.0)


ROUTE4 = """Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0
eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0
eth0 0000000A 010200C0 0003 0 0 0 000000FF 0 0 0
short line
"""
ROUTE6 = """20010db8000100000000000000000000 40 {0} 00 {0} 00000100 1 0 1 eth0
{0} 00 {0} 00 fd000000000000000000000000000001 00000400 2 0 3 eth0
20010db8000200000000000000000000 40 {0} 00 fd000000000000000000000000000001 00000400 2 0 3 eth0
fd000000000000000000000000000002 80 {0} 00 {0} 00000000 3 0 80200001 eth0
{0} 00 {0} 00 {0} ffffffff 1 0 00200200 lo
""".format("0" * 32)


def test_near_networks_are_those_without_a_router_and_loopback() -> None:
    near = near_networks(ROUTE4, ROUTE6)
    assert near == ["127.0.0.0/8", "::1/128", "192.0.2.0/255.255.255.0", "2001:db8:1::/64"]
    assert "192.0.2.200" in Networks(near) and "198.51.100.1" not in Networks(near)


def test_no_tables_leave_loopback() -> None:
    assert near_networks("", "") == ["127.0.0.0/8", "::1/128"]
