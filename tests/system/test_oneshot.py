"""A machine boots its installer once, whoever dies meanwhile: over the wire, with two workers of each service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.boot import armed
from appliance.boot.armed import Armed
from appliance.published.layers import index_text
from tests.published import trees
from tests.support import until
from tests.system.running import PROGRAM
from tests.system.test_releases import TEXT, Published
from tests.tftp.client import Fetch, udp

KEY, CONFIG, ANSWER = "0123456789abcdef", "pxelinux.cfg/01-52-54-00-00-00-01", "web-1.preseed"
MACHINE = "127.3.0.1"


class Booting(Published):
    """Release 1, a machine with a configuration for every day, and one for the installer."""

    def prepare(self, *, arm: bool = True) -> None:
        files = {"linux": b"kernel" * 20_000, "initrd": b"initrd" * 20_000}
        for root in self.roots:
            trees.release(root, 1, files)
            trees.overlay(root, 1, {CONFIG: b"disk"})
            once = {f"once/{CONFIG}": b"installer", f"once/{ANSWER}": b"secret"}
            index = index_text({CONFIG: KEY, ANSWER: KEY})
            trees.overlay(root, 2, {CONFIG: b"disk", **once, "once/.index": index})
        if arm:
            self.arm()
        trees.commit(self.home / "state", trees.name(1), 2)

    def arm(self, **changes: object) -> None:
        folder = self.home / "state" / "armed"
        folder.mkdir(parents=True, exist_ok=True)
        fields = {"expires": 1 << 39, "confirm": "done", **changes}
        one = Armed(KEY, "web-1", "debian", 2, (CONFIG,), ("linux", "initrd"), **fields)  # type: ignore[arg-type]
        (folder / "new").write_bytes(armed.encode(one))
        (folder / "new").chmod(0o644)
        os.rename(folder / "new", folder / armed.file_of(KEY))

    def fetch(self, *names: str) -> list[bytes]:
        """What the machine is given, one after the other."""
        found = []
        for name in names:
            with udp(MACHINE) as sock:
                found.append(Fetch(self.address("tftp"), name, sock=sock).run())
        return found

    def given(self) -> set[bytes]:
        """What all workers give as its configuration, to somebody else who looks."""
        return {content for _ in range(4) for content in self.both(CONFIG)}

    def stage(self) -> str:
        place = self.home / "state" / "armed" / f"{KEY}.state"
        return str(json.loads(place.read_text())["stage"]) if place.exists() else ""

    def kill(self, service: str) -> None:
        for pid in self.pids(service):
            os.kill(pid, signal.SIGKILL)
        count = 1 if service in ("keeper", "events") else 2
        until(lambda: len(self.workers(service)) == count, 30, f"{service} again")


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Booting]:
    made = Booting(tmp_path, incoming="false", boot="true")
    (tmp_path / "ftp").mkdir()
    made.write(TEXT.format(**made.values))
    yield made
    made.stop()


def begun(appliance: Booting) -> None:
    """The machine begins with its installer: only it fetches the configuration, so nobody else passes for it."""
    until(lambda: appliance.fetch(CONFIG) == [b"installer"], 20, "the installer's configuration")


def test_a_machine_gets_its_installer_once_and_then_what_it_gets_every_day(appliance: Booting) -> None:
    appliance.prepare()
    appliance.start()
    begun(appliance)
    appliance.fetch("linux", "initrd")
    until(lambda: appliance.stage() == "loaded", 10, "loaded")
    until(lambda: appliance.given() == {b"disk"}, 10, "its disk")
    assert appliance.fetch(CONFIG, ANSWER) == [b"disk", b"secret"]  # the installer still reads its answers
    appliance.log.write_text("")
    trees.make(appliance.tree, {"done": b""})
    appliance.fetch("done")
    until(lambda: appliance.stage() == "confirmed", 10, "confirmed")
    until(lambda: _missing(appliance, ANSWER), 10, "no answers any more")


def _missing(appliance: Booting, name: str) -> bool:
    try:
        appliance.fetch(name)
    except Exception as refused:
        return "not found" in str(refused)
    return False


@pytest.mark.parametrize("service", ["tftp", "keeper", "events"])
def test_whoever_dies_there_is_no_second_installation(appliance: Booting, service: str) -> None:
    appliance.prepare()
    appliance.start()
    begun(appliance)
    until(lambda: (appliance.home / "state/armed" / f"{KEY}.state").exists() and _began(appliance), 10, "begun")
    appliance.fetch("linux")
    appliance.kill(service)
    appliance.fetch("initrd")
    until(lambda: appliance.stage() == "loaded", 15, "loaded")
    until(lambda: appliance.given() == {b"disk"}, 10, "its disk")
    for other in ("keeper", "tftp", "ftp"):
        appliance.kill(other)
        assert appliance.given() == {b"disk"}
        assert appliance.fetch(CONFIG) == [b"disk"]


def _began(appliance: Booting) -> bool:
    place = appliance.home / "state/armed" / f"{KEY}.state"
    return bool(json.loads(place.read_text())["client"] == MACHINE)


def test_an_operators_word_reaches_the_keeper_of_an_appliance_that_runs(appliance: Booting) -> None:
    appliance.prepare()
    appliance.start()
    begun(appliance)
    appliance.fetch("linux", "initrd")
    until(lambda: appliance.stage() == "loaded", 60, "loaded")
    manifest = appliance.home / "boot.yaml"
    manifest.write_text("profiles: {debian: {action: local}}\n")
    text = appliance.config.read_text().replace("{enabled: true}", f"{{enabled: true, manifest: {manifest}}}")
    appliance.config.write_text(text)
    hosts = appliance.home / "state" / "hosts.d"
    hosts.mkdir()
    once = f"{{profile: debian, until: {1 << 39}, id: {KEY!r}}}"
    (hosts / "web-1.yaml").write_text(f"machines: {{web-1: {{mac: '52:54:00:00:00:01', once: {once}}}}}\n")
    command = [*PROGRAM, "boot", "host", "confirm", "web-1", "-c", str(appliance.config)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0 and "was told" not in said.stderr, said.stderr
    until(lambda: appliance.stage() == "confirmed", 60, "confirmed")


def test_without_a_keeper_that_speaks_nothing_of_a_one_shot_is_served(appliance: Booting) -> None:
    appliance.prepare(arm=False)  # the overlay has its files, and nobody was armed
    appliance.start()
    assert appliance.given() == {b"disk"}
    appliance.arm(expires=1)
    appliance.act()
    until(lambda: appliance.stage() == "expired", 10, "expired")
    assert appliance.given() == {b"disk"}


def test_what_was_armed_while_it_runs_is_served_after_the_commit_and_taken_back_with_its_file(
    appliance: Booting,
) -> None:
    appliance.prepare(arm=False)
    appliance.start()
    appliance.arm()
    appliance.act()
    until(lambda: appliance.given() == {b"installer"}, 10, "the installer")
    (appliance.home / "state" / "armed" / armed.file_of(KEY)).unlink()
    appliance.act()
    until(lambda: appliance.given() == {b"disk"}, 10, "its disk")


def test_a_reload_that_replaces_the_keeper_takes_no_installer_away(appliance: Booting) -> None:
    """Seen: the end of the old keeper was taken for a death, after the new one had said all it had to say."""
    appliance.prepare()
    appliance.start()
    until(lambda: appliance.stage() == "armed", 20, "armed")
    old = appliance.pids("keeper")
    appliance.write(appliance.config.read_text().replace("log: text", "log: json"))
    assert appliance.verb("reload").returncode == 0
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old), 20, "the old keeper leaves")
    assert appliance.given() == {b"installer"}
