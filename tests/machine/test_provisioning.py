"""`systemctl start appliance-boot` on an installed machine: fetched without root, published without network, served."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator

import pytest

from tests.boot.mirror import keys
from tests.boot.test_unpacking import Archive
from tests.machine.guest import HERE, Guest
from tests.machine.packages import build
from tests.support import needs_root, until

pytestmark = [
    *needs_root,
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("systemd-nspawn") and shutil.which("mmdebstrap")), reason="needs nspawn"),
]
RELEASES = ["bookworm", pytest.param("trixie", marks=pytest.mark.exhaustive)]
KERNEL, RAMDISK = b"kernel" * 100_000, b"ramdisk" * 10_000
UNITS = ("appliance-boot", "appliance-boot-fetch")
CONFIG = "boot: {enabled: true, fetch: {tries: 1, apt: /opt/archive/etc}}\n"
MANIFEST = """\
server: 192.0.2.1
sources:
  kernel: {{url: "http://mirror.test:8099/kernel", sha256: {kernel}}}
  ramdisk:
    url: http://mirror.test:8099/ramdisk
    sums: {{url: "http://mirror.test:8099/SUMS", signature: "http://mirror.test:8099/SUMS.gpg",
           keyring: /opt/archive/key.gpg}}
  loader: {{deb: loader}}
  notes: {{file: /opt/notes, unverified: true}}
tree:
  - {{from: kernel, to: linux/kernel, in: both}}
  - {{from: ramdisk, to: linux/ramdisk}}
  - {{from: loader, take: usr/lib/, to: /}}
  - {{from: notes, to: notes}}
loaders: {{bios: {{file: pxelinux.0, kind: pxelinux}}}}
templates: {{answers: {{text: "word {{{{ secret.WORD }}}}\\n"}}}}
profiles:
  disk: {{action: local}}
  install:
    kernel: linux/kernel
    initrd: linux/ramdisk
    answers: {{answers.txt: {{template: answers}}}}
