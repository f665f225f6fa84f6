"""published.layers: the order of the layers, and the one name that exists for nobody."""

from __future__ import annotations

import pytest

from appliance.published.layers import (
    PLAIN,
    Layers,
    folder_of,
    hidden,
    index_text,
    is_id,
    is_loader_config,
    overlay_of,
    read_index,
    split,
    ways_to,
)

ID = "20260131-235959-0123abcd"
LAYERS = Layers(3, b".releases/overlay-7/", b".releases/R/", {b"grub.cfg-01-aa": b".releases/overlay-7/once/x"})


@pytest.mark.parametrize(
    ("path", "places"),
    [
        (b"vmlinuz", [b".releases/overlay-7/vmlinuz", b".releases/R/vmlinuz", b"vmlinuz"]),
        (
            b"grub.cfg-01-aa",
            [
                b".releases/overlay-7/once/x",
                b".releases/overlay-7/grub.cfg-01-aa",
                b".releases/R/grub.cfg-01-aa",
                b"grub.cfg-01-aa",
            ],
        ),
        (b"once", [b".releases/R/once", b"once"]),
        (b"ONCE/.index", [b".releases/R/ONCE/.index", b"ONCE/.index"]),
        (b"oncetold", [b".releases/overlay-7/oncetold", b".releases/R/oncetold", b"oncetold"]),
        (b"a/once/b", [b".releases/overlay-7/a/once/b", b".releases/R/a/once/b", b"a/once/b"]),
    ],
)
def test_a_name_is_looked_for_in_every_layer_and_last_in_the_root(path: bytes, places: list[bytes]) -> None:
    assert list(LAYERS.places(path)) == places
    assert PLAIN.places(path) == (path,)


@pytest.mark.parametrize("path", [b".releases", b".releases/x", b"a/.releases/b", b".RELEASES/x", b"x/.Releases"])
def test_the_folder_of_the_releases_is_hidden_in_every_spelling(path: bytes) -> None:
    assert hidden(path)


@pytest.mark.parametrize("path", [b"releases", b".releases2/x", b"a.releases", b"x/.releasesx", b""])
def test_names_that_only_look_like_it_are_names(path: bytes) -> None:
    assert not hidden(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20260131-235959-0123abcg",
        "20260131-235959-0123ABCD",
        f"{ID}/",
        f"../{ID}",
        f"{ID}\n",
        "x" * 24,
        f"\N{FULLWIDTH DIGIT TWO}{ID[1:]}",
    ],
)
def test_what_is_no_name_of_a_release(text: str) -> None:
    assert is_id(ID) and not is_id(text)


def test_folders_are_relative_to_the_root() -> None:
    assert folder_of(ID) == b".releases/" + ID.encode()
    assert overlay_of(12) == b".releases/overlay-12"


@pytest.mark.parametrize(
    ("path", "layer", "name"),
    [
        (b".releases/overlay-7/once/a/b", "once", b"a/b"),
        (b".releases/overlay-7/a/once/b", "overlay", b"a/once/b"),
        (b".releases/20260131-235959-0123abcd/a/b", "release", b"a/b"),
        (b"a/b", "static", b"a/b"),
    ],
)
def test_a_place_tells_its_layer_and_the_name(path: bytes, layer: str, name: bytes) -> None:
    assert split(path) == (layer, name)


def test_the_index_of_an_overlay_comes_back_as_it_went() -> None:
    keys = {"pxelinux.cfg/01-aa bb": "0123456789abcdef", "a": "f" * 16}
    assert read_index(index_text(keys)) == {b"pxelinux.cfg/01-aa bb": b"0123456789abcdef", b"a": b"f" * 16}
    assert read_index(b"") == {}


def test_lines_of_another_form_are_left_out_of_the_index() -> None:
    lines = [b"0123456789abcdef", b"0123456789ABCDEF a", b"0123456789abcdef ", b"x a", b"0" * 16 + b" " + b"a" * 1001]
    assert read_index(b"\n".join([*lines, b"0123456789abcdef a"])) == {b"a": b"0123456789abcdef"}


@pytest.mark.parametrize(
    "name",
    [b"pxelinux.cfg/default", b"pxelinux.cfg/01-aa", b"bios/pxelinux.cfg/C000", b"grub.cfg", b"grub/grub.cfg-01-aa",
     b"boot.ipxe", b"ipxe/mac.IPXE", b"extlinux/extlinux.conf", b"serial/config.txt", b"Boot/BCD"],
)  # fmt: skip
def test_what_a_loader_begins_with(name: bytes) -> None:
    assert is_loader_config(name)


@pytest.mark.parametrize("name", [b"pxelinux.0", b"vmlinuz", b"ipxe", b"x/grub.cf", b"pxelinux.cfg", b"a.ipxe.efi"])
def test_what_a_loader_asks_for_later_or_before(name: bytes) -> None:
    assert not is_loader_config(name)


def test_the_ways_to_files_are_all_folders_above_them_but_the_root() -> None:
    assert ways_to([b"answers/m1/preseed.cfg", b"answers/m2", b"top"]) == {b"answers", b"answers/m1"}
    assert ways_to([]) == frozenset()
