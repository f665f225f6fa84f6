"""Configurations of tftpd-hpa, vsftpd and dnsmasq become ours; what does not is told with its line and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.migrate import dnsmasq, mapfile, tftpdhpa, vsftpd, write
from appliance.migrate.common import Imported
from appliance.settings import load
from appliance.settings.main import Settings
from appliance.tftp.files import Refusal
from appliance.tftp.remap import Remap
from tests.cli.conftest import Call

HPA = """\
# /etc/default/tftpd-hpa

TFTP_USERNAME="tftp"
TFTP_DIRECTORY="/srv/tftp"
TFTP_ADDRESS=":69"
TFTP_OPTIONS="--secure"
"""
HPA_RICH = """\
TFTP_USERNAME="tftp"
TFTP_DIRECTORY="/var/lib/tftpboot /srv/more"
TFTP_ADDRESS="192.0.2.1:6969"
TFTP_OPTIONS="-sc4 -R 50000:50999 --blocksize 1468 -r blksize2 -r tsize -T 500000 -m /etc/tftpd.map --umask 022 -vv"
"""
MAP = """\
ri	^[a-z]:				# Remove "drive letters"
rg	\\\\		/		# Convert backslashes to slashes
r	^[^/]		/tftpboot/\\0	# Convert non-absolute files
re	^/ppc/(.*)	ppc64/\\1
e	^ok/				# These are always ok
a	\\.pvt$				# Reject requests for private files
r	^x		\\U\\0
"""
VSFTPD = """\
listen=NO
listen_ipv6=YES
anonymous_enable=NO
local_enable=YES
dirmessage_enable=YES
use_localtime=YES
xferlog_enable=YES
connect_from_port_20=YES
secure_chroot_dir=/var/run/vsftpd/empty
pam_service_name=vsftpd
rsa_cert_file=/etc/ssl/certs/ssl-cert-snakeoil.pem
rsa_private_key_file=/etc/ssl/private/ssl-cert-snakeoil.key
ssl_enable=NO
"""
VSFTPD_RICH = """\
listen=YES
listen_address=192.0.2.1
listen_port=2121
anonymous_enable=YES
anon_root=/srv/mirror
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
chown_uploads=YES
chown_username=daemon
deny_file={*.exe,*.scr}
hide_file={.secret,lost+found}
pasv_min_port=50000
pasv_max_port=50999
pasv_address=198.51.100.7
port_enable=YES
max_clients=200
max_per_ip=4
anon_max_rate=500000
idle_session_timeout=120
data_connection_timeout=60
ftpd_banner=Mirror of things.
ssl_enable=YES
allow_anon_ssl=YES
force_anon_logins_ssl=YES
rsa_cert_file=/etc/ssl/mirror.pem
nonsense_enable=YES
pasv_promiscuous=YES
"""
DNSMASQ = """\
# Configuration file for dnsmasq.
port=53
domain-needed
listen-address=127.0.0.1,192.0.2.1
interface=eth0
dhcp-range=192.0.2.100,192.0.2.200,12h
dhcp-boot=pxelinux.0
enable-tftp
tftp-root=/var/ftpd
tftp-root=/var/other,eth1
tftp-lowercase
tftp-max=100
tftp-port-range=50000,50999
tftp-no-blocksize
tftp-secure
tftp-unique-root
"""


def settled(made: Imported) -> Settings:
    """What it says is a configuration that the appliance takes."""
    settings, _ = load.load([("imported", write.text(made, "old").encode())])
    return settings


def left(made: Imported) -> str:
    return "\n".join(map(str, made.left))


def test_what_debian_ships_for_tftpd_hpa_is_taken_over() -> None:
    made = tftpdhpa.convert("/etc/default/tftpd-hpa", HPA, lambda _: None)
    tftp = settled(made).tftp
    assert (tftp.root, tftp.listen, tftp.remap) == ("/srv/tftp", ("0.0.0.0:69", "[::]:69"), ())
    assert not settled(made).ftp.enabled
    assert [one.what for one in made.left] == ["TFTP_USERNAME"] and made.left[0].line == 3


def test_a_rich_tftpd_hpa_with_a_map_file() -> None:
    made = tftpdhpa.convert("old", HPA_RICH, {"/etc/tftpd.map": MAP}.get)
    tftp = settled(made).tftp
    assert tftp.root == "/var/lib/tftpboot"
    assert tftp.listen == ("192.0.2.1:6969",)
    assert tftp.port_range == "50000-50999"
    assert tftp.blksize_max == 1468
    assert tftp.timeout == 0.5
    assert (tftp.uploads.mode, tftp.uploads.bare_names) == ("replace", "into_path")
    assert {network.refuse_options for network in tftp.networks} == {("tsize",)}
    assert [(rule.match, rule.to, rule.then) for rule in tftp.remap] == [
        ("(?i)^[a-z]:", "", "continue"),
        ("^[^/]", r"tftpboot/\0", "continue"),
        ("^ppc/(.*)", r"ppc64/\1", "stop"),
        ("^ok/", r"\0", "stop"),
        (r"\.pvt$", r"\0", "refuse"),
    ]
    said = left(made)
    for words in ("/srv/more", "--umask 022", "--create", "tftpd.map:2: rg", "without any rule"):
        assert words in said
    assert "tftpd.map:7" in said and "case is not changed" in said
    assert "tftpd.map:5" not in said and "tftpd.map:6" not in said


def test_without_secure_a_rule_takes_the_folder_off_the_names() -> None:
    made = tftpdhpa.convert("old", HPA.replace("--secure", ""), lambda _: None)
    (rule,) = settled(made).tftp.remap
    assert (rule.match, rule.to) == ("^srv/tftp/", "")
    assert "no --secure" in left(made)


@pytest.mark.parametrize(
    ("address", "options", "listen"),
    [
        ("[::]:69", "-s", ["0.0.0.0:69", "[::]:69"]),
        ("[2001:db8::1]:69", "-s", ["[2001:db8::1]:69"]),
        (":tftp", "-s --ipv6", ["[::]:69"]),
        ("0.0.0.0", "-s -4", ["0.0.0.0:69"]),
    ],
)
def test_addresses_of_tftpd_hpa(address: str, options: str, listen: list[str]) -> None:
    text = HPA.replace(":69", address).replace("--secure", options)
    assert tftpdhpa.convert("old", text, lambda _: None).get("tftp.listen") == listen


def test_a_map_file_that_cannot_be_read_is_told() -> None:
    made = tftpdhpa.convert("old", HPA.replace("--secure", "--secure --map-file=/gone"), lambda _: None)
    assert "/gone: the file cannot be read" in left(made)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("r ^a b", {"match": "^a", "to": "b", "then": "continue"}),
        ("rie ^A b", {"match": "(?i)^A", "to": "b"}),
        ("r4 ^ v4/", {"match": "^", "to": "v4/", "networks": ["0.0.0.0/0"], "then": "continue"}),
        ("re6 ^ v6/", {"match": "^", "to": "v6/", "networks": ["::/0"]}),
        ("aP .", {"match": ".", "requests": "write", "then": "refuse"}),
        ("aG [.]key$", {"match": "[.]key$", "requests": "read", "then": "refuse"}),
        ("ra ^x y", {"match": "^x", "then": "refuse"}),
        ("e ^/ok/", {"match": "^ok/"}),
        ("r ^[[:alpha:]]: x", {"match": "^[A-Za-z]:", "to": "x", "then": "continue"}),
        (r"r [\]\.[]x] y", {"match": r"[\\]\.[\]x]", "to": "y", "then": "continue"}),
        ("r [^[:digit:][] y", {"match": r"[^0-9\[]", "to": "y", "then": "continue"}),
        (r"r \<boot\> y", {"match": r"\bboot\b", "to": "y", "then": "continue"}),
        (r"r a\[b c", {"match": r"a\[b", "to": "c", "then": "continue"}),
        (r"r a\ b c\#d", {"match": "a b", "to": "c#d", "then": "continue"}),
    ],
)
def test_operations_of_a_map_file_have_a_rule_of_ours(line: str, rule: dict[str, Any]) -> None:
    rules, left = mapfile.remap("map", line)
    assert (rules, left) == ([rule], [])
    made = Imported()
    made.put("tftp.remap", rules)
    assert len(settled(made).tftp.remap) == 1, "and the schema takes it"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("a~ ^pub/", "not what it is not: write a rule for the others; what it refused is served now"),
        ("rs ^a b", "no beginning anew"),
        ("s ^a", "no beginning anew"),
        ("as ^a", "no beginning anew; what it refused is served now"),
        ("rGP ^a b", "it is for no request"),
        ("r46 ^a b", "it is for no request"),
        (r"rg \\ /", "backslashes become slashes without any rule"),
        ("rge a b", "cannot both repeat itself and be the last"),
        (r"r ^x \U\0", "case is not changed"),
        ("i ^x", "it changes nothing"),
        ("rz ^x y", "operation z is none of in.tftpd"),
    ],
)
def test_operations_without_a_counterpart_are_told_with_the_reason(line: str, why: str) -> None:
    rules, (left,) = mapfile.remap("map", f"# first\n{line}\n")
    assert rules == [] and left.line == 2 and why in left.why


def test_a_rule_that_repeats_itself_becomes_several_and_says_so() -> None:
    rules, (left,) = mapfile.remap("map", "rg [[:space:]] _")
    assert rules == [{"match": r"[\s]", "to": "_", "then": "continue"}] * 4 and "4 times at most" in left.why
    made = Imported()
    made.put("tftp.remap", rules)
    assert Remap(settled(made).tftp.remap).rename(b"a b c d", "192.0.2.1")[0] == b"a_b_c_d"


def test_more_rules_than_we_take_are_told_one_by_one() -> None:
    rules, left = mapfile.remap("map", "".join(f"r ^a{number}$ b\n" for number in range(34)))
    assert len(rules) == 32 and [one.line for one in left] == [33, 34]


def test_what_the_rules_of_a_map_file_do_is_what_in_tftpd_did() -> None:
    rules, _left = mapfile.remap("map", MAP)
    made = Imported()
    made.put("tftp.remap", rules)
    renamed = Remap(settled(made).tftp.remap)
    assert renamed.rename(b"C:boot/x", "192.0.2.1")[0] == b"tftpboot/boot/x"
    denied = renamed.rename(b"a.pvt", "192.0.2.1")[0]
    assert isinstance(denied, Refusal) and denied.text == "Access violation"


def test_what_debian_ships_for_vsftpd_is_taken_over() -> None:
    made = vsftpd.convert("/etc/vsftpd.conf", VSFTPD)
    settings = settled(made)
    assert settings.ftp.root == "/srv/ftp" and not settings.tftp.enabled
    assert settings.ftp.listen == ("0.0.0.0:21", "[::]:21")
    assert settings.ftp.active.source_port == 20
    assert settings.ftp.tls.mode == "off"
    assert settings.observe.xferlog == "/var/log/appliance/xferlog"
    said = left(made)
    for words in (
        "anonymous_enable=NO: we serve anonymous clients only",
        "local_enable=YES",
        "use_localtime=YES: times are UTC",
    ):
        assert words in said
    assert "rsa_cert_file" not in said and "dirmessage" not in said


def test_a_rich_vsftpd() -> None:
    made = vsftpd.convert("old", VSFTPD_RICH)
    ftp = settled(made).ftp
    assert (ftp.root, ftp.listen, ftp.banner) == ("/srv/mirror", ("192.0.2.1:2121",), "Mirror of things.")
    assert (ftp.passive_ports, ftp.passive_address) == ("50000-50999", "198.51.100.7")
    assert (ftp.limits.sessions, ftp.limits.sessions_per_client) == (200, 4)
    assert (ftp.limits.rate_per_session, ftp.limits.idle_timeout, ftp.limits.stall_timeout) == (500000, 120, 60)
    assert ftp.incoming.enabled and ftp.incoming.deny_names == ("*.exe", "*.scr")
    assert {".secret", "lost+found", "*.exe", ".git"} <= set(ftp.hide)
    assert (ftp.tls.mode, ftp.tls.certificate, ftp.tls.session_reuse) == ("required", "/etc/ssl/mirror.pem", "required")
    assert ftp.active.source_port == 0
    said = left(made)
    for words in (
        "anon_upload_enable",
        "anon_mkdir_write_enable=YES",
        "chown_username",
        "no setting of vsftpd",
        "pasv_promiscuous",
    ):
        assert words in said


def test_tftp_of_dnsmasq_is_taken_over_and_the_rest_stays_there() -> None:
    made = dnsmasq.convert([("/etc/dnsmasq.conf", DNSMASQ)])
    tftp = settled(made).tftp
    assert tftp.root == "/var/ftpd"
    assert tftp.listen == ("127.0.0.1:69", "192.0.2.1:69")
    assert (tftp.limits.transfers, tftp.port_range, tftp.case_insensitive) == (100, "50000-50999", True)
    assert {network.refuse_options for network in tftp.networks} == {("blksize",)}
    assert [(rule.match, rule.to) for rule in tftp.remap] == [("^", "\\i/")]
    said = left(made)
    for words in (
        "dhcp-boot=pxelinux.0: stays with dnsmasq",
        "dnsmasq.conf:5: interface=eth0",
        "/var/other,eth1",
        "take it out",
    ):
        assert words in said
    assert "domain-needed" not in said


def test_a_dnsmasq_without_tftp_says_so() -> None:
    made = dnsmasq.convert([("old", "port=53\n")])
    assert "there is nothing to take over" in left(made)
    assert settled(made).tftp.root == "/srv/tftp"


def test_the_command_writes_a_file_that_check_takes_and_never_over_one(call: Call, tmp_path: Path) -> None:
    old, new = tmp_path / "tftpd-hpa", tmp_path / "new.yaml"
    old.write_text(HPA)
    done = call("import", "tftpd-hpa", old, "-o", new)
    assert done.code == 0 and "not carried over: " in done.err
    text = new.read_text()
    assert load.load([("new", text.encode())])[0].tftp.root == "/srv/tftp"
    assert "# Not carried over:" in text
    assert call("import", "tftpd-hpa", old, "-o", new).code == 1
    assert new.read_text() == text
    assert call("import", "vsftpd", tmp_path / "gone").code == 1


def test_includes_of_dnsmasq_are_read(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "dnsmasq.d"
    folder.mkdir()
    (folder / "tftp.conf").write_text("enable-tftp\ntftp-root=/srv/boot\n")
    (folder / "README").write_text("tftp-root=/no\n")
    (tmp_path / "more").write_text("tftp-max=7\n")
    main = tmp_path / "dnsmasq.conf"
    main.write_text(f"conf-dir={folder},*.conf\nconf-file={tmp_path}/more\nconf-file=/gone\n")
    said: dict[str, Any] = call("import", "dnsmasq", main, "--json").json()
    assert said["settings"]["tftp"]["root"] == "/srv/boot"
    assert said["settings"]["tftp"]["limits"]["transfers"] == 7


def test_what_our_schema_refuses_is_left_out_and_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "map").write_text("r (a+)+$ b\nr ^c d\n")
    old = tmp_path / "old"
    old.write_text(HPA.replace("--secure", f"--secure -m {tmp_path}/map -R 9:3"))
    done = call("import", "tftpd-hpa", old, "--json")
    assert done.code == 0
    said = done.json()
    assert [rule["match"] for rule in said["settings"]["tftp"]["remap"]] == ["^c"]
    assert {"tftp.remap[0].match", "tftp.port_range"} <= {one["what"] for one in said["left"]}


def test_dropping_a_key() -> None:
    values: dict[str, Any] = {"a": {"b": [1, 2], "c": 3}}
    assert write.drop(values, "a.b[0].x") and values == {"a": {"b": [2], "c": 3}}
    assert write.drop(values, "a.c") and values == {"a": {"b": [2]}}
    assert not write.drop(values, "a.b[7]") and not write.drop(values, "a.z") and not write.drop(values, "a.b.q.r")
    assert not write.drop({}, "")
