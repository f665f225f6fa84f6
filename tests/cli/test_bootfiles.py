"""`appliance boot fetch|publish|releases|diff|rollback|gc`: from a manifest to a tree that is served, and back."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.boot import records
from appliance.cli.main import main
from tests.boot.homes import leftovers
from tests.boot.mirror import Mirror
from tests.cli.conftest import PROGRAM


class Lab:
    """A configuration, a manifest and its files in a folder."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.place, self._capsys = place, capsys
        place.chmod(0o755)
        for name in ("tftp", "ftp"):
            (place / name).mkdir()
        self.config = place / "a.yaml"
        self.config.write_text(
            f"state_dir: {place}/state\nrun_dir: {place}/run\n"
            f"tftp: {{root: {place}/tftp, listen: ['127.0.0.1:0']}}\n"
            f"ftp: {{root: {place}/ftp, listen: ['127.0.0.1:0']}}\n"
            f"boot: {{enabled: true, manifest: {place}/boot.yaml, keep_releases: 2}}\n"
        )
        (place / "loaders").mkdir(mode=0o755)
        for name in ("pxelinux.0", "ldlinux.c32", "menu.c32", "libutil.c32"):
            (place / "loaders" / name).write_bytes(b"loads")
        self.manifest("kernel one")

    def manifest(self, content: str, more: str = "") -> None:
        (self.place / "kernel").write_text(content)
        (self.place / "kernel").chmod(0o644)
        (self.place / "boot.yaml").write_text(
            "sources:\n"
            f"  kernel: {{file: {self.place}/kernel, unverified: true}}\n"
            f"  loaders: {{dir: {self.place}/loaders, unverified: true}}\n"
            "tree:\n"
            "  - {from: kernel, to: linux/kernel, in: both}\n"
            "  - {from: loaders, take: /, to: /}\n"
            "loaders: {bios: {file: pxelinux.0, kind: pxelinux}}\n"
            "profiles: {one: {kernel: linux/kernel, args: quiet}}\n"
            f"machines: {{web1: {{mac: '52:54:00:12:34:56', profile: one}}}}\n{more}"
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = main(["boot", *arguments, "-c", str(self.config)])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def json(self, *arguments: str) -> Any:
        code, out, err = self.run(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    def served(self, root: str, path: str) -> str:
        name, overlay = (self.place / "state/boot/current").read_text().split()
        for layer in (f"overlay-{overlay}", name):
            found = self.place / root / ".releases" / layer / path
            if found.exists():
                return found.read_text()
        raise FileNotFoundError(path)


@pytest.fixture
def lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lab:
    return Lab(tmp_path, capsys)


def test_from_a_manifest_to_a_served_tree_and_back(lab: Lab) -> None:
    code, out, err = lab.run("fetch")
    assert code == 0 and out.startswith("kernel: fetched, 10 bytes, 1 file, UNVERIFIED\n") and "kernel: fetching" in err
    assert lab.json("fetch")["sources"][0]["state"] == "unchanged"
    code, out, err = lab.run("publish", "--note", "first")
    assert code == 0 and " is served: " in out and "UNVERIFIED: 5 of them, among them ldlinux.c32" in err
    assert "no running service was told: not running" in err
    assert lab.served("tftp", "linux/kernel") == lab.served("ftp", "linux/kernel") == "kernel one"
    assert "linux/kernel" in lab.served("tftp", "pxelinux.cfg/01-52-54-00-12-34-56")
    first = lab.json("releases")["releases"][0]
    assert first["note"] == "first" and first["current"] and first["unverified"] == 5
    assert lab.json("publish")["unchanged"]

    lab.manifest("kernel two!")
    lab.run("fetch")
    second = lab.json("publish")
    assert lab.served("tftp", "linux/kernel") == "kernel two!" and not second["unchanged"]
    changed = lab.json("diff", first["id"])
    assert changed["after"] == second["id"] and [one["after"]["path"] for one in changed["changed"]] == ["linux/kernel"]
    code, out, _ = lab.run("diff", first["id"], second["id"])
    assert code == 0 and "! linux/kernel (10 bytes -> 11 bytes; file:" in out
    assert lab.run("diff", first["id"], first["id"])[1] == "no file differs\n"

    assert lab.json("rollback", first["id"])["id"] == first["id"]
    assert lab.served("tftp", "linux/kernel") == "kernel one"
    code, out, _ = lab.run("releases")
    assert code == 0 and [line[0] for line in out.splitlines()] == [" ", "*"]
    assert leftovers(lab.place) == []


def test_what_nobody_ever_fetched_is_told_with_every_fetch(lab: Lab) -> None:
    manifest = lab.place / "boot.yaml"
    manifest.write_text(
        manifest.read_text().replace("kernel, unverified", "kernel, experimental: never yet, unverified")
    )
    assert "kernel: experimental: never yet\n" in lab.run("fetch")[2]
    told = {one["name"]: one["experimental"] for one in lab.json("fetch")["sources"]}
    assert told == {"kernel": "never yet", "loaders": ""}


def test_a_person_at_a_terminal_sees_bars_and_a_log_gets_lines(lab: Lab) -> None:
    ours, theirs = os.openpty()
    command = [*PROGRAM, "boot", "fetch", "-c", str(lab.config)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with Mirror() as mirror:
        mirror.files["/kernel"] = bytes(3_000_000)
        manifest = (lab.place / "boot.yaml").read_text()
        (lab.place / "boot.yaml").write_text(
            manifest.replace(f"file: {lab.place}/kernel", f"url: {mirror.base}/kernel")
        )
        with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as shown:
            os.close(theirs)
            seen = b""
            with contextlib.suppress(OSError):  # EIO: the other end was closed
                while piece := os.read(ours, 65536):
                    seen += piece
        os.close(ours)
        assert shown.returncode == 0, seen
        assert (
            "\u2501".encode() in seen and b"\x1b[" in seen and b"kernel: fetched, 2.9 MiB, 1 file, UNVERIFIED" in seen
        )
        mirror.files["/kernel"] = bytes(2_000_000)
        plain = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert b"kernel: fetched, " in plain.stdout and b"kernel: fetching http" in plain.stderr
    assert b"\x1b" not in plain.stdout + plain.stderr and "\u2501".encode() not in plain.stdout + plain.stderr


def test_a_rollback_works_although_the_manifest_is_broken(lab: Lab) -> None:
    lab.run("fetch")
    first = lab.json("publish")["id"]
    lab.manifest("two")
    lab.run("fetch")
    lab.run("publish")
    (lab.place / "boot.yaml").write_text("nonsense: 1\n")
    code, out, err = lab.run("rollback", first)
    assert code == 0 and f"{first} is served" in out and "machines are those of then" in err
    assert lab.served("tftp", "linux/kernel") == "kernel one"
    assert "linux/kernel" in lab.served("tftp", "pxelinux.cfg/01-52-54-00-12-34-56")


def test_a_release_of_an_older_build_is_rendered_and_one_of_a_newer_build_is_refused(lab: Lab) -> None:
    lab.run("fetch")
    first = lab.json("publish")["id"]
    place = lab.place / "state/boot/releases" / f"{first}.json"
    release = records.decode(place.read_bytes())

    def remade(change: Callable[[dict[str, Any]], None]) -> str:
        plan = json.loads(json.dumps(release.plan))
        change(plan["manifest"])
        made = records.make(release.created, release.note, list(release.files), plan)
        (place.parent / f"{made.id}.json").write_bytes(records.encode(made))
        return made.id

    older = remade(lambda manifest: manifest["profiles"][0].pop("confirm"))
    assert lab.json("rollback", older)["id"] == older
    newer = remade(lambda manifest: manifest["profiles"][0].update(flavour="x"))
    code, _, err = lab.run("rollback", newer)
    assert code == 1 and "was made by another build" in err
    assert lab.json("releases")["overlay"] == 2


def test_what_machines_would_not_boot_from_is_not_published(lab: Lab) -> None:
    lab.run("fetch")
    first = lab.json("publish")["id"]
    (lab.place / "loaders" / "ldlinux.c32").unlink()
    assert lab.run("fetch")[0] == 0
    code, _, err = lab.run("publish")
    assert code == 2 and "ldlinux.c32" in err
    assert lab.json("releases")["releases"][0]["id"] == first


def test_a_change_of_a_machine_is_served_at_once(lab: Lab) -> None:
    lab.run("fetch")
    assert lab.run("host", "set", "52:54:00:00:00:09", "--profile", "one")[0] == 0  # nothing is published yet
    lab.run("publish")
    assert "linux/kernel" in lab.served("tftp", "pxelinux.cfg/01-52-54-00-00-00-09")
    code, _, err = lab.run("host", "set", "52:54:00:00:00:0a", "--profile", "one")
    assert code == 0 and "is served, overlay 2" in err
    assert "linux/kernel" in lab.served("tftp", "pxelinux.cfg/01-52-54-00-00-00-0a")
    assert lab.run("host", "rm", "52:54:00:00:00:09")[0] == 0
    with pytest.raises(FileNotFoundError):
        lab.served("tftp", "pxelinux.cfg/01-52-54-00-00-00-09")
    manifest = (lab.place / "boot.yaml").read_text()
    (lab.place / "boot.yaml").write_text(
        manifest.replace("profiles: {one:", "profiles: {two: {kernel: linux/kernel}, one:")
    )
    code, _, err = lab.run("host", "set", "52:54:00:00:00:0b", "--profile", "two")
    assert code == 0 and ": the release has no profile two (appliance boot publish)" in err
    assert lab.run("publish")[0] == 0
    assert "linux/kernel" in lab.served("tftp", "pxelinux.cfg/01-52-54-00-00-00-0b")


def test_what_is_armed_goes_to_the_keeper_with_its_files(lab: Lab) -> None:
    keeper = lab.place / "state" / "armed"
    lab.run("fetch")
    lab.run("publish")
    code, _, err = lab.run("host", "set", "52:54:00:00:00:0c", "--profile", "one", "--once")
    assert code == 0 and "was not handed" not in err
    [key] = [path.stem for path in keeper.iterdir()]
    assert "linux/kernel" in lab.served("tftp", "once/pxelinux.cfg/01-52-54-00-00-00-0c")
    assert f"{key} pxelinux.cfg/01-52-54-00-00-00-0c\n" in lab.served("tftp", "once/.index")


def test_a_secret_stands_in_the_files_of_an_armed_machine_and_nowhere_else(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in releases, records, machines, backups, nor in what any verb says."""
    secret = "$6$salt$" + "Tr0ub4dor" * 4
    (lab.place / "secrets.yaml").write_text(f"root: {secret}\n")
    (lab.place / "secrets.yaml").chmod(0o600)
    lab.manifest(
        "kernel one",
        f"secrets: {lab.place}/secrets.yaml\n"
        "templates: {ks: {text: 'rootpw --iscrypted {{ secret.root }}'}}\n"
        "files: [{path: 'ks-{{ machine.name }}.cfg', template: ks}]\n",
    )
    said = ""

    def run(*arguments: str) -> None:
        nonlocal said
        code, out, err = lab.run(*arguments)
        assert code == 0, err
        said += out + err

    def holders() -> set[str]:
        found = {path for path in lab.place.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()}
        return {str(path.relative_to(lab.place)) for path in found} - {"secrets.yaml"}

    run("fetch")
    run("publish")
    assert holders() == set()
    run("host", "set", "52:54:00:00:00:0c", "--name", "web2", "--profile", "one", "--once")
    run("publish")
    for verb in ("plan", "explain web2 --arch bios", "host list", "releases"):
        run(*verb.split())
        run(*verb.split(), "--json")
    root = "tftp/.releases/overlay-"
    assert holders() == {f"{root}{number}/once/ks-web2.cfg" for number in (2, 3)}
    assert main(["backup", str(tmp_path / "b.tar"), "-c", str(lab.config)]) == 0
    assert main(["check", "-c", str(lab.config)]) in (0, 2)
    said += "".join(capsys.readouterr())
    assert "web2" in said and secret not in said and "Tr0ub4dor" not in said
    assert holders() == {f"{root}{number}/once/ks-web2.cfg" for number in (2, 3)}  # none in the backup
    run("host", "rm", "web2")
    assert f"{root}4/once/ks-web2.cfg" not in holders()


def test_gc_leaves_what_is_served_and_what_the_manifest_has(lab: Lab) -> None:
    for content in ("one", "two", "three", "four"):
        lab.manifest(content)
        lab.run("fetch")
        lab.run("publish")
    retired = lab.place / "state/boot/retired"
    retired.write_text(json.dumps(dict.fromkeys(json.loads(retired.read_text()), 1)))  # long ago
    gone = lab.json("gc", "--keep", "1")
    assert len(gone["releases"]) == 3 and gone["contents"] >= 3
    assert len(lab.json("releases")["releases"]) == 1 and lab.served("tftp", "linux/kernel") == "four"
    assert lab.run("gc")[1].startswith("removed 0 releases and 0 contents")
    assert lab.json("publish")["unchanged"]


def test_a_source_that_fails_changes_nothing_and_exits_1(lab: Lab) -> None:
    lab.run("fetch")
    first = lab.json("publish")["id"]
    (lab.place / "kernel").unlink()
    code, out, err = lab.run("fetch")
    assert code == 1 and "kernel: FAILED: cannot open" in out and "1 of 2 failed; what is served has not changed" in err
    code, out, _ = lab.run("fetch", "--json")
    assert code == 1 and json.loads(out)["sources"][0]["state"] == "failed"
    assert lab.json("releases")["releases"][0]["id"] == first


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("fetch", "nothing"), 1, "the manifest takes nothing from nothing (it has: kernel, loaders)"),
        (("publish",), 1, "not fetched yet: kernel, loaders (appliance boot fetch)"),
        (("rollback", "x"), 1, "is not the id of a release"),
        (("rollback", "20260101-000000-0123abcd"), 1, "there is no release 20260101-000000-0123abcd"),
        (("diff", "20260101-000000-0123abcd"), 1, "nothing is published"),
        (("gc", "--keep", "0"), 2, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_done_is_told(lab: Lab, arguments: tuple[str, ...], code: int, told: str) -> None:
    found, _, err = lab.run(*arguments)
    assert found == code and told in err


def test_an_empty_place_is_told(lab: Lab) -> None:
    assert "nothing was published" in lab.run("releases")[1]
    os.unlink(lab.place / "boot.yaml")
    code, _, err = lab.run("fetch")
    assert code == 2 and "boot.yaml" in err
