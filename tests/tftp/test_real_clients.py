"""Real clients, byte for byte: tftp-hpa, atftp, curl, busybox. A client that is not installed is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import tftpy

from appliance.cli import urls
from appliance.cli.tftpclient import TftpClient
from appliance.cli.transfer import Local
from tests.tftp.server import SETTINGS, Server
from tests.tftp.uploading import Box

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


def puts(host: str, port: int, source: Path) -> dict[str, list[str]]:
    url = f"tftp://[{host}]:{port}/uploads/f" if ":" in host else f"tftp://{host}:{port}/uploads/f"
    remote = ["-r", "uploads/f", host, str(port)]
    windowed = ["atftp", "--option", "blksize 1428", "--option", "windowsize 16"]
    return {
        "tftp_hpa": ["tftp", "-m", "binary", host, str(port), "-c", "put", str(source), "uploads/f"],
        "atftp": ["atftp", "-p", "-l", str(source), *remote],
        "atftp windowsize 16": [*windowed, "-p", "-l", str(source), *remote],
        "curl": ["curl", "-sS", "-T", str(source), url],
        "curl blksize 1468": ["curl", "-sS", "--tftp-blksize", "1468", "-T", str(source), url],
        "busybox": ["busybox", "tftp", "-p", "-l", str(source), *remote],
        "busybox blksize 8192": ["busybox", "tftp", "-b", "8192", "-p", "-l", str(source), *remote],
    }


@pytest.mark.parametrize("family", ["address", "address6"])
@pytest.mark.parametrize("client", puts("", 0, Path()))
def test_a_real_client_puts_the_exact_bytes(open_box, tmp_path: Path, client: str, family: str) -> None:
    program = {"tftp_hpa": "tftp"}.get(client, client.split()[0])
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    box: Box = open_box(timeout=1.0)
    host, port = getattr(box.server, family)
    source = tmp_path / "source"
    for size in SIZES:
        source.write_bytes(os.urandom(size))
        done = subprocess.run(
            puts(host, port, source)[client], capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr
        assert box.stored() == {"f": source.read_bytes()}, size
        (box.custodian.folder / "f").unlink()
    assert box.server.counters["failed"] == 0


def test_tftp_hpa_puts_lines_in_netascii_and_is_told_of_a_refusal(open_box, tmp_path: Path) -> None:
    if not shutil.which("tftp"):
        pytest.skip("tftp is not installed")
    box: Box = open_box(timeout=1.0)
    host, port = map(str, box.server.address)
    source = tmp_path / "source"
    source.write_bytes(b"one\ntwo\rthree\r\nfour" * 500)
    command = ["tftp", "-m", "netascii", host, port, "-c", "put", str(source), "uploads/f"]
    subprocess.run(command, timeout=30, check=True, stdin=subprocess.DEVNULL)
    assert box.stored() == {"f": source.read_bytes()}
    again = subprocess.run(command, timeout=30, check=False, stdin=subprocess.DEVNULL, capture_output=True)
    assert b"File already exists" in again.stdout + again.stderr


def test_tftpy_and_our_own_verbs_put_the_exact_bytes(open_box, tmp_path: Path) -> None:
    box: Box = open_box(timeout=1.0)
    host, port = box.server.address
    source = tmp_path / "source"
    source.write_bytes(os.urandom(100_000))
    tftpy.TftpClient(host, port, options={"blksize": 1428}).upload("uploads/by-tftpy", str(source))
    target = urls.parse(f"tftp://{host}:{port}/uploads/by-us")
    with source.open("rb") as file:
        TftpClient(5.0).send(target, Local(file), 100_000, _nobody)
    assert box.stored() == {"by-tftpy": source.read_bytes(), "by-us": source.read_bytes()}


def _nobody(_count: int, _size: int | None) -> None:
    """Watches no progress."""
