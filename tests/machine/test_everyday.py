"""What the package brings besides the service, really run: logs, log-in, bans, completion, firewall, instances, DHCP.

The tests share one machine, and each leaves it as it found it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
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
DROP = "/etc/systemd/system/appliance.service.d"
MORE = "/etc/appliance/conf.d/more.yaml"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    guest = Guest("trixie")
    try:
        guest.boot()
        guest.install(build(tmp_path_factory.mktemp("package")))
        guest.serves()
        for name in ("tftp", "ftp"):
            guest.file(f"/srv/appliance/{name}/small").write_bytes(SMALL)
        yield guest
    finally:
        guest.close()


@pytest.fixture
def more(machine: Guest) -> Iterator[Path]:
    """A file of configuration that is gone afterwards, with whatever drop-ins there were."""
    place = machine.file(MORE)
    yield place
    place.unlink(missing_ok=True)
    machine.shell(f"rm -rf {DROP}; systemctl daemon-reload; systemctl restart appliance")
    machine.serves()


def test_logrotate_begins_a_new_file_and_replaces_no_worker(machine: Guest, more: Path) -> None:
    log = "/var/log/appliance/xferlog"
    more.write_text(f"observe: {{xferlog: {log}}}\n")
    machine.run("systemctl", "reload", "appliance")
    workers = machine.pids("ftp")
    assert machine.fetch(f"ftp://{HERE}/small") == SMALL
    until(lambda: "/small" in machine.file(log).read_text(), 60, "the first line")
    machine.run("logrotate", "--force", "/etc/logrotate.d/appliance")
    before = machine.file(f"{log}.1").read_text()
    assert before.count("/small") == 1
    assert machine.fetch(f"ftp://{HERE}/small") == SMALL
    until(
        lambda: machine.file(log).exists() and "/small" in machine.file(log).read_text(), 60, "a line in the new file"
    )
    assert machine.file(f"{log}.1").read_text() == before, "nothing goes on in the old one"
    assert machine.pids("ftp") == workers
    machine.fetch(f"ftp://{HERE}/small")
    machine.run("logrotate", "--force", "/etc/logrotate.d/appliance")
    assert machine.file(f"{log}.2.gz").exists()


def test_who_logs_in_is_told_addresses_and_state(machine: Guest) -> None:
    said = machine.run("run-parts", "/etc/update-motd.d").stdout
    for words in ("tftp", "ftp", HERE, "2001:db8::1", "appliance status"):
        assert words in said, said
    machine.run("systemctl", "stop", "appliance")
    try:
        assert "not running" in machine.run("run-parts", "/etc/update-motd.d").stdout
    finally:
        machine.run("systemctl", "start", "appliance")
    machine.serves()


def test_the_jail_of_fail2ban_bans_who_tries_accounts_and_nobody_else(machine: Guest) -> None:
    jail = "[sshd]\nenabled = false\n[appliance-ftp]\nenabled = true\nmaxretry = 3\nbanaction = nftables-multiport\n"
    machine.file("/etc/fail2ban/jail.d/zz.local").write_text(jail)
    machine.run("systemctl", "restart", "fail2ban")
    try:
        asked = ("fail2ban-client", "status", "appliance-ftp")
        until(lambda: machine.run(*asked, check=False).returncode == 0, 60, "the jail")
        bad = ["curl", "-sS", "--max-time", "20", "--interface", "192.0.2.9", "-u", "bob:secret", f"ftp://{HERE}/"]
        for _ in range(4):
            machine.outside(*bad)
        until(lambda: "192.0.2.9" in machine.run(*asked).stdout, 60, "the ban")
        assert "192.0.2.9" in machine.run("nft", "list", "ruleset").stdout
        done = machine.outside("curl", "-sS", "--connect-timeout", "5", "--interface", "192.0.2.9", f"ftp://{HERE}/")
        assert done.returncode != 0
        assert machine.fetch(f"ftp://{HERE}/small", "--interface", "192.0.2.10") == SMALL
    finally:
        machine.run("systemctl", "stop", "fail2ban")
        machine.run("nft", "flush", "ruleset")
        machine.run("appliance", "ban", "remove", "192.0.2.9", check=False)


def test_completion_offers_verbs_and_options(machine: Guest) -> None:
    code = (
        "source /usr/share/bash-completion/completions/appliance; "
        "COMP_WORDS=(appliance sta); COMP_CWORD=1; _appliance; echo ${COMPREPLY[@]}; "
        "COMP_WORDS=(appliance status --w); COMP_CWORD=2; _appliance; echo ${COMPREPLY[@]}"
    )
    assert machine.run("bash", "-c", code).stdout.split() == ["status", "--wait"]


def test_a_second_instance_serves_beside_the_first_and_has_its_own_life(machine: Guest) -> None:
    machine.file("/etc/appliance/second.yaml").write_text(
        "state_dir: /var/lib/appliance-second\nrun_dir: /run/appliance-second\n"
        'tftp: {root: /srv/second, listen: ["0.0.0.0:6969"]}\n'
        'ftp: {root: /srv/second, listen: ["0.0.0.0:2121"], passive_ports: "51000-51999", limits: {sessions: 500}, '
        "active: {source_port: 0}}\n"
    )
    machine.shell("install -d -m 0755 /srv/second; echo another > /srv/second/other")
    try:
        machine.run("systemctl", "enable", "--now", "appliance@second")
        assert machine.fetch(f"tftp://{HERE}:6969/other") == b"another\n"
        assert machine.fetch(f"ftp://{HERE}:2121/other") == b"another\n"
        assert machine.fetch(f"ftp://{HERE}/small") == SMALL
        machine.run("systemctl", "reload", "appliance@second")
        machine.run("systemctl", "stop", "appliance")
        assert machine.fetch(f"ftp://{HERE}:2121/other") == b"another\n"
        machine.run("systemctl", "start", "appliance")
        assert machine.run("systemctl", "show", "-P", "StatusText", "appliance@second").stdout.startswith("Serving ")
    finally:
        machine.run("systemctl", "disable", "--now", "appliance@second", check=False)
        machine.shell("rm -rf /etc/appliance/second.yaml /srv/second")
    machine.serves()


def test_the_drop_in_of_networks_is_what_systemd_takes(machine: Guest, more: Path) -> None:
    more.write_text('tftp: {allow: [192.0.2.0/24, "2001:db8::/64"]}\nftp: {allow: [192.0.2.0/24, "2001:db8::/64"]}\n')
    machine.shell(f"mkdir -p {DROP}; appliance firewall systemd > {DROP}/networks.conf; systemctl daemon-reload")
    assert machine.run("systemd-analyze", "verify", "--man=no", "appliance.service").stderr == ""
    machine.run("systemctl", "restart", "appliance")
    machine.serves()
    shown = {name: machine.run("systemctl", "show", "-P", name, "appliance").stdout.split()
             for name in ("IPAddressDeny", "IPAddressAllow")}  # fmt: skip
    assert set(shown["IPAddressDeny"]) == {"0.0.0.0/0", "::/0"}
    assert {"192.0.2.0/24", "2001:db8::/64", "127.0.0.0/8"} <= set(shown["IPAddressAllow"])
    assert machine.fetch(f"ftp://{HERE}/small") == SMALL


def test_the_generated_firewall_lets_in_what_is_served_and_nothing_else(machine: Guest) -> None:
    machine.run("systemd-run", "--unit=else", "python3", "-m", "http.server", "8080", "--bind", HERE)
    try:
        until(lambda: ":8080 " in machine.run("ss", "-lnt").stdout, 60, "the other server")
        assert machine.outside("curl", "-sS", "--max-time", "20", f"http://{HERE}:8080/").returncode == 0
        machine.shell("appliance firewall nft --table > /root/rules && nft -f /root/rules")
        assert "accept" in machine.run("nft", "list", "ruleset").stdout
        assert machine.fetch(f"tftp://{HERE}/small") == SMALL
        assert machine.fetch(f"ftp://{HERE}/small") == SMALL
        assert machine.fetch(f"ftp://{HERE}/small", "--ftp-port", "-") == SMALL
        assert machine.outside("curl", "-sS", "--connect-timeout", "3", f"http://{HERE}:8080/").returncode != 0
        said = machine.run("appliance", "doctor", "--as", "192.0.2.200", check=False).stdout
        assert "ok      tftp: answers at 192.0.2.1 port 69, asked by 192.0.2.200" in said, said
        assert "data connections come through" in said, said
    finally:
        machine.run("nft", "flush", "ruleset")
        machine.run("systemctl", "stop", "else")


def test_with_its_drop_in_dhcp_gives_addresses_and_says_where_to_boot_from(
    machine: Guest, more: Path, tmp_path: Path
) -> None:
    more.write_text("boot: {dhcp: range, dhcp_server: {interface: host0, range: 192.0.2.220-192.0.2.230}}\n")
    machine.shell(
        f"mkdir -p {DROP}; cp /usr/share/appliance/examples/dhcp/unit.conf {DROP}/dhcp.conf; systemctl daemon-reload; "
        "systemctl restart appliance"
    )
    machine.serves()
    found = machine.shell("for one in /proc/[0-9]*; do grep -qx dnsmasq $one/comm && cat $one/status; done; true")
    assert "Uid:\t64626\t64626\t64626\t64626" in found
    script, told = tmp_path / "script", tmp_path / "told"
    script.write_text(f"#!/bin/sh\n[ $1 = bound ] && env > {told}\nexit 0\n")
    script.chmod(0o755)
    words = ["busybox", "udhcpc", "-i", "lan0", "-n", "-q", "-t", "8", "-s", str(script), "-x", "0x5d:0007"]
    done = machine.outside(*words)
    assert done.returncode == 0, (done.stderr, machine.journal())
    lease = dict(line.split("=", 1) for line in told.read_text().splitlines() if "=" in line)
    assert 220 <= int(lease["ip"].rpartition(".")[2]) <= 230
    assert lease["siaddr"] == HERE
    said = machine.run("appliance", "doctor", "--dhcp", "host0", check=False).stdout
    assert f"dhcp: {HERE} on host0 offers 192.0.2.2" in said, said


def test_removing_the_package_stops_every_instance(machine: Guest) -> None:
    machine.file("/etc/appliance/second.yaml").write_text(
        "state_dir: /var/lib/appliance-second\nrun_dir: /run/appliance-second\nftp: {enabled: false}\n"
        'tftp: {listen: ["0.0.0.0:6969"]}\n'
    )
    supervisors = "grep -la 'appliance[.]supervise' /proc/[0-9]*/cmdline 2>/dev/null || true"
    machine.run("systemctl", "start", "appliance@second")
    assert len(machine.shell(supervisors).split()) == 2
    machine.run("apt-get", "remove", "-y", "appliance")
    assert machine.shell(supervisors) == ""
