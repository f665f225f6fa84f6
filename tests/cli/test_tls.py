"""`appliance tls self-signed`: a certificate that clients can trust, a key that nobody else can read."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import stat
from pathlib import Path

import pytest

from appliance.ftp import tlsfiles
from appliance.settings.ftp import TlsSettings
from tests.cli.conftest import Call

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="not installed: openssl")


def test_both_files_are_made_and_the_next_step_is_told(call: Call, tmp_path: Path) -> None:
    said = call("tls", "self-signed", "--name", "ftp.example.org", "--days", "90", "--out", tmp_path)
    one, key = tmp_path / "ftp.example.org.crt", tmp_path / "ftp.example.org.key"
    assert said.code == 0
    assert f"    mode: optional\n    certificate: {one}\n    key: {key}\n" in said.out
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(one.stat().st_mode) == 0o644
    assert sorted(os.listdir(tmp_path)) == [one.name, key.name]
    loaded = tlsfiles.load(TlsSettings("optional", str(one), str(key)))
    assert tlsfiles.days_left(loaded.valid) in (89, 90)


@pytest.mark.parametrize("name", ["192.0.2.7", "2001:db8::7", "localhost"])
def test_a_client_that_trusts_it_finds_the_name_in_it(call: Call, tmp_path: Path, name: str) -> None:
    said = call("tls", "self-signed", "--name", name, "--out", tmp_path, "--json")
    made = json.loads(said.out)
    server = tlsfiles.load(TlsSettings("optional", made["certificate"], made["key"])).context
    client = ssl.create_default_context(cafile=made["certificate"])
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(there, here, server_side=True)
    theirs = client.wrap_bio(here, there, server_hostname=name)
    for side in (theirs, ours, theirs, ours):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert theirs.version() == "TLSv1.3"
    assert theirs.getpeercert()["subjectAltName"]  # type: ignore[index]  # it was verified


def test_nothing_is_ever_replaced(call: Call, tmp_path: Path) -> None:
    (tmp_path / "x.key").write_text("precious")
    said = call("tls", "self-signed", "--name", "x", "--out", tmp_path)
    assert (said.code, said.out) == (1, "")
    assert "x.key is there already (name another folder: --out DIR)" in said.err
    assert os.listdir(tmp_path) == ["x.key"]
    assert (tmp_path / "x.key").read_text() == "precious"


@pytest.mark.parametrize("name", ["", "a b", "../x", "-out", "a,IP:1.2.3.4", "a\nb", "*.example.org", "x" * 64, "a..b"])
def test_what_is_no_host_name_never_reaches_the_program(call: Call, tmp_path: Path, name: str) -> None:
    said = call("tls", "self-signed", f"--name={name}", "--out", tmp_path)
    assert said.code == 2
    assert "is neither a host name nor an address" in said.err
    assert os.listdir(tmp_path) == []


def test_without_openssl_and_without_a_folder_it_says_what_to_do(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = call("tls", "self-signed", "--name", "x", "--out", tmp_path / "no")
    assert (said.code, "cannot write into" in said.err) == (1, True)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = call("tls", "self-signed", "--name", "x", "--out", tmp_path)
    assert (said.code, "apt-get install openssl" in said.err) == (1, True)
    assert os.listdir(tmp_path) == []
    (tmp_path / "openssl").write_text("#!/bin/sh\necho 'it \033[31mbroke' >&2; exit 3\n")
    (tmp_path / "openssl").chmod(0o755)
    said = call("tls", "self-signed", "--name", "x", "--out", tmp_path)
    assert said.code == 1
    assert "openssl failed; its last words: it \\x1b[31mbroke" in said.err
