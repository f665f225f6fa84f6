"""boot.links, sums, journey: what a name, a link, a list or a redirect may lead to."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.boot import journey, links, records, sums
from appliance.boot.journey import Refused
from appliance.boot.links import Hostile, Tree, wanted

SHA = "a" * 64


def tree(*files: str, **symbolic: str) -> Tree:
    found = Tree()
    for name in files:
        found.add_file(name, 1)
    for name, target in symbolic.items():
        found.add_link(name.replace("__", "/"), target)
    return found


def test_debians_netboot_tree_is_served_through_its_four_links() -> None:
    found = tree(
        "./debian-installer/amd64/pxelinux.0",
        "./debian-installer/amd64/boot-screens/ldlinux.c32",
        "./debian-installer/amd64/boot-screens/syslinux.cfg",
    )
    found.add_link("./pxelinux.0", "debian-installer/amd64/pxelinux.0")
    found.add_link("./ldlinux.c32", "debian-installer/amd64/boot-screens/ldlinux.c32")
    found.add_link("./pxelinux.cfg", "debian-installer/amd64/pxelinux.cfg")
    found.add_link("./debian-installer/amd64/pxelinux.cfg/default", "../boot-screens/syslinux.cfg")
    assert found.resolve() == {
        "debian-installer/amd64/pxelinux.0": "debian-installer/amd64/pxelinux.0",
        "debian-installer/amd64/boot-screens/ldlinux.c32": "debian-installer/amd64/boot-screens/ldlinux.c32",
        "debian-installer/amd64/boot-screens/syslinux.cfg": "debian-installer/amd64/boot-screens/syslinux.cfg",
        "pxelinux.0": "debian-installer/amd64/pxelinux.0",
        "ldlinux.c32": "debian-installer/amd64/boot-screens/ldlinux.c32",
        "debian-installer/amd64/pxelinux.cfg/default": "debian-installer/amd64/boot-screens/syslinux.cfg",
        "pxelinux.cfg/default": "debian-installer/amd64/boot-screens/syslinux.cfg",
    }
    assert found.left_out == {}


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\0b"])
def test_a_member_that_leads_out_is_refused_by_name(name: str) -> None:
    for add in (
        lambda t: t.add_file(name, 1),
        lambda t: t.add_link(name, "x"),
        lambda t: t.add_other(name, "a device"),
    ):
        with pytest.raises(Hostile, match="leads out of the tree"):
            add(Tree())


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("../../etc/passwd", "leads out of the tree"),
        ("..", "leads out of the tree"),
        ("nowhere", "is not there"),
        (".", "no path of a file"),
        ("a\nb", "no path of a file"),
        ("folder/none", "is not there"),
    ],
)
def test_a_link_that_leads_nowhere_is_left_out_and_told(target: str, why: str) -> None:
    found = tree("folder/file", link=target)
    assert "link" not in found.resolve() and why in found.left_out["link"]


def test_links_in_a_circle_end() -> None:
    found = tree("f", a="b", b="a", c__d="../c", self="self")
    assert found.resolve() == {"f": "f"} and set(found.left_out) == {"a", "b", "c/d", "self"}


def test_absolute_and_hard_links_are_meant_inside_the_tree() -> None:
    found = tree("usr/lib/x", usr__lib__y="/usr/lib/x")
    found.add_link("deep/down/z", "usr/lib/x", hard=True)
    assert found.resolve()["usr/lib/y"] == "usr/lib/x" and found.resolve()["deep/down/z"] == "usr/lib/x"


def test_later_members_replace_earlier_ones_of_their_name() -> None:
    found = tree("a", "b")
    found.add_other("a", "a device")
    found.add_file("a", 7)
    found.add_link("b", "a")
    assert found.files == {"a": 7} and found.resolve() == {"a": "a", "b": "a"} and found.left_out == {}


def test_names_that_cannot_be_served_are_left_out() -> None:
    found = tree("x" * 300, "a\udcff", "fine", "./")
    found.add_link("a\udcff", "fine")
    found.add_other("b\udcff", "a device")
    found.add_link("./", "fine")
    assert found.resolve() == {"fine": "fine"} and len(found.left_out) == 3


def test_an_archive_of_too_many_members_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MOST", 3)
    with pytest.raises(Hostile, match="more than 3 members"):
        tree("a", "b", "c", "d")
    multiplied = tree("d/a", "d/b", e="d")
    with pytest.raises(Hostile, match="more than 3 paths"):
        multiplied.resolve()


def test_an_alias_that_would_be_too_long_is_left_out_alone() -> None:
    found = tree("d/" + "x" * 250, "d/y", **{"/".join(["e" * 200] * 4): "/d"})
    assert "/".join(["e" * 200] * 4) + "/y" in found.resolve() and len(found.resolve()) == 3


def test_a_link_into_a_folder_that_it_lies_in_brings_it_once() -> None:
    found = tree("d/f", d__up="/d", other="d")
    assert set(found.resolve()) == {"d/f", "d/up/f", "other/f", "other/up/f"}


def test_links_through_many_folders_are_followed_so_far_and_no_further() -> None:
    found = tree("d9/f", **{f"d{n}__l": f"/d{n + 1}" for n in range(9)})
    paths = found.resolve()
    assert "d4/l/l/l/l/l/f" in paths and "d0/l/l/l/l/l/l/l/l/l/f" not in paths


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "/", "", "a/b", "b/a"]), max_size=4).map("/".join)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(NAMES, NAMES, max_size=6))
def test_no_link_ever_leads_out(symbolic: dict[str, str]) -> None:
    found = tree("a/b")
    for name, target in symbolic.items():
        try:
            found.add_link(name, target)
        except Hostile:
            continue
    for path, real in found.resolve().items():
        assert real in found.files and records.unfit(path) == ""


def test_what_is_asked_for() -> None:
    assert wanted("a/b", ["a/b"]) and wanted("a/b", ["a/"]) and wanted("a/b", ["/"])
    assert not wanted("a/b", ["a"]) and not wanted("ab", ["a/"]) and not wanted("a/b", [])


def test_a_digest_is_found_in_every_kind_of_list() -> None:
    text = f"# comment\n{SHA}  ./netboot/x\n{'b' * 64} *y\nSHA256 (z) = {'c' * 64}\n{'d' * 64}  other/y\n"
    assert sums.find(text, "netboot/x") == SHA
    assert sums.find(text, "deep/y") == "b" * 64  # its last part alone
    assert sums.find(text, "z") == "c" * 64
    assert sums.find(text, "other/y") == "d" * 64
    for path, why in (("x", "does not have"), ("none", "does not have")):
        with pytest.raises(sums.SumsError, match=why):
            sums.find(text, path)
    with pytest.raises(sums.SumsError, match="more than one digest"):
        sums.find(f"{SHA}  y\n{'b' * 64}  y\n", "y")


@pytest.mark.parametrize(
    ("url", "target", "found"),
    [
        ("http://a/x", "y", "http://a/y"),
        ("http://a/x", "https://b/y", "https://b/y"),
        ("https://a/x", "//b/y", "https://b/y"),
        ("http://a/x", "http://b/y", "http://b/y"),
    ],
)
def test_a_redirect_may_lead_to_what_protects_as_much(url: str, target: str, found: str) -> None:
    assert journey.redirect(url, target) == found


@pytest.mark.parametrize(
    "target", ["http://b/", "ftp://b/x", "file:///x", "tftp://b/x", "https://u@b/", "http://b/ x", "ü", ""]
)
def test_a_redirect_may_not_lead_to_less(target: str) -> None:
    if target == "":
        assert journey.redirect("https://a/x", target) == "https://a/x"
        return
    with pytest.raises(Refused):
        journey.redirect("https://a/x", target)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True), ("2606:4700::1", True), ("::ffff:1.1.1.1", True),
        ("127.0.0.1", False), ("10.0.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("100.64.0.1", False), ("::1", False), ("fe80::1%eth0", False), ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::101:101", True), ("64:ff9b::a00:1", False), ("::10.0.0.1", False), ("fec0::1", False),
        ("2002:a00:1::1", False), ("224.0.0.1", False), ("ff0e::1", False), ("name", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert journey.is_public(address) is public


def test_private_addresses_are_reached_by_the_first_host_and_listed_ones_alone() -> None:
    journey.judge("a", "10.0.0.1", "a", ())
    journey.judge("b", "10.0.0.1", "a", ("b",))
    journey.judge("b", "10.0.0.1", "a", ("10.0.0.1",))
    journey.judge("b", "1.1.1.1", "a", ())
    with pytest.raises(Refused, match=r"b at 10\.0\.0\.1, which is no public address"):
        journey.judge("b", "10.0.0.1", "a", ("c",))


def test_origins() -> None:
    assert journey.origin("https://A.example:444/x") == ("a.example", 444)
    assert journey.origin("tftp://a/x") == ("a", 69)
    for url in ("gopher://a/x", "http://a:99999/x", "http://[x"):
        with pytest.raises(Refused):
            journey.origin(url)
