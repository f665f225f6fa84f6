"""What is published, as FTP clients see it: the union of the layers in every verb, and never the folder it lies in."""

from __future__ import annotations

import ftplib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import wire
from appliance.published import sums
from appliance.published.layers import index_text
from tests.ftp.serving import Raw, Server, server, settings, until
from tests.published import trees

HERE = {"top": b"by hand", "hand": b"by hand", "pub/hand": b"by hand", "pub/both": b"by hand"}
RELEASE = {"top": b"release", "pub/both": b"release", "pub/new": b"release", "only/deep/r": b"release", "file": b"F"}
OVERLAY = {"top": b"overlay", "pub/mine": b"overlay", "once/secret": b"s"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    trees.make(root, HERE)
    trees.release(root, 1, RELEASE)
    trees.release(root, 2, {"pub/two": b"second"})
    trees.overlay(root, 1, OVERLAY)
    trees.overlay(root, 2, {})
    (root / "direct").symlink_to(f".releases/{trees.name(1)}/top")
    (root / "folder").symlink_to(f"/.releases/{trees.name(1)}")
    (root / "here").symlink_to(".")
    (root / "right").symlink_to("pub")
    return root


@pytest.fixture
def served(root: Path) -> Iterator[Server]:
    with server(root, settings(incoming={"enabled": True})) as running:
        tell(running, 1, 1)
        yield running
        assert running.worker.counters()["crashes"] == 0, running.worker.log_text()


def tell(running: Server, number: int, overlay: int) -> None:
    """Put a release in force, and wait until the worker knows: it answers in the order it was told."""
    running.worker.tell(wire.Release(number, overlay, trees.name(number)))
    marker = {1: "pub/new", 2: "pub/two"}[number]
    with running.raw() as client:
        until(lambda: client.ask(f"MDTM {marker}").startswith("213"))


def names(client: ftplib.FTP, path: str = "") -> list[str]:
    return client.nlst(path)


def content(client: ftplib.FTP, path: str) -> bytes:
    pieces: list[bytes] = []
    client.retrbinary(f"RETR {path}", pieces.append)
    return b"".join(pieces)


def test_each_layer_hides_those_below_it(served: Server) -> None:
    client = served.ftp()
    wanted = {"top": b"overlay", "pub/both": b"release", "pub/mine": b"overlay", "hand": b"by hand", "file": b"F"}
    assert {path: content(client, path) for path in wanted} == wanted
    assert content(client, "/pub/hand") == b"by hand"


def test_a_file_is_named_though_it_hides_what_has_no_name(root: Path, served: Server) -> None:
    (root / "pub/new").symlink_to(f"../.releases/{trees.name(1)}/top")
    assert names(served.ftp(), "pub") == ["pub/both", "pub/hand", "pub/mine", "pub/new"]


def test_folders_show_the_union_in_every_kind_of_listing(served: Server) -> None:
    client = served.ftp()
    assert names(client) == ["file", "hand", "here", "incoming", "only", "pub", "right", "top"]
    assert names(client, "pub") == ["pub/both", "pub/hand", "pub/mine", "pub/new"]
    assert names(client, "right") == ["right/both", "right/hand"]
    assert names(client, "only/deep") == ["only/deep/r"]
    assert [name for name, _facts in client.mlsd("pub")] == ["both", "hand", "mine", "new"]
    assert {name: facts["size"] for name, facts in client.mlsd("/") if facts["type"] == "file"} == {
        "file": "1", "hand": "7", "top": "7"
    }  # fmt: skip
    lines: list[str] = []
    client.retrlines("LIST pub/*o*", lines.append)
    assert [line.split()[-1] for line in lines] == ["both"]
    lines.clear()
    client.retrlines("LIST", lines.append)
    assert [line.split()[8] for line in lines] == names(client)
    client.cwd("only/deep")
    assert (client.pwd(), names(client)) == ("/only/deep", ["r"])


def test_facts_sizes_times_and_sums_are_those_of_the_first_layer(served: Server, root: Path) -> None:
    with served.raw() as client:
        client.ask("TYPE I")
        assert client.ask("SIZE pub/new") == "213 7\r\n"
        assert client.ask("MDTM pub/new").startswith("213 ")
        assert "type=file" in client.ask("MLST only/deep/r") and "type=dir" in client.ask("MLST only")
        assert client.ask("HASH top").startswith("213 SHA-256 0-7 ")
        assert client.ask("SIZE top.sha256") == "213 70\r\n"
        assert client.get("RETR pub/new.sha256").endswith(b"  new\n")
        assert client.ask("STAT pub").count("\r\n") == 6


def test_a_change_is_right_on_the_next_command_of_a_session(served: Server) -> None:
    client = served.ftp()
    assert names(client, "pub") == ["pub/both", "pub/hand", "pub/mine", "pub/new"]
    client.cwd("pub")
    tell(served, 2, 2)
    assert names(client) == ["both", "hand", "two"]
    assert (content(client, "both"), content(client, "two"), content(client, "/top")) == (
        b"by hand",
        b"second",
        b"by hand",
    )
    with pytest.raises(ftplib.error_perm, match="550"):
        content(client, "new")
    tell(served, 1, 2)
    assert (content(client, "both"), names(client)) == (b"release", ["both", "hand", "new"])


def test_files_put_into_the_root_are_in_the_next_listing(served: Server, root: Path) -> None:
    client = served.ftp()
    assert names(client, "only") == ["only/deep"]
    trees.make(root, {"only/hand": b"x"})
    assert names(client, "only") == ["only/deep", "only/hand"]
    (root / "only" / "hand").unlink()
    assert names(client, "only") == ["only/deep"]


def test_a_download_that_runs_keeps_its_file(served: Server, root: Path) -> None:
    big = bytes(range(256)) * 40_000
    (root / ".releases" / trees.name(1) / "big").write_bytes(big)
    with served.raw() as client:
        client.ask("TYPE I")
        data = client.passive()
        assert client.ask("RETR big").startswith("150")
        got = data.recv(1000)
        tell(served, 2, 2)
        shutil.rmtree(root / ".releases" / trees.name(1))
        while piece := data.recv(1 << 16):
            got += piece
        assert got == big and client.reply().startswith("226")
        assert client.ask("SIZE big").startswith("550")


def test_a_client_that_enters_folders_reaches_a_file_for_one_boot_and_sees_no_name_there(
    served: Server, root: Path
) -> None:
    """GNU wget and curl, and so Debian's installer, enter `answers/m1` before they ask for `preseed.cfg`."""
    key = 0x0123456789ABCDEF
    index = {"answers/m1/preseed.cfg": f"{key:016x}"}
    trees.overlay(root, 3, {"once/answers/m1/preseed.cfg": b"d-i", "once/.index": index_text(index)})
    tell(served, 1, 3)
    with served.raw() as client:
        assert client.ask("CWD answers").startswith("550")
        served.worker.tell(wire.OneShot(key, 1))
        until(lambda: client.ask("CWD /answers").startswith("250"))
        assert client.ask("CWD m1").startswith("250")
        assert client.ask("TYPE I").startswith("200") and client.ask("SIZE preseed.cfg").startswith("213 3")
        for verb in ("LIST", "NLST", "MLSD"):
            client.passive()
            assert client.ask(verb).startswith("550"), verb
        assert client.ask("CWD m2").startswith("550") and client.ask("CWD /").startswith("250")
        assert "answers" not in names(served.ftp())
        assert content(served.ftp(), "answers/m1/preseed.cfg") == b"d-i"
        served.worker.tell(wire.OneShot(key, 0))
        until(lambda: client.ask("CWD /answers/m1").startswith("550"))


PATHS = [
    ".releases", "/.releases/", ".RELEASES", f".releases/{trees.name(1)}", f"/.releases/{trees.name(1)}/top",
    f"pub/../.releases/{trees.name(1)}/top", f"here/.releases/{trees.name(1)}/top", "direct", "folder", "folder/top",
    "here/direct", "here/folder/pub/new", "once/secret", "once", "/once/.index", "//.releases//overlay-1/top",
]  # fmt: skip


@pytest.mark.parametrize("some", [PATHS[:8], PATHS[8:]])
def test_the_folder_of_the_releases_exists_for_no_client(served: Server, some: list[str]) -> None:
    for path in some:
        hidden(served, path)


def hidden(served: Server, path: str) -> None:
    with served.raw() as client:
        for verb in ("SIZE", "MDTM", "MLST", "CWD", "STAT", "HASH", "XSHA256"):
            assert client.ask(f"{verb} {path}").startswith("550"), (verb, path)
        assert client.ask(f"SIZE {path}.sha256").startswith("550")
        for verb in ("RETR", "LIST", "NLST", "MLSD", "STOR"):
            client.passive()
            assert client.ask(f"{verb} {path}").startswith(("550", "501" if verb == "MLSD" else "550")), (verb, path)


def test_nor_is_it_seen_by_patterns_or_with_the_service_switched_off(root: Path) -> None:
    with server(root, settings(hide=())) as running:
        client = running.ftp()
        assert ".releases" not in names(client)
        trees.make(root, {".other": b""})
        for pattern in (".*", "*"):
            assert ".releases" not in names(client, pattern)
        with running.raw() as raw:
            assert raw.ask(f"CWD .releases/{trees.name(1)}").startswith("550")


def test_a_site_sees_its_folder_in_every_layer(root: Path) -> None:
    from appliance.settings.ftp import FtpSite

    with server(root, settings(sites=(FtpSite(hosts=("boot.example",), root="pub"),))) as running:
        tell(running, 1, 1)
        with Raw(running.host, running.port, log_in=False) as client:
            assert client.ask("HOST boot.example").startswith("220")
            client.ask("USER ftp")
            client.ask("PASS x")
            assert client.get("NLST").split() == [b"both", b"hand", b"mine", b"new"]
            assert client.get("RETR /both") == b"release"
            assert client.ask("SIZE top").startswith("550")


def test_checksums_of_a_release_are_told_without_reading_the_file(served: Server, root: Path) -> None:
    noted = "ab" * 32  # not that of the file: it can only have come from the list
    (root / ".releases" / sums.file_of(trees.name(1))).write_bytes(sums.text([("only/deep/r", noted), ("top", noted)]))
    with served.raw() as client:
        client.ask("TYPE I")
        assert client.ask("HASH only/deep/r") == f"213 SHA-256 0-7 {noted} only/deep/r\r\n"
        assert client.ask("XSHA256 only/deep/r") == f"250 {noted.upper()}\r\n"
        assert client.get("RETR only/deep/r.sha256") == f"{noted}  r\n".encode()
        computed = [
            client.ask(line) for line in ("XSHA256 only/deep/r 0 3", "XMD5 only/deep/r", "HASH pub/new", "HASH top")
        ]
        assert all(answer[:1] == "2" and noted not in answer.lower() for answer in computed)
