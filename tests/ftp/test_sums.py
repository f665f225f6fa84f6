"""ftp.sums: the verbs that tell checksums, and NAME.sha256."""

from __future__ import annotations

import hashlib
import subprocess
import zlib
from pathlib import Path

import pytest

from tests.ftp.serving import Raw, Server, Turns, read_all, server, settings, until

TEXT = b"one\ntwo\r\nthree\n"  # a.txt


@pytest.fixture
def raw(served: Server) -> Raw:
    return served.raw()


def test_hash_tells_what_the_client_selected(raw: Raw) -> None:
    with raw:
        assert " HASH SHA-256*;SHA-512;SHA-1;MD5;CRC32\r\n" in raw.ask("FEAT")
        assert raw.ask("HASH a.txt") == f"213 SHA-256 0-15 {hashlib.sha256(TEXT).hexdigest()} a.txt\r\n"
        assert raw.ask("OPTS HASH sha-512") == "200 SHA-512\r\n"
        assert raw.ask("OPTS HASH") == "200 SHA-512\r\n"
        assert raw.ask("OPTS HASH CRC-37") == "501 Unknown algorithm, current selection not changed.\r\n"
        assert "SHA-256;SHA-512*;" in raw.ask("FEAT")
        assert raw.ask("HASH /pub/../a.txt") == f"213 SHA-512 0-15 {hashlib.sha512(TEXT).hexdigest()} /pub/../a.txt\r\n"
        assert raw.ask("OPTS MLST size;").startswith("200")
        assert raw.ask("REIN").startswith("220")
        raw.ask("USER ftp")
        raw.ask("PASS x")
        assert raw.ask("OPTS HASH") == "200 SHA-256\r\n"


def test_the_older_verbs_tell_the_value_alone(raw: Raw) -> None:
    with raw:
        features = raw.ask("FEAT")
        assert all(f" {verb}\r\n" in features for verb in ("XCRC", "XMD5", "XSHA256"))
        assert raw.ask("XSHA256 a.txt") == f"250 {hashlib.sha256(TEXT).hexdigest().upper()}\r\n"
        assert raw.ask('XMD5 "a.txt"') == f"250 {hashlib.md5(TEXT).hexdigest().upper()}\r\n"
        assert raw.ask("XCRC a.txt 0 3") == f"250 {zlib.crc32(b'one'):08X}\r\n"
        assert raw.ask('XCRC "a.txt" 4') == f"250 {zlib.crc32(TEXT[4:]):08X}\r\n"
        assert raw.ask("XCRC empty") == "250 00000000\r\n"
        assert raw.ask("XCRC a.txt 4 3").startswith("501")
        assert raw.ask("XCRC a.txt 0 16").startswith("501")


def test_names_in_any_bytes_and_with_a_percent_sign(served: Server, raw: Raw) -> None:
    (served.root / "100% %s").write_bytes(TEXT)
    with raw:
        assert raw.ask(b"HASH caf\xe9").endswith(" caf\xe9\r\n")
        assert raw.ask("HASH 100% %s") == f"213 SHA-256 0-15 {hashlib.sha256(TEXT).hexdigest()} 100% %s\r\n"


@pytest.mark.parametrize("name", ["nothing", "pub", "/", ".htaccess", ".git/config", "a.txt/x"])
def test_what_cannot_be_fetched_has_no_checksum(raw: Raw, name: str) -> None:
    with raw:
        raw.ask("TYPE I")
        for verb in ("HASH", "XSHA256", "XMD5", "XCRC"):
            assert raw.ask(f"{verb} {name}").startswith("550")
        assert raw.ask(f"SIZE {name}.sha256").startswith("550")
        raw.passive()
        assert raw.ask(f"RETR {name}.sha256").startswith("550")


def test_a_file_of_the_checksum_is_served_for_every_file_and_sha256sum_believes_it(raw: Raw, tmp_path: Path) -> None:
    with raw:
        raw.ask("TYPE I")
        content = raw.get("RETR pub/c.iso.sha256")
        assert raw.ask("SIZE pub/c.iso.sha256") == f"213 {len(content)}\r\n"
        assert b".sha256" not in raw.get("NLST pub")
        assert raw.ask("MDTM pub/c.iso.sha256").startswith("550")
        assert raw.ask("REST 60").startswith("350")
        assert raw.get("RETR pub/c.iso.sha256") == content[60:]
        assert raw.ask("SIZE pub/c.iso.sha256.sha256").startswith("550")
        raw.ask("TYPE A")
        assert raw.get("RETR pub/c.iso.sha256") == content[:-1] + b"\r\n"
        raw.ask("REST 1000")
        raw.passive()
        assert raw.ask("RETR pub/c.iso.sha256").startswith("554")
    (tmp_path / "sums").write_bytes(content)
    done = subprocess.run(["sha256sum", "-c", tmp_path / "sums"], cwd=tmp_path / "root/pub", capture_output=True)
    assert done.stdout == b"c.iso: OK\n"


