"""FTP over TLS in a whole appliance: certificates that change while it runs, and what is refused instead."""

from __future__ import annotations

import ftplib
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ftp.tlskit import Client, certificate, expired, fetched, trusting
from tests.support import until
from tests.system.running import Appliance
from tests.system.test_reload_and_drain import BIG, begin, finish

Pair = tuple[Path, Path]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    (tmp_path / "tls").mkdir()
    return certificate(tmp_path / "tls", "live")


@pytest.fixture
def running(tmp_path: Path, pair: Pair) -> Iterator[Appliance]:
    made = Appliance(tmp_path)
    tls = f'{{mode: optional, certificate: {pair[0]}, key: {pair[1]}, implicit_listen: ["127.0.0.1:0"]}}'
    made.write(made.config.read_text().replace("  active:", f"  tls: {tls}\n  active:", 1))
    try:
        yield made.start()
    finally:
        made.stop()


def connected(running: Appliance, pair: Pair, *, implicit: bool = False) -> Client:
    made = Client(context=trusting(pair), timeout=20)
    made.implicit = implicit
    made.connect(*running.address("ftp", 2 if implicit else 0))
    made.login(secure=not implicit)
    made.prot_p()
    return made


def renew(pair: Pair, folder: Path, name: str, make: Callable[[Path, str], Pair] = certificate) -> Pair:
    """Put a new certificate in the place of the one in use, as a renewal does; returns copies of the new pair."""
    new = make(folder, name)
    copies = (folder / f"{name}.crt.copy", folder / f"{name}.key.copy")
    for source, copy, place in zip(new, copies, pair, strict=True):
        copy.write_bytes(source.read_bytes())
        os.replace(source, place)
    return copies


def speaks_with(running: Appliance, pair: Pair) -> bool:
    """Whether the server shows this certificate."""
    try:
        connected(running, pair).quit()
    except ssl.SSLCertVerificationError:
        return False
    return True


def test_both_kinds_of_connection_serve_and_status_tells_their_addresses(running: Appliance, pair: Pair) -> None:
    for implicit in (False, True):
        made = connected(running, pair, implicit=implicit)
        assert fetched(made, "RETR big.bin") == BIG
        made.quit()
    assert len(running.status()["services"]["ftp"]["listen"]) == 3
    assert "tls=TLSv1.3" in running.said("tls=")


def test_a_new_certificate_is_served_after_a_reload_while_an_old_transfer_runs_on(
    running: Appliance, pair: Pair, tmp_path: Path
) -> None:
    old = (tmp_path / "old.crt", pair[1])
    old[0].write_bytes(pair[0].read_bytes())
    made = connected(running, pair)
    data, got = begin(made)
    new = renew(pair, tmp_path / "tls", "new")
    assert speaks_with(running, old)  # nothing changes before the reload
    before = {service: running.pids(service) for service in ("tftp", "ftp")}
    done = running.verb("reload")
    assert done.returncode == 0
    assert "ftp replaced" in done.stdout + done.stderr
    assert running.pids("tftp") == before["tftp"]  # no setting changed: only those who hold the certificate are new
    assert not running.pids("ftp") & before["ftp"]
    assert speaks_with(running, new)
    assert not speaks_with(running, old)
    finish(made, data, got)
    made.close()
    assert "nothing changed" in running.verb("reload").stdout


def test_by_signal_too(running: Appliance, pair: Pair, tmp_path: Path) -> None:
    new = renew(pair, tmp_path / "tls", "new")
    running.signal(signal.SIGHUP)
    until(lambda: speaks_with(running, new), 20)


