"""Clients people use, against a real worker; every byte is compared."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ftp.serving import Server

MIDNIGHT = 999_993_600  # 2001-09-09 UTC: what the day of a LIST line tells


def need(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}")


def run(*command: str, cwd: Path, text: str = "", code: int = 0) -> str:
    done = subprocess.run(
        command, cwd=cwd, input=text, capture_output=True, text=True, timeout=60, check=False, errors="surrogateescape"
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def url(served: Server, path: str) -> str:
    return f"ftp://127.0.0.1:{served.port}/{path}"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "client"
    folder.mkdir()
    return folder


@need("curl")
@pytest.mark.parametrize(
    "options", [[], ["--disable-epsv"], ["--ftp-port", "-"], ["--ftp-port", "-", "--disable-eprt"]]
)
def test_curl_downloads_in_every_mode(served: Server, here: Path, options: list[str]) -> None:
    run("curl", "-sS", *options, "-o", "big", url(served, "big"), cwd=here)
    assert filecmp.cmp(here / "big", served.root / "big", shallow=False)


@need("curl")
def test_curl_resumes_lists_and_takes_text(served: Server, here: Path) -> None:
    (here / "big").write_bytes((served.root / "big").read_bytes()[:1000])
    run("curl", "-sS", "-C", "-", "-o", "big", url(served, "big"), cwd=here)
    assert filecmp.cmp(here / "big", served.root / "big", shallow=False)
    assert "c.iso" in run("curl", "-sS", url(served, "pub/"), cwd=here)
    assert run("curl", "-sS", "-l", url(served, "pub/"), cwd=here).split() == ["b.txt", "c.iso", "deep"]
    run("curl", "-sS", "-o", "a.txt", url(served, "a.txt;type=a"), cwd=here)
    assert (here / "a.txt").read_bytes().replace(b"\r\n", b"\n") == b"one\ntwo\nthree\n"
    run("curl", "-sS", "-I", url(served, "big"), cwd=here)
    run("curl", "-sS", url(served, ".htaccess"), cwd=here, code=78)


@need("curl")
def test_curl_uploads_once(boxed: Server, here: Path) -> None:
    (here / "up").write_bytes(os.urandom(3_000_000))
    run("curl", "-sS", "-T", "up", url(boxed, "incoming/up"), cwd=here)
    assert filecmp.cmp(here / "up", boxed.box / "up", shallow=False)
    run("curl", "-sS", "-T", "up", url(boxed, "incoming/up"), cwd=here, code=25)
    run("curl", "-sS", "-T", "up", url(boxed, "elsewhere"), cwd=here, code=25)


@need("lftp")
@pytest.mark.parametrize("setting", ["", "set ftp:use-mlsd no;", "set ftp:passive-mode no;"])
def test_lftp_mirrors_a_tree(served: Server, here: Path, setting: str) -> None:
    os.utime(served.root / "big", (MIDNIGHT, MIDNIGHT))
    script = f"set net:max-retries 1; set xfer:verify no; {setting} open {url(served, '')}; mirror -v / copy; bye"
    run("lftp", "--norc", "-c", script, cwd=here)
    for name in ("a.txt", "big", "empty", "pub/b.txt", "pub/c.iso", ".treeinfo"):
        assert filecmp.cmp(here / "copy" / name, served.root / name, shallow=False), name
    assert not (here / "copy" / ".git").exists() and not (here / "copy" / ".htaccess").exists()
    assert (here / "copy" / "pub" / "deep").is_dir()
    assert (here / "copy" / "big").stat().st_mtime == MIDNIGHT


@need("lftp")
def test_lftp_mirrors_a_tree_that_links_to_itself_and_comes_to_an_end(served: Server, here: Path) -> None:
    top = served.root / "mirror"
    (top / "dists").mkdir(parents=True)
    (top / "file").write_bytes(b"x")
    (top / "debian").symlink_to(".")
    (top / "dists" / "up").symlink_to("..")
    (top / "latest").symlink_to("file")
    run("lftp", "--norc", "-c", f"set net:max-retries 1; open {url(served, '')}; mirror mirror copy; bye", cwd=here)
    found = {str(path.relative_to(here / "copy")) for path in (here / "copy").rglob("*")}
    assert {"dists", "file"} <= found <= {"dists", "file", "debian", "dists/up", "latest"}
    assert os.readlink(here / "copy" / "debian") == "." and os.readlink(here / "copy" / "latest") == "file"


@need("lftp")
def test_lftp_fetches_a_name_with_a_byte_255_which_it_doubles(served: Server, here: Path) -> None:
    with open(bytes(served.root) + b"/y\xff.txt", "wb") as file:
        file.write(b"latin\n")
    run("lftp", "--norc", "-c", f"set net:max-retries 1; open {url(served, '')}; mget y*; bye", cwd=here)
    assert (bytes(here) + b"/y\xff.txt") in [bytes(here) + b"/" + name for name in os.listdir(bytes(here))]


@need("lftp")
def test_lftp_mirrors_into_the_drop_box(boxed: Server, here: Path) -> None:
    source = here / "source"
    source.mkdir()
    for number in range(5):
        (source / f"file{number}").write_bytes(os.urandom(200_000))
    script = f"set net:max-retries 1; open {url(boxed, '')}; cd incoming; mput source/*; bye"
    run("lftp", "--norc", "-c", script, cwd=here)
    for path in source.iterdir():
        assert filecmp.cmp(path, boxed.box / path.name, shallow=False)


@need("tnftp")
def test_tnftp_gets_lists_and_fetches_many(served: Server, here: Path) -> None:
    script = f"""
