"""Every rule of the diagnosis has a story that it fits, and stories that it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.board.diagnosis import AFTER, RULES, Finding, World, diagnose
from appliance.board.story import STALL_S, Book, Fact, Machine
from tests.board.test_story import BOOT, MAC, fact, whole

SERVED = World(("pxelinux.0", "vmlinuz", "initrd.gz", "boot/x64/wdsnbp.com", "debian/vmlinuz-6.1"))


def told(*facts: Fact, later: float = 0) -> Machine:
    book = Book()
    for one in facts:
        machine = book.tell(one)
    book.tick(facts[-1].at + later)
    return machine


def found(*facts: Fact, later: float = STALL_S + 1, world: World = SERVED) -> Finding:
    finding = diagnose(told(*facts, later=later), world)
    assert finding is not None
    return finding


def failed(file: str, **more: Any) -> list[Fact]:
    return [fact(1, "start", file, **more), fact(9, "failed", file, cause="timed out", **more)]


def test_every_rule_has_a_source_a_remedy_and_a_name_of_its_own() -> None:
    assert all(rule.source and rule.remedy for rule in RULES + AFTER)
    assert len({rule.name for rule in RULES + AFTER}) == len(RULES + AFTER)


@pytest.mark.parametrize(
    "facts",
    [
        [fact(0, "start", "pxelinux.0", size=9)],
        whole(0, "pxelinux.0"),
        [*whole(0, "pxelinux.0"), fact(1, "refused", "pxelinux.cfg/0A"), *whole(2, "pxelinux.cfg/default")],
        [fact(0, "dhcp")],
        BOOT,
    ],
)
def test_a_machine_that_gets_on_is_left_alone(facts: list[Fact]) -> None:
    assert diagnose(told(*facts), SERVED) is None


def test_mtu() -> None:
    finding = found(*failed("vmlinuz", blksize=1468, retransmits=5, size=9000))
    assert (finding.rule, "1468" in finding.what) == ("mtu", True)


def test_mtu_is_not_blamed_where_short_blocks_do_not_arrive_either() -> None:
    assert diagnose(told(*failed("vmlinuz", blksize=512, retransmits=5), later=30), SERVED) is None


def test_missing_tells_what_was_meant() -> None:
    finding = found(*whole(0, "pxelinux.0"), fact(2, "refused", "debian/vmlinuz-6.2"))
    assert (finding.rule, finding.what) == (
        "missing",
        "it asked for debian/vmlinuz-6.2, which is not here (did you mean debian/vmlinuz-6.1?)",
    )


def test_missing_names_the_file_where_nothing_is_like_it() -> None:
    assert found(fact(0, "refused", "undionly.kpxe")).what == "it asked for undionly.kpxe, which is not here"


def test_a_configuration_that_is_missing_at_last_is_told() -> None:
    assert found(*whole(0, "pxelinux.0"), fact(1, "refused", "pxelinux.cfg/default")).rule == "missing"


def test_names_that_a_loader_only_tries_are_not_missing() -> None:
    facts = [*whole(0, "pxelinux.cfg/default"), fact(2, "refused", "menu.c32x.c32")]
    finding = diagnose(told(*facts), SERVED)
    assert finding is None


@pytest.mark.parametrize(
    "name", ["Boot\\x64\\wdsnbp.com", "BOOT/X64/WDSNBP.COM", "/Boot/x64/wdsnbp.com", "Boot\\x5cx64\\x5cwdsnbp.com"]
)
def test_spelling(name: str) -> None:
    finding = found(fact(0, "refused", name))
    assert (finding.rule, finding.what) == ("spelling", f"it asked for {name}; what is here is boot/x64/wdsnbp.com")


def test_block_rollover() -> None:
    size = 65535 * 512
    finding = found(*failed("initrd.gz", size=2 * size, bytes=size))
    assert finding.rule == "block-rollover"
    finding = found(*failed("initrd.gz", size=65535 * 1024 + 5, bytes=65534 * 1024, blksize=1024))
    assert finding.rule == "block-rollover"


def test_a_file_that_stops_elsewhere_has_no_rollover() -> None:
    assert found(*failed("initrd.gz", size=65535 * 1024, bytes=5000)).rule == "stopped-within"


def test_unheard() -> None:
    facts = [fact(at, "unanswered", "pxelinux.0") for at in (0, 4, 8)]
    finding = found(*facts)
    assert (finding.rule, finding.what) == (
        "unheard",
        "it asked 3 times for pxelinux.0, was answered, and never heard the answer",
    )
    assert diagnose(told(facts[0]), SERVED) is None


def test_second_dhcp() -> None:
    facts = [
        fact(0, "start", "pxelinux.0", mac="52:54:00:00:00:01"),
        fact(1, "start", "b", client="198.51.100.9", mac="52:54:00:00:00:01"),
    ]
    assert found(*facts).rule == "second-dhcp"


def test_no_grub_beside_shim() -> None:
    facts = [*whole(0, "shimx64.efi"), fact(1, "refused", "revocations_sbat.efi"), fact(2, "refused", "grubx64.efi")]
    finding = found(*facts)
    assert (finding.rule, finding.what) == ("no-grub-beside-shim", "shim asked for grubx64.efi, which is not here")


def test_refused_by_firmware() -> None:
    finding = found(*whole(0, "snponly.efi"), *whole(8, "snponly.efi"))
    assert (finding.rule, finding.what) == ("refused-by-firmware", "it loaded snponly.efi 2 times and never went on")


def test_stopped_within() -> None:
    finding = found(fact(0, "start", "initrd.gz", size=100), fact(1, "progress", "initrd.gz", bytes=43))
    assert (finding.rule, finding.what) == ("stopped-within", "it stopped reading initrd.gz at 43 %")
    assert (
        found(fact(0, "start", "a"), fact(1, "progress", "a", bytes=43)).what == "it stopped reading a after 43 bytes"
    )


def test_quiet_after() -> None:
    finding = found(*whole(0, "grubx64.efi"))
    assert (finding.rule, finding.what) == ("quiet-after", "it has grubx64.efi and asks for nothing more")


def test_one_shot_used() -> None:
    config = "pxelinux.cfg/01-52-54-00-12-34-56"
    boot = [*whole(20, "pxelinux.0"), fact(21, "done", config, layer="overlay"), *BOOT[-4:]]
    finding = found(*BOOT, fact(10, "one-shot", mac=MAC, cause="loaded"), *boot)
    assert (finding.rule, "loaded" in finding.what) == ("one-shot-used", True)
    assert diagnose(told(*BOOT, fact(10, "one-shot", mac=MAC, cause="armed"), *boot), SERVED) is None


def test_a_machine_that_sent_nothing_is_not_explained() -> None:
    assert diagnose(told(fact(0, "one-shot", cause="armed")), SERVED) is None


def test_a_machine_that_was_told_what_to_load_and_never_asks_for_it_is_told_and_silent() -> None:
    answer = fact(0, "dhcp", "DHCP: 192.0.2.7", mac=MAC)
    assert found(answer).rule == "told-and-silent"
    assert diagnose(told(answer, later=5), SERVED) is None
    assert found(answer, *whole(1, "pxelinux.0")).rule == "quiet-after"
