"""What keys about uploads may not say together."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.settings import rules
from appliance.settings.ftp import IncomingScan
from appliance.settings.tftp import TftpNetwork, TftpSite
from tests.settings.judging import DEFAULTS, changed, found

MIB, GIB = 1 << 20, 1 << 30
BOX: dict[str, Any] = {"enabled": True}


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ({"max_size": 3 << 30, "quota": 3 << 30, "per_client_quota": 3 << 30}, []),
        (
            {"max_size": 3 << 30, "quota": 2 << 30},
            [("error", "3GiB is more than the quota of 2GiB", "write at most 2GiB, or raise the quota")],
        ),
        (
            {"max_size": 1 << 20, "quota": 1 << 30},
            [("warning", "2GiB is more than the quota of 1GiB, so it limits nobody", "write less than 1GiB")],
        ),
        (
            {"max_size": 3 << 30},
            [
                (
                    "warning",
                    "3GiB is more than the 2GiB that one client may store",
                    "write at most 2GiB, or raise per_client_quota",
                )
            ],
        ),
    ],
)
def test_quotas_fit_into_each_other(box: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    assert found(changed(ftp={"incoming": {"enabled": True, **box}})) == expected
    assert found(changed(ftp={"incoming": {"enabled": False, **box}})) == []


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("pub/.git/in", ".git is hidden by ftp.hide, .git, so no client reaches it"),
        (".box", ".box is hidden by its dot, so no client reaches it"),
        ("pub/incoming", ""),
    ],
)
def test_the_drop_box_is_not_hidden(path: str, what: str) -> None:
    expected = [("error", what, "write a name that is not hidden, like incoming")] if what else []
    assert found(changed(ftp={"incoming": {"enabled": True, "path": path}})) == expected
    assert found(changed(ftp={"incoming": {"path": path}})) == []


def uploads(**keys: Any) -> dict[str, Any]:
    return {"uploads": {"mode": "replace", **keys}}


def test_uploads_are_off_whatever_else_is_written() -> None:
    odd = {"max_size": GIB, "quota": 1, "keep_versions": 9, "max_files": 1, "readable": "networks", "path": "incoming"}
    box = {"root": "/srv/x", "incoming": {"enabled": True, "path": "incoming"}}
    assert found(changed(tftp={"root": "/srv/x", "uploads": odd}, ftp=box)) == []
    off = {"enabled": False, "root": "/srv/x", **uploads(**odd)}
    assert found(changed(tftp=off, ftp={"root": "/srv/x"})) == []


@pytest.mark.parametrize("mode", ["create", "existing", "replace"])
def test_the_defaults_of_uploads_contradict_nothing(mode: str) -> None:
    assert found(changed(tftp=uploads(mode=mode))) == []


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (
            {"max_size": 2 * GIB},
            ["2GiB is more than the quota of 1GiB"],
        ),
        ({"max_size": 512 * MIB}, ["512MiB is more than the 256MiB that one client may store"]),
        ({"per_client_quota": 2 * GIB}, ["2GiB is more than the quota of 1GiB, so it limits nobody"]),
    ],
)
def test_quotas_of_uploads_fit_into_each_other(box: dict[str, Any], expected: list[str]) -> None:
    settings = changed(tftp=uploads(mode="create", **box))
    assert [what for _, what, _ in found(settings)] == expected
    assert rules.judge(settings)[0].keys[0][:2] == ("tftp", "uploads")


@pytest.mark.parametrize(
    ("box", "key"),
    [
        ({"per_client_quota": 128 * MIB}, ""),
        ({"per_client_quota": 128 * MIB - 1}, "per_client_quota"),
        ({"per_client_quota": 100 * MIB, "quota": 100 * MIB}, "quota"),
        ({"per_client_quota": 100 * MIB, "mode": "create"}, ""),
    ],
)
def test_the_largest_file_fits_twice_where_it_is_replaced(box: dict[str, Any], key: str) -> None:
    what = "a file of 64MiB could not be replaced: the old and the new one count until the new one is complete"
    settings = changed(tftp=uploads(**box))
    assert found(settings) == ([("warning", what, "write at least 128MiB")] if key else [])
    assert [finding.keys[0][-1] for finding in rules.judge(settings)] == ([key] if key else [])


def test_where_nothing_is_replaced_there_are_no_versions() -> None:
    what = "create replaces nothing, so there are no versions"
    remedy = "write mode: replace, or take keep_versions out"
    assert found(changed(tftp=uploads(mode="create", keep_versions=1))) == [("warning", what, remedy)]
    assert found(changed(tftp=uploads(mode="existing", keep_versions=1))) == []


def test_a_file_and_its_versions_fit_into_max_files() -> None:
    assert found(changed(tftp=uploads(keep_versions=4, max_files=5))) == []
    what = "5 versions and the file itself are more than the 5 files of max_files"
    assert found(changed(tftp=uploads(keep_versions=5, max_files=5))) == [
        ("error", what, "write at most 4, or raise max_files")
    ]


def test_networks_that_read_are_named_where_they_count() -> None:
    assert found(changed(tftp=uploads(readable="networks", readers=("192.0.2.0/24", "2001:db8::/64")))) == []
    assert found(changed(tftp=uploads(readable="networks"))) == [
        ("error", "readable is networks, and there are none", "write them, like [192.0.2.0/24], or readable: none")
    ]
    assert found(changed(tftp=uploads(readable="same-client", readers=("192.0.2.0/24",)))) == [
        (
            "warning",
            "readable is same-client, so these networks count for nothing",
            "write readable: networks",
        )
    ]


def test_a_reader_is_at_least_a_whole_client() -> None:
    readers = ("192.0.2.1", "2001:db8::1")
    assert found(changed(tftp=uploads(readable="networks", readers=readers))) == [
        (
            "error",
            "2001:db8::1 is part of a /64, and IPv6 clients are told apart by their /64 only",
            "write 2001:db8::/64",
        )
    ]


@pytest.mark.parametrize(
    ("path", "box", "expected"),
    [
        ("up", "in", []),
        ("in", "in", ["/srv/x/in is the same folder as that of tftp.uploads, /srv/x/in"]),
        ("in/up", "in", ["/srv/x/in/up is inside that of ftp.incoming, /srv/x/in"]),
        ("up", "up/in", ["/srv/x/up/in is inside that of tftp.uploads, /srv/x/up"]),
        ("in", "incoming", []),
    ],
)
def test_two_custodians_have_two_folders(path: str, box: str, expected: list[str]) -> None:
    ftp = {"root": "/srv/x", "incoming": {"enabled": True, "path": box}}
    settings = changed(tftp={"root": "/srv/x", **uploads(path=path)}, ftp=ftp)
    assert found(settings) == [("error", what, "name a folder beside it") for what in expected]
    elsewhere = changed(tftp={"root": "/srv/y", **uploads(path=path)}, ftp=ftp)
    assert found(elsewhere) == []


def test_no_site_and_no_network_looks_its_files_up_among_the_uploads() -> None:
    networks = (TftpNetwork("192.0.2.0/24", root="uploads"), TftpNetwork("198.51.100.0/24"))
    sites = (TftpSite("127.0.0.1:70", root="uploads/a", networks=networks), TftpSite("127.0.0.1:71", root="upload"))
    sites = (*sites, TftpSite("127.0.0.1:72"))
    settings = changed(tftp={"networks": networks, "sites": sites, **uploads()})
    assert [finding.keys[0] for finding in rules.judge(settings)] == [
        ("tftp", "sites", 0, "root"),
        ("tftp", "networks", 0, "root"),
        ("tftp", "sites", 0, "networks", 0, "root"),
    ]
    assert found(settings)[0] == (
        "error",
        "uploads/a is in the folder of the uploads, uploads, which is not served",
        "name another folder",
    )
    box = changed(tftp={"networks": networks, "sites": sites}, ftp={"incoming": {"enabled": True}})
    assert found(box) == []


@pytest.mark.parametrize("path", ["incoming", "incoming/out", "a"])
def test_the_released_tree_and_the_drop_box_lie_beside_each_other(path: str) -> None:
    box = {**BOX, "released": path, "path": "a/box" if path == "a" else "incoming"}
    root = DEFAULTS.ftp.root
    what = f"{root}/{path} and the folder of ftp.incoming, {root}/{box['path']}, lie inside each other"
    assert found(changed(ftp={"incoming": box})) == [("error", what, "name a folder beside it")]
    assert found(changed(ftp={"incoming": {**box, "enabled": False}})) == []
    assert found(changed(ftp={"incoming": {**BOX, "released": "incoming2"}})) == []


def test_the_released_tree_is_not_in_the_folder_of_uploads_by_tftp() -> None:
    settings = changed(tftp={"uploads": {"mode": "create"}, "root": "/srv/x"}, ftp={"root": "/srv/x", "incoming": BOX})
    assert found(settings) == []
    settings = changed(
        tftp={"uploads": {"mode": "create", "path": "released/in"}, "root": "/srv/x"},
        ftp={"root": "/srv/x", "incoming": BOX},
    )
    what = "/srv/x/released and the folder of tftp.uploads, /srv/x/released/in, lie inside each other"
    assert found(settings) == [("error", what, "name a folder beside it")]


def test_a_released_tree_that_is_hidden_is_warned_of() -> None:
    assert found(changed(ftp={"incoming": {**BOX, "released": "pub/.git"}})) == [
        (
            "warning",
            ".git is hidden by ftp.hide, .git, so nobody sees what was released",
            "write a name that is not hidden, like released",
        )
    ]


@pytest.mark.parametrize(
    ("scan", "what", "remedy"),
    [
        (IncomingScan(), "there is no scanner", "write command or clamd, one of them; or scan: null"),
        (
            IncomingScan(("/bin/true",), "/run/c"),
            "there are two scanners",
            "write command or clamd, one of them; or scan: null",
        ),
        (
            IncomingScan(("bin/clamscan", "-")),
            "bin/clamscan is not an absolute path",
            "write it in full, like /usr/bin/clamscan",
        ),
        (IncomingScan(("/usr/bin/clamscan", "-")), "", ""),
        (IncomingScan(clamd="/run/clamav/clamd.ctl"), "", ""),
    ],
)
def test_there_is_one_scanner_and_it_can_be_found(scan: IncomingScan, what: str, remedy: str) -> None:
    expected = [("error", what, remedy)] if what else []
    assert found(changed(ftp={"incoming": {**BOX, "scan": scan}})) == expected
    assert found(changed(ftp={"incoming": {"scan": scan}})) == []