default: disk
secrets: /etc/appliance/secrets.yaml
"""


@pytest.fixture(scope="module", params=RELEASES)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """Installed, with a mirror and an archive of APT inside."""
    place = tmp_path_factory.mktemp("provisioning")
    archive = Archive(place / "archive")
    loaders = {f"usr__lib__{name}": b"loads" for name in ("pxelinux.0", "ldlinux.c32", "menu.c32", "libutil.c32")}
    archive.add("loader", "1", **loaders)
    guest = Guest(request.param)
    try:
        with keys(place / "key") as key:
            archive.publish(key)
            sums = f"{hashlib.sha256(RAMDISK).hexdigest()}  ramdisk\n".encode()
            mirror = {"kernel": KERNEL, "ramdisk": RAMDISK, "SUMS": sums, "SUMS.gpg": key.sign(sums)}
            shutil.copy(key.public, archive.place / "key.gpg")
        (archive.etc / "sources.list").write_text("deb [signed-by=/opt/archive/key.gpg] file:/opt/archive ./\n")
        shutil.copytree(archive.place, guest.file("/opt/archive"))
        guest.file("/opt/mirror").mkdir()
        for name, content in mirror.items():
            guest.file(f"/opt/mirror/{name}").write_bytes(content)
        guest.file("/opt/notes").write_text("notes")
        guest.boot()
        guest.shell("chmod -R a+rX /opt; echo 127.0.0.1 mirror.test >>/etc/hosts")
        guest.install(build(place))
        guest.file("/etc/appliance/conf.d/boot.yaml").write_text(CONFIG)
        guest.file("/etc/appliance/boot.yaml").write_text(MANIFEST.format(kernel=hashlib.sha256(KERNEL).hexdigest()))
        guest.file("/etc/appliance/secrets.yaml").write_text("WORD: open-sesame\n")
        guest.shell("chmod 0600 /etc/appliance/secrets.yaml; systemctl restart appliance")
        guest.serves()
        serve = ["python3", "-m", "http.server", "-b", "127.0.0.1", "-d", "/opt/mirror", "8099"]
        guest.run("systemd-run", "--unit=mirror", *serve)
        until(lambda: ":8099 " in guest.run("ss", "-lnt").stdout, 60, "the mirror")
        yield guest
    finally:
        guest.close()


def said(machine: Guest) -> str:
    words = [word for unit in UNITS for word in ("-u", unit)]
    return machine.run("journalctl", "--no-pager", "-o", "cat", *words).stdout


def test_it_is_off_as_it_is_installed_and_systemd_finds_no_fault(machine: Guest) -> None:
    assert machine.run("systemctl", "is-enabled", "appliance-boot.timer", check=False).stdout.strip() == "disabled"
    assert machine.run("systemctl", "is-active", "appliance-boot.timer", check=False).stdout.strip() == "inactive"
    units = [f"{unit}.service" for unit in UNITS]
    done = machine.run("systemd-analyze", "verify", "--man=no", *units, "appliance-boot.timer")
    assert (done.stdout, done.stderr) == ("", "")


def test_one_word_fetches_publishes_and_serves(machine: Guest) -> None:
    machine.run("appliance", "boot", "host", "set", "52:54:00:12:34:56", "--name", "web1", "--profile", "disk")
    machine.run("appliance", "boot", "host", "set", "web1", "--profile", "install", "--once")
    done = machine.run("systemctl", "start", "appliance-boot", check=False)
    assert done.returncode == 0, said(machine)
    assert "signed by" in said(machine) and "loader: fetched" in said(machine)
    assert "no running service was told" not in said(machine) and "was not handed" not in said(machine)
    for url in (f"tftp://{HERE}/linux/kernel", f"ftp://{HERE}/linux/kernel"):
        assert machine.fetch(url) == KERNEL
    assert machine.fetch(f"tftp://{HERE}/linux/ramdisk") == RAMDISK
    assert machine.fetch(f"tftp://{HERE}/pxelinux.0") == b"loads"
    assert machine.fetch(f"tftp://{HERE}/notes") == b"notes"


def test_what_is_armed_reached_the_keeper_and_the_secret_nobody_but_the_machine(machine: Guest) -> None:
    listed = json.loads(machine.run("appliance", "boot", "host", "list", "--json").stdout)
    assert "armed" in json.dumps(listed)
    assert b"linux/kernel" in machine.fetch(f"tftp://{HERE}/pxelinux.cfg/01-52-54-00-12-34-56")
    found = machine.shell("grep -rl open-sesame /var/lib/appliance /srv/appliance /var/log /var/cache || true")
    assert all("/once/" in path for path in found.split()), found


def test_who_writes_what_is_who_should(machine: Guest) -> None:
    foreign = "find {} ! -user appliance-boot ! -type l"
    assert machine.shell(foreign.format("/srv/appliance/*/.releases /var/lib/appliance/boot")) == ""
    # root by hand has the other folders, of other accounts, and goes on with the same store
    done = machine.run("appliance", "boot", "fetch", "kernel", "--json")
    assert json.loads(done.stdout)["sources"][0]["state"] == "unchanged"


def test_a_source_that_fails_leaves_all_as_it_was_and_the_unit_says_so(machine: Guest) -> None:
    before = machine.run("cat", "/var/lib/appliance/boot/current").stdout
    place = machine.file("/opt/mirror/kernel")
    place.write_bytes(b"another")
    machine.shell("rm -rf /var/cache/appliance-boot/*; sed -i 's/kernel\", sha256: ./kernel\", sha256: 0/' "
                  "/etc/appliance/boot.yaml")  # fmt: skip
    assert machine.run("systemctl", "start", "appliance-boot", check=False).returncode != 0
    assert "kernel: FAILED" in said(machine)
    assert machine.run("cat", "/var/lib/appliance/boot/current").stdout == before
    assert machine.fetch(f"tftp://{HERE}/linux/kernel") == KERNEL


def test_purging_takes_what_was_published_along(machine: Guest) -> None:
    machine.run("apt-get", "purge", "-y", "appliance")
    assert not machine.file("/srv/appliance").exists() and not machine.file("/var/cache/appliance-boot").exists()
    assert "appliance" not in machine.shell("cat /etc/passwd")
