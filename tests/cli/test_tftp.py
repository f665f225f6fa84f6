from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call
from tests.published import trees

CONFIG = r"""
tftp:
  root: {root}
  listen: ["0.0.0.0:69", "[::]:69"]
  case_insensitive: true
  deny: [203.0.113.0/24]
  port_range: 50000-54095
  sites: [{{listen: "127.0.0.9:6969", root: site}}]
  networks:
    - {{net: 10.0.0.0/8, root: lab, windowsize_max: 8, refuse_options: [tsize]}}
    - {{net: "2001:db8::/32", blksize_max: 1024}}
  remap:
    - {{match: '^pxe/(?P<rest>.*)$', to: '\g<rest>', then: continue}}
    - {{match: '^me$', to: 'cfg/\x'}}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "lab").mkdir(parents=True)
    (root / "site").mkdir()
    (root / "Boot.cfg").write_text("general")
    (root / "lab" / "Boot.cfg").write_text("lab")
    (root / "secret").write_text("s")
    (root / "secret").chmod(0o640)
    (root / "link").symlink_to("../../etc/passwd")
    (tmp_path / "c.yaml").write_text(CONFIG.format(root=root))
    return root


def explained(call: Call, tree: Path, name: str, client: str, *more: str, code: int = 0) -> dict[str, Any]:
    said = call("tftp", "explain", name, "--client", client, "-c", tree.parent / "c.yaml", "--json", *more)
    assert (said.code, said.err) == (code, "")
    return dict(said.json())


def test_a_file_that_would_be_served_is_shown_with_every_step(call: Call, tree: Path) -> None:
    said = call("tftp", "explain", r"\pxe\boot.CFG", "--client", "10.1.2.3", "-c", tree.parent / "c.yaml")
    assert said.code == 0
    assert said.out.splitlines() == [
        "client 10.1.2.3 at 0.0.0.0:69: tftp.networks[0]",
        "tftp.remap[0]: pxe/boot.CFG becomes boot.CFG",
        "lab/boot.CFG: No such file or directory",
        "lab/Boot.cfg: found",
        "the last is another spelling of the name (tftp.case_insensitive)",
        "options, when the client asks for all on a path of 1500 bytes: blksize=1468 windowsize=8 timeout=3; "
        "refused here: tsize",
        f"served: {tree}/lab/Boot.cfg, 3 bytes",
    ]


def test_json_tells_the_same_as_values(call: Call, tree: Path) -> None:
    facts = explained(call, tree, "Boot.cfg", "2001:db8::7")
    assert (facts["listener"], facts["site"], facts["network"]) == ("[::]:69", "", "tftp.networks[1]")
    assert (facts["served"], facts["path"], facts["size"], facts["root"]) == (True, "Boot.cfg", 7, str(tree))
    assert facts["options"] == {"blksize": 1024, "windowsize": 64, "timeout": 3, "tsize": 7}
    assert facts["port_range"] == "50000-54095"
    assert explained(call, tree, "Boot.cfg", "::ffff:10.0.0.1")["client"] == "10.0.0.1"


def test_a_machine_is_told_by_its_address(call: Call, tree: Path) -> None:
    config = tree.parent / "c.yaml"
    machine = "  machines: [{mac: 52:54:00:12:34:56, root: lab, windowsize_max: 4}]\n"  # YAML 1.2: no number
    config.write_text(config.read_text() + machine)
    facts = explained(call, tree, "Boot.cfg", "2001:db8::5054:ff:fe12:3456")
    assert (facts["machine"], facts["network"], facts["mac"]) == ("tftp.machines[0]", "", "52:54:00:12:34:56")
    assert (facts["path"], facts["options"]["windowsize"]) == ("lab/Boot.cfg", 4)
    said = call("tftp", "explain", "Boot.cfg", "--client", "fe80::5054:ff:fe12:3456", "-c", config)
    assert said.out.splitlines()[:2] == [
        "client fe80::5054:ff:fe12:3456 at [::]:69: tftp.machines[0]",
        "its MAC address is 52:54:00:12:34:56, as it claims",
    ]
    assert explained(call, tree, "Boot.cfg", "192.0.2.77")["mac"] == ""


def test_a_rule_may_use_the_address_of_the_client(call: Call, tree: Path) -> None:
    facts = explained(call, tree, "pxe/me", "192.0.2.1", code=1)
    assert [hit["after"] for hit in facts["rules"]] == ["me", "cfg/C0000201"]
    assert facts["told"] == {"code": 1, "text": "File not found"}


@pytest.mark.parametrize(
    ("name", "client", "why", "told"),
    [
        ("missing", "192.0.2.1", "No such file or directory", 1),
        ("secret", "192.0.2.1", "not readable by everyone", 2),
        ("../x", "192.0.2.1", "name goes upwards", 2),
        ("lab", "192.0.2.1", "not a regular file", 2),
        (
            "Boot.cfg",
            "203.0.113.9",
            "the client's network is not served (tftp.allow, tftp.deny); it gets no answer",
            None,
        ),
    ],
)
def test_what_would_not_be_served_is_exit_code_1_with_the_cause(
    call: Call, tree: Path, name: str, client: str, why: str, told: int | None
) -> None:
    facts = explained(call, tree, name, client, code=1)
    assert (facts["served"], facts["why"]) == (False, why)
    assert (facts["told"] and facts["told"]["code"]) == told
    said = call("tftp", "explain", name, "--client", client, "-c", tree.parent / "c.yaml")
    assert f"not served: {why}" in said.out.splitlines()[-1]


def test_a_link_that_leaves_the_root_is_named(call: Call, tree: Path) -> None:
    said = call("tftp", "explain", "link", "--client", "192.0.2.1", "-c", tree.parent / "c.yaml")
    assert "link (a link to ../../etc/passwd; the root is / to it): No such file or directory" in said.out


def test_a_site_is_chosen_by_its_listener(call: Call, tree: Path) -> None:
    facts = explained(call, tree, "Boot.cfg", "10.0.0.1", "--listener", "127.0.0.9:6969")
    assert (facts["site"], facts["network"]) == ("tftp.sites[0]", "tftp.networks[0]")
    facts = explained(call, tree, "Boot.cfg", "192.0.2.1", "--listener", "127.0.0.9:6969")
    assert [tried["path"] for tried in facts["tried"]] == ["site/Boot.cfg", "Boot.cfg"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--client", "me"], "me is not an address"),
        (["--client", "::1", "--listener", "1.2.3.4:69"], "1.2.3.4:69 is none of"),
        ([], "--client"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(call: Call, tree: Path, arguments: list[str], what: str) -> None:
    said = call("tftp", "explain", "x", *arguments, "-c", tree.parent / "c.yaml")
    assert said.code == 2
    assert what in said.err


def test_a_root_that_is_not_there_is_told_and_the_working_directory_stays(call: Call, tree: Path) -> None:
    here = os.getcwd()
    explained(call, tree, "Boot.cfg", "192.0.2.1")
    tree.rename(tree.parent / "moved")
    said = call("tftp", "explain", "x", "--client", "::1", "-c", tree.parent / "c.yaml")
    assert (said.code, os.getcwd()) == (1, here)
    assert f"tftp.root: {tree}: No such file or directory" in said.err


def test_a_service_that_is_off_serves_nothing(call: Call, tree: Path) -> None:
    config = tree.parent / "c.yaml"
    config.write_text(config.read_text().replace("tftp:\n", "tftp:\n  enabled: false\n"))
    assert explained(call, tree, "Boot.cfg", "192.0.2.1", code=1)["why"] == "TFTP is off (tftp.enabled)"


def test_an_upload_is_the_business_of_the_custodian(call: Call, tree: Path) -> None:
    config = tree.parent / "c.yaml"
    (tree / "uploads").mkdir()
    (tree / "uploads" / "sw1.cfg").write_text("saved")
    uploads = "  uploads: {mode: create, bare_names: into_path, readable: same-client}\n"
    config.write_text(config.read_text() + uploads)
    for name in ("uploads/sw1.cfg", "sw1.cfg"):
        facts = explained(call, tree, name, "192.0.2.1", code=1)
        why = "the custodian is asked for the upload sw1.cfg (tftp.uploads.readable: same-client)"
        assert (facts["why"], facts["told"]) == (why, None)
    assert explained(call, tree, "uploads/a/b", "192.0.2.1", code=1)["why"] == "uploads have no folders"
    config.write_text(config.read_text().replace("same-client", "none"))
    facts = explained(call, tree, "uploads/sw1.cfg", "192.0.2.1", code=1)
    assert facts["told"] == {"code": 2, "text": "Access violation"}


def test_what_is_published_is_explained_layer_by_layer(call: Call, tree: Path) -> None:
    config, state = tree.parent / "c.yaml", tree.parent / "state"
    config.write_text(config.read_text() + f"state_dir: {state}\nboot: {{enabled: true}}\n")
    assert explained(call, tree, "Boot.cfg", "192.0.2.1")["release"] is None
    trees.release(tree, 1, {"Boot.cfg": b"release"})
    trees.overlay(tree, 4, {})
    trees.commit(state, trees.name(1), 4)
    facts = explained(call, tree, "Boot.cfg", "192.0.2.1")
    assert (facts["release"], facts["overlay"], facts["size"]) == (trees.name(1), 4, 7)
    paths = [tried["path"] for tried in facts["tried"]]
    assert paths == [".releases/overlay-4/Boot.cfg", f".releases/{trees.name(1)}/Boot.cfg"]
    said = call("tftp", "explain", "Boot.cfg", "--client", "192.0.2.1", "-c", config)
    assert f"release {trees.name(1)}, overlay 4" in said.out
    (state / "boot" / "current").write_text("x")
    said = call("tftp", "explain", "Boot.cfg", "--client", "192.0.2.1", "-c", config)
    assert (said.code, "does not name a release" in said.err) == (1, True)
