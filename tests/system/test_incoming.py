"""From an upload by FTP to a file that everybody can fetch, with the whole appliance running."""

from __future__ import annotations

import ftplib
import hashlib
import io
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support import until
from tests.system.running import PROGRAM, Appliance, appliance


def incoming(running: Appliance, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [*PROGRAM, "incoming", *words, "-c", str(running.config)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def fetched(client: ftplib.FTP, name: str) -> bytes:
    content = io.BytesIO()
    client.retrbinary(f"RETR {name}", content.write)
    return content.getvalue()


def hidden(running: Appliance) -> list[str]:
    return [name for name in os.listdir(running.tree / "incoming") if name.startswith(".up-")]


def held(box: Path) -> int:
    """Bytes in the drop box; a file that has two names for a moment counts once."""
    sizes = {}
    for name in os.listdir(box):
        try:
            found = os.stat(box / name)
        except FileNotFoundError:
            continue
        sizes[found.st_ino] = found.st_size
    return sum(sizes.values())


def test_an_upload_is_seen_by_nobody_until_it_is_released_and_changed_by_nobody_after(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    with appliance(tmp_path) as running:
        client = running.ftp()
        client.voidcmd("TYPE I")
        data = client.transfercmd("STOR incoming/a.bin")
        name = until(lambda: hidden(running), what="the upload under way")[0]
        held = os.open(running.tree / "incoming" / name, os.O_WRONLY)  # the inode that the worker writes to
        data.sendall(content)
        data.close()
        client.voidresp()

        listing = incoming(running, "list").stdout
        assert listing.endswith("293.0 KiB  127.0.0.1        -         a.bin\n")
        for path in ("incoming/a.bin", "released/a.bin"):
            with pytest.raises(ftplib.error_perm, match="550"):
                fetched(client, path)

        done = incoming(running, "release", "a.bin")
        assert (done.returncode, done.stdout) == (0, f"{hashlib.sha256(content).hexdigest()}  released/a.bin\n")
        os.pwrite(held, b"EVIL", 0)
        os.close(held)
        assert fetched(client, "released/a.bin") == content
        assert client.nlst("released") == ["released/a.bin"]
        assert incoming(running, "list").stdout == "nothing waits in the drop box\n"

        for line in ("DELE released/a.bin", "RNFR released/a.bin", "SITE CHMOD 666 released/a.bin", "MKD released/x"):
            with pytest.raises(ftplib.error_perm):
                client.sendcmd(line)
        with pytest.raises(ftplib.error_perm, match="550"):
            client.storbinary("STOR released/a.bin", io.BytesIO(b"x"))
        client.storbinary("STOR incoming/a.bin", io.BytesIO(b"the name is free again"))
        client.close()


def test_parallel_uploads_through_all_workers_never_exceed_the_quota(tmp_path: Path) -> None:
    quota = 16 << 20
    made = Appliance(tmp_path)
    made.write(made.config.read_text().replace("max_size: 64MiB, quota: 128MiB, per_client_quota: 128MiB",
                                               "max_size: 8MiB, quota: 16MiB, per_client_quota: 16MiB"))  # fmt: skip
    box = tmp_path / "tree" / "incoming"
    most = 0
    with ThreadPoolExecutor(8) as pool, ExitStack() as opened:
        try:
            made.start()
            clients = [opened.enter_context(closing(made.ftp())) for _ in range(8)]
            piece = b"x" * (4 << 20)

            def store(number: int) -> str:
                try:
                    return clients[number].storbinary(f"STOR incoming/{number}", io.BytesIO(piece))
                except ftplib.Error as error:
                    return str(error)
                except (
                    OSError
                ):  # the refused rest was still under way: what was said of it waits on the control connection
                    return str(clients[number].getmultiline())

            running = [pool.submit(store, number) for number in range(8)]
            while not all(one.done() for one in running):
                most = max(most, held(box))
            said = [one.result()[:3] for one in running]
            used = [worker["transfers"] for worker in made.workers("ftp")]
        finally:
            made.stop()
    assert set(said) <= {"226", "552"} and 2 <= said.count("226") <= 4, said
    assert most <= quota
    assert held(box) == said.count("226") * (4 << 20)
    assert len(used) == 2


def test_a_full_box_takes_uploads_again_after_a_reject(tmp_path: Path) -> None:
    with appliance(tmp_path) as running:
        client = running.ftp()
        for number in range(2):
            client.storbinary(f"STOR incoming/{number}", io.BytesIO(bytes(60 << 20)))
        size = 20 << 20
        client.sendcmd(f"ALLO {size}")  # so that it is refused before the first byte
        with pytest.raises(ftplib.error_perm, match="552"):
            client.storbinary("STOR incoming/2", io.BytesIO(bytes(size)))
        assert incoming(running, "reject", "0").returncode == 0

        def stored() -> bool:
            client.sendcmd(f"ALLO {size}")
            try:
                return client.storbinary("STOR incoming/2", io.BytesIO(bytes(size))).startswith("226")
            except ftplib.error_perm:
                return False

        assert until(stored, 30, "room in the box")
        client.close()
