"""`appliance incoming` on a real drop box, without a running appliance."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import syslog
from pathlib import Path

import pytest

from appliance.custody import marks
from tests.cli.conftest import PROGRAM, Call


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What goes to the system's log."""
    lines: list[str] = []
    monkeypatch.setattr(syslog, "syslog", lambda _priority, line: lines.append(line))
    return lines


@pytest.fixture
def tree(tmp_path: Path, config: Path) -> Path:
    """A service root with an empty box; the configuration knows it."""
    root = tmp_path / "tree"
    root.mkdir(mode=0o755)
    (root / "incoming").mkdir(mode=0o700)
    configured(config, tmp_path)
    return root


def configured(config: Path, home: Path, scan: str = "null") -> None:
    text = f"run_dir: {home}/run\nstate_dir: {home}/state\nftp:\n  root: {home}/tree\n"
    config.write_text(f"{text}  incoming:\n    enabled: true\n    scan: {scan}\n")


def put(tree: Path, name: bytes | str, content: bytes, age_s: float = 0.0) -> Path:
    path = tree / "incoming" / os.fsdecode(name)
    path.write_bytes(content)
    with path.open("rb+") as file:
        marks.write(file.fileno(), "192.0.2.7")
    stamp = 1_700_000_000 - age_s
    os.utime(path, (stamp, stamp))
    return path


def scanner(tmp_path: Path, script: str) -> str:
    path = tmp_path / "scanner.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    return json.dumps({"command": ["/bin/sh", "-c", script], "timeout": "20s"})


def test_the_list_shows_when_size_who_and_name_the_oldest_first(call: Call, config: Path, tree: Path) -> None:
    put(tree, "b.txt", b"12345")
    put(tree, b"caf\xe9\n\x1b[31m\\", b"", age_s=60)
    put(tree, ".up-123", b"under way")
    said = call("incoming", "list", "-c", config)
    assert said.code == 0
    assert said.out.splitlines() == [
        r"2023-11-14T22:12:20Z      0 bytes  192.0.2.7        -         caf\xe9\x0a\x1b[31m\x5c",
        "2023-11-14T22:13:20Z      5 bytes  192.0.2.7        -         b.txt",
    ]
    document = call("incoming", "list", "-c", config, "--json").json()
    assert document["complete"] is True
    assert document["uploads"][1] == {
        "name": "b.txt", "client": "192.0.2.7", "bytes": 5, "stored": "2023-11-14T22:13:20Z",
        "sha256": None, "verdict": None, "judged": None}  # fmt: skip


def test_an_empty_box_says_so(call: Call, config: Path, tree: Path) -> None:
    assert call("incoming", "list", "-c", config).out == "nothing waits in the drop box\n"


def test_a_time_beyond_every_calendar_is_shown_all_the_same(call: Call, config: Path, tree: Path) -> None:
    path = put(tree, "a", b"")
    for seconds in (-(1 << 40), 1 << 33, 1 << 34):
        os.utime(path, (seconds, seconds))
        assert call("incoming", "list", "-c", config).out.endswith("  a\n")