@pytest.mark.parametrize("wrong", ["pair", "expired", "gone", "garbage", "open"])
def test_a_certificate_that_cannot_serve_is_refused_and_the_old_one_stays(
    running: Appliance, pair: Pair, tmp_path: Path, wrong: str
) -> None:
    old = (tmp_path / "old.crt", pair[1])
    old[0].write_bytes(pair[0].read_bytes())
    before = running.pids("ftp")
    if wrong == "pair":
        os.replace(certificate(tmp_path / "tls", "other")[0], pair[0])
        why = f"{pair[1]} is not the key of {pair[0]}"
    elif wrong == "expired":
        renew(pair, tmp_path / "tls", "other", expired)
        why = "the certificate expired on 2020-12-31"
    elif wrong == "open":
        renew(pair, tmp_path / "tls", "other")
        pair[1].chmod(0o644)
        why = f"{pair[1]} holds the private key, and every user of this machine can read or write it"
    elif wrong == "gone":
        pair[1].unlink()
        why = f"there is no file {pair[1]}"
    else:
        pair[0].write_bytes(b"no certificate\n")
        why = f"{pair[0]}: there is no certificate in it"
    done = running.verb("reload")
    assert done.returncode == 1
    assert "a new worker cannot start" in done.stderr + done.stdout
    assert "nothing was changed" in done.stderr + done.stdout
    assert why in running.said(why)
    assert running.pids("ftp") == before
    assert speaks_with(running, old)
    checked = running.verb("check")
    assert checked.returncode == 2
    assert why in checked.stdout


def test_an_expired_certificate_does_not_keep_a_machine_from_starting(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    pair = expired(tmp_path / "tls")
    made = Appliance(tmp_path)
    tls = f"{{mode: optional, certificate: {pair[0]}, key: {pair[1]}}}"
    made.write(made.config.read_text().replace("  active:", f"  tls: {tls}\n  active:", 1))
    try:
        made.start()
        assert "the certificate expired on 2020-12-31" in made.said("expired")
        client = made.ftp()
        client.quit()
        made.write(made.config.read_text().replace("  active:", "  banner: Changed.\n  active:", 1))
        assert made.verb("reload").returncode == 0  # it is no reason against another change either
        client = made.ftp()
        assert "Changed." in (client.welcome or "")
        client.quit()
    finally:
        made.stop()


def test_a_key_that_everybody_can_read_is_told_at_the_start(tmp_path: Path) -> None:
    """Seen: `check` called it an error, and `run` did not say a word."""
    (tmp_path / "tls").mkdir()
    pair = certificate(tmp_path / "tls")
    pair[1].chmod(0o644)
    made = Appliance(tmp_path)
    tls = f"{{mode: optional, certificate: {pair[0]}, key: {pair[1]}}}"
    made.write(made.config.read_text().replace("  active:", f"  tls: {tls}\n  active:", 1))
    try:
        made.start()
        assert f"chmod o-rwx {pair[1]}" in made.said("holds the private key")
        made.ftp().quit()
    finally:
        made.stop()


def test_a_worker_that_dies_comes_back_with_the_certificate(running: Appliance, pair: Pair) -> None:
    pid = running.workers("ftp")[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: len(running.workers("ftp")) == 2 and pid not in running.pids("ftp"), 20)
    assert all(speaks_with(running, pair) for _ in range(8))


def test_the_worker_holds_no_open_file_of_the_key(running: Appliance, pair: Pair) -> None:
    for pid in running.pids("ftp"):
        held = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        assert not held & {str(path) for path in pair}


def test_openssl_and_plain_clients_share_one_listener(running: Appliance, tmp_path: Path, pair: Pair) -> None:
    plain = running.ftp()
    assert plain.voidcmd("NOOP").startswith("200")
    host, port = running.address("ftp")
    words = ["openssl", "s_client", "-starttls", "ftp", "-connect", f"{host}:{port}", "-CAfile", str(pair[0]), "-quiet"]
    said = subprocess.run(words, input="QUIT\n", text=True, capture_output=True, timeout=30, check=True).stdout
    assert "221" in said
    with pytest.raises(ftplib.error_perm, match="503"):
        plain.sendcmd("PROT P")
    plain.quit()
    with socket.create_connection(running.address("ftp", 2), timeout=20) as sock:
        sock.settimeout(20)
        sock.sendall(b"USER anonymous\r\n")  # no TLS where TLS belongs
        try:
            assert sock.recv(100)[:1] != b"2"
        except ConnectionResetError:
            pass
