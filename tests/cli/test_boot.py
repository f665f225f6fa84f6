"""`appliance boot catalog|plan|explain|dhcp`: facts on standard output, nothing changed, exit codes that say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call

MAC = "52:54:00:12:34:56"
MANIFEST = """\
server: 192.0.2.1
recipes: [pxelinux, grub, debian-12, alpine, local-disk]
secrets: {secrets}
default: local-disk
machines:
  web1: {{mac: 52:54:00:12:34:56, ip: 10.77.0.101, uuid: 4c4c4544-0043-3510-8052-b4c04f4e3732, profile: debian-12}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a manifest, one armed machine and one secret."""
    (tmp_path / "secrets.yaml").write_text("user_password_hash: $6$geheim\n")
    (tmp_path / "secrets.yaml").chmod(0o600)
    (tmp_path / "boot.yaml").write_text(MANIFEST.format(secrets=tmp_path / "secrets.yaml"))
    (tmp_path / "hosts.d").mkdir()
    (tmp_path / "hosts.d/web2.yaml").write_text(
        "machines: {web2: {mac: 52:54:00:00:00:02, once: {profile: debian-12-auto, until: 99999999999, id: x}}}"
    )
    path = tmp_path / "appliance.yaml"
    path.write_text(
        f"state_dir: {tmp_path}\nrun_dir: {tmp_path}/run\ntftp: {{root: {tmp_path}/tftp}}\n"
        f"boot: {{manifest: {tmp_path}/boot.yaml}}\n"
    )
    return path


def test_the_catalogue_says_what_was_never_fetched(call: Call) -> None:
    said = call("boot", "catalog")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[lines.index(next(line for line in lines if line.startswith("alpine "))) + 1].split(None, 1) == [
        "experimental:",
        "never fetched here",
    ]
    facts = {fact["name"]: fact for fact in call("boot", "catalog", "--json").json()}
    assert len(facts) >= 10
    assert facts["alpine"]["sources"][0]["verified"] == "UNVERIFIED"
    assert facts["debian-12"]["sources"][0]["verified"] == "signed by its APT archive"
    assert facts["ubuntu-24.04"]["sources"][0]["verified"].startswith("digests signed by /usr/share/keyrings/ubuntu")
    assert facts["pxelinux"]["loaders"] == {"bios": "pxelinux.0"}


def test_a_plan_tells_sources_files_and_machines_and_no_secret(call: Call, config: Path) -> None:
    said = call("boot", "plan", "-c", config)
    assert said.code == 0
    assert "alpine-3.22: https https://dl-cdn.alpinelinux.org" in said.out
    assert "UNVERIFIED (experimental: never fetched here)" in said.out
    assert "  alpine-3.22: Alpine Linux 3.22 (experimental: never fetched here)" in said.out
    assert "web1: debian-12, 3 files" in said.out
    assert "web2: local-disk, once debian-12-auto, 2 files" in said.out
    facts = call("boot", "plan", "-c", config, "--json").json()
    assert facts["armed"] == [{"name": "web2", "profile": "debian-12-auto", "until": 99999999999}]
    assert facts["problems"] == []
    assert facts["machines"][0]["loads"] == ["debian-12/linux", "debian-12/initrd.gz"]
    assert "geheim" not in said.out + said.err + str(facts)


def test_a_digest_in_the_manifest_is_told(call: Call, config: Path, tmp_path: Path) -> None:
    with (tmp_path / "boot.yaml").open("a") as file:
        file.write(f"sources: {{x: {{url: 'https://h/x', sha256: {'ab' * 32}}}}}\ntree: [{{from: x, to: x}}]\n")
    assert "x: https https://h/x, SHA-256 abababababab... in the manifest" in call("boot", "plan", "-c", config).out


@pytest.mark.parametrize("as_json", [True, False])
def test_a_plan_that_would_not_boot_ends_with_2(call: Call, config: Path, tmp_path: Path, as_json: bool) -> None:
    with (tmp_path / "boot.yaml").open("a") as file:
        file.write("profiles: {broken: {kernel: gone}}\nmenu: {entries: [broken]}\n")
    said = call("boot", "plan", "-c", config, *(["--json"] if as_json else []))
    assert said.code == 2
    assert "gone is missing" in (said.out if as_json else said.err)


def test_everything_wrong_with_a_manifest_is_told_at_once(call: Call, config: Path, tmp_path: Path) -> None:
    with (tmp_path / "boot.yaml").open("a") as file:
        file.write("groups: [{name: a, match: {net: x}}]\nfile: []\n")
    (tmp_path / "hosts.d/web3.yaml").write_text("machines: {web3: {mac: 52:54:00:12:34:56}}")
    said = call("boot", "plan", "-c", config)
    assert said.code == 2
    assert [line.split(": ")[1] for line in said.err.splitlines()[2:]] == [
        "groups[0].match.net",
        "file",
        "machines.web3",
    ]


@pytest.mark.parametrize(
    "who", ["web1", MAC, MAC.upper(), MAC.replace(":", "-"), "10.77.0.101", "4C4C4544-0043-3510-8052-B4C04F4E3732"]
)
def test_a_machine_is_explained_by_whatever_it_is_called(call: Call, config: Path, who: str) -> None:
    said = call("boot", "explain", who, "-c", config, "--arch", "bios")
    assert said.code == 0
    assert said.out.splitlines()[:2] == [
        "web1: debian-12 (machines.web1.profile)",
        "bios, pxelinux.0: boots Debian 12 installer",
    ]
    assert "  + debian-12/linux  from debian-12 (kernel: kernel: of the profile debian-12)" in said.out


def test_a_stranger_is_explained_as_json(call: Call, config: Path) -> None:
    for who in ("52:54:00:00:00:99", "10.1.2.3", "00000000-0000-0000-0000-000000000009"):
        facts = call("boot", "explain", who, "-c", config, "--json").json()
        assert (facts["machine"], facts["profile"], facts["armed"]) == (None, None, False)
        assert {way["arch"]: way["ends"] for way in facts["ways"]} == {
            "bios": "shows the menu",
            "x64-efi": "shows the menu",
        }
        assert facts["ways"][0]["steps"][0] == {
            "path": "pxelinux.0",
            "what": "loader",
            "why": "DHCP names it to clients of bios",
            "needed": True,
            "state": "hit",
            "found": "from pxelinux",
        }


def test_an_armed_machine_says_so(call: Call, config: Path) -> None:
    assert call("boot", "explain", "web2", "-c", config).out.startswith(
        "web2: debian-12-auto (machines.web2.once, armed)"
    )


def test_a_machine_that_stops_ends_with_1_and_says_where(call: Call, config: Path, tmp_path: Path) -> None:
    text = (tmp_path / "boot.yaml").read_text().replace("grub, ", "")
    (tmp_path / "boot.yaml").write_text(text + "loaders: {x64-efi: {file: shimx64.efi, kind: shim}}\n")
    said = call("boot", "explain", "web1", "-c", config, "--arch", "x64-efi")
    assert said.code == 1
    assert "  ! shimx64.efi  MISSING (loader: DHCP names it to clients of x64-efi)" in said.out
    (tmp_path / "tftp").mkdir()
    (tmp_path / "tftp/shimx64.efi").touch()
    said = call("boot", "explain", "web1", "-c", config, "--arch", "x64-efi")
    assert "  + shimx64.efi  by hand in the root" in said.out and "  ! grubx64.efi  MISSING" in said.out


@pytest.mark.parametrize(("arguments", "code"), [(("nobody",), 1), (("web1", "--arch", "vax"), 2)])
def test_what_cannot_be_explained_is_told(call: Call, config: Path, arguments: tuple[str, ...], code: int) -> None:
    assert call("boot", "explain", *arguments, "-c", config).code == code


def test_an_architecture_without_a_loader_is_told(call: Call, config: Path) -> None:
    said = call("boot", "explain", "web1", "-c", config, "--arch", "rpi")
    assert (said.code, "no loader is for it" in said.out) == (1, True)


def test_a_snippet_is_printed_alone(call: Call, config: Path, tmp_path: Path) -> None:
    said = call("boot", "dhcp", "isc", "-c", config)
    assert said.code == 0 and said.out.startswith("# Written by") and "next-server 192.0.2.1;" in said.out
    assert "pxelinux.0 is not served now" in said.err and "shimx64.efi is not served now" in said.err
    (tmp_path / "tftp").mkdir()
    (tmp_path / "tftp/pxelinux.0").touch()
    assert "pxelinux.0 is not" not in call("boot", "dhcp", "isc", "-c", config).err
    assert call("boot", "dhcp", "bootpd", "-c", config).code == 2
    (tmp_path / "boot.yaml").write_text("recipes: [pxelinux, debian-12]\n")
    said = call("boot", "dhcp", "isc", "-c", config)
    assert (said.code, "write server: ADDRESS" in said.err) == (1, True)


def test_what_our_own_dhcp_service_names_is_compared_with_the_manifest(call: Call, config: Path) -> None:
    text = config.read_text().replace(
        "boot: {manifest", "boot: {enabled: true, dhcp: proxy, dhcp_server: {interface: lo}, manifest"
    )
    config.write_text(text)
    for words in (("boot", "plan"), ("check",)):
        said = call(*words, "-c", config)
        assert said.code == 0 or words == ("check",)  # ports and folders of this machine are no matter here
        assert "machines of the kind x64_efi are told to load snponly.efi, which is not there" in said.out + said.err
        assert "(write x64_efi: shimx64.efi there)" in said.out + said.err
        assert "told to load pxelinux.0" not in said.out + said.err
        assert "(write ipxe: null there, or take a recipe that has the file)" in said.out + said.err
    assert f"{config}:4:" in said.out
    told = call("boot", "explain", "web1", "-c", config, "--arch", "x64-efi")
    assert told.code == 1 and "  ! snponly.efi  MISSING" in told.out
    config.write_text(text.replace("interface: lo", "interface: lo, files: {x64_efi: shimx64.efi, ipxe: null}"))
    assert "told to load" not in call("check", "-c", config).out
    assert call("boot", "explain", "web1", "-c", config, "--arch", "x64-efi").code == 0
