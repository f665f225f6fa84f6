"""remap: rules turn one name into another."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.settings.tftp import TftpRemap
from appliance.tftp.files import Refusal
from appliance.tftp.packet import ErrorCode
from appliance.tftp.remap import Hit, Remap


def renamed(name: bytes, *rules: TftpRemap, host: str = "192.0.2.1") -> bytes | Refusal:
    return Remap(rules).rename(name, host)[0]


@pytest.mark.parametrize(
    ("match", "to", "name", "result"),
    [
        ("^pxe/", "", b"pxe/a/b", b"a/b"),
        ("b", "X", b"abcb", b"aXcb"),
        (r"^(.*)\.old$", r"\1.new", b"x/y.old", b"x/y.new"),
        (r"(?P<a>x)(y)?", r"\2[\g<a>]\0", b"_x_", b"_[x]x_"),
        ("(?i)^BOOT", "boot", b"bOoT.cfg", b"boot.cfg"),
        ("^ip$", r"\i", b"ip", b"192.0.2.1"),
        ("^ip$", r"cfg/\x", b"ip", b"cfg/C0000201"),
        ("nothing", "x", b"name", b"name"),
        (".", "\N{LATIN SMALL LETTER E WITH ACUTE}", b"a", b"\xc3\xa9"),
        ("^.", "x", b"\xff", b"x"),
        ("^a", "//b//./", b"a/c", b"b/c"),
    ],
)
def test_what_a_rule_finds_is_replaced_once_and_the_rest_stays(match: str, to: str, name: bytes, result: bytes) -> None:
    assert renamed(name, TftpRemap(match, to)) == result


def test_an_ipv6_client_is_32_digits_without_its_interface() -> None:
    rules = TftpRemap("^x$", r"\x"), TftpRemap("^i$", r"\i")
    assert renamed(b"x", *rules, host="fe80::1%eth0") == b"FE800000000000000000000000000001"
    assert renamed(b"i", *rules, host="fe80::1%eth0") == b"fe80::1"


def test_the_first_hit_ends_it_unless_the_rule_says_continue() -> None:
    first, second, third = TftpRemap("^a", "b"), TftpRemap("^b", "c"), TftpRemap("^c", "d")
    assert renamed(b"a", first, second, third) == b"b"
    assert renamed(b"b", first, second, third) == b"c"
    name, hits = Remap([TftpRemap("^a", "b", then="continue"), third, second]).rename(b"a", "::1")
    assert name == b"c"
    assert hits == [Hit(0, b"a", b"b"), Hit(2, b"b", b"c")]


def test_a_rule_is_for_its_networks_only() -> None:
    rule = TftpRemap("^a$", "b", networks=("10.0.0.0/8", "2001:db8::/32"))
    assert renamed(b"a", rule, host="10.1.1.1") == renamed(b"a", rule, host="2001:db8::9") == b"b"
    assert renamed(b"a", rule, host="192.0.2.1") == b"a"


def test_a_rule_that_refuses_is_an_answer_and_changes_nothing_where_it_does_not_match() -> None:
    deny = TftpRemap(r"\.pvt$", then="refuse")
    got = renamed(b"a/key.pvt", deny, TftpRemap("^", "x"))
    assert isinstance(got, Refusal)
    assert (got.code, got.text, got.cause) == (ErrorCode.ACCESS, "Access violation", "tftp.remap[0] refuses it")
    assert renamed(b"a/key", deny, TftpRemap("^a", "b")) == b"b/key"


@pytest.mark.parametrize(
    ("requests", "read", "write"), [("all", b"b", b"b"), ("read", b"b", b"a"), ("write", b"a", b"b")]
)
def test_a_rule_is_for_reads_or_for_writes_or_for_both(requests: Any, read: bytes, write: bytes) -> None:
    rule = TftpRemap("^a$", "b", requests=requests)
    assert Remap([rule]).rename(b"a", "192.0.2.1")[0] == read
    assert Remap([rule]).rename(b"a", "192.0.2.1", write=True)[0] == write


def test_a_rule_without_a_new_name_ends_the_rules() -> None:
    assert renamed(b"ok/a", TftpRemap("^ok/"), TftpRemap("^ok", "no")) == b"ok/a"


@pytest.mark.parametrize(
    ("to", "code", "cause"),
    [
        ("../b", ErrorCode.ACCESS, "name goes upwards"),
        ("", ErrorCode.NOT_FOUND, "no name"),
        (r"\0\0", ErrorCode.ACCESS, "name too long"),
    ],
)
def test_what_a_rule_makes_is_cleaned_like_any_name(to: str, code: ErrorCode, cause: str) -> None:
    got = renamed(b"a" * 128, TftpRemap("^a*$", to, then="continue"), TftpRemap("b", "c"))
    assert isinstance(got, Refusal)
    assert (got.code, got.cause) == (code, cause)


@pytest.mark.parametrize(("length", "fits"), [(126, True), (127, True), (128, False)])
def test_a_new_name_has_at_most_255_bytes(length: int, fits: bool) -> None:
    got = renamed(b"a" * length, TftpRemap("^a*$", r"\0-\0"))
    assert isinstance(got, bytes) == fits
