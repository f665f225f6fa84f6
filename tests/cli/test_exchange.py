from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM, Call, facts, status_server
from tests.cli.servers import ftp_server, tftp_server


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the servers serve; the working directory is another, empty one."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "x.txt").write_bytes(b"content\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "served"


def test_get_keeps_the_name_and_tells_what_happened(call: Call, tree: Path) -> None:
    with tftp_server(tree) as port:
        said = call("get", f"tftp://127.0.0.1:{port}/x.txt")
    assert said.code == 0
    assert said.out.startswith(f"tftp://127.0.0.1:{port}/x.txt: 8 bytes in 0.")
    assert said.out.endswith("/s (blksize 1428, tsize 8)\n")
    assert Path("x.txt").read_bytes() == b"content\n"
    assert said.err == ""


def test_get_json_has_every_fact(call: Call, tree: Path) -> None:
    with ftp_server(tree) as port:
        url = f"ftp://127.0.0.1:{port}/x.txt"
        plain = call("get", "--json", url, "new.txt").json()
    assert plain.pop("seconds") > 0
    assert plain.pop("rate") > 0
    assert plain == {
        "config": None,
        "url": url,
        "reachable": True,
        "ok": True,
        "file": "new.txt",
        "bytes": 8,
        "options": {"type": "I", "passive": "EPSV"},
    }
    assert Path("new.txt").read_bytes() == b"content\n"


def test_get_into_a_folder_keeps_the_name(call: Call, tree: Path) -> None:
    Path("sub").mkdir()
    with ftp_server(tree) as port:
        assert call("get", f"ftp://127.0.0.1:{port}/x.txt", "sub").code == 0
    assert os.listdir("sub") == ["x.txt"]


def test_get_to_a_dash_writes_only_the_file_to_standard_output(tree: Path) -> None:
    with tftp_server(tree) as port:
        done = subprocess.run(
            [*PROGRAM, "get", f"tftp://127.0.0.1:{port}/x.txt", "-"], capture_output=True, timeout=60, check=False
        )
    assert (done.returncode, done.stdout) == (0, b"content\n")
    assert b"8 bytes in" in done.stderr


