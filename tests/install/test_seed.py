"""install.seed: keys and configuration get through, commands and everything that is not known do not."""

from __future__ import annotations

import base64
import json
import struct

import pytest

from appliance.errors import ConfigError
from appliance.install import seed

BLOB = struct.pack(">I", 11) + b"ssh-ed25519" + struct.pack(">I", 32) + bytes(32)
KEY = f"ssh-ed25519 {base64.b64encode(BLOB).decode()}"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as found:
        seed.read("seed.yaml", text.encode())
    return [str(problem) for problem in found.value.problems]


def test_a_configuration_and_keys_are_taken() -> None:
    text = f"ssh_keys: [{KEY} me@here]\nconfiguration:\n  drain_timeout: 1m\n  ftp: {{incoming: {{enabled: true}}}}\n"
    found = seed.read("seed.yaml", text.encode())
    assert found.ssh_keys == (f"{KEY} me@here",)
    assert json.loads(found.configuration) == {"drain_timeout": "1m", "ftp": {"incoming": {"enabled": True}}}
    assert seed.read("seed.yaml", f"ssh_keys: [{KEY}]".encode()) == seed.Seed("", (KEY,))
    listed = seed.read("s", b"configuration: {tftp: {allow: [192.0.2.0/24]}}").configuration
    assert json.loads(listed) == {"tftp": {"allow": ["192.0.2.0/24"]}}


@pytest.mark.parametrize("nothing", ["configuration:\n", "ssh_keys: []\n", "configuration: {}\n"])
def test_a_key_without_anything_below_it_says_nothing(nothing: str) -> None:
    assert not seed.read("seed.yaml", nothing.encode()).ssh_keys


def test_everything_that_is_wrong_is_told_at_once_with_its_place() -> None:
    said = problems("runcmd: [reboot]\nssh_keys: nobody\nconfiguration: 3\n")
    assert said == [
        "seed.yaml:1:1: runcmd: unknown key (the keys here are configuration, ssh_keys)",
        "seed.yaml:3:16: configuration: no keys of the configuration (write NAME: VALUE lines below it)",
        "seed.yaml:2:11: ssh_keys: no list of at most 32 keys (write - KEY lines below it)",
    ]


@pytest.mark.parametrize(
    ("configuration", "key"),
    [
        ("{ftp: {incoming: {scan: {command: [/bin/sh]}}}}", "ftp.incoming.scan"),
        ("{observe: {hooks: [{run: [/bin/sh]}]}}", "observe.hooks"),
        ("{tftp: {sites: [{command: x}]}}", "tftp.sites[0].command"),
    ],
)
def test_what_names_a_program_is_refused(configuration: str, key: str) -> None:
    (said,) = problems(f"configuration: {configuration}\n")
    assert f"configuration.{key}: a seed holds no commands" in said


@pytest.mark.parametrize("name", ["state_dir", "run_dir", "confinement", "unknown"])
def test_what_is_the_images_own_is_refused(name: str) -> None:
    (said,) = problems(f"configuration: {{{name}: x}}\n")
    assert f"configuration.{name}: not for a seed" in said


@pytest.mark.parametrize("text", ["", "- a\n", "just text", "# nothing\n"])
def test_what_is_no_seed_is_refused(text: str) -> None:
    assert "this is no seed" in problems(text)[0]


def test_what_is_no_yaml_or_too_long_is_refused() -> None:
    assert "seed.yaml:1" in problems("ssh_keys: [")[0]
    seed.read("s", b"ssh_keys: []".ljust(seed.LARGEST))
    assert "more than 64 KiB" in problems(" " * (seed.LARGEST + 1))[0]


@pytest.mark.parametrize("count", [0, 1, 32, 33])
def test_so_many_keys_and_no_more(count: int) -> None:
    text = "ssh_keys: [" + ", ".join([KEY] * count) + "]"
    if count <= seed.MOST_KEYS:
        assert len(seed.read("s", text.encode()).ssh_keys) == count
    else:
        assert "at most 32" in problems(text)[0]


@pytest.mark.parametrize(
    "text",
    [
        f'command="/bin/sh" {KEY}',
        f"no-pty {KEY}",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 ####",
        "ssh-dss AAAA",
        KEY.replace("ed25519 ", "rsa ").replace("ssh-", "ssh-", 1),
        f"ssh-ed25519 {base64.b64encode(BLOB[:15]).decode()}",
        f"{KEY} me\\nssh-ed25519",
        f"{KEY} {'x' * 101}",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        7,
        None,
    ],
)
def test_what_is_no_plain_public_key_is_refused(text: object) -> None:
    assert seed.public_key(text) == ""
    (said,) = problems("ssh_keys: [" + json.dumps(text) + "]")
    assert "ssh_keys[0]: no public key of SSH" in said
