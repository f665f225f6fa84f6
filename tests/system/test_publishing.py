"""Publishing under load: every download is a file of one release, whole, and no machine mixes two.

`BOOT_PUBLISHES=1000` makes as many; the suite makes a few.
"""

from __future__ import annotations

import ftplib
import hashlib
import itertools
import json
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.boot import orders, records
from appliance.boot.children import Child
from appliance.boot.house import House
from appliance.boot.publish import Keep
from appliance.boot.records import File, Given
from tests.boot import mirror
from tests.support import until
from tests.system.running import PROGRAM
from tests.system.test_releases import TEXT, Published
from tests.tftp.client import Fetch, udp

PUBLISHES = int(os.environ.get("BOOT_PUBLISHES", "25"))
SIZES = {"linux/kernel": 40_000, "linux/initrd": 200_000}


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Published]:
    made = Published(tmp_path, incoming="false", boot="true")
    (tmp_path / "ftp").mkdir()
    made.write(TEXT.format(**made.values))
    made.start()
    yield made
    made.stop()


class Storm:
    """Machines that boot, each from an address of its own: kernel, then initrd, by either protocol."""

    def __init__(self, appliance: Published) -> None:
        self.appliance = appliance
        self.known: dict[str, int] = {}  # digest -> release
        self.boots: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.over = threading.Event()
        self._addresses = itertools.count(1)
        self._lock = threading.Lock()

    def contents(self, number: int) -> dict[str, bytes]:
        made = {path: random.Random(f"{number} {path}").randbytes(size) for path, size in SIZES.items()}
        self.known |= {hashlib.sha256(content).hexdigest(): number for content in made.values()}
        return made

    def run(self, turn: int) -> None:
        while not self.over.is_set():
            with self._lock:
                n = next(self._addresses)
            host = f"127.3.{n >> 8 & 255}.{n & 255}"
            try:
                found = [self._get(host, path, (turn + place) % 2 == 0) for place, path in enumerate(SIZES)]
            except (OSError, ftplib.Error, AssertionError, EOFError) as error:
                self.wrong.append(f"{host}: {error!r}")
                return
            if found[0] is None or found[0] != found[1]:
                self.wrong.append(f"{host}: kernel of {found[0]}, initrd of {found[1]}")
                return
            self.boots[found[0]] += 1

    def _get(self, host: str, path: str, tftp: bool) -> int | None:
        if tftp:
            with udp(host) as sock:
                options = {"blksize": 1428, "windowsize": 16}
                content = Fetch(self.appliance.address("tftp"), path, options, sock=sock).run()
        else:
            pieces: list[bytes] = []
            with ftplib.FTP(source_address=(host, 0), timeout=20) as client:
                client.connect(*self.appliance.address("ftp"))
                client.login()
                client.retrbinary(f"RETR {path}", pieces.append)
            content = b"".join(pieces)
        return self.known.get(hashlib.sha256(content).hexdigest())


def test_every_download_is_of_one_release_however_often_another_is_published(appliance: Published) -> None:
    rooms = _rooms(appliance)
    storm = Storm(appliance)
    begun = time.monotonic()
    with rooms.publisher() as publisher:

        def publish(number: int) -> None:
            files = [_take(publisher, path, content) for path, content in storm.contents(number).items()]
            overlay = [Given("tftp", "pxelinux.cfg/default", b"%d" % number)]
            release = records.make(number, "", files, None)
            orders.publish(publisher, release, overlay, Keep(3, int(time.time()), 600.0))
            said = appliance.act()
            assert said[-1] == "ok", said

        publish(1)
        threads = [threading.Thread(target=storm.run, args=(turn,)) for turn in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in range(2, PUBLISHES + 1):
                publish(number)
                assert storm.wrong == []
            until(lambda: storm.boots[PUBLISHES] or storm.wrong, 30, "boots from the last release")
        finally:
            storm.over.set()
            for thread in threads:
                thread.join(60)
    assert storm.wrong == []
    seen = len(storm.boots)
    print(f"{PUBLISHES} publishes in {time.monotonic() - begun:.1f} s, {storm.boots.total()} boots of {seen} releases")
    assert seen > PUBLISHES // 4 and storm.boots.total() >= seen


def test_a_release_stays_as_long_as_a_machine_that_never_pauses_is_served_from_it(appliance: Published) -> None:
    (appliance.home / "boot.yaml").write_text("sources: {}\n")
    named = "boot: {{enabled: {boot}, manifest: {home}/boot.yaml}}"
    appliance.write(TEXT.replace("boot: {{enabled: {boot}}}", named).format(**appliance.values))
    rooms, storm, host = _rooms(appliance), Storm(appliance), "127.4.0.1"
    ids = []
    for number in (1, 2):
        with rooms.publisher() as publisher:
            files = [_take(publisher, path, content) for path, content in storm.contents(number).items()]
            overlay = [Given("tftp", "pxelinux.cfg/default", b"%d" % number)]
            release = records.make(number, "", files, None)
            ids.append(orders.publish(publisher, release, overlay, Keep(3, int(time.time()))).id)
        assert appliance.act()[-1] == "ok"
        assert storm._get(host, "linux/kernel", tftp=True) == 1
    retired = appliance.home / "state" / "boot" / "retired"
    assert json.loads(retired.read_text()).keys() == {ids[0]}
    retired.write_text(json.dumps({ids[0]: int(time.time()) - 3600}))  # so long has the machine gone on asking

    def collected() -> list[str]:
        words = ["boot", "gc", "--keep", "1", "--json", "-c", str(appliance.config)]
        done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found: list[str] = json.loads(done.stdout)["releases"]
        return found

    assert appliance.act(b"pinned") == [ids[0], "ok"]
    assert collected() == []
    assert storm._get(host, "linux/initrd", tftp=False) == 1

    def boots_anew() -> bool:
        storm._get(host, "pxelinux.cfg/default", tftp=True)
        return storm._get(host, "linux/kernel", tftp=True) == 2

    until(boots_anew, 60, "the second release in every worker")
    until(lambda: appliance.act(b"pinned") == [ids[1], "ok"], 60, "nobody pinned to the first")
    assert collected() == ids[:1]


def _take(publisher: Child, path: str, content: bytes) -> File:
    orders.take(publisher, [content])
    return File(path, len(content), hashlib.sha256(content).hexdigest(), "test", "sha256", ("tftp", "ftp"))


def _rooms(appliance: Published) -> House:
    """The folders of the appliance that runs."""
    roots = {"tftp": str(appliance.tree), "ftp": str(appliance.home / "ftp")}
    plain = mirror.house(appliance.home)
    return House(str(appliance.home / "state"), roots, plain.accounts, str(appliance.home / "empty"), required=True)