def test_get_to_a_reader_that_leaves_is_quiet(tree: Path) -> None:
    (tree / "big").write_bytes(bytes(4 << 20))
    reader, writer = os.pipe()
    os.close(reader)
    with ftp_server(tree) as port:
        done = subprocess.run(
            [*PROGRAM, "get", f"ftp://127.0.0.1:{port}/big", "-"],
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("scheme", ["tftp", "ftp"])
def test_a_get_that_fails_leaves_no_file(call: Call, tree: Path, scheme: str) -> None:
    server = tftp_server if scheme == "tftp" else ftp_server
    with server(tree) as port:
        said = call("get", f"{scheme}://127.0.0.1:{port}/missing", "m")
    assert said.code == 1
    assert said.err.startswith(f"appliance: {scheme}://127.0.0.1:{port}/missing: the server refuses: ")
    assert os.listdir(".") == []


def test_a_failure_is_told_in_json_too(call: Call, tree: Path) -> None:
    with ftp_server(tree) as port:
        said = call("get", "--json", f"ftp://127.0.0.1:{port}/missing")
    assert (said.code, said.err) == (1, "")
    assert (said.json()["ok"], said.json()["reachable"]) == (False, True)
    assert "550" in said.json()["error"]


def test_get_into_a_folder_that_does_not_exist_is_a_failure(call: Call, tree: Path) -> None:
    with tftp_server(tree) as port:
        said = call("get", f"tftp://127.0.0.1:{port}/x.txt", "no/such/file")
    assert said.code == 1
    assert "No such file or directory" in said.err


def test_get_of_an_address_without_a_name_asks_for_one(call: Call) -> None:
    said = call("get", "ftp://127.0.0.1/")
    assert said.code == 2
    assert "say where to put it" in said.err


def test_put_keeps_the_name_when_the_address_ends_with_a_slash(call: Call, tree: Path) -> None:
    Path("mine.txt").write_bytes(b"mine\n")
    with ftp_server(tree) as port:
        said = call("put", "mine.txt", f"ftp://127.0.0.1:{port}/")
    assert said.code == 0
    assert "5 bytes in" in said.out
    assert (tree / "mine.txt").read_bytes() == b"mine\n"


def test_put_sends_by_tftp_with_the_block_size_asked(call: Call, tree: Path) -> None:
    Path("mine.txt").write_bytes(b"mine\n")
    with tftp_server(tree) as port:
        plain = call("put", "--json", "--blksize", "512", "mine.txt", f"tftp://127.0.0.1:{port}/new").json()
    assert plain["options"]["blksize"] == "512"
    assert (tree / "new").read_bytes() == b"mine\n"


def test_put_takes_standard_input(tree: Path) -> None:
    with ftp_server(tree) as port:
        command = [*PROGRAM, "put", "-", f"ftp://127.0.0.1:{port}/piped"]
        done = subprocess.run(command, input=b"through a pipe", capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tree / "piped").read_bytes() == b"through a pipe"


def test_put_of_standard_input_needs_a_name(call: Call) -> None:
    said = call("put", "-", "ftp://127.0.0.1/incoming/")
    assert said.code == 2
    assert "needs a name" in said.err


@pytest.mark.usefixtures("tree")
def test_put_of_a_file_that_does_not_exist_is_a_failure(call: Call) -> None:
    said = call("put", "missing", "ftp://127.0.0.1:1/x")
    assert said.code == 1
    assert "missing: No such file or directory" in said.err


def test_probe_tells_facts_in_one_line_and_in_json(call: Call, tree: Path) -> None:
    with tftp_server(tree) as port:
        url = f"tftp://127.0.0.1:{port}/x.txt"
        said = call("probe", url)
        plain = call("probe", "--json", url).json()
    assert said.out.startswith(f"{url}: reachable, 8 bytes, first byte after ")
    assert said.out.endswith(" ms (blksize 1428, tsize 8)\n")
    assert plain.pop("first_byte_ms") > 0
    assert plain == {
        "config": None,
        "url": url,
        "reachable": True,
        "ok": True,
        "size": 8,
        "options": {"blksize": "1428", "tsize": "8"},
    }
    assert os.listdir(".") == []


def test_probe_of_a_closed_port_says_not_reachable(call: Call) -> None:
    said = call("probe", "--json", "ftp://127.0.0.1:1/x")
    assert said.code == 1
    assert (said.json()["reachable"], said.json()["ok"]) == (False, False)


def test_without_a_host_our_own_appliance_is_asked(call: Call, tree: Path, config: Path, run_dir: Path) -> None:
    with tftp_server(tree) as port:
        listen = {"listen": ["[::]:1", f"0.0.0.0:{port}"], "workers": []}
        with status_server(run_dir, json.dumps(facts(services={"tftp": listen})).encode()):
            plain = call("probe", "--json", "-c", config, "tftp:///x.txt").json()
            said = call("probe", "-c", config, "ftp:///x.txt")
    assert (plain["ok"], plain["size"], plain["config"]) == (True, 8, str(config))
    assert said.code == 1
    assert "does not serve ftp" in said.err


def test_a_configuration_does_no_harm_where_the_address_names_a_host(call: Call, tree: Path, config: Path) -> None:
    with tftp_server(tree) as port:
        assert call("probe", "-c", config, f"tftp://127.0.0.1:{port}/x.txt").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["probe", "http://h/x"],
        ["probe", "ftp://u:p@h/x"],
        ["probe", "--blksize", "512", "ftp://h/x"],
        ["probe", "--blksize", "7", "tftp://h/x"],
        ["probe", "--blksize", "65465", "tftp://h/x"],
        ["probe", "--timeout", "0", "tftp://h/x"],
        ["get"],
        ["put", "x"],
    ],
)
def test_a_command_line_that_cannot_be_meant_is_exit_code_2(call: Call, words: list[str]) -> None:
    said = call(*words)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("Usage: appliance ")


@pytest.mark.parametrize(("size", "code"), [("8", 0), ("65464", 0)])
def test_the_smallest_and_the_largest_block_size_work(call: Call, tree: Path, size: str, code: int) -> None:
    with tftp_server(tree) as port:
        assert call("get", "--blksize", size, f"tftp://127.0.0.1:{port}/x.txt", "y").code == code
    assert Path("y").read_bytes() == b"content\n"
