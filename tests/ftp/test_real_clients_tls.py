"""Clients people use, over TLS, explicit and implicit; every byte is compared."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ftp.serving import Server, replace, server
from tests.ftp.test_real_clients import need, run
from tests.ftp.tlskit import certificate, secured
from tests.support import until

Pair = tuple[Path, Path]


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["ftp", "ftps"])
def strict(tree: Path, pair: Pair, request: pytest.FixtureRequest) -> Iterator[tuple[Server, str]]:
    """A worker where TLS and session reuse are required, by AUTH or from the first byte; and its URL."""
    config = secured(pair, mode="required", tls={"session_reuse": "required"}, incoming={"enabled": True})
    if request.param == "ftps":
        config = replace(config, listen=(), tls=replace(config.tls, implicit_listen=("127.0.0.1:0",)))
    with server(tree, config) as running:
        yield running, f"{request.param}://127.0.0.1:{running.port}"
        assert running.worker.counters()["crashes"] == 0, running.worker.log_text()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "client"
    folder.mkdir()
    return folder


@need("curl")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_fetches_lists_and_stores(strict: tuple[Server, str], pair: Pair, here: Path, version: str) -> None:
    running, url = strict
    safe = ["curl", "-sS", "--ssl-reqd", "--cacert", str(pair[0]), f"--tlsv{version}", "--tls-max", version]
    (here / "up").write_bytes(os.urandom(3_000_000))
    run(*safe, "-o", "big", f"{url}/big", cwd=here)
    assert filecmp.cmp(here / "big", running.root / "big", shallow=False)
    assert run(*safe, "-l", f"{url}/pub/", cwd=here).split() == ["b.txt", "c.iso", "deep"]
    run(*safe, "-T", "up", f"{url}/incoming/up", cwd=here)
    assert filecmp.cmp(here / "up", running.box / "up", shallow=False)


@need("curl")
def test_curl_is_refused_in_the_clear_and_by_a_certificate_it_does_not_trust(
    strict: tuple[Server, str], here: Path
) -> None:
    running, url = strict
    run("curl", "-sS", "--ssl-reqd", f"{url}/big", cwd=here, code=60)
    if url.startswith("ftp:"):
        run("curl", "-sS", f"ftp://127.0.0.1:{running.port}/big", cwd=here, code=67)


@need("lftp")
def test_lftp_mirrors_and_uploads(strict: tuple[Server, str], pair: Pair, here: Path) -> None:
    running, url = strict
    (here / "up").write_bytes(os.urandom(2_000_000))
    words = (
        f"set net:max-retries 1; set xfer:verify no; set ssl:ca-file {pair[0]}; set ftp:ssl-force true; "
        f"set ftp:ssl-allow-anonymous true; set ftp:ssl-protect-data true; "
        f"open {url}; mirror / copy; cd incoming; put up; bye"
    )
    run("lftp", "--norc", "-c", words, cwd=here)
    for name in ("a.txt", "big", "empty", "pub/b.txt", "pub/c.iso", ".treeinfo"):
        assert filecmp.cmp(here / "copy" / name, running.root / name, shallow=False), name
    assert filecmp.cmp(here / "up", running.box / "up", shallow=False)


@need("openssl")
def test_s_client_of_openssl_speaks_with_both_kinds(strict: tuple[Server, str], pair: Pair, here: Path) -> None:
    running, url = strict
    start = ["-starttls", "ftp"] if url.startswith("ftp:") else []
    words = ["openssl", "s_client", "-connect", f"127.0.0.1:{running.port}", "-CAfile", str(pair[0]), *start]
    said = run(*words, "-crlf", "-quiet", "-verify_return_error", cwd=here, text="FEAT\nQUIT\n")
    assert "221 Good-bye." in said and " AUTH TLS" in said

    def refused() -> bool:  # where the greeting comes in between, the client ends before it hears that
        return "no renegotiation" in run(*words, "-tls1_2", "-crlf", cwd=here, text="R\n", code=1).lower()

    until(refused, 60, "renegotiation is refused")
    told = run(*words, "-tls1_2", "-crlf", "-comp", cwd=here, text="QUIT\n")
    assert "Compression: NONE" in told