def test_a_reader_that_leaves_ends_the_list_quietly(config: Path, tree: Path) -> None:
    for number in range(2000):
        (tree / "incoming" / f"{number:04}").touch()
    argv = [*PROGRAM, "incoming", "list", "-c", str(config)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().endswith(b"  0000\n")
        process.stdout.close()
        assert process.stderr.read() == f"configuration: {config}\n".encode()
        assert process.wait(30) == 1


def test_show_tells_the_digest_and_takes_the_name_as_it_is_shown(call: Call, config: Path, tree: Path) -> None:
    put(tree, b"caf\xe9", b"content")
    said = call("incoming", "show", r"caf\xe9", "-c", config)
    assert said.code == 0
    assert said.out.startswith("name:    caf\\xe9\nclient:  192.0.2.7\nbytes:   7\nstored:  2023-11-14T22:13:20Z\n")
    assert "sha256:  " + hashlib.sha256(b"content").hexdigest() in said.out.splitlines()
    assert call("incoming", "show", r"caf\xe9", "-c", config, "--json").json()["bytes"] == 7


def test_a_release_prints_a_line_for_sha256sum(call: Call, config: Path, tree: Path, logged: list[str]) -> None:
    put(tree, "a.txt", b"content")
    said = call("incoming", "release", "a.txt", "-c", config)
    digest = hashlib.sha256(b"content").hexdigest()
    assert (said.code, said.out) == (0, f"{digest}  released/a.txt\n")
    done = subprocess.run(["sha256sum", "-c"], input=said.out, text=True, cwd=tree, capture_output=True, check=False)
    assert done.stdout == "released/a.txt: OK\n"
    assert os.listdir(tree / "incoming") == []
    assert logged == [
        'incoming: released name="a.txt" client="192.0.2.7" bytes="7" stored="2023-11-14T22:13:20Z" '
        f'sha256="{digest}" to="released/a.txt" verdict="unscanned"'
    ]


def test_a_release_under_another_name_and_over_one_that_exists(
    call: Call, config: Path, tree: Path, logged: list[str]
) -> None:
    put(tree, "a", b"one")
    assert call("incoming", "release", "a", "--to", "sub/b.txt", "-c", config).code == 0
    put(tree, "a", b"two")
    said = call("incoming", "release", "a", "--to", "sub/b.txt", "-c", config)
    assert said.code == 1
    assert said.err.endswith("appliance: released/sub/b.txt exists (--to another name, or --replace)\n")
    said = call("incoming", "release", "a", "--to", "sub/b.txt", "--replace", "--json", "-c", config)
    assert said.json()["released"] is True and said.json()["verdict"] == {"kind": "unscanned", "text": ""}
    assert (tree / "released" / "sub" / "b.txt").read_bytes() == b"two"
    assert len(logged) == 2


@pytest.mark.parametrize("to", ["../x", "/etc/x", ".ht", "a/../../b", ""])
def test_a_target_outside_the_tree_is_refused(call: Call, config: Path, tree: Path, to: str) -> None:
    put(tree, "a", b"")
    said = call("incoming", "release", "a", "--to", to, "-c", config)
    assert said.code == 1 and "is no fit name for a released file" in said.err
    assert not (tree / "released").exists()


def test_a_name_that_the_custodian_would_refuse_is_not_released_as_it_is(call: Call, config: Path, tree: Path) -> None:
    put(tree, "-rf", b"")
    assert call("incoming", "release", "-c", config, "--", "-rf").code == 1
    assert call("incoming", "release", "-c", config, "--to", "rf", "--", "-rf").code == 0


def test_an_infected_upload_is_held_and_its_words_are_escaped(
    call: Call, config: Path, tree: Path, tmp_path: Path, logged: list[str]
) -> None:
    configured(config, tmp_path, scanner(tmp_path, r"cat >&2; printf '\033[31mFOUND\n'; exit 1"))
    put(tree, "a", b"EICAR\x1b")
    said = call("incoming", "release", "a", "-c", config)
    assert (said.code, said.out) == (1, "")
    assert said.err.endswith("appliance: a is held: infected: EICAR\\x1b\\x1b[31mFOUND\n")
    assert logged[0].startswith("incoming: held") and 'verdict="infected: ' in logged[0]
    assert os.listdir(tree / "incoming") == ["a"] and os.listdir(tree / "released") == []
    document = call("incoming", "release", "a", "-c", config, "--json").json()
    assert document["released"] is False and document["verdict"]["kind"] == "infected"


def test_a_scanner_that_is_down_means_held(call: Call, config: Path, tree: Path, tmp_path: Path) -> None:
    put(tree, "a", b"content")
    for scan in (f"{{clamd: {tmp_path}/none}}", "{command: [/nonexistent/scanner]}"):
        configured(config, tmp_path, scan)
        said = call("incoming", "release", "a", "-c", config)
        assert said.code == 1 and "a is held: error: " in said.err
    assert os.listdir(tree / "incoming") == ["a"]


def test_a_clean_upload_is_released_and_show_can_ask_before(
    call: Call, config: Path, tree: Path, tmp_path: Path, logged: list[str]
) -> None:
    put(tree, "a", b"content")
    assert "there is no scanner (ftp.incoming.scan)" in call("incoming", "show", "a", "--scan", "-c", config).err
    configured(config, tmp_path, scanner(tmp_path, "wc -c"))
    assert call("incoming", "show", "a", "--scan", "-c", config).out.splitlines()[-2] == "verdict: clean: 7"
    assert call("incoming", "release", "a", "-c", config).code == 0
    assert logged[0].endswith('verdict="clean: 7"')


def test_a_verdict_is_shown_as_long_as_the_upload_is_what_was_looked_at(
    call: Call, config: Path, tree: Path, tmp_path: Path
) -> None:
    configured(config, tmp_path, scanner(tmp_path, "grep -q EICAR && exit 1; exit 0"))
    (tmp_path / "state").mkdir()
    put(tree, "a", b"EICAR")
    put(tree, "b", b"good")
    assert [line.split()[-2] for line in call("incoming", "list", "-c", config).out.splitlines()] == ["-", "-"]
    assert call("incoming", "release", "a", "-c", config).code == 1
    assert [line.split()[-2:] for line in call("incoming", "list", "-c", config).out.splitlines()] == [
        ["infected", "a"], ["-", "b"]]  # fmt: skip
    shown = call("incoming", "show", "a", "-c", config, "--json").json()
    assert shown["verdict"]["kind"] == "infected" and shown["judged"].endswith("Z")
    first, second = call("incoming", "list", "--scan", "-c", config, "--json").json()["uploads"]
    assert (first["verdict"]["kind"], second["verdict"]["kind"]) == ("infected", "clean")
    assert second["sha256"] == hashlib.sha256(b"good").hexdigest()
    (tree / "incoming" / "b").write_bytes(b"evil")  # whatever happens to it makes it unknown again
    put(tree, "a", b"x")
    assert {line.split()[-2] for line in call("incoming", "list", "-c", config).out.splitlines()} == {"-"}
    assert "verdict" not in call("incoming", "show", "a", "-c", config, "--json").json()


def test_verdicts_of_uploads_that_are_gone_are_forgotten(call: Call, config: Path, tree: Path, tmp_path: Path) -> None:
    configured(config, tmp_path, scanner(tmp_path, "cat > /dev/null"))
    (tmp_path / "state").mkdir()
    for name in ("a", "b"):
        put(tree, name, name.encode())
    call("incoming", "list", "--scan", "-c", config)
    (tree / "incoming" / "a").unlink()
    call("incoming", "show", "b", "--scan", "-c", config)
    kept = json.loads((tmp_path / "state" / "incoming-verdicts.json").read_text())["verdicts"]
    assert [one["sha256"] for one in kept.values()] == [hashlib.sha256(b"b").hexdigest()]
    assert (tmp_path / "state" / "incoming-verdicts.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"verdicts": {"a": {}}}', '{"verdicts": 5}'])
def test_verdicts_that_cannot_be_read_are_none_and_a_folder_that_is_not_there_costs_only_them(
    call: Call, config: Path, tree: Path, tmp_path: Path, damage: str
) -> None:
    configured(config, tmp_path, scanner(tmp_path, "cat > /dev/null"))
    put(tree, "a", b"x")
    said = call("incoming", "show", "a", "--scan", "-c", config)
    assert said.code == 0 and "the verdict is not kept: No such file or directory (state_dir)" in said.err
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "incoming-verdicts.json").write_text(damage)
    assert call("incoming", "list", "-c", config).out.split()[-2:] == ["-", "a"]
    assert call("incoming", "list", "--scan", "-c", config).out.split()[-2:] == ["clean", "a"]
    assert call("incoming", "list", "-c", config).out.split()[-2:] == ["clean", "a"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an ordinary user's scanner is that user")
def test_a_scanner_account_that_is_missing_is_told(call: Call, config: Path, tree: Path, tmp_path: Path) -> None:
    configured(config, tmp_path, "{command: [/bin/true], user: nonsuch}")
    put(tree, "a", b"")
    said = call("incoming", "release", "a", "-c", config)
    assert said.code == 1 and "the account nonsuch of ftp.incoming.scan.user does not exist" in said.err


def test_a_rejected_upload_is_gone_and_the_log_says_why(
    call: Call, config: Path, tree: Path, logged: list[str]
) -> None:
    put(tree, "a", b"content")
    said = call("incoming", "reject", "a", "--reason", 'no "programs"\n', "-c", config)
    assert (said.code, said.out) == (0, "removed 2023-11-14T22:13:20Z      7 bytes  192.0.2.7        -         a\n")
    assert os.listdir(tree / "incoming") == []
    assert hashlib.sha256(b"content").hexdigest() in logged[0]
    assert logged[0].endswith(r'reason="no \x22programs\x22\x0a"')
    assert call("incoming", "reject", "a", "-c", config).code == 1


def test_a_purge_takes_the_old_ones(call: Call, config: Path, tree: Path, logged: list[str]) -> None:
    put(tree, "old", b"123")
    os.utime(put(tree, "new", b""))
    (tree / "incoming" / ".up-1").touch()
    said = call("incoming", "purge", "--older-than", "30d", "--yes", "-c", config)
    assert (said.code, said.out) == (0, "removed 1 upload, 3 bytes\n")
    assert sorted(os.listdir(tree / "incoming")) == [".up-1", "new"]
    said = call("incoming", "purge", "--all", "--yes", "--json", "-c", config)
    assert [entry["name"] for entry in said.json()["removed"]] == ["new"]
    assert len(logged) == 2
    assert call("incoming", "purge", "--all", "-c", config).out == "removed 0 uploads, 0 bytes\n"


def test_a_purge_asks_on_a_terminal_and_refuses_without_one(
    call: Call, config: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tree, "a", b"123")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    said = call("incoming", "purge", "--all", "-c", config)
    assert said.code == 1 and "1 upload would be removed, and there is no terminal to ask on (--yes)" in said.err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda _text, err: False)
    said = call("incoming", "purge", "--all", "-c", config)
    assert said.code == 1 and said.err.endswith("appliance: nothing was removed\n")
    assert os.listdir(tree / "incoming") == ["a"]
    monkeypatch.setattr("typer.confirm", lambda _text, err: True)
    assert call("incoming", "purge", "--all", "-c", config).code == 0
    assert os.listdir(tree / "incoming") == []


@pytest.mark.parametrize("words", [(), ("--all", "--older-than", "1d"), ("--older-than", "30"), ("--older-than", "x")])
def test_a_purge_that_is_not_clear_is_a_usage_error(
    call: Call, config: Path, tree: Path, words: tuple[str, ...]
) -> None:
    put(tree, "a", b"")
    assert call("incoming", "purge", *words, "--yes", "-c", config).code == 2
    assert os.listdir(tree / "incoming") == ["a"]


def test_a_box_that_is_not_there_or_not_the_custodians_is_told(call: Call, config: Path, tree: Path) -> None:
    (tree / "incoming").chmod(0o777)
    assert "the folder incoming can be written by others" in call("incoming", "list", "-c", config).err
    (tree / "incoming").rmdir()
    said = call("incoming", "list", "-c", config)
    assert said.code == 1 and "cannot use the folder incoming: No such file or directory" in said.err


def test_a_broken_configuration_is_exit_code_2(call: Call, config: Path) -> None:
    config.write_text("ftp: {incoming: {scan: {comand: [/bin/true]}}}\n")
    said = call("incoming", "list", "-c", config)
    assert said.code == 2
    assert "ftp.incoming.scan.comand: unknown key (did you mean command?)" in said.err
