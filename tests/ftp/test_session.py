"""ftp.session and ftp.handlers over a real control connection: verbs, order, bounds."""

from __future__ import annotations

import mmap
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.ftp import handlers, policy
from tests.ftp.conftest import BIG
from tests.ftp.serving import SECONDS, Server, Turns, read_all, server, settings, until


def test_the_greeting_is_the_banner_and_names_no_software(served: Server) -> None:
    with served.raw(log_in=False) as raw:
        assert raw.greeting == "220 Anonymous FTP ready.\r\n"
        everything = "".join(raw.ask(line) for line in ("HELP", "FEAT", "SYST", "STAT", "CLNT x", "HELP RETR"))
        assert "pyftpdlib" not in everything and "ython" not in everything


@pytest.mark.parametrize("user", ["anonymous", "ftp", "FTP", "Anonymous"])
def test_anonymous_and_ftp_log_in_with_any_password(served: Server, user: str) -> None:
    for password in ("", " a@b", " x" * 40):
        with served.raw(log_in=False) as raw:
            assert raw.ask(f"USER {user}").startswith("331")
            assert raw.ask(f"PASS{password}").startswith("230"), password
            assert raw.ask("PWD").startswith('257 "/"')


def test_the_password_is_logged_escaped_and_never_judged(served: Server) -> None:
    with served.raw(log_in=False) as raw:
        raw.ask("USER ftp")
        raw.ask(b'PASS a"\xffb')
        raw.ask("QUIT")
        until(lambda: r'password=a"\xffb' in served.worker.log_text())


def test_what_somebody_takes_for_a_password_of_an_account_stands_in_no_log(served: Server) -> None:
    with served.raw(log_in=False) as raw:
        for user in ("root", "admin"):
            raw.ask(f"USER {user}")
            assert raw.ask("PASS correct-horse").startswith("530")
        raw.ask("PASS correct-horse")  # without a user
        raw.ask("PASSWORD correct-horse")
        raw.ask("QUIT")
    until(lambda: "user admin" in served.worker.log_text() and "session client" in served.worker.log_text())
    assert "horse" not in served.worker.log_text()


def test_every_other_user_gets_the_same_530_after_the_same_delay(served: Server) -> None:
    replies = set()
    with served.raw(log_in=False) as raw:
        for user in ("root", "nobody-here"):
            replies.add((raw.ask(f"USER {user}"), raw.ask("PASS x")))
        assert len(replies) == 1
        assert replies.pop()[1].startswith("530")
        assert raw.ask("USER root").startswith("331")
        assert raw.ask("PASS x").startswith("530")
        assert raw.closed()


def test_a_wrong_log_in_delays_nobody_else(tree: Path) -> None:
    def slower() -> None:
        handlers._LOGIN_DELAY_S = 6.0

    with server(tree, before=slower) as running, running.raw(log_in=False) as slow, running.raw() as quick:
        slow.ask("USER root")
        slow.say("PASS x")
        for _ in range(50):
            assert quick.ask("NOOP").startswith("200")
        slow.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            slow.sock.recv(1)
        slow.sock.settimeout(SECONDS)
        assert slow.reply().startswith("530")


def test_verbs_that_need_a_login_say_so(served: Server) -> None:
    with served.raw(log_in=False) as raw:
        for line in ("RETR a.txt", "PASV", "PWD", "DELE a.txt", "STAT /", "TYPE I"):
            assert raw.ask(line).startswith("530"), line
        assert raw.ask("PASS x").startswith("503")


def test_walking_the_tree(served: Server) -> None:
    with served.raw() as raw:
        assert raw.ask("CWD pub/deep").startswith('250 "/pub/deep"')
        assert raw.ask("CDUP").startswith('250 "/pub"')
        assert raw.ask("XCUP").startswith('250 "/"')
        assert raw.ask("CWD /../../pub/./").startswith('250 "/pub"')
        assert raw.ask("XPWD").startswith('257 "/pub"')
        for missing in ("nowhere", "b.txt", "../.git", "../a.txt/", "x" * 300):
            assert raw.ask(f"CWD {missing}").startswith("550"), missing
        assert raw.ask("PWD").startswith('257 "/pub"')


