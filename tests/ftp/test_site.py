"""ftp.site: several faces of one server, by listener and by HOST; texts that are shown; addresses by network."""

from __future__ import annotations

import ftplib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import wire
from appliance.ftp.addresses import ByNetwork, is_literal
from appliance.ftp.site import Sites
from appliance.settings.ftp import FtpSettings, FtpSite, IncomingSettings, PassiveAddress
from tests.ftp.serving import Raw, Server, listener, server, settings, store, until


@pytest.fixture
def sited(tree: Path) -> Iterator[tuple[Server, int]]:
    """A server with a second listener for the folder pub, which has the names mirror.example.org and b.example.org."""
    (tree / "pub" / "box").mkdir(mode=0o700)
    (tree / "pub" / "up").symlink_to("../a.txt")
    second = listener()
    port = second.getsockname()[1]
    site = FtpSite((f"127.0.0.1:{port}",), ("mirror.example.org", "b.example.org"), "pub", "The mirror.", sessions=2)
    far = FtpSite(hosts=("far.example.org",), root="pub", allow=("192.0.2.0/24",))
    config = settings(sites=(site, far), incoming={"enabled": True, "path": "pub/box"})
    with server(tree, config, more=(second,), box=tree / "pub" / "box") as running:
        second.close()
        yield running, port
        assert running.worker.counters()["crashes"] == 0, running.worker.log_text()


def test_a_site_has_its_own_folder_and_greeting(sited: tuple[Server, int]) -> None:
    main, port = sited
    with Raw("127.0.0.1", port) as raw, main.raw() as other:
        assert raw.greeting == "220 The mirror.\r\n"
        assert other.greeting == "220 Anonymous FTP ready.\r\n"
        assert raw.get("RETR b.txt") == raw.get("RETR /b.txt") == other.get("RETR /pub/b.txt")
        assert raw.ask("CWD deep") == '250 "/deep" is the current directory.\r\n'
        assert raw.ask("CDUP") == '250 "/" is the current directory.\r\n'
        assert raw.ask("CWD ../../..") == '250 "/" is the current directory.\r\n'
        assert raw.ask("RETR /pub/b.txt").startswith("425")
        assert raw.ask("SIZE a.txt").startswith("550")
        assert b" /c.iso\r\n" in raw.ask("MLST c.iso").encode()
        for line in ("MLST", "MLST /", "MLST ."):  # its name was "", for want of the folder that clients do not see
            assert raw.ask(line).splitlines()[1].endswith("; /")
        for verb in ("LIST", "NLST", "MLSD"):
            listed = raw.get(verb)
            assert b"b.txt\r\n" in listed and b"empty" not in listed
        assert raw.get("NLST /").split() == [b"/" + name for name in raw.get("NLST").split()]


def test_a_link_out_of_the_view_shows_what_the_service_serves_and_nothing_else(sited: tuple[Server, int]) -> None:
    with Raw("127.0.0.1", sited[1]) as raw:
        raw.ask("TYPE I")
        assert raw.get("RETR up") == b"one\ntwo\r\nthree\n"


def test_the_drop_box_is_where_the_site_sees_it(sited: tuple[Server, int], tree: Path) -> None:
    client = ftplib.FTP(timeout=15)
    client.connect("127.0.0.1", sited[1])
    client.login()
    client.cwd("box")
    assert store(client, "new", b"x" * 10).startswith("226")
    client.cwd("/")
    assert client.nlst("box") == []
    facts = dict(client.mlsd("/", ["perm"]))
    assert "c" in facts["box"]["perm"] and "c" not in facts["deep"]["perm"]
    with pytest.raises(ftplib.error_perm, match="550"):
        store(client, "/deep/new", b"x")
    client.close()
    assert (tree / "pub" / "box" / "new").read_bytes() == b"x" * 10


def test_host_chooses_a_site_before_the_log_in(sited: tuple[Server, int]) -> None:
    with sited[0].raw(log_in=False) as raw:
        assert " HOST\r\n" in raw.ask("FEAT")
        assert raw.ask("HOST MIRROR.example.org.") == "220 The mirror.\r\n"
        assert raw.ask("HOST nobody.example.org") == "504 There is no such site for you.\r\n"
        assert raw.ask("HOST far.example.org") == "504 There is no such site for you.\r\n"
        assert raw.ask("HOST b.example.org").startswith("220")
        assert raw.ask("USER ftp").startswith("331")
        assert raw.ask("HOST mirror.example.org").startswith("503")
        assert raw.ask("PASS x").startswith("230")
        assert raw.ask("HOST mirror.example.org").startswith("503")
        assert raw.ask("SIZE b.txt").startswith("550")
        raw.ask("TYPE I")
        assert raw.ask("SIZE b.txt") == "213 2\r\n"
        assert raw.ask("REIN").startswith("220")
        assert raw.ask("USER ftp").startswith("331")
        assert raw.ask("PASS x").startswith("230")
        raw.ask("TYPE I")
        assert raw.ask("SIZE b.txt").startswith("550")