def test_a_real_file_of_that_name_wins(served: Server, raw: Raw) -> None:
    (served.root / "a.txt.sha256").write_bytes(b"by hand")
    with raw:
        raw.ask("TYPE I")
        assert raw.get("RETR a.txt.sha256") == b"by hand"
        assert raw.ask("SIZE a.txt.sha256") == "213 7\r\n"
        (served.root / "a.txt.sha256").unlink()
        assert raw.get("RETR a.txt.sha256").endswith(b"  a.txt\n")


def test_a_changed_file_has_another_checksum_at_once(served: Server, raw: Raw) -> None:
    file = served.root / "a.txt"
    with raw:
        for content in (b"x", b"y", b"z" * 100):
            file.write_bytes(content)
            assert hashlib.sha256(content).hexdigest() in raw.ask("HASH a.txt")


def test_switched_off_there_is_none(tree: Path) -> None:
    with server(tree, settings(checksums={"enabled": False})) as running, running.raw() as raw:
        raw.ask("TYPE I")
        features = raw.ask("FEAT")
        assert "HASH" not in features and "XCRC" not in features
        assert raw.ask("HASH a.txt").startswith("502")
        assert raw.ask("OPTS HASH").startswith("501")
        assert raw.ask("SIZE a.txt.sha256").startswith("550")
        raw.passive()
        assert raw.ask("RETR a.txt.sha256").startswith("550")


@pytest.mark.parametrize(("size", "told"), [(99, True), (100, True), (101, False)])
def test_the_largest_file_that_is_read(tree: Path, size: int, told: bool) -> None:
    (tree / "file").write_bytes(b"x" * size)
    with server(tree, settings(checksums={"max_size": 100})) as running, running.raw() as raw:
        raw.ask("TYPE I")
        raw.passive()
        assert raw.ask("HASH file").startswith("213" if told else "550 Too large")
        assert raw.ask("XCRC file 1 99").startswith("250") or size < 99
        assert raw.ask("RETR file.sha256").startswith("150" if told else "550 Too large")


def huge(root: Path, name: str, size: int) -> None:
    with open(root / name, "wb") as file:
        file.truncate(size)


def test_others_are_answered_while_a_checksum_is_computed_and_the_queue_has_an_end(tree: Path) -> None:
    for number in range(4):
        huge(tree, f"huge{number}", 100 << 30)  # a minute at least
    turns = Turns()
    with server(tree, settings(checksums={"queue": 2, "max_size": 1 << 40}), before=turns.watch) as running:
        busy = [running.raw() for _ in range(4)]
        with running.raw() as other:
            for number, raw in enumerate(busy):
                raw.say(f"HASH huge{number}")
                assert other.ask("NOOP").startswith("200")  # the worker has seen the HASH when it answers
            assert busy[3].reply().startswith("450")
            for _ in range(100):
                assert other.ask("NOOP").startswith("200")
            assert other.ask("XCRC a.txt").startswith("450")  # so the others are computed, or wait, all the time
        for raw in busy:
            raw.close()  # and nobody waits any more
        with running.raw() as other:
            until(lambda: other.ask("XCRC a.txt").startswith("250"))
    assert turns.longest_s < 0.1


def test_abor_ends_the_wait_and_later_commands_run_in_order(tree: Path) -> None:
    huge(tree, "huge", 100 << 30)
    with (
        server(tree, settings(checksums={"max_size": 1 << 40})) as running,
        running.raw() as raw,
        running.raw() as other,
    ):
        raw.say("HASH huge")
        assert other.ask("NOOP").startswith("200")  # the worker has seen the HASH
        raw.say("NOOP")
        raw.say("ABOR")
        assert [raw.reply()[:3] for _ in range(3)] == ["426", "200", "226"]
        assert raw.ask("XCRC a.txt").startswith("250")


def test_abor_that_came_in_one_piece_with_what_it_is_to_end_is_not_left_lying(tree: Path) -> None:
    """A busy worker read HASH and ABOR at once, and looked for an ABOR only before there was anything to end."""
    huge(tree, "huge", 100 << 30)
    with server(tree, settings(checksums={"max_size": 1 << 40})) as running, running.raw() as raw:
        raw.sock.sendall(b"HASH huge\r\nNOOP\r\nHASH huge\r\nABOR\r\n")
        assert [raw.reply()[:3] for _ in range(4)] == ["426", "200", "426", "226"]
        assert raw.ask("XCRC a.txt").startswith("250")


def test_a_session_that_waits_for_a_checksum_is_not_idle(tree: Path) -> None:
    huge(tree, "huge", 100 << 30)
    config = settings(limits={"idle_timeout": 1.0}, checksums={"max_size": 1 << 40})
    with server(tree, config) as running, running.raw() as waits:
        waits.say("HASH huge")
        with running.raw() as idle:
            assert idle.reply().startswith("421 Idle")  # it has waited for longer than that
        waits.say("ABOR")
        assert waits.reply().startswith("426")
        assert waits.reply().startswith("226")
        assert waits.reply().startswith("421 Idle")


def test_the_checksum_of_a_big_file_arrives_over_the_data_connection(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("TYPE I")
        data = raw.passive()
        raw.say("RETR big.sha256")
        assert raw.reply().startswith("150")
        assert read_all(data) == hashlib.sha256((served.root / "big").read_bytes()).hexdigest().encode() + b"  big\n"
        assert raw.reply().startswith("226")
