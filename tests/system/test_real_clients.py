"""The clients that people have, against the whole program; every byte is compared."""

from __future__ import annotations

import filecmp
import ftplib
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tftpy

from tests.system.running import Appliance, appliance


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("clients")) as made:
        yield made


def run(cwd: Path, *argv: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a real client; it must succeed. Skips where it is not installed (never in CI: tests/tools.sh sees to it)."""
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    done = subprocess.run(argv, input=text, capture_output=True, text=True, cwd=cwd, timeout=120)
    assert done.returncode == 0, done
    return done


def same(running: Appliance, got: Path, name: str = "big.bin") -> None:
    assert filecmp.cmp(got, running.tree / name, shallow=False)


NAMES = ("hello.txt", "big.bin", "sub/deep.txt")


@pytest.mark.parametrize("name", NAMES)
def test_tftp_hpa_reads(running: Appliance, tmp_path: Path, name: str) -> None:
    host, port = running.address("tftp")
    run(tmp_path, "tftp", "-m", "octet", host, str(port), "-c", "get", name, "got")
    same(running, tmp_path / "got", name)


@pytest.mark.parametrize(
    "options", [(), ("--option", "blksize 1428"), ("--option", "blksize 1428", "--option", "windowsize 16")]
)
def test_atftp_reads(running: Appliance, tmp_path: Path, options: tuple[str, ...]) -> None:
    host, port = running.address("tftp")
    run(tmp_path, "atftp", *options, "--get", "-r", "big.bin", "-l", "got", host, str(port))
    same(running, tmp_path / "got")


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_curl_reads_by_tftp(running: Appliance, tmp_path: Path, name: str, index: int) -> None:
    host, port = running.address("tftp", index)
    url = f"tftp://{f'[{host}]' if ':' in host else host}:{port}/{name}"
    run(tmp_path, "curl", "-sS", "-g", "--tftp-blksize", "1024", "-o", "got", url)
    same(running, tmp_path / "got", name)


@pytest.mark.parametrize("blksize", ["512", "1428", "8192"])
def test_busybox_reads_by_tftp(running: Appliance, tmp_path: Path, blksize: str) -> None:
    host, port = running.address("tftp")
    run(tmp_path, "busybox", "tftp", "-g", "-b", blksize, "-r", "big.bin", "-l", "got", host, str(port))
    same(running, tmp_path / "got")


@pytest.mark.parametrize("name", NAMES)
def test_tftpy_reads(running: Appliance, tmp_path: Path, name: str) -> None:
    host, port = running.address("tftp")
    client = tftpy.TftpClient(host, port, {"blksize": 1428, "tsize": 0})
    client.download(name, str(tmp_path / "got"))
    client.context.sock.close()
    same(running, tmp_path / "got", name)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("mode", [(), ("-P", "-")])
def test_curl_reads_lists_and_uploads_by_ftp(
    running: Appliance, tmp_path: Path, index: int, mode: tuple[str, ...]
) -> None:
    host, port = running.address("ftp", index)
    base = f"ftp://{f'[{host}]' if ':' in host else host}:{port}/"
    for name in NAMES:
        run(tmp_path, "curl", "-sS", "-g", *mode, "-o", "got", base + name)
        same(running, tmp_path / "got", name)
    assert "big.bin" in run(tmp_path, "curl", "-sS", "-g", *mode, base).stdout
    name = f"by-curl-{index}-{len(mode)}"
    run(tmp_path, "curl", "-sS", "-g", *mode, "-T", str(running.tree / "big.bin"), f"{base}incoming/{name}")
    same(running, running.tree / "incoming" / name)


def test_lftp_mirrors_the_tree(running: Appliance, tmp_path: Path) -> None:
    host, port = running.address("ftp")
    script = f"set ftp:use-feat yes; open ftp://{host}:{port}; mirror --exclude incoming / copy; bye"
    run(tmp_path, "lftp", "-c", script)
    for name in NAMES:
        same(running, tmp_path / "copy" / name, name)
    assert abs((tmp_path / "copy" / "big.bin").stat().st_mtime - (running.tree / "big.bin").stat().st_mtime) < 2


def test_lftp_reads_in_active_mode(running: Appliance, tmp_path: Path) -> None:
    host, port = running.address("ftp")
    run(tmp_path, "lftp", "-c", f"set ftp:passive-mode no; open ftp://{host}:{port}; get big.bin -o got; bye")
    same(running, tmp_path / "got")


def test_tnftp_reads(running: Appliance, tmp_path: Path) -> None:
    host, port = running.address("ftp")
    run(tmp_path, "tnftp", "-o", "got", f"ftp://{host}:{port}/big.bin")
    same(running, tmp_path / "got")


def test_busybox_reads_and_uploads_by_ftp(running: Appliance, tmp_path: Path) -> None:
    host, port = running.address("ftp")
    run(tmp_path, "busybox", "ftpget", "-P", str(port), host, "got", "big.bin")
    same(running, tmp_path / "got")
    run(tmp_path, "busybox", "ftpput", "-P", str(port), host, "incoming/by-busybox", str(running.tree / "big.bin"))
    same(running, running.tree / "incoming" / "by-busybox")


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("passive", [True, False])
def test_pythons_ftplib_reads_lists_and_uploads(running: Appliance, index: int, passive: bool) -> None:
    client = running.ftp(index)
    client.set_pasv(passive)
    for name in NAMES:
        got: list[bytes] = []
        client.retrbinary(f"RETR {name}", got.append)
        assert b"".join(got) == (running.tree / name).read_bytes()
    assert {"hello.txt", "big.bin", "sub"} <= set(client.nlst())
    facts = dict(client.mlsd())
    assert facts["big.bin"]["size"] == str((running.tree / "big.bin").stat().st_size)
    content = os.urandom(3_000_001)
    name = f"by-ftplib-{index}-{passive}"
    assert client.storbinary(f"STOR incoming/{name}", io.BytesIO(content)).startswith("226")
    assert (running.tree / "incoming" / name).read_bytes() == content
    with pytest.raises(ftplib.error_perm):
        client.storbinary(f"STOR incoming/{name}", io.BytesIO(b"other"))
    with pytest.raises(ftplib.error_perm):
        client.retrbinary(f"RETR incoming/{name}", got.append)
    client.quit()


@pytest.mark.parametrize("arguments", [("probe",), ("get",)])
def test_our_own_verbs_work_against_it(running: Appliance, tmp_path: Path, arguments: Any) -> None:
    for service, scheme in (("tftp", "tftp"), ("ftp", "ftp")):
        host, port = running.address(service)
        words = [*arguments, f"{scheme}://{host}:{port}/big.bin"]
        if words[0] == "get":
            words.append(str(tmp_path / scheme))
        done = running.verb(*words)
        assert done.returncode == 0, done
        if words[0] == "get":
            same(running, tmp_path / scheme)


def test_put_delivers_into_the_drop_box(running: Appliance) -> None:
    host, port = running.address("ftp")
    done = running.verb("put", str(running.tree / "big.bin"), f"ftp://{host}:{port}/incoming/by-put")
    assert done.returncode == 0, done
    same(running, running.tree / "incoming" / "by-put")
