"""Everything that is in the way of an installation or a start: each ends with a running appliance, or says what to do.

The tests share one machine, and each leaves it well.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine.guest import HERE, Guest
from tests.machine.packages import build
from tests.support import needs_root, until

pytestmark = [
    *needs_root,
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("systemd-nspawn") and shutil.which("mmdebstrap")), reason="needs nspawn"),
]
SMALL = b"a small file\n"
UNITS = "/etc/systemd/system"  # /run of the machine is not seen from here
DROP = f"{UNITS}/appliance.service.d/trouble.conf"
PLAIN = "/opt/plain"
ORDINARY = """\
confinement: {confinement}
state_dir: /opt/plain/state
run_dir: /opt/plain/run
tftp: {{root: /opt/plain/tree, listen: ["0.0.0.0:6969"], workers: 1}}
ftp: {{enabled: false}}
"""
_other_dnsmasq = ("dnsmasq", "--keep-in-foreground", "--port=0", "--enable-tftp", "--tftp-root=/srv", "--user=root",
                  "--conf-file=/dev/null", "--pid-file")  # fmt: skip


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def machine(package: Path) -> Iterator[Guest]:
    """With the package, which came to a machine whose port 69 was taken."""
    guest = Guest("trixie")
    try:
        guest.boot()
        guest.run("systemd-run", "--unit=other", *_other_dnsmasq)
        until(lambda: ":69 " in guest.run("ss", "-lnu").stdout, 60, "dnsmasq")
        guest.install(package)
        guest.run("systemctl", "stop", "other")
        shutil.copy(package, guest.file("/root/again.deb"))
        yield guest
    finally:
        guest.close()


@contextmanager
def trouble(machine: Guest, *unit: str) -> Iterator[Callable[[], str]]:
    """With lines for the unit; afterwards they are gone, and it serves. Gives what the unit says meanwhile."""
    place = machine.file(DROP)
    if unit:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("\n".join(("[Service]", *unit, "")))
        machine.run("systemctl", "daemon-reload")
    try:
        yield machine.since()
    finally:
        machine.run("systemctl", "stop", "appliance", check=False)
        place.unlink(missing_ok=True)
        machine.shell("systemctl daemon-reload; systemctl reset-failed appliance", check=False)
    machine.run("systemctl", "start", "appliance")
    serves(machine)


def serves(machine: Guest) -> None:
    machine.serves()
    assert machine.fetch(f"tftp://{HERE}/small") == SMALL
    assert machine.fetch(f"ftp://{HERE}/small") == SMALL


def refused(machine: Guest, said: Callable[[], str], *words: str) -> None:
    """A start fails, and the journal says all of this."""
    assert machine.run("systemctl", "restart", "appliance", check=False).returncode != 0
    until(lambda: all(word in said() for word in words), 120, f"{words} in {said()}")


def once(machine: Guest, *words: str) -> tuple[bool, str]:
    """Run a program as a unit to its end (systemd-run, without its --wait: that takes D-Bus): success, what it said."""
    read = machine.since("once")
    done = machine.run("systemd-run", "--unit=once", "--service-type=oneshot", *words, check=False)
    machine.run("systemctl", "reset-failed", "once", check=False)
    return done.returncode == 0, read()


def test_a_port_that_is_taken_is_told_by_the_installation_which_is_complete_all_the_same(machine: Guest) -> None:
    said = machine.installed
    assert "appliance: installed, and not running. What is in the way:" in said
    assert "udp port 69 is taken by dnsmasq (pid " in said
    assert "take enable-tftp out of its configuration and restart other.service" in said
    assert machine.run("dpkg-query", "-W", "-f", "${Status}", "appliance").stdout == "install ok installed"
    machine.run("systemctl", "reset-failed", "appliance", check=False)
    machine.run("systemctl", "start", "appliance")
    for name in ("tftp", "ftp"):
        machine.file(f"/srv/appliance/{name}/small").write_bytes(SMALL)
    serves(machine)


def test_a_port_that_a_socket_of_systemd_holds_is_told_as_such(machine: Guest) -> None:
    units = machine.file(UNITS)
    (units / "in-the-way.socket").write_text("[Socket]\nListenStream=21\n")
    (units / "in-the-way.service").write_text("[Service]\nExecStart=/bin/cat\n")
    with trouble(machine) as said:
        machine.shell("systemctl daemon-reload; systemctl stop appliance; systemctl start in-the-way.socket")
        try:
            refused(machine, said, "tcp port 21 is taken by systemd (pid 1)", "systemctl list-sockets")
            assert "in-the-way.socket" in machine.run("systemctl", "list-sockets", "--no-pager").stdout
        finally:
            machine.run("systemctl", "stop", "in-the-way.socket")
            machine.shell(f"rm {UNITS}/in-the-way.*")


STEPS = ["systemd-sysusers", "systemd-tmpfiles", "py3compile", "deb-systemd-helper", "systemctl", "deb-systemd-invoke"]


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_of_the_installation_is_mended_by_dpkg(machine: Guest, step: str) -> None:
    trap, reached = machine.file(f"/root/trap/{step}"), machine.file("/root/reached")
    trap.parent.mkdir(exist_ok=True)
    reached.unlink(missing_ok=True)
    trap.write_text("#!/bin/sh\ntouch /root/reached\nexec sleep 600\n")
    trap.chmod(0o755)
    try:
        path = "PATH=/root/trap:/usr/sbin:/usr/bin:/sbin:/bin"
        machine.run("systemd-run", "--unit=installing", "--setenv", path, "dpkg", "-i", "/root/again.deb")
        until(reached.exists, 120, f"{step}: {machine.run('journalctl', '-u', 'installing', '-o', 'cat').stdout}")
        machine.run("systemctl", "kill", "--signal=KILL", "installing")
        until(lambda: machine.run("systemctl", "is-active", "installing", check=False).returncode, 60, "killed")
    finally:
        trap.unlink()
        machine.run("systemctl", "reset-failed", "installing", check=False)
    assert "appliance" in machine.run("dpkg", "--audit").stdout
    assert machine.fetch(f"tftp://{HERE}/small") == SMALL, "what ran goes on"
    machine.run("dpkg", "--configure", "-a")
    assert machine.run("dpkg", "--audit").stdout == ""
    assert machine.run("systemctl", "is-enabled", "appliance").stdout.strip() == "enabled"
    serves(machine)


def test_a_disk_that_is_full_during_the_installation_leaves_the_old_one_and_the_next_try_works(
    machine: Guest, package: Path
) -> None:
    library = "/usr/lib/appliance"
    machine.shell(f"mount -t tmpfs -o size=4m tmpfs {library}")
    try:
        done = machine.run("dpkg", "-i", "/root/again.deb", check=False)
        assert done.returncode != 0 and "No space left on device" in done.stdout + done.stderr
    finally:
        machine.run("umount", library)
    machine.install(package)
    assert machine.run("dpkg", "--audit").stdout == ""
    serves(machine)


def test_a_full_disk_of_the_state_is_told_and_serves_on(machine: Guest) -> None:
    state = "/var/lib/appliance"
    with trouble(machine):
        machine.shell(f"systemctl stop appliance; mount -t tmpfs -o size=64k,mode=0755 tmpfs {state}")
        try:
            machine.shell(f"head -c 1M /dev/zero > {state}/filled", check=False)
            machine.run("systemctl", "start", "appliance")
            serves(machine)
            assert f"free for {state}" in machine.run("appliance", "check", check=False).stdout
        finally:
            machine.run("systemctl", "stop", "appliance")
            machine.run("umount", state)


def test_a_kernel_without_landlock_serves_and_check_says_which_layer_is_missing(machine: Guest) -> None:
    calls = "landlock_create_ruleset landlock_add_rule landlock_restrict_self"
    with trouble(machine, "SystemCallErrorNumber=ENOSYS", f"SystemCallFilter=~{calls}"):
        machine.run("systemctl", "restart", "appliance")
        serves(machine)
        workers = [w["confinement"] for one in machine.status()["services"].values() for w in one["workers"]]
        assert {(w["level"], w["landlock"]) for w in workers} == {("full", 0)}
    words = (f"--property=SystemCallFilter=~{calls}", "--property=SystemCallErrorNumber=ENOSYS")
    _, said = once(machine, *words, "/usr/bin/appliance", "check")
    assert "this kernel has no Landlock" in said and "boot it with lsm=landlock" in said


def test_a_container_without_chroot_is_told(machine: Guest) -> None:
    with trouble(machine, "CapabilityBoundingSet=~CAP_SYS_CHROOT") as said:
        refused(machine, said, "CAP_SYS_CHROOT", "best-effort")


def test_an_ordinary_user_without_user_namespaces_is_told_and_serves_with_what_there_is(machine: Guest) -> None:
    machine.shell(f"install -d -m 0755 -o nobody {PLAIN} {PLAIN}/tree; echo plain > {PLAIN}/tree/plain")
    config = machine.file(f"{PLAIN}/a.yaml")
    program = ("/usr/bin/appliance", "run", "-c", f"{PLAIN}/a.yaml")
    words = ("--uid=nobody", "--property=RestrictNamespaces=yes")
    config.write_text(ORDINARY.format(confinement="required"))
    well, said = once(machine, *words, *program)
    assert not well and "or set confinement: best-effort" in said and "user namespace" in said, said
    config.write_text(ORDINARY.format(confinement="best-effort"))
    machine.run("systemd-run", "--unit=plain", *words, *program)
    try:
        until(lambda: ":6969 " in machine.run("ss", "-lnu").stdout, 60, "it listens")
        assert machine.fetch(f"tftp://{HERE}:6969/plain") == b"plain\n"
    finally:
        machine.run("systemctl", "stop", "plain")


def test_a_missing_srv_is_told_with_the_folder_to_make(machine: Guest) -> None:
    with trouble(machine) as said:
        machine.shell("mv /srv /away")
        try:
            refused(machine, said, "install -d -m 0755 /srv/appliance/tftp", "install -d -m 0755 /srv/appliance/ftp")
        finally:
            machine.shell("mv /away /srv")


@pytest.mark.parametrize(
    ("damage", "words", "mend"),
    [
        ("chown appliance-tftp /srv/appliance/tftp", "can be written by its worker (uid 64610)",
         "chown root:root /srv/appliance/tftp; chmod go-w /srv/appliance/tftp"),
        ("chmod 0700 /srv/appliance/ftp", "cannot be read by uid 64611", "chmod a+rx /srv/appliance/ftp"),
        ("chmod 0777 /var/lib/appliance", "can be written by everybody", ""),
        ("chown 12345 /var/lib/appliance", "belongs to uid 12345", ""),
    ],
)  # fmt: skip
def test_a_wrong_owner_is_told_with_the_command_that_mends_it_or_is_mended_by_systemd(
    machine: Guest, damage: str, words: str, mend: str
) -> None:
    with trouble(machine):
        machine.shell(damage)
        said = machine.run("appliance", "check", check=False).stdout
        assert words in said and mend in said
        machine.run("systemctl", "restart", "appliance")
        machine.serves()
        machine.shell(mend)
        serves(machine)
        assert words not in machine.run("appliance", "check", check=False).stdout


def test_a_root_that_is_read_only_serves_and_check_tells_what_cannot_be_written(machine: Guest) -> None:
    machine.reboot("--read-only")
    try:
        serves(machine)
        assert "/var/lib/appliance cannot be written" in machine.run("appliance", "check", check=False).stdout
    finally:
        machine.reboot()
    serves(machine)
