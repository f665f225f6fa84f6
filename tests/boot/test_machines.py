"""Which machines a selector fits, and what a profile can run on."""

from __future__ import annotations

import pytest

from appliance.boot.machines import arch_of, fits, fits_cpu, within
from appliance.boot.model import Machine, Profile, Selector, Var

ONE = Machine(
    "m", ("52:54:00:12:34:56", "52:54:00:00:00:01"), "u", "s", "10.0.0.7", "bios", (Var("a", "1"), Var("b", "2"))
)


@pytest.mark.parametrize(
    ("match", "fit"),
    [
        (Selector(), True),
        (Selector(macs=("00:11:22", "52:54:00:12")), True),
        (Selector(macs=("00:11:22",)), False),
        (Selector(uuids=("u", "v")), True),
        (Selector(uuids=("v",)), False),
        (Selector(serials=("s",)), True),
        (Selector(serials=("t",)), False),
        (Selector(networks=("10.0.0.0/8",)), True),
        (Selector(networks=("11.0.0.0/8", "2001:db8::/32")), False),
        (Selector(arches=("bios",)), True),
        (Selector(arches=("rpi",)), False),
        (Selector(labels=(Var("a", "1"),)), True),
        (Selector(labels=(Var("a", "2"),)), False),
        (Selector(macs=("52:54",), arches=("rpi",)), False),
    ],
)
def test_every_field_of_a_selector_has_to_fit(match: Selector, fit: bool) -> None:
    assert fits(match, ONE) is fit


def test_what_is_not_known_of_a_machine_fits_nothing_that_asks_for_it() -> None:
    assert not fits(Selector(networks=("0.0.0.0/0",)), Machine("m"))
    assert not within("", "0.0.0.0/0")


def test_architectures_have_the_numbers_that_clients_send() -> None:
    assert [arch_of(number) for number in (0, 6, 7, 9, 10, 11, 16, 21, 22, 41, 99)] == [
        "bios", "ia32-efi", "x64-efi", "x64-efi", "arm32-efi", "arm64-efi", "x64-efi", "arm32-uboot", "arm64-uboot",
        "rpi", None,
    ]  # fmt: skip


def test_a_profile_without_processors_runs_anywhere() -> None:
    assert fits_cpu(Profile("p", ""), "rpi")
    assert fits_cpu(Profile("p", "", arch=("i386",)), "bios")
    assert not fits_cpu(Profile("p", "", arch=("i386",)), "x64-efi")