@pytest.mark.parametrize("name", ["127.0.0.1", "[::1]"])
def test_host_with_an_address_is_the_site_of_the_listener(sited: tuple[Server, int], name: str) -> None:
    with Raw("127.0.0.1", sited[1], log_in=False) as raw:
        assert raw.ask(f"HOST {name}") == "220 The mirror.\r\n"


def test_a_site_that_is_full_refuses_at_the_door_and_at_host(sited: tuple[Server, int]) -> None:
    main, port = sited
    with Raw("127.0.0.1", port), main.raw(log_in=False) as by_name:
        assert by_name.ask("HOST mirror.example.org").startswith("220")
        with Raw("127.0.0.1", port, log_in=False) as late, main.raw(log_in=False) as other:
            assert late.greeting == "421 Too many sessions on this site. Try again later.\r\n"
            assert other.ask("HOST mirror.example.org").startswith("504")
            assert other.ask("USER ftp").startswith("331")
    with Raw("127.0.0.1", port) as again:
        assert again.greeting.startswith("220")


@pytest.mark.parametrize(
    ("root", "box", "seen"),
    [(None, "incoming", "/incoming"), ("pub", "pub/in", "/in"), ("pub", "public/in", None), ("pub", "in", None)],
)
def test_the_box_of_a_site_is_seen_from_its_folder(root: str | None, box: str, seen: str | None) -> None:
    incoming = IncomingSettings(enabled=True, path=box)
    sites = Sites(FtpSettings(incoming=incoming, sites=(FtpSite(hosts=("a.example.org",), root=root),)))
    site = sites.of_host("A.example.org")
    assert site is not None and site.rules.box == seen
    assert Sites(FtpSettings(sites=(FtpSite(hosts=("a.example.org",)),))).main.rules.box is None


def test_texts_of_the_operator_are_shown_line_by_line(tree: Path) -> None:
    (tree / "hello").write_text("Hello.\n220 no end of it\n")
    (tree / "welcome").write_bytes(b"Be \x1b[31mwelcome\t\xff!\r\n" + b"x" * 9000)
    (tree / "pub" / ".message").write_text("This is pub.\n")
    os.mkfifo(tree / "pub" / "deep" / ".message")
    with server(tree, settings(banner_file="hello", welcome_file="welcome")) as running, running.raw(False) as raw:
        assert raw.greeting == "220-Hello.\r\n220-220 no end of it\r\n220 Anonymous FTP ready.\r\n"
        raw.ask("USER ftp")
        lines = raw.ask("PASS x").splitlines()
        assert lines[0] == "230-Be [31mwelcome \u00ef\u00bf\u00bd!" and lines[-1] == "230 Logged in."
        assert len(lines[1]) == 504 and len(lines) == 3
        assert raw.ask("CWD pub") == '250-This is pub.\r\n250 "/pub" is the current directory.\r\n'
        assert raw.ask("CWD deep") == '250 "/pub/deep" is the current directory.\r\n'
    with server(tree, settings(message_file=None)) as running, running.raw() as raw:
        assert raw.ask("CWD pub") == '250 "/pub" is the current directory.\r\n'


def test_pasv_tells_the_address_for_the_network_of_the_client(tree: Path) -> None:
    told = (PassiveAddress(("127.0.0.0/8",), "192.0.2.7"), PassiveAddress(("127.0.0.1",), "192.0.2.8"))
    with server(tree, settings(passive_address=told)) as running, running.raw() as raw:
        assert "(192,0,2,8," in raw.ask("PASV")
    outside = (PassiveAddress(("198.51.100.0/24",), "192.0.2.7"),)
    with server(tree, settings(passive_address=outside)) as running, running.raw() as raw:
        assert "(127,0,0,1," in raw.ask("PASV")
    with server(tree, settings(passive_address="192.0.2.9")) as running, running.raw() as raw:
        assert "(192,0,2,9," in raw.ask("PASV")


def test_a_name_is_told_as_the_address_it_has_now(tree: Path) -> None:
    with server(tree, settings(passive_address="ftp.example.org")) as running, running.raw() as raw:
        assert "(127,0,0,1," in raw.ask("PASV")  # as long as nobody knows its address, the one that was reached
        for address in ("192.0.2.9", "192.0.2.10"):
            running.worker.tell(wire.Address(address, "ftp.example.org"))
            told = f"({address.replace('.', ',')},"
            until(lambda told=told: told in raw.ask("PASV"))


def test_the_most_specific_network_decides() -> None:
    table = ByNetwork([("10.0.0.0/8", "a"), ("10.1.0.0/16", "b"), ("2001:db8::/32", "c")])
    assert [table.find(who) for who in ("10.2.0.1", "10.1.0.1", "2001:db8::1", "192.0.2.1")] == ["a", "b", "c", None]


@pytest.mark.parametrize(
    ("name", "literal"),
    [
        ("192.0.2.1", True),
        ("[2001:db8::1]", True),
        ("[IPv6:2001:db8::1]", True),
        ("2001:db8::1", False),
        ("[192.0.2.1]", False),
        ("[x", False),
        ("example.org", False),
    ],
)
def test_an_address_is_told_from_a_name(name: str, literal: bool) -> None:
    assert is_literal(name) is literal
