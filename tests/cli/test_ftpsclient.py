"""probe, get and put under TLS, against a real FTP worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.ftp.serving import Server, replace, server
from tests.ftp.tlskit import certificate, secured

CONTENT = os.urandom(1_000_000)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["ftp", "ftps"])
def strict(
    tmp_path: Path, pair: tuple[Path, Path], request: pytest.FixtureRequest
) -> Iterator[tuple[Server, str, list[str]]]:
    """A worker that takes nothing in the clear, its address, and the options to reach it."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_bytes(CONTENT)
    config = secured(pair, mode="required", tls={"session_reuse": "required"}, incoming={"enabled": True})
    if request.param == "ftps":
        config = replace(config, listen=(), tls=replace(config.tls, implicit_listen=("127.0.0.1:0",)))
    with server(tmp_path / "root", config) as running:
        options = [*(["--tls"] if request.param == "ftp" else []), "--cacert", str(pair[0])]
        yield running, f"{request.param}://127.0.0.1:{running.port}", options
        assert running.worker.counters()["crashes"] == 0, running.worker.log_text()


def test_a_file_goes_both_ways_under_tls(call: Call, tmp_path: Path, strict: tuple[Server, str, list[str]]) -> None:
    running, url, options = strict
    said = call("get", "--json", *options, f"{url}/file", tmp_path / "got")
    assert said.code == 0, said.err
    assert said.json()["options"] == {"type": "I", "passive": "EPSV", "tls": "TLSv1.3"}
    assert (tmp_path / "got").read_bytes() == CONTENT
    said = call("put", *options, tmp_path / "got", f"{url}/incoming/")
    assert said.code == 0, said.err
    assert (running.box / "got").read_bytes() == CONTENT
    said = call("probe", "--json", *options, f"{url}/file")
    assert (said.code, said.json()["size"]) == (0, len(CONTENT))


def test_a_certificate_that_nobody_signed_is_refused_with_what_to_do(
    call: Call, strict: tuple[Server, str, list[str]]
) -> None:
    _running, url, options = strict
    said = call("probe", *options[:-2], f"{url}/file")
    assert said.code == 1
    assert "the certificate of 127.0.0.1 is refused: self-signed certificate" in said.err
    assert "--cacert FILE" in said.err


def test_in_the_clear_the_server_says_what_it_wants(call: Call, strict: tuple[Server, str, list[str]]) -> None:
    running, url, _options = strict
    said = call("probe", f"ftp://127.0.0.1:{running.port}/file", "--timeout", "2")
    assert said.code == 1
    if url.startswith("ftp:"):
        assert "530 Log in under TLS" in said.err


def test_a_server_without_tls_is_not_spoken_to_in_the_clear(call: Call, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with server(tmp_path / "root") as running:
        said = call("probe", "--tls", f"ftp://127.0.0.1:{running.port}/file")
        assert said.code == 1
        assert "the server refuses: 500" in said.err
        said = call("probe", f"ftps://127.0.0.1:{running.port}/file")
        assert said.code == 1
        assert "TLS with 127.0.0.1 failed" in said.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--tls", "tftp://h/x"], "is for ftp://"),
        (["--tls", "ftps://h/x"], "is for ftp://"),
        (["--cacert", "/nowhere", "ftp://h/x"], "is for TLS"),
        (["--tls", "--cacert", "/nowhere", "ftp://h/x"], "/nowhere: No such file or directory"),
        (["--blksize", "512", "ftps://h/x"], "is an option of TFTP"),
    ],
)
def test_options_that_do_not_fit_are_refused(call: Call, words: list[str], why: str) -> None:
    said = call("probe", *words)
    assert said.code == 2
    assert why in " ".join(said.err.split())
