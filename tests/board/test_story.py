"""Facts become the story of a boot."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.board.story import NEW_BOOT_S, SETTLED_S, STALL_S, STEPS, Book, Fact, Machine

CLIENT, MAC = "192.0.2.7", "52:54:00:12:34:56"


def fact(at: float, kind: Any, file: str = "", **more: Any) -> Fact:
    return Fact(at, kind, more.pop("client", CLIENT), file, **more)


def told(*facts: Fact) -> Machine:
    book = Book()
    for one in facts:
        machine = book.tell(one)
    return machine


def whole(at: float, file: str, size: int = 1000) -> list[Fact]:
    return [fact(at, "start", file, size=size), fact(at + 0.5, "done", file, bytes=size, size=size)]


BOOT = [
    *whole(0, "pxelinux.0"),
    *whole(1, "ldlinux.c32"),
    fact(2, "refused", "pxelinux.cfg/01-52-54-00-12-34-56"),
    *whole(3, "pxelinux.cfg/default"),
    *whole(4, "vmlinuz"),
    *whole(5, "initrd.gz"),
]


def test_a_boot_that_got_kernel_and_initrd_is_booted() -> None:
    machine = told(*BOOT)
    assert (machine.state, machine.stage, machine.boots) == ("booted", "initrd", 1)
    assert [(step.file, step.state) for step in machine.steps][2] == ("pxelinux.cfg/01-52-54-00-12-34-56", "missing")


def test_a_machine_known_by_its_address_is_known_by_its_mac_once_a_name_tells_it() -> None:
    machine = told(*BOOT)
    assert (machine.key, machine.mac, machine.addresses) == (MAC, MAC, [CLIENT])
    assert len(machine.steps) == 6


def test_what_is_asked_for_after_the_mac_is_known_belongs_to_the_same_machine() -> None:
    book = Book()
    for one in [*BOOT, *whole(9, "preseed.cfg")]:
        book.tell(one)
    assert list(book.machines) == [MAC]
    assert book.machines[MAC].state == "booted"


def test_a_machine_that_asks_for_its_loader_again_after_the_kernel_boots_anew() -> None:
    machine = told(*BOOT, fact(60, "start", "pxelinux.0", size=1000))
    assert (machine.boots, machine.state, [step.file for step in machine.steps]) == (2, "booting", ["pxelinux.0"])


def test_a_loader_that_its_worker_told_of_after_another_had_told_of_the_kernel_begins_no_boot() -> None:
    late = (("vmlinuz", 0.01), ("initrd.gz", 0.02), ("pxelinux.0", 0.06))
    machine = told(*(fact(at, "done", file, bytes=9) for file, at in late))
    assert (machine.boots, machine.state, len(machine.steps)) == (1, "booted", 3)


def test_steps_stand_in_the_order_of_their_time_whichever_worker_told_of_them_first() -> None:
    machine = told(
        fact(1, "done", "pxelinux.0"), fact(1.03, "done", "vmlinuz"), fact(1.02, "done", f"pxelinux.cfg/01-{MAC}")
    )  # fmt: skip
    assert [step.file for step in machine.steps] == ["pxelinux.0", f"pxelinux.cfg/01-{MAC}", "vmlinuz"]


def test_a_kernel_or_initrd_told_first_by_another_worker_still_stands_last() -> None:
    config = f"pxelinux.cfg/01-{MAC}"
    files = ("pxelinux.0", "initrd.gz", config, "menu.c32", "vmlinuz", "readme")
    machine = told(*(fact(1 + n / 100, "done", file) for n, file in enumerate(files)))
    assert [step.file for step in machine.steps] == ["pxelinux.0", config, "menu.c32", "vmlinuz", "initrd.gz", "readme"]
    machine = told(fact(1, "done", "initrd.gz"), fact(2.5, "done", config))
    assert [step.file for step in machine.steps] == ["initrd.gz", config]


def test_a_file_of_which_only_the_end_is_told_has_the_rate_of_the_time_it_took() -> None:
    machine = told(fact(5.2, "done", "odd.bin", bytes=3000, ms=150), fact(5.2, "done", "empty"))
    assert [step.rate for step in machine.steps] == [20_000, 0]


def test_a_step_told_late_costs_the_oldest_of_a_full_story_and_not_the_newest() -> None:
    machine = told(*(fact(n, "done", f"file{n}") for n in range(STEPS)), fact(STEPS - 1.5, "done", "late"))
    assert [step.file for step in machine.steps][-2:] == ["late", f"file{STEPS - 1}"]
    assert (len(machine.steps), machine.steps[0].file) == (STEPS, "file1")


def test_a_boot_of_which_only_the_ends_of_transfers_are_told_is_a_new_one_too() -> None:
    ends = [fact(at, "done", file, bytes=9) for at, file in enumerate(("pxelinux.0", "vmlinuz", "initrd.gz"))]
    assert told(*ends, *(fact(one.at + 60, "done", one.file, bytes=9) for one in ends)).boots == 2


def test_a_machine_that_comes_back_after_a_long_silence_boots_anew() -> None:
    machine = told(*whole(0, "pxelinux.0"), fact(NEW_BOOT_S + 2, "start", "pxelinux.0"))
    assert machine.boots == 2


def test_a_dhcp_answer_after_the_kernel_begins_a_boot_and_one_to_the_next_loader_does_not() -> None:
    machine = told(*BOOT, fact(60, "dhcp", "DHCP: x", mac=MAC))
    assert (machine.boots, machine.state, machine.stage, len(machine.steps)) == (2, "booting", "dhcp", 1)
    answers = [fact(at, "dhcp", f"DHCP: {file}", mac=MAC) for at, file in ((0, "ipxe.efi"), (9, "boot.ipxe"))]
    machine = told(answers[0], *whole(1, "ipxe.efi"), answers[1], *whole(10, "boot.ipxe"))
    assert (machine.boots, machine.stage, len(machine.steps)) == (1, "configuration", 4)


def test_a_dhcp_answer_of_a_proxy_names_no_address_and_the_machine_is_known_by_its_mac() -> None:
    answer = Fact(0, "dhcp", "", "DHCP: answered", MAC, "dhcp")
    machine = told(answer)
    assert (machine.key, machine.addresses) == (MAC, [])
    machine = told(*BOOT, Fact(60, "dhcp", "", "DHCP: answered", MAC, "dhcp"))
    assert (machine.boots, machine.addresses) == (2, [])


def test_a_machine_that_got_an_address_and_asks_for_nothing_is_stalled() -> None:
    book = Book()
    machine = book.tell(fact(0, "dhcp", mac=MAC))
    assert book.tick(STALL_S - 1) == []
    assert book.tick(STALL_S + 1) == [machine]
    assert machine.state == "stalled"


def test_a_loader_asked_for_again_before_the_kernel_is_the_same_boot_and_is_counted() -> None:
    machine = told(*whole(0, "shimx64.efi"), *whole(5, "shimx64.efi"))
    assert (machine.boots, machine.steps[0].tries) == (1, 2)


def test_a_kernel_that_wants_no_initrd_is_booted_when_nothing_more_is_asked_for() -> None:
    book = Book()
    for one in whole(0, "memtest86+x64.efi"):
        machine = book.tell(one)
    assert machine.state == "booting"
    assert book.tick(SETTLED_S + 1) == [machine]
    assert machine.state == "booted"


@pytest.mark.parametrize(("kind", "state"), [("failed", "failed"), ("refused", "stalled"), ("unanswered", "stalled")])
def test_a_machine_whose_initrd_did_not_come_is_not_booted_by_its_kernel(kind: str, state: str) -> None:
    facts = [*whole(4, "vmlinuz"), fact(5, "start", "initrd.gz", size=1000), fact(6, kind, "initrd.gz", bytes=430)]
    book = Book()
    for one in facts:
        machine = book.tell(one)
    for later in (SETTLED_S + 1, STALL_S + 1, NEW_BOOT_S):
        book.tick(6 + later)
        assert machine.state in ("booting", state)
    assert machine.state == state
    for one in whole(6 + NEW_BOOT_S - 1, "initrd.gz"):
        book.tell(one)
    assert machine.state == "booted"


@pytest.mark.parametrize("kind", ["refused", "unanswered"])
def test_an_initrd_that_was_missing_before_the_kernel_was_fetched_was_not_needed(kind: str) -> None:
    """Seen: a Raspberry Pi asks for `initramfs8`, goes on without it, and was `stalled` for ever, and told to hooks."""
    book = Book()
    for one in [*whole(1, "config.txt"), fact(2, kind, "initramfs8"), *whole(3, "kernel8.img", 9_000_000)]:
        machine = book.tell(one)
    book.tick(3.5 + SETTLED_S + 1)
    assert machine.state == "booted"


def test_a_file_that_stops_arriving_is_a_stall_at_its_percentage() -> None:
    book = Book()
    book.tell(fact(0, "start", "initrd.gz", size=100))
    machine = book.tell(fact(2, "progress", "initrd.gz", bytes=43, size=100))
    book.tick(2 + STALL_S + 1)
    last = machine.last
    assert last is not None
    assert (machine.state, machine.stage, last.percent) == ("stalled", "initrd", 43)


def test_progress_has_a_rate_and_a_finished_file_that_of_the_whole() -> None:
    machine = told(
        fact(0, "start", "initrd.gz", size=1000),
        fact(2, "progress", "initrd.gz", bytes=400),
    )
    assert machine.steps[0].rate == 200
    machine = told(fact(0, "start", "initrd.gz"), fact(4, "done", "initrd.gz", bytes=1000))
    assert (machine.steps[0].rate, machine.steps[0].percent) == (250, -1)


def test_a_failed_file_makes_a_failed_boot_until_something_else_is_fetched() -> None:
    machine = told(*whole(0, "pxelinux.0"), fact(3, "failed", "vmlinuz", cause="timed out"))
    assert machine.state == "failed"
    machine = told(fact(3, "failed", "vmlinuz"), fact(4, "start", "vmlinuz"))
    assert (machine.state, machine.steps[0].tries) == ("booting", 2)


def test_a_probe_for_the_size_is_no_failure() -> None:
    machine = told(fact(0, "start", "bootx64.efi"), fact(0.1, "aborted", "bootx64.efi"), *whole(0.2, "bootx64.efi"))
    assert (machine.state, machine.steps[0].state, machine.steps[0].tries) == ("booting", "done", 1)


def test_agreed_options_and_the_release_stay_with_the_step() -> None:
    machine = told(
        fact(0, "start", "vmlinuz", blksize=1468, windowsize=4, layer="release", release="R", size=9),
        fact(1, "progress", "vmlinuz", bytes=3, retransmits=2),
    )
    step = machine.steps[0]
    assert (step.blksize, step.windowsize, step.layer, step.release, step.retransmits, step.size) == (
        1468, 4, "release", "R", 2, 9,
    )  # fmt: skip


def test_the_book_forgets_the_machine_that_was_silent_longest() -> None:
    book = Book(most=2)
    for number in (1, 2, 1, 3):
        book.tell(fact(number, "start", "pxelinux.0", client=f"192.0.2.{number}"))
    assert list(book.machines) == ["192.0.2.1", "192.0.2.3"]
    assert book.tell(fact(9, "start", "vmlinuz", client="192.0.2.2")).boots == 1


def test_a_machine_with_many_addresses_keeps_the_newest() -> None:
    book = Book()
    for number in range(20):
        machine = book.tell(fact(number, "start", "pxelinux.0", client=f"192.0.2.{number}", mac=MAC))
    assert len(machine.addresses) == 8
    assert machine.addresses[-1] == "192.0.2.19"
    assert book.tell(fact(30, "start", "a", client="192.0.2.1")).key == "192.0.2.1"


def test_an_address_that_another_machine_took_over_is_that_machines() -> None:
    book = Book()
    book.tell(fact(0, "start", "pxelinux.0", mac=MAC))
    book.tell(fact(1, "start", "pxelinux.0", mac="52:54:00:00:00:01"))
    for number in range(9):
        book.tell(fact(2 + number, "start", "a", client=f"192.0.2.{100 + number}", mac=MAC))
    assert book.tell(fact(20, "start", "vmlinuz")).mac == "52:54:00:00:00:01"


def test_a_kernel_that_is_missing_is_the_last_step_whoever_tells_of_it_when() -> None:
    # seen with two workers: a loader asks within a millisecond, and its machine was said to want nothing more
    mine = [
        fact(1.05, "done", "pxelinux.0"),
        fact(1.05, "refused", f"pxelinux.cfg/01-{MAC}"),
        fact(1.05, "done", "pxelinux.cfg/default"),
    ]
    for kernel in (1.0, 1.05, 1.1):
        told_of = sorted([*mine, fact(kernel, "refused", "vmlinux")], key=lambda one: one.at)
        last = told(*told_of).last
        assert last is not None and (last.file, last.state) == ("vmlinux", "missing")
    again = told(*mine, fact(1.1, "refused", "vmlinux"), fact(1.3, "done", "pxelinux.0")).last
    assert again is not None and again.file == "pxelinux.0"


def test_a_machine_without_a_step_has_no_last_one() -> None:
    book = Book()
    machine = book.tell(fact(0, "address", mac=MAC))
    assert (machine.last, machine.state) == (None, "booting")
    assert book.tick(STALL_S + 1) == [machine]


@given(
    st.lists(
        st.builds(
            Fact,
            st.floats(0, 2000),
            st.sampled_from(
                ["dhcp", "one-shot", "start", "progress", "done", "aborted", "failed", "refused", "unanswered"]
            ),
            st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
            st.sampled_from(["", "pxelinux.0", "vmlinuz", "initrd", "grub.cfg-01-52-54-00-12-34-56", "x" * 300]),
            st.sampled_from(["", MAC, "52:54:00:00:00:01"]),
        ),
        max_size=120,
    )
)
def test_whatever_comes_the_book_stays_bounded_and_consistent(facts: list[Fact]) -> None:
    book = Book(most=3)
    for one in facts:
        machine = book.tell(one)
        assert machine is book.machines[machine.key]
        book.tick(one.at)
    assert len(book.machines) <= 3
    assert all(len(machine.steps) <= STEPS and machine.key == key for key, machine in book.machines.items())


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_file_or_one_of_unknown_size_has_no_percentage(size: int) -> None:
    assert told(fact(0, "start", "a", size=size)).steps[0].percent == -1
