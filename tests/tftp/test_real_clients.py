"""Real clients, byte for byte: tftp-hpa, atftp, curl, busybox. A client that is not installed is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tftp.server import SETTINGS, Server

SIZES = (0, 1, 511, 512, 513, 100_000, 1_000_000)
PATIENT = replace(SETTINGS, timeout=1.0)


def commands(host: str, port: int, out: Path) -> dict[str, list[str]]:
    url = f"tftp://[{host}]:{port}/f" if ":" in host else f"tftp://{host}:{port}/f"
    return {
        "tftp": ["tftp", "-m", "binary", host, str(port), "-c", "get", "f", str(out)],
        "atftp": ["atftp", "-g", "-r", "f", "-l", str(out), host, str(port)],
        "atftp blksize 1428": ["atftp", "--option", "blksize 1428", "-g", "-r", "f", "-l", str(out), host, str(port)],
        "atftp windowsize 16": [
            "atftp", "--option", "blksize 1428", "--option", "windowsize 16", "-g", "-r", "f", "-l", str(out),
            host, str(port),
        ],
        "curl": ["curl", "-sS", "-o", str(out), url],
        "curl blksize 1468": ["curl", "-sS", "--tftp-blksize", "1468", "-o", str(out), url],
        "curl without options": ["curl", "-sS", "--tftp-no-options", "-o", str(out), url],
        "busybox": ["busybox", "tftp", "-g", "-r", "f", "-l", str(out), host, str(port)],
        "busybox blksize 8192": ["busybox", "tftp", "-b", "8192", "-g", "-r", "f", "-l", str(out), host, str(port)],
    }  # fmt: skip


@pytest.mark.parametrize("family", ["address", "address6"])
@pytest.mark.parametrize("client", commands("", 0, Path()))
def test_a_real_client_gets_the_exact_bytes(start, tmp_path: Path, client: str, family: str) -> None:
    if not shutil.which(client.split()[0]):
        pytest.skip(f"{client} is not installed")
    server: Server = start(PATIENT)
    host, port = getattr(server, family)
    # curl 7.88 takes the right answer for an empty file, tsize 0, for an illegal operation
    for size in SIZES[1:] if client in ("curl", "curl blksize 1468") else SIZES:
        content = os.urandom(size)
        (server.root / "f").write_bytes(content)
        out = tmp_path / f"got{size}"
        done = subprocess.run(
            commands(host, port, out)[client], capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr
        assert (out.read_bytes() if out.exists() else b"") == content, size
    assert server.counters["crashes"] == server.counters["failed"] == 0


def test_tftp_hpa_turns_lines_in_netascii(start, tmp_path: Path) -> None:
    if not shutil.which("tftp"):
        pytest.skip("tftp is not installed")
    server: Server = start(PATIENT)
    text = b"one\ntwo\rthree\r\nfour" * 500
    (server.root / "f").write_bytes(text)
    host, port = server.address
    out = tmp_path / "got"
    subprocess.run(
        ["tftp", "-m", "netascii", host, str(port), "-c", "get", "f", str(out)], timeout=30, check=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert out.read_bytes() == text


@pytest.mark.parametrize("client", ["tftp", "curl", "busybox"])
def test_a_real_client_is_told_that_uploads_are_not_accepted(start, tmp_path: Path, client: str) -> None:
    if not shutil.which(client):
        pytest.skip(f"{client} is not installed")
    server: Server = start(PATIENT)
    (tmp_path / "up").write_bytes(b"upload")
    host, port = map(str, server.address)
    put = {
        "tftp": ["tftp", "-m", "binary", host, port, "-c", "put", str(tmp_path / "up"), "up"],
        "curl": ["curl", "-sS", "-T", str(tmp_path / "up"), f"tftp://{host}:{port}/up"],
        "busybox": ["busybox", "tftp", "-p", "-l", str(tmp_path / "up"), "-r", "up", host, port],
    }[client]
    done = subprocess.run(put, capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode != 0 or b"uploads are not accepted here" in done.stdout + done.stderr
    assert server.counters["refused"] == 1
    assert os.listdir(server.root) == []
