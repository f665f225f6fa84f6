"""The package on a fresh Debian machine with systemd as process 1: installed, used, broken, upgraded, removed.

The tests of this file follow each other on one machine: each begins where the one before it left off.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.wiring import FIXED_UIDS
from tests.machine.guest import HERE, HERE6, Guest
from tests.machine.packages import build
from tests.support import needs_root, until

pytestmark = [
    *needs_root,
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("systemd-nspawn") and shutil.which("mmdebstrap")), reason="needs nspawn"),
]
RELEASES = ["bookworm", "trixie"]
ROOT = "/srv/appliance"
BIG = bytes(range(256)) * 4096 * 8  # 8 MiB
KERNEL = BIG[: 3 << 20]
UPLOADS = "drain_timeout: 3m\nftp:\n  incoming: {enabled: true}\n"


@pytest.fixture(scope="module", params=RELEASES)
def machine(request: pytest.FixtureRequest) -> Iterator[Guest]:
    guest = Guest(request.param)
    try:
        guest.boot()
        yield guest
    finally:
        guest.close()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("first"), "--version", "0.1")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("second"), "--version", "0.2")


def test_one_command_installs_it_and_it_serves(machine: Guest, first: Path) -> None:
    said = machine.install(first)
    assert "not running" not in said
    machine.serves()
    assert machine.run("systemctl", "is-enabled", "appliance").stdout.strip() == "enabled"
    assert machine.run("systemctl", "show", "-P", "StatusText", "appliance").stdout.startswith("Serving ")
    status = machine.status()
    levels = {w["confinement"]["level"] for one in status["services"].values() for w in one["workers"]}
    assert levels == {"full"}
    assert status["problems"] == []
    assert "error" not in machine.run("appliance", "check").stdout
    for name in ("tftp", "ftp"):
        machine.file(f"{ROOT}/{name}/big.bin").write_bytes(BIG)
    machine.file(f"{ROOT}/tftp/kernel").write_bytes(KERNEL)
    assert "confine" in machine.shell("find /usr/lib/appliance -name '*.pyc'"), "compiled once, not at every start"
    for name, uid in FIXED_UIDS.items():
        assert machine.run("id", "-u", name).stdout.strip() == str(uid)


def test_the_unit_holds_the_supervisor_in_this_systemd_too(machine: Guest) -> None:
    assert machine.run("systemd-analyze", "verify", "--man=no", "appliance.service").stderr == ""
    pid = machine.run("systemctl", "show", "-P", "MainPID", "appliance").stdout.strip()
    status = machine.run("cat", f"/proc/{pid}/status").stdout
    held = next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd"))
    assert int(held, 16) == sum(1 << bit for bit in (0, 5, 6, 7, 8, 10, 18)), "capabilities(7), by their numbers"
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status


def test_a_client_fetches_by_tftp_and_by_ftp_passive_and_active(machine: Guest) -> None:
    assert machine.fetch(f"tftp://{HERE}/big.bin") == BIG
    for host in (HERE, f"[{HERE6}]"):
        assert machine.fetch(f"ftp://{host}/big.bin") == BIG
        assert machine.fetch(f"ftp://{host}/big.bin", "--ftp-port", "-") == BIG
    assert machine.fetch(f"tftp://[{HERE6}]/big.bin") == BIG
    assert b"big.bin" in machine.fetch(f"ftp://{HERE}/", "--list-only")


def test_the_journal_has_every_event_with_its_fields(machine: Guest) -> None:
    machine.fetch(f"tftp://{HERE}/kernel")
    ask = ("journalctl", "--no-pager", "-u", "appliance", "-o", "json", "EVENT=transfer", "FILE=kernel")

    def entries() -> list[dict[str, str]]:
        return [json.loads(line) for line in machine.run(*ask, check=False).stdout.splitlines()]

    entry = until(entries, 120, "an entry of the transfer")[-1]
    assert (entry["APPLIANCE_ROOM"], entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == ("tftp", "6", "appliance")
    assert (entry["OUTCOME"], entry["BYTES"]) == ("done", str(len(KERNEL)))
    assert entry["MESSAGE"].startswith("tftp[") and "file=kernel" in entry["MESSAGE"]
    assert entry["_UID"] == str(FIXED_UIDS["appliance-tftp"])


def test_a_hook_runs_under_the_unit_and_nothing_of_it_stays(machine: Guest) -> None:
    hook = machine.file("/etc/appliance/conf.d/hooks.yaml")
    program = 'import os, sys; open("told", "a").write(sys.stdin.read())'
    words = ["/bin/sh", "-c", f"sleep 1000 & exec /usr/bin/python3 -I -c '{program}'"]
    hook.write_text(f"observe: {{hooks: [{{on: [reload], run: {json.dumps(words)}}}]}}\n")
    told = machine.file("/var/lib/appliance/hooks/told")
    try:
        machine.run("systemctl", "reload", "appliance")
        machine.serves()
        machine.run("systemctl", "reload", "appliance")
        until(lambda: told.exists() and '"hook":"reload"' in told.read_text(), 120, machine.journal())
        sleeps = ("sh", "-c", "grep -lsx sleep /proc/[0-9]*/comm")
        until(lambda: not machine.run(*sleeps, check=False).stdout, 120, "nothing of it is left")
        (worker,) = machine.status()["services"]["hooks"]["workers"]
        assert (worker["confinement"]["level"], worker["restarts"]) == ("full", 0)
        ask = ("journalctl", "--no-pager", "-u", "appliance", "-o", "json", "APPLIANCE_ROOM=supervisor", "EVENT=reload")
        until(lambda: machine.run(*ask, check=False).stdout, 120, "what the supervisor itself says has fields too")
    finally:
        hook.unlink()
        machine.run("systemctl", "reload", "appliance")


def test_a_reload_takes_uploads_up_and_a_client_uploads(machine: Guest) -> None:
    machine.file("/etc/appliance/conf.d/uploads.yaml").write_text(UPLOADS)
    machine.run("systemctl", "reload", "appliance")
    machine.file("/root/mine").write_text("mine")
    done = machine.outside("curl", "-sS", "-T", str(machine.file("/root/mine")), f"ftp://{HERE}/incoming/mine")
    assert done.returncode == 0, done.stderr
    assert machine.run("cat", f"{ROOT}/ftp/incoming/mine").stdout == "mine"
    found = machine.run("stat", "-c", "%U %a", f"{ROOT}/ftp/incoming").stdout.strip()
    assert found == "appliance-custody 700"
    assert machine.outside("curl", "-sS", f"ftp://{HERE}/incoming/mine").returncode != 0
    assert "mine" in machine.run("appliance", "incoming", "list").stdout


def test_a_wrong_configuration_is_refused_by_systemctl_reload_and_all_goes_on(machine: Guest) -> None:
    wrong = machine.file("/etc/appliance/conf.d/wrong.yaml")
    wrong.write_text("tftp: {windowsize_max: 0}\n")
    try:
        assert machine.run("systemctl", "reload", "appliance", check=False).returncode != 0
        assert "wrong.yaml:1" in machine.journal()
        assert machine.fetch(f"tftp://{HERE}/big.bin") == BIG
        assert machine.run("systemctl", "is-active", "appliance").stdout.strip() == "active"
    finally:
        wrong.unlink()
    machine.run("systemctl", "reload", "appliance")


def test_a_reload_under_load_drops_no_transfer(machine: Guest) -> None:
    storm = machine.storm("tftp", HERE, "kernel", "16")
    for turn in range(3):
        machine.file("/etc/appliance/conf.d/turn.yaml").write_text(f"tftp: {{windowsize_max: {32 + turn}}}\n")
        machine.run("systemctl", "reload", "appliance")
    machine.file("/etc/appliance/conf.d/turn.yaml").unlink()
    said = json.loads(storm.communicate(timeout=200)[0])
    assert (said["finished"], said["again"], said["errors"]) == (16, 0, []), said
    assert said["digests"] == [hashlib.sha256(KERNEL).hexdigest()]


def test_a_worker_that_is_killed_comes_back_and_nobody_else_notices(machine: Guest) -> None:
    before = machine.pids("tftp") | machine.pids("ftp")
    victim = min(machine.pids("ftp"))
    machine.shell(f"kill -9 {victim}")
    assert machine.fetch(f"ftp://{HERE}/big.bin") == BIG
    until(lambda: len(after := machine.pids("tftp") | machine.pids("ftp")) == len(before) and victim not in after, 30)


def test_a_full_disk_refuses_uploads_whole_and_serves_on(machine: Guest) -> None:
    box = f"{ROOT}/ftp/incoming"
    machine.shell(f"mount -t tmpfs -o size=4m,uid={FIXED_UIDS['appliance-custody']},mode=0700 tmpfs {box}")
    try:
        machine.run("systemctl", "restart", "appliance")
        machine.serves()
        done = machine.outside(
            "curl", "-sS", "-T", str(machine.file(f"{ROOT}/ftp/big.bin")), f"ftp://{HERE}/incoming/big"
        )
        assert done.returncode != 0
        assert machine.shell(f"ls -A {box}") == "", "nothing is left of it"
        assert machine.fetch(f"tftp://{HERE}/big.bin") == BIG
        assert "free" in machine.run("appliance", "check", check=False).stdout
    finally:
        machine.run("systemctl", "stop", "appliance")
        machine.run("umount", box)
        machine.run("systemctl", "start", "appliance")
    machine.serves()


def test_a_port_that_another_server_has_is_told_by_name_and_remedy(machine: Guest) -> None:
    machine.run("systemctl", "stop", "appliance")
    # sessions that ended a moment ago still hold the port for who does not reuse it
    code = "import socket,time; s=socket.create_server(('0.0.0.0',21), reuse_port=False); time.sleep(600)"
    machine.shell("cp /usr/bin/python3 /usr/local/bin/vsftpd")
    machine.run("systemd-run", "--unit=other", "/usr/local/bin/vsftpd", "-c", code)
    try:
        until(lambda: ":21 " in machine.run("ss", "-lnt").stdout, 20)
        assert machine.run("systemctl", "start", "appliance", check=False).returncode != 0
        until(lambda: "tcp port 21 is taken by vsftpd (pid" in machine.journal(), 120, machine.journal())
        assert "or write another port" in machine.journal()
    finally:
        machine.run("systemctl", "stop", "other")
        machine.run("systemctl", "stop", "appliance", check=False)
        machine.run("systemctl", "reset-failed", "appliance", check=False)
    machine.run("systemctl", "start", "appliance")
    machine.serves()


def test_a_missing_folder_is_told_with_the_command_that_mends_it(machine: Guest) -> None:
    machine.shell(f"mv {ROOT}/tftp {ROOT}/away")
    try:
        assert machine.run("systemctl", "restart", "appliance", check=False).returncode != 0
        until(lambda: f"install -d -m 0755 {ROOT}/tftp" in machine.journal(), 120, machine.journal())
    finally:
        machine.run("systemctl", "stop", "appliance", check=False)
        machine.shell(f"mv {ROOT}/away {ROOT}/tftp")
        machine.run("systemctl", "reset-failed", "appliance", check=False)
    machine.run("systemctl", "start", "appliance")
    machine.serves()


def test_after_a_reboot_it_serves_again_by_itself(machine: Guest) -> None:
    machine.reboot()
    machine.serves()
    assert machine.fetch(f"tftp://{HERE}/big.bin") == BIG
    assert "mine" in machine.run("appliance", "incoming", "list").stdout


def test_an_upgrade_in_a_boot_storm_lets_every_transfer_finish(machine: Guest, second: Path) -> None:
    storm = machine.storm("tftp", HERE, "kernel", "64")
    until(lambda: sum(w["active"] for w in machine.status()["services"]["tftp"]["workers"]) > 20, 30, "the storm")
    machine.install(second)
    said = json.loads(storm.communicate(timeout=240)[0])
    assert (said["finished"], said["again"]) == (64, 0), said
    assert said["digests"] == [hashlib.sha256(KERNEL).hexdigest()]
    print(f"boot storm over an upgrade: {said}")
    machine.serves()
    assert machine.run("dpkg-query", "-W", "-f", "${Version}", "appliance").stdout == "0.2"
    assert machine.file("/etc/appliance/conf.d/uploads.yaml").read_text() == UPLOADS, "the configuration stays"


def test_with_sockets_of_systemd_a_restart_refuses_nobody(machine: Guest) -> None:
    sockets = ("appliance-tftp.socket", "appliance-ftp.socket")
    machine.run("systemctl", "stop", "appliance")
    machine.run("systemctl", "enable", "--now", *sockets)
    machine.run("systemctl", "start", "appliance")
    machine.serves()
    knocking, storm = machine.storm("knock", HERE, "21", "12"), machine.storm("tftp", HERE, "kernel", "16")
    for _ in range(2):
        machine.run("systemctl", "restart", "appliance")
    said, booted = (json.loads(one.communicate(timeout=200)[0]) for one in (knocking, storm))
    print(f"restarts with sockets of systemd: {said}, {booted}")
    assert said["failed"] == 0 and said["greeted"] > 0, said
    assert (booted["finished"], booted["again"]) == (16, 0), booted
    assert machine.fetch(f"tftp://{HERE}/big.bin") == BIG
    machine.run("systemctl", "disable", "--now", *sockets)
    machine.run("systemctl", "restart", "appliance")
    machine.serves()


@pytest.mark.parametrize("variant", ["unprivileged", "socket-activated"])
def test_a_variant_without_root_serves_after_the_steps_it_names(machine: Guest, variant: str) -> None:
    example = f"/usr/share/appliance/examples/{variant}"
    drop = "/etc/systemd/system/appliance.service.d"
    sockets = "appliance-tftp.socket appliance-ftp.socket" if variant == "socket-activated" else ""
    machine.shell(
        f"set -e; systemctl stop appliance; mkdir -p {drop}; cp {example}/unit.conf {drop}/{variant}.conf; "
        f"cp {example}/confinement.yaml /etc/appliance/conf.d/; rm -f /etc/appliance/conf.d/uploads.yaml; "
        f"systemctl daemon-reload; systemctl start {sockets} appliance"
    )
    try:
        machine.serves()
        assert machine.fetch(f"tftp://{HERE}/big.bin") == BIG
        assert machine.fetch(f"ftp://{HERE}/big.bin") == BIG
        pid = machine.run("systemctl", "show", "-P", "MainPID", "appliance").stdout.strip()
        status = machine.run("cat", f"/proc/{pid}/status").stdout
        assert "Uid:\t64609\t64609\t64609" in status
    finally:
        machine.shell(
            f"systemctl stop appliance {sockets}; rm {drop}/{variant}.conf /etc/appliance/conf.d/confinement.yaml; "
            "systemctl daemon-reload; systemctl start appliance"
        )
    machine.serves()


def test_going_back_to_the_build_before_works_as_the_upgrade_did(machine: Guest, first: Path) -> None:
    machine.install(first)
    machine.serves()
    assert machine.run("dpkg-query", "-W", "-f", "${Version}", "appliance").stdout == "0.1"
    assert machine.fetch(f"tftp://{HERE}/big.bin") == BIG


def test_an_installation_that_was_cut_short_is_finished_by_dpkg(machine: Guest, second: Path) -> None:
    shutil.copy(second, machine.file("/root/again.deb"))
    machine.run("dpkg", "--unpack", "/root/again.deb")
    assert "half" in (said := machine.run("dpkg", "--audit").stdout) or "unpacked" in said
    machine.run("dpkg", "--configure", "-a")
    machine.serves()


def test_removing_keeps_the_configuration_and_purging_keeps_what_people_put_there(machine: Guest) -> None:
    machine.run("apt-get", "remove", "-y", "appliance")
    assert machine.outside("curl", "-sS", "--max-time", "5", f"ftp://{HERE}/").returncode != 0
    assert machine.file("/etc/appliance/appliance.yaml").exists()
    assert not machine.file("/usr/lib/appliance").exists(), "no compiled file is left either"
    done = machine.run("apt-get", "purge", "-y", "appliance")
    assert "/srv/appliance is kept" in done.stdout + done.stderr
    for path in ("/etc/appliance", "/var/lib/appliance", "/var/log/appliance", "/usr/lib/appliance"):
        assert not machine.file(path).exists()
    left = machine.shell("find /etc /usr /var/lib /run -xdev -name '*appliance*' -not -path '*/dpkg/*'")
    assert left == ""
    assert machine.file(f"{ROOT}/tftp/big.bin").exists()


def test_purging_what_nobody_used_leaves_nothing(machine: Guest, first: Path) -> None:
    machine.shell(f"rm -r {ROOT}")
    machine.install(first)
    machine.serves()
    machine.run("apt-get", "purge", "-y", "appliance")
    assert not machine.file(ROOT).exists()
    assert "appliance" not in machine.shell("cat /etc/passwd /etc/group")