def test_size_and_time_are_those_of_the_file(served: Server) -> None:
    with served.raw() as raw:
        assert raw.ask("SIZE a.txt").startswith("550")
        raw.ask("TYPE I")
        assert raw.ask("SIZE a.txt") == "213 15\r\n"
        assert len(raw.ask("MDTM a.txt")) == len("213 YYYYMMDDHHMMSS\r\n")
        for line in ("SIZE pub", "MDTM pub", "SIZE nothing", "SIZE .htaccess", "MDTM .git/config"):
            assert raw.ask(line).startswith("550"), line


def test_retr_sends_the_bytes(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("TYPE I")
        for name in ("big", "empty", "a.txt", "pub/b.txt", ".treeinfo"):
            assert raw.get(f"RETR {name}") == (served.root / name).read_bytes()
        assert raw.get("RETR ./pub/../a.txt") == (served.root / "a.txt").read_bytes()


def test_retr_in_type_a_makes_every_line_end_in_crlf(served: Server) -> None:
    with served.raw() as raw:
        assert raw.get("RETR a.txt") == b"one\r\ntwo\r\nthree\r\n"
        raw.ask("TYPE A N")
        assert raw.get("RETR big").replace(b"\r\n", b"\n") == (served.root / "big").read_bytes().replace(b"\r\n", b"\n")


def test_rest_continues_a_download_and_holds_for_one_command(served: Server) -> None:
    big = (served.root / "big").read_bytes()
    with served.raw() as raw:
        raw.ask("TYPE I")
        assert raw.ask("REST 1000000").startswith("350")
        assert raw.get("RETR big") == big[1000000:]
        assert raw.get("RETR big") == big
        raw.ask(f"REST {BIG}")
        assert raw.get("RETR big") == b""


def test_rest_before_a_refused_transfer_does_not_meet_the_next_one(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("TYPE I")
        for refused in ("RETR .git/config", "RETR missing", "STOR a.txt"):
            raw.ask("REST 4")
            raw.passive()
            assert raw.ask(refused).startswith("550")
            assert raw.get("RETR a.txt") == (served.root / "a.txt").read_bytes()


def test_rest_with_anything_but_a_number_is_refused(served: Server) -> None:
    with served.raw() as raw:
        for position in ("-1", "1_0", "x", "\u0661", "99999999999999999999", "9223372036854775808", " 1"):
            assert raw.ask(f"REST {position}").startswith("501"), position


def test_rest_beyond_the_end_or_in_type_a_is_refused_at_retr(served: Server) -> None:
    with served.raw() as raw:
        raw.passive()
        raw.ask("REST 1")
        assert raw.ask("RETR a.txt").startswith("554")
        raw.ask("TYPE I")
        raw.ask("REST 16")
        assert raw.ask("RETR a.txt").startswith("554")
        assert raw.ask("RETR a.txt").startswith("150")


def test_type_mode_and_stru(served: Server) -> None:
    with served.raw() as raw:
        for good in ("TYPE A", "TYPE A N", "TYPE a n", "TYPE I", "TYPE L 8", "MODE S", "STRU F"):
            assert raw.ask(good).startswith("200"), good
        for bad in ("TYPE E", "TYPE A T", "TYPE L 7 8", "MODE B", "MODE C", "STRU P", "STRU R"):
            assert raw.ask(bad)[:1] == "5", bad


def test_features_are_those_that_work(served: Server) -> None:
    with served.raw() as raw:
        text = raw.ask("FEAT")
        for feature in (
            "EPSV",
            "EPRT",
            "MDTM",
            "SIZE",
            "REST STREAM",
            "TVFS",
            "UTF8",
            "MLST type*;perm*;size*;modify*;",
        ):
            assert f" {feature}" in text
        for absent in ("MFMT", "AUTH", "MKD", "STOU"):
            assert absent not in text
        assert raw.ask("OPTS UTF8 ON").startswith("200")
        assert raw.ask("OPTS MLST size;nonsense;type;") == "200 MLST OPTS size;type;\r\n"
        assert raw.ask("MLST a.txt").splitlines()[1] == " size=15;type=file; /a.txt"
        assert raw.ask("OPTS HASH x").startswith("501")


def test_opts_mlst_takes_each_fact_once_so_that_lines_do_not_grow_with_the_command(served: Server) -> None:
    with served.raw() as raw:
        assert raw.ask("OPTS MLST " + "size;Type;SIZE;" * 200) == "200 MLST OPTS size;type;\r\n"
        assert raw.ask("MLST a.txt").splitlines()[1] == " size=15;type=file; /a.txt"


def test_opts_mlst_of_no_facts_is_answered_without_a_space_at_the_end(served: Server) -> None:
    with served.raw() as raw:
        for line in ("OPTS MLST", "OPTS MLST nonsense;"):  # RFC 3659 section 7.9: a space comes only before facts
            assert raw.ask(line) == "200 MLST OPTS\r\n"
            assert raw.ask("MLST a.txt").splitlines()[1] == "  /a.txt"


@pytest.mark.parametrize("line", ["OPTS MLST type", "OPTS MLST type; size;", "OPTS <b>x</b>", "OPTS HASH"])
def test_opts_that_are_not_understood_are_501_and_no_word_of_them_comes_back(tree: Path, line: str) -> None:
    with server(tree, settings(checksums={"enabled": False})) as running, running.raw() as raw:
        answer = raw.ask(line)
        assert answer.startswith("501") and "<b>" not in answer
        assert " type=" in raw.ask("MLST a.txt")


def test_help_tells_how_verbs_are_written_that_pyftpdlib_does_not_know(served: Server) -> None:
    with served.raw(log_in=False) as raw:
        for verb in ("HASH", "XCRC", "HOST", "AUTH", "PROT"):
            assert raw.ask(f"HELP {verb}").startswith(f"214 Syntax: {verb} <SP> ")


def test_listings_tell_names_sizes_and_constant_owners(served: Server) -> None:
    with served.raw() as raw:
        lines = raw.get("LIST").splitlines()
        assert [line.split()[-1] for line in lines] == [b".treeinfo", b"a.txt", b"big", b"caf\xe9", b"empty", b"pub"]
        assert all(line.split()[2:4] == [b"ftp", b"ftp"] for line in lines)
        assert raw.get("LIST -la pub") == raw.get("LIST pub")
        assert raw.get("LIST a.txt").endswith(b" a.txt\r\n")
        assert raw.get("NLST") == b".treeinfo\r\na.txt\r\nbig\r\ncaf\xe9\r\nempty\r\npub\r\n"
        facts = raw.get("MLSD pub").splitlines()
        assert [line.split(b" ")[1] for line in facts] == [b"b.txt", b"c.iso", b"deep"]
        assert b"type=file;perm=r;size=5000;" in facts[1]
        assert raw.get("MLSD pub/deep") == raw.get("LIST pub/deep") == b""


def test_names_of_nlst_serve_as_arguments_of_retr(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("TYPE I")
        for typed in ("pub", "pub/", "/pub", "pub/*.txt", "./pub/b*", "pub/b.txt"):
            first = raw.get(f"NLST {typed}").splitlines()[0]
            assert raw.get(b"RETR " + first) == b"b\n", typed


def test_globs_match_in_the_last_part_and_hidden_names_never(served: Server) -> None:
    with served.raw() as raw:
        assert raw.get("NLST *.txt") == b"a.txt\r\n"
        assert raw.get("NLST pub/[bc].*") == b"pub/b.txt\r\npub/c.iso\r\n"
        assert raw.get("NLST .h*") == raw.get("NLST .g*") == raw.get("NLST zz*") == b""
        assert raw.get("LIST pub/?.iso").endswith(b" c.iso\r\n")
        assert "c.iso" in raw.ask("STAT pub/*.iso") and "b.txt" not in raw.ask("STAT pub/*.iso")


def test_a_refused_listing_leaves_the_data_connection_for_the_next(served: Server) -> None:
    with served.raw() as raw:
        data = raw.passive()
        assert raw.ask("LIST nowhere").startswith("550")
        assert raw.ask("MLSD a.txt").startswith("501")
        assert raw.ask("LIST .git").startswith("550")
        assert raw.ask("NLST pub").startswith("150")
        assert b"b.txt" in read_all(data)


def test_hidden_names_exist_for_no_verb(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("TYPE I")
        for line in (
            "SIZE .htaccess",
            "MDTM .htaccess",
            "MLST .git",
            "CWD .git",
            "STAT .git",
            "SIZE pub/../.git/config",
        ):
            assert raw.ask(line).startswith("550"), line
        assert b".git" not in raw.get("LIST -a") and b".ht" not in raw.get("MLSD")


def test_names_that_are_not_utf8_survive_the_round_trip(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("TYPE I")
        assert raw.get(b"RETR caf\xe9") == b"latin\n"
        assert raw.ask(b"SIZE caf\xe9") == "213 6\r\n"
        assert raw.get(b"NLST caf*") == b"caf\xe9\r\n"
        assert "caf\xe9" in raw.ask(b"MLST caf\xe9")


def test_a_name_with_a_byte_255_is_found_doubled_as_lftp_sends_it_and_as_it_is(served: Server) -> None:
    with open(bytes(served.root) + b"/\xff\xfe.txt", "wb") as file:
        file.write(b"both\n")
    with served.raw() as raw:
        raw.ask("TYPE I")
        assert raw.get(b"RETR \xff\xfe.txt") == raw.get(b"RETR \xff\xff\xfe.txt") == b"both\n"
        assert raw.ask(b"XCRC \xff\xff\xfe.txt") == raw.ask(b"XCRC \xff\xfe.txt")


def test_a_name_that_would_forge_a_line_is_not_listed(served: Server) -> None:
    (served.root / "pub" / "x\r\ny").touch()
    with served.raw() as raw:
        assert raw.get("NLST pub").count(b"\r\n") == raw.get("LIST pub").count(b"\r\n") == 3


@pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\x1b", b"\x7f"])
def test_a_control_byte_in_an_argument_is_501_and_the_session_lives(served: Server, byte: bytes) -> None:
    with served.raw() as raw:
        for verb in (b"RETR ", b"CWD ", b"SIZE ", b"USER ", b"LIST "):
            assert raw.ask(verb + b"a" + byte + b"b").startswith("501")
        assert raw.ask("NOOP").startswith("200")


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "POST /x HTTP/1.0", "HEAD /", "PUT /a", "OPTIONS * HTTP/1.1"])
def test_a_verb_of_http_drops_the_connection_without_a_word(served: Server, line: str) -> None:
    with served.raw(log_in=False) as raw:
        raw.sock.sendall(line.encode() + b"\r\nHost: x\r\nUSER anonymous\r\n\r\n")
        assert raw.closed()
    assert until(lambda: served.worker.counters()["dropped"]) == 1


def test_an_endless_line_is_500_once_and_the_session_lives(served: Server) -> None:
    with served.raw() as raw:
        raw.sock.sendall(b"RETR " + b"x" * 300_000 + b"\r\n")
        assert raw.reply() == "500 Command too long.\r\n"
        assert raw.ask("NOOP").startswith("200")
        assert raw.ask("CWD " + "y" * 4080).startswith("550")
        assert raw.ask("CWD " + "y" * 4100).startswith("500")
        assert raw.ask("NOOP").startswith("200")


def test_pipelined_commands_are_answered_in_order_in_few_segments(served: Server) -> None:
    with served.raw() as raw:
        raw.sock.sendall(b"PWD\r\nCWD /pub\r\nPWD\r\nSYST\n" * 100)
        replies = [raw.reply()[:3] for _ in range(400)]
        assert replies == ["257", "250", "257", "215"] * 100


def test_a_client_that_reads_no_replies_is_held_back(served: Server) -> None:
    with served.raw() as raw, served.raw() as other:
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            raw.sock.sendall(b"HELP\r\n" * (10 << 20))
        assert other.ask("NOOP").startswith("200")


def test_commands_after_a_transfer_wait_for_its_end(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("TYPE I")
        data = raw.passive()
        raw.sock.sendall(b"RETR big\r\nCWD pub\r\nPWD\r\nNOOP\r\nQUIT\r\n")
        assert raw.reply().startswith("150")
        assert len(read_all(data)) == BIG
        assert [raw.reply()[:3] for _ in range(5)] == ["226", "250", "257", "200", "221"]
        assert raw.closed()


def test_noop_and_stat_are_answered_during_a_transfer(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("TYPE I")
        data = raw.passive()
        with open(served.root / "huge", "wb") as huge:
            huge.truncate(1 << 30)
        assert raw.ask("RETR huge").startswith("150")
        assert raw.ask("NOOP").startswith("200")
        assert "RETR: " in raw.ask("STAT")
        data.close()
        assert raw.reply().startswith("426")


def test_stat_of_a_path_waits_for_the_transfer_whose_226_would_stand_among_its_lines(served: Server) -> None:
    with served.raw() as raw:
        data = raw.fetch_huge(served.root)
        raw.say(b"STAT pub\r\nSTAT")
        data.close()
        assert raw.reply().startswith("426")
        listed = raw.reply()
        assert listed.startswith("213-") and "b.txt" in listed and "426" not in listed
        assert raw.reply().startswith("211-")


def test_abor_ends_a_transfer_with_426_and_226(served: Server) -> None:
    with served.raw() as raw:
        data = raw.fetch_huge(served.root)
        raw.sock.sendall(b"\xff\xf4")
        raw.sock.send(b"\xff", socket.MSG_OOB)
        raw.sock.sendall(b"\xf2ABOR\r\n")
        assert [raw.reply()[:3], raw.reply()[:3]] == ["426", "226"]
        assert len(read_all(data)) < 1 << 30
        assert raw.ask("ABOR").startswith("226")
        assert raw.get("RETR a.txt") == (served.root / "a.txt").read_bytes()


def test_abor_overtakes_commands_that_wait(served: Server) -> None:
    with served.raw() as raw:
        data = raw.fetch_huge(served.root)
        raw.sock.sendall(b"PWD\r\nABOR\r\n")
        assert [raw.reply()[:3] for _ in range(3)] == ["426", "257", "226"]
        data.close()


def test_abor_before_the_data_connection_ends_the_wait(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("EPSV")
        assert raw.ask("RETR a.txt").startswith("150")
        raw.say("ABOR")
        assert [raw.reply()[:3], raw.reply()[:3]] == ["426", "226"]
        assert raw.ask("RETR a.txt").startswith("425")


def test_rein_sets_everything_back(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("TYPE I")
        raw.ask("CWD pub")
        raw.ask("EPSV ALL")
        raw.ask("EPSV")
        raw.ask("REST 3")
        raw.ask("OPTS MLST size;")
        assert raw.ask("REIN").startswith("220")
        assert raw.ask("PWD").startswith("530")
        raw.ask("USER ftp")
        raw.ask("PASS x")
        assert raw.ask("PWD").startswith('257 "/"')
        assert "TYPE A" in raw.ask("STAT")
        assert raw.ask("RETR a.txt").startswith("425")
        assert "modify=" in raw.ask("MLST /")
        assert raw.ask("PASV").startswith("227")
        assert raw.get("RETR a.txt").startswith(b"one")


def test_user_again_logs_out(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("CWD pub")
        assert raw.ask("PASS x").startswith("503")
        assert raw.ask("USER ftp").startswith("331")
        assert raw.ask("PWD").startswith("530")


def test_quotes_in_a_path_are_doubled(served: Server) -> None:
    (served.root / 'a"b').mkdir()
    with served.raw() as raw:
        assert raw.ask('CWD a"b').startswith('250 "/a""b"')
        assert raw.ask("PWD").startswith('257 "/a""b"')


def test_writing_verbs_are_refused_by_one_text_and_write_nothing(served: Server) -> None:
    before = sorted(served.root.rglob("*"))
    with served.raw() as raw:
        raw.passive()
        lines = ["APPE a.txt", "STOU", "STOR new", "DELE a.txt", "RNFR a.txt", "RNTO b", "MKD d", "XMKD d", "RMD pub"]
        lines += [
            "XRMD pub",
            "SITE CHMOD 777 a.txt",
            "SITE HELP",
            "MFMT 20200101000000 a.txt",
            "SMNT /",
            "DELE nowhere",
        ]
        assert {raw.ask(line) for line in lines} == {"550 Permission denied.\r\n"}
    assert sorted(served.root.rglob("*")) == before


def test_a_listing_over_the_control_connection_arrives_whole(served: Server) -> None:
    folder = served.root / "many"
    folder.mkdir()
    for number in range(3000):
        (folder / f"file-{number:05}-{'n' * 100}").touch()
    with served.raw() as raw:
        raw.say("STAT many")
        raw.say("NOOP")
        assert raw.reply().count("file-") == 3000
        assert raw.reply().startswith("200")


def test_a_handler_that_raises_costs_its_session_and_nobody_elses(tree: Path) -> None:
    from appliance.ftp import handlers

    def bug(_self: object, _argument: str) -> None:
        raise RuntimeError("planted")

    def plant() -> None:
        handlers.Handler.ftp_SYST = bug

    with server(tree, before=plant) as running:
        with running.raw() as other, running.raw() as raw:
            assert raw.ask("SYST").startswith("421")
            assert raw.closed()
            assert other.ask("NOOP").startswith("200")
        assert running.worker.counters()["crashes"] == 1
        assert running.worker.log_text().count("RuntimeError: planted") == 1


def test_each_transfer_and_session_is_one_line_with_the_address_first(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("TYPE I")
        raw.get("RETR pub/c.iso")
        raw.ask("QUIT")
    until(lambda: "session client=127.0.0.1" in served.worker.log_text())
    text = served.worker.log_text()
    assert "transfer client=127.0.0.1 verb=RETR path=/pub/c.iso bytes=5000 seconds=" in text
    assert "files=1 bytes=5000" in text
    assert len(text.splitlines()) == 2


def test_a_path_with_hostile_bytes_is_escaped_in_the_log(served: Server) -> None:
    with open(str(served.root).encode() + b"/x\x1b[2J\xff", "wb"):
        pass
    with served.raw() as raw:
        raw.ask("TYPE I")
        assert raw.ask(b"SIZE x\x1b[2J\xff").startswith("501")
        assert raw.get(b"RETR caf\xe9") == b"latin\n"
    until(lambda: r"path=/caf\xe9" in served.worker.log_text())


def test_a_busy_client_does_not_starve_another(served: Server) -> None:
    with served.raw() as greedy, served.raw() as modest:
        greedy.sock.sendall(b"NOOP\r\n" * 20_000)
        assert modest.ask("PWD").startswith("257")
        assert all(greedy.reply().startswith("200") for _ in range(20_000))


def test_the_control_connection_works_over_ipv6(tree: Path) -> None:
    with server(tree, family=socket.AF_INET6, host="::1") as running, running.raw() as raw:
        raw.ask("TYPE I")
        assert raw.get("RETR a.txt") == (tree / "a.txt").read_bytes()
        assert raw.ask("EPSV 1").startswith("522")
        assert raw.ask("EPSV 2").startswith("229")
        assert raw.ask("PASV").startswith("522")
        assert raw.ask("EPRT |1|127.0.0.1|2000|").startswith("522")


def test_commands_that_came_before_the_client_closed_its_side_are_all_answered(served: Server) -> None:
    with served.raw() as raw:
        raw.sock.sendall(b"NOOP\r\n" * 2000 + b"STAT pub\r\nPWD")  # what is no whole line is no command
        raw.sock.shutdown(socket.SHUT_WR)
        assert [raw.reply() for _ in range(2000)] == ["200 Ok.\r\n"] * 2000
        assert raw.reply().endswith("213 End of status.\r\n")
        assert raw.closed()
    until(lambda: served.worker.counters()["active"] == 0)


def test_a_client_that_closed_its_side_waits_for_no_transfer_and_no_checksum(served: Server) -> None:
    with open(served.root / "huge", "wb") as huge:
        huge.truncate(1 << 30)
    for line in (b"RETR huge", b"HASH huge"):
        with served.raw() as raw:
            raw.passive()
            raw.sock.sendall(line + b"\r\nPWD\r\n")
            raw.sock.shutdown(socket.SHUT_WR)
            assert "257" not in raw.reply() + raw.reply()
        until(lambda: served.worker.counters()["active"] == served.worker.counters()["under_way"] == 0)


def test_a_session_ends_when_the_client_goes_away(served: Server) -> None:
    raw = served.raw()
    until(lambda: served.worker.counters()["active"] == 1)
    raw.close()
    until(lambda: served.worker.counters()["active"] == 0)


def test_a_banner_of_the_operators_own(tree: Path) -> None:
    with server(tree, settings(banner="Welcome to the mirror.")) as running, running.raw(log_in=False) as raw:
        assert raw.greeting == "220 Welcome to the mirror.\r\n"


def test_what_installers_ask_for_is_served_in_spite_of_its_dot(served: Server) -> None:
    (served.root / ".disk").mkdir()
    (served.root / ".disk" / "info").write_bytes(b"a disk\n")
    with served.raw() as raw:
        raw.ask("TYPE I")
        assert raw.get("RETR .treeinfo") == b"[general]\n"
        assert raw.get("RETR .disk/info") == b"a disk\n"
        assert raw.ask("SIZE .disk/info") == "213 7\r\n"
        for hidden in (".htaccess", ".git/config", ".ftpaccess", ".ssh/id"):
            raw.passive()
            assert raw.ask(f"RETR {hidden}").startswith("550")


def test_expensive_commands_of_one_client_leave_the_others_their_turn(tree: Path) -> None:
    decided = mmap.mmap(-1, 1)  # CLNTs in all

    def slow() -> None:
        inner = policy.decide

        def decide(*words: Any) -> Any:
            if words[0].verb == "CLNT":
                decided[0] += 1
                until = time.thread_time() + 0.01
                while time.thread_time() < until:
                    pass
            return inner(*words)

        policy.decide = decide

    turns = Turns()
    with server(tree, before=lambda: (slow(), turns.watch())) as running, running.raw() as busy, running.raw() as other:
        busy.sock.sendall(b"".join(b"CLNT %d\r\n" % number for number in range(200)))  # none is remembered
        assert busy.reply().startswith("200")
        between = []
        for _ in range(20):
            before = decided[0]
            assert other.ask("NOOP").startswith("200")
            between.append(decided[0] - before)
        assert min(between) < 16, between  # one; a turn of 32 of them would be 32, and a busy machine adds some
        assert [busy.reply()[:3] for _ in range(199)] == ["200"] * 199
    assert 0.01 <= turns.longest_s < 0.2, turns.longest_s  # 0.32 s


def test_what_follows_an_expensive_command_is_not_forgotten_when_that_began_a_transfer(tree: Path) -> None:
    def slow() -> None:
        inner = policy.decide

        def decide(*words: Any) -> Any:
            time.sleep(0.01 if words[0].verb == "RETR" else 0)
            return inner(*words)

        policy.decide = decide

    with server(tree, before=slow) as running, running.raw() as raw:
        raw.ask("EPSV")
        raw.sock.sendall(b"RETR big\r\nNOOP\r\nABOR\r\n")  # in one segment; nobody connects to the data port
        assert [raw.reply()[:3] for _ in range(4)] in (
            ["150", "200", "426", "226"],
            ["150", "426", "200", "226"],
        )
