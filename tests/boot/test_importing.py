"""Lists of machines of others: what is read, and that nothing unfit gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.boot import importing
from appliance.boot.hosts import quick, written
from appliance.boot.importing import FORMATS, read
from appliance.boot.model import Machine, Var

MAC, OTHER = "52:54:00:12:34:56", "52:54:00:12:34:57"


def told(form: str, text: str) -> tuple[list[Machine], list[str]]:
    found = read(form, "list", text)
    return found.machines, [str(problem) for problem in found.problems]


def test_csv_has_named_columns() -> None:
    machines, problems = told(
        "csv",
        "# the lab\nName, MAC ,ip,profile,label:rack,var:disk\n"
        f"web1,{MAC} {OTHER.upper()},10.0.0.1,linux,12,/dev/sda\n\n,52-54-00-00-00-01,,,,\n",
    )
    assert problems == []
    assert machines[0] == Machine(
        "web1",
        (MAC, OTHER),
        "",
        "",
        "10.0.0.1",
        "",
        (Var("rack", "12"),),
        "linux",
        (Var("disk", "/dev/sda"),),
        None,
        "list:3",
    )
    assert (machines[1].name, machines[1].macs) == ("52-54-00-00-00-01", ("52:54:00:00:00:01",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mac,colour\n", "no column is called colour"),
        ("label:a\n", "no column says which machine"),
        ('mac\n"x\n', "not CSV"),
        ("mac\nzz\n", "list:2:1: warning: zz is not a MAC address (left out)"),
        ("name,mac\nweb,\n", "nothing tells this machine from others"),
        (f"mac\n{MAC}\n{MAC}\n", "list:3:1: warning: the same machine as in line 2"),
        (f"mac,arch\n{MAC},vax\n", "vax is none of the choices"),
        (f"mac,label:a-b\n{MAC},x\n", "a-b is no name of a variable"),
    ],
)
def test_what_is_no_machine_is_told_with_its_line(text: str, said: str) -> None:
    machines, problems = told("csv", text)
    assert any(said in problem for problem in problems), problems
    assert len(machines) == ("same machine" in said)


def test_an_empty_list_has_no_machines() -> None:
    for form in FORMATS:
        assert told(form, "") == ([], [])


def test_dnsmasq_reservations_and_leases() -> None:
    machines, problems = told(
        "dnsmasq",
        "# a configuration\ninterface=eth0\n"
        f"dhcp-host={MAC},web1,10.0.0.1,infinite\n"
        f"dhcp-host=set:lab,id:*,{OTHER},10.0.0.2,12h # by hand\n"
        "52:54:00:00:00:01,web3\n"
        "1700000000 52:54:00:00:00:02 10.0.0.4 web4 01:52:54:00:00:00:02\n"
        "1700000000 52:54:00:00:00:03 10.0.0.5 * *\n"
        "duid 00:01:00:01\n",
    )
    assert problems == []
    assert [(one.name, one.macs[0], one.ip) for one in machines] == [
        ("web1", MAC, "10.0.0.1"),
        ("52-54-00-12-34-57", OTHER, "10.0.0.2"),
        ("web3", "52:54:00:00:00:01", ""),
        ("web4", "52:54:00:00:00:02", "10.0.0.4"),
        ("52-54-00-00-00-03", "52:54:00:00:00:03", "10.0.0.5"),
    ]


def test_isc_leases_count_by_their_last_word_and_hosts_have_names() -> None:
    lease = (
        "lease {ip} {{\n  starts 4 2026/01/01;\n  binding state {state};\n  hardware ethernet {mac};\n"
        '  client-hostname "{name}";\n}}\n'
    )
    machines, problems = told(
        "isc",
        "# written by dhcpd\n"
        + lease.format(ip="10.0.0.1", state="active", mac=MAC, name="old")
        + lease.format(ip="10.0.0.2", state="active", mac=OTHER, name="gone")
        + lease.format(ip="10.0.0.2", state="free", mac=OTHER, name="gone")
        + lease.format(ip="10.0.0.3", state="active", mac=MAC, name="a #1; name")
        + "host web9 { hardware ethernet 52:54:00:00:00:09; fixed-address 10.0.0.9, 10.0.0.10; }\n",
    )
    assert problems == []
    assert [(one.name, one.macs, one.ip) for one in machines] == [
        ("web9", ("52:54:00:00:00:09",), "10.0.0.9"),
        ("a-1-name", (MAC,), "10.0.0.3"),
    ]
    assert machines[0].origin == "list:26"


def test_two_machines_of_one_name_are_two() -> None:
    machines, _ = told("csv", f"name,mac\nweb,{MAC}\nweb,{OTHER}\n")
    assert [one.name for one in machines] == ["web", "web-525400123457"]


def test_a_list_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "MOST", 3)
    text = "mac\n" + "".join(f"52:54:00:00:00:{i:02x}\n" for i in range(5))
    machines, problems = told("csv", text)
    assert len(machines) == 3 and "more than 3 machines" in problems[-1]


@given(st.sampled_from(FORMATS), st.text(max_size=300))
def test_whatever_a_list_says_only_fit_machines_come_out(form: str, text: str) -> None:
    for machine in read(form, "list", text).machines:
        assert quick("x", written(machine)) is not None


PIECES = ("mac,name\n", MAC, OTHER, "dhcp-host=", ",", " ", "lease 10.0.0.1 {", "host x {", "}", ";", "\n", '"')


@given(st.sampled_from(FORMATS), st.lists(st.sampled_from((*PIECES, "hardware ethernet ")), max_size=30))
def test_pieces_of_lists_in_any_order_raise_nothing(form: str, pieces: list[str]) -> None:
    for machine in read(form, "list", "".join(pieces)).machines:
        assert quick("x", written(machine)) is not None
