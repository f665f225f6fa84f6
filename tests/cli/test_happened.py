"""What really happened when a machine booted, beside what was foretold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.boot import plan as planning
from appliance.boot.explain import Explanation, explain
from appliance.cli import happened
from tests.boot.support import resolved
from tests.cli.conftest import Call

MAC, IP = "52:54:00:12:34:56", "10.77.0.101"
MANIFEST = (
    "recipes: [pxelinux, grub, debian-12]\n"
    f"machines: {{web1: {{mac: '{MAC}', profile: debian-12}}, "
    "other: {uuid: 4c4c4544-0043-3510-8052-b4c04f4e3732, ip: 10.0.0.9, profile: debian-12}}\n"
)


def told(name: str, arch: str = "") -> Explanation:
    found = resolved(MANIFEST)
    done = planning.plan(found.manifest, found.hosts, {}, 0)
    return explain(done, next(one for one in found.manifest.machines if one.name == name), arch, lambda _path: "")


def record(at: float, file: str, event: str = "transfer", client: str = IP, **more: Any) -> dict[str, Any]:
    fields = (
        {"outcome": "done", "bytes": 100, "size": 100, "verb": "RRQ"}
        if event == "transfer"
        else {"cause": "no such file"}
    )
    return {"time": at, "room": "tftp", "event": event, "client": client, "file": file, **fields, **more}


def boot(start: float = 1000.0) -> list[dict[str, Any]]:
    return [
        record(start, "pxelinux.0"),
        record(start + 1, "ldlinux.c32"),
        record(start + 2, "pxelinux.cfg/44454c4c-0000", "refused"),
        record(start + 3, "pxelinux.cfg/01-52-54-00-12-34-56", layer="overlay"),
        record(start + 4, "/debian-12//linux", release="R"),
        record(start + 5, "debian-12/initrd.gz"),
    ]


def test_the_last_boot_is_told_beside_what_was_foretold() -> None:
    facts = happened.of_records([*boot(), record(1.0, "x", client="10.9.9.9")], told("web1", "bios"))
    assert facts is not None
    assert (facts["state"], facts["addresses"], facts["finding"]) == ("booted", [IP], None)
    assert [(step["file"], step["state"], step["foretold"]) for step in facts["steps"]] == [
        ("pxelinux.0", "done", True),
        ("ldlinux.c32", "done", True),
        ("pxelinux.cfg/44454c4c-0000", "missing", False),
        ("pxelinux.cfg/01-52-54-00-12-34-56", "done", True),
        ("/debian-12//linux", "done", True),
        ("debian-12/initrd.gz", "done", True),
    ]
    text = happened.lines(facts)
    assert "  pxelinux.cfg/44454c4c-0000: was refused (no such file); nobody foretold it" in text
    assert "  pxelinux.cfg/01-52-54-00-12-34-56: got it (100 bytes, overlay)" in text


def test_a_missing_grub_is_told_in_words_with_what_to_do() -> None:
    records = [
        record(1.0, "shimx64.efi", mac=MAC),
        record(2.0, "grubx64.efi", "refused"),
    ]
    facts = happened.of_records(records, told("web1", "x64-efi"))
    assert facts is not None and facts["finding"] is not None
    assert "shim asked for grubx64.efi, which is not here" in facts["finding"]["what"]
    assert facts["finding"]["what"] in happened.lines(facts)[-1]


def test_a_machine_is_found_by_what_only_it_asks_for_or_by_its_address() -> None:
    own = [
        record(1.0, "pxelinux.0", client="10.0.0.77"),
        record(2.0, "pxelinux.cfg/4c4c4544-0043-3510-8052-b4c04f4e3732", client="10.0.0.77"),
    ]
    facts = happened.of_records(own, told("other", "bios"))
    assert facts is not None and facts["addresses"] == ["10.0.0.77"]
    facts = happened.of_records([record(1.0, "pxelinux.0", client="10.0.0.9")], told("other", "bios"))
    assert facts is not None and facts["addresses"] == ["10.0.0.9"]
    assert happened.of_records([record(1.0, "pxelinux.0", client="10.0.0.10")], told("other", "bios")) is None


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"outcome": "probe"}, "aborted"),
        ({"outcome": "timed out"}, "failed"),
        ({"event": "start"}, "running"),
        ({"event": "unanswered"}, "unanswered"),
    ],
)
def test_how_a_transfer_ended_is_told(more: dict[str, Any], state: str) -> None:
    facts = happened.of_records([record(1.0, "pxelinux.0", mac=MAC) | more], told("web1"))
    assert facts is not None and facts["steps"][0]["state"] == state
    assert happened.lines(facts)[1].startswith("  pxelinux.0: ")


def test_what_is_no_reading_of_a_file_is_no_step() -> None:
    strange = [
        {},
        {"event": "transfer"},
        record(1.0, "x", "ban"),
        record(1.0, "x", verb="STOR", mac=MAC),
        record(1.0, "x") | {"file": 5},
    ]
    assert happened.of_records(strange, told("web1")) is None


def test_explain_reads_the_history_that_is_on_the_disk(call: Call, tmp_path: Path) -> None:
    (tmp_path / "boot.yaml").write_text(MANIFEST)
    (tmp_path / "events").mkdir()
    (tmp_path / "events/000.jsonl").write_text("".join(json.dumps(one) + "\n" for one in boot()) + "torn")
    config = tmp_path / "appliance.yaml"
    config.write_text(f"state_dir: {tmp_path}\nrun_dir: {tmp_path}/run\nboot: {{manifest: {tmp_path}/boot.yaml}}\n")
    said = call("boot", "explain", "web1", "-c", config)
    assert said.code == 0
    assert f"from {IP}: booted" in said.out
    facts = call("boot", "explain", "web1", "-c", config, "--json").json()
    assert facts["happened"]["state"] == "booted"
    assert call("boot", "explain", "other", "-c", config, "--json").json()["happened"] is None


def test_where_files_were_put_by_hand_and_no_manifest_is_what_happened_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events/000.jsonl").write_text("".join(json.dumps(one) + "\n" for one in boot()))
    config = tmp_path / "appliance.yaml"
    where = f"state_dir: {tmp_path}\nrun_dir: {tmp_path}/run\n"
    config.write_text(f"{where}boot: {{manifest: {tmp_path}/boot.yaml}}\n")
    said = call("boot", "explain", MAC, "-c", config)
    assert (said.code, f"from {IP}: booted" in said.out, "there is no manifest" in said.err) == (1, True, True)
    config.write_text(f"{where}boot: {{enabled: true, manifest: {tmp_path}/boot.yaml}}\n")
    assert call("boot", "explain", MAC, "-c", config).code == 2


def test_a_history_that_may_not_be_read_is_told_and_nothing_else_is_lost(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.cli import log
    from appliance.errors import ApplianceError

    def refuse(_found: object) -> object:
        raise ApplianceError("cannot read it (ask as root)")

    monkeypatch.setattr(log, "history", refuse)
    (tmp_path / "boot.yaml").write_text(MANIFEST)
    config = tmp_path / "appliance.yaml"
    config.write_text(f"state_dir: {tmp_path}\nrun_dir: {tmp_path}/run\nboot: {{manifest: {tmp_path}/boot.yaml}}\n")
    said = call("boot", "explain", "web1", "-c", config)
    assert (said.code, "what happened so far is not known: cannot read it" in said.err) == (0, True)
