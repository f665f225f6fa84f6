"""What keys of TFTP may not say together."""

from __future__ import annotations

import pytest

from appliance.settings import rules
from appliance.settings.tftp import TftpMachine, TftpNetwork, TftpRemap, TftpSite
from tests.settings.judging import changed, found


def test_giving_up_takes_at_least_five_timeouts() -> None:
    assert found(changed(tftp={"timeout": 12.0})) == []
    assert found(changed(tftp={"timeout": 12.5})) == [
        ("error", "1m is less than 5 times the timeout of 12500ms", "write at least 62500ms")
    ]


@pytest.mark.parametrize(
    ("ports", "transfers", "expected"),
    [
        ("50000-50099", 100, []),
        (
            "50000-50098",
            100,
            [
                (
                    "warning",
                    "50000-50098 has 99 ports for 100 transfers; more are refused",
                    "write a larger range, or limits: {transfers: 99}",
                )
            ],
        ),
        (
            "6900-6999",
            100,
            [
                (
                    "error",
                    "6900-6999 contains port 6969, which tftp.listen[0] listens on",
                    "write a range without it, or change that port",
                )
            ],
        ),
    ],
)
def test_the_ports_of_transfers_are_enough_and_free(
    ports: str, transfers: int, expected: list[tuple[str, str, str]]
) -> None:
    keys = {"listen": ("0.0.0.0:6969",), "port_range": ports, "limits": {"transfers": transfers}}
    assert found(changed(tftp=keys)) == expected
    assert found(changed(tftp={**keys, "enabled": False})) == []


def test_a_single_port_needs_a_list_of_clients_and_no_range() -> None:
    assert found(changed(tftp={"single_port": True, "allow": ("10.0.0.0/8",)})) == []
    assert found(changed(tftp={"single_port": True})) == [
        (
            "warning",
            "without tftp.allow everybody gets windowsize 1 and no uploads through a single port",
            "write the networks of your clients into tftp.allow",
        )
    ]
    keys = {"single_port": True, "allow": ("10.0.0.0/8",), "port_range": "50000-59999"}
    assert found(changed(tftp=keys)) == [
        (
            "error",
            "every packet leaves from the listener's port, so port_range has no use",
            "remove port_range, or write single_port: false",
        )
    ]
    assert found(changed(tftp={**keys, "enabled": False})) == []


def test_a_site_has_a_port_that_nobody_else_has() -> None:
    sites = (TftpSite("127.0.0.1:0"), TftpSite("127.0.0.1:69"))
    assert found(changed(tftp={"sites": sites})) == [
        ("error", "127.0.0.1:69 is taken by tftp.listen[0], 0.0.0.0:69", "remove one of the two, or change its port"),
        ("error", "127.0.0.1:0 is no fixed port, so the site could not be told from others", "write the port"),
    ]


def test_a_network_stands_in_a_list_once() -> None:
    twice = (TftpNetwork("10.0.0.1"), TftpNetwork("10.0.0.0/8"), TftpNetwork("10.0.0.1/32"))
    settings = changed(tftp={"networks": twice, "sites": (TftpSite("127.0.0.1:70", networks=twice),)})
    assert [finding.keys[0] for finding in rules.judge(settings)] == [
        ("tftp", "networks", 2, "net"),
        ("tftp", "sites", 0, "networks", 2, "net"),
    ]
    assert {what for _, what, _ in found(settings)} == {"10.0.0.1/32 stands in the list twice; this one never counts"}


def test_a_machine_stands_in_the_list_once() -> None:
    machines = tuple(TftpMachine(mac) for mac in ("52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:01"))
    settings = changed(tftp={"machines": machines})
    assert [finding.keys for finding in rules.judge(settings)] == [(("tftp", "machines", 2, "mac"),)]
    assert found(settings) == [
        ("error", "52:54:00:00:00:01 stands in the list twice; this one never counts", "remove one of the two")
    ]


@pytest.mark.parametrize(
    ("match", "to", "absent"),
    [("(a)", r"\1\0", ""), ("(a)", r"\2", "2"), ("(?P<m>a)", r"\g<m>", ""), ("a", r"\g<m>", "m")],
)
def test_a_rule_refers_to_groups_that_it_has(match: str, to: str, absent: str) -> None:
    expected = [f"match has no group {absent}"] if absent else []
    assert [what for _, what, _ in found(changed(tftp={"remap": (TftpRemap(match, to),)}))] == expected


@pytest.mark.parametrize(("count", "fits"), [(14, True), (15, True), (16, False), (20, False)])
def test_all_rules_together_are_bounded(count: int, fits: bool) -> None:
    settings = changed(tftp={"remap": (TftpRemap("^(.*)/(.*)$", ""),) * count})
    assert [finding.keys[0] for finding in rules.judge(settings)] == ([] if fits else [("tftp", "remap", 15, "match")])


def test_a_rate_above_the_rate_of_all_limits_nobody() -> None:
    network = TftpNetwork("10.0.0.0/8", rate=3 << 20)
    limits = {"rate_total": 2 << 20, "rate_per_client": 4 << 20}
    keys = {"limits": limits, "networks": (network, TftpNetwork("10.1.0.0/16", rate=1 << 20))}
    assert [what for _severity, what, _remedy in found(changed(tftp=keys))] == [
        "4MiB is more than the rate_total of 2MiB, so it limits nobody",
        "3MiB is more than the rate_total of 2MiB, so it limits nobody",
    ]
    assert found(changed(tftp={**keys, "limits": {**limits, "rate_total": 4 << 20}})) == []
    assert found(changed(tftp={**keys, "limits": {**limits, "rate_total": 0}})) == []
    assert found(changed(tftp={**keys, "enabled": False})) == []