open 127.0.0.1 {served.port}
user anonymous x
binary
get big
prompt
cd pub
mget *.iso
mget b*
ls
quit
"""
    output = run("tnftp", "-n", cwd=here, text=script)
    assert filecmp.cmp(here / "big", served.root / "big", shallow=False)
    assert filecmp.cmp(here / "c.iso", served.root / "pub" / "c.iso", shallow=False)
    assert filecmp.cmp(here / "b.txt", served.root / "pub" / "b.txt", shallow=False)
    assert " ftp      ftp " in output


@need("tnftp")
def test_tnftp_in_active_mode_and_text(served: Server, here: Path) -> None:
    script = f"open 127.0.0.1 {served.port}\nuser ftp x\npassive off\nascii\nget a.txt\nbinary\nget big\nquit\n"
    run("tnftp", "-n", cwd=here, text=script)
    assert (here / "a.txt").read_bytes() == b"one\ntwo\nthree\n"
    assert filecmp.cmp(here / "big", served.root / "big", shallow=False)


@need("busybox")
def test_busybox_gets_and_puts(boxed: Server, here: Path) -> None:
    port = str(boxed.port)
    run("busybox", "ftpget", "-P", port, "127.0.0.1", "copy", "big", cwd=here)
    assert filecmp.cmp(here / "copy", boxed.root / "big", shallow=False)
    run("busybox", "ftpput", "-P", port, "127.0.0.1", "incoming/copy", "copy", cwd=here)
    assert filecmp.cmp(here / "copy", boxed.box / "copy", shallow=False)
    run("busybox", "ftpput", "-P", port, "127.0.0.1", "pub/copy", "copy", cwd=here, code=1)
    assert not (boxed.root / "pub" / "copy").exists()


@need("busybox")
def test_busybox_continues_a_download(served: Server, here: Path) -> None:
    (here / "copy").write_bytes((served.root / "big").read_bytes()[:5000])
    run("busybox", "ftpget", "-c", "-P", str(served.port), "127.0.0.1", "copy", "big", cwd=here)
    assert filecmp.cmp(here / "copy", served.root / "big", shallow=False)


def test_lpxelinux_sends_what_it_sends(served: Server) -> None:
    """USER, PASS, TYPE I, PASV, RETR of a relative name, QUIT before the 226: as the boot firmware was seen to."""
    import socket

    from tests.ftp.serving import SECONDS, read_all

    with served.raw() as raw:
        raw.ask("TYPE I")
        fields = raw.ask("PASV").split("(")[1].split(")")[0].split(",")
        with socket.create_connection(("127.0.0.1", int(fields[4]) * 256 + int(fields[5])), SECONDS) as data:
            raw.sock.sendall(b"RETR pub/c.iso\r\nQUIT\r\n")
            assert read_all(data) == b"c" * 5000
        assert [raw.reply()[:3] for _ in range(3)] == ["150", "226", "221"]


@need("curl", "lftp")
def test_curl_and_lftp_send_the_whole_file_where_nothing_can_be_resumed(boxed: Server, here: Path) -> None:
    """They ask for the SIZE of what is there, are told that nothing is, and begin at the beginning (decision 0016)."""
    content = os.urandom(200_000)
    (here / "up").write_bytes(content)
    run("curl", "-sS", "-C", "-", "-T", "up", url(boxed, "incoming/by-curl"), cwd=here)
    run("lftp", "-e", "put -c up -o incoming/by-lftp; bye", url(boxed, ""), cwd=here)
    assert [(boxed.box / name).read_bytes() == content for name in ("by-curl", "by-lftp")] == [True, True]
