"""What drafts say together: recipes, inheritance, references, machines twice, selectors that fit nothing."""

from __future__ import annotations

import pytest

from appliance.boot.draft import Draft
from tests.boot.support import ALL, LINUX, MAC, draft, problems, resolved


def catalog(**recipes: str) -> dict[str, Draft]:
    return {name: draft(text, name=f"catalogue:{name}.yaml") for name, text in recipes.items()}


BASE = """\
sources: {base: {deb: pxelinux}}
tree: [{from: base, take: x, to: x}]
loaders: {bios: {file: x, kind: pxelinux}}
profiles: {base: {kernel: k, initrd: [i, j], args: quiet, vars: {a: 1, b: 2}, arch: x86_64}}
vars: {from_recipe: 1, both: recipe}
templates: {t: {text: recipe}}
"""


def test_a_recipe_brings_what_it_has_and_the_manifest_wins() -> None:
    own = (
        "recipes: [base]\nsources: {base: {deb: ipxe}}\nvars: {both: own}\ntemplates: {t: {text: own}}\n"
        "loaders: {bios: {file: y, kind: ipxe}}\nprofiles: {base: {kernel: mine}}\n"
    )
    found = resolved(own, catalog=catalog(base=BASE)).manifest
    assert [source.at for source in found.sources] == ["ipxe"]
    assert [loader.file for loader in found.loaders] == ["y"]
    assert [(profile.kernel, profile.initrd) for profile in found.profiles] == [("mine", ())]
    assert {var.name: var.value for var in found.vars} == {"from_recipe": 1, "both": "own"}
    assert [var.value for var in found.templates] == ["own"]
    assert found.menu.entries == ("base",)


def test_of_two_recipes_the_one_named_first_gives_the_loader() -> None:
    both = catalog(a="loaders: {bios: {file: a, kind: pxelinux}}", b="loaders: {bios: {file: b, kind: ipxe}}")
    assert [one.file for one in resolved("recipes: [b, a]", catalog=both).manifest.loaders] == ["b"]


def test_two_recipes_may_share_a_source_and_a_file_but_not_a_name() -> None:
    same = "sources: {s: {deb: ipxe}}\ntree: [{from: s, take: x, to: x}]\n"
    other = "sources: {s: {deb: pxelinux}}\n"
    assert len(resolved("recipes: [a, b]", catalog=catalog(a=same, b=same)).manifest.takes) == 1
    found = problems("recipes: [a, b]", catalog=catalog(a=same, b=other))
    assert found == [
        "catalogue:b.yaml:1:14: sources: the source s is another one in a recipe named before "
        "(write it into the manifest: that one wins)"
    ]


def test_a_profile_inherits_what_it_does_not_say() -> None:
    text = (
        "recipes: [base]\nprofiles:\n  more: {inherit: base, more_args: debug, vars: {b: 3, c: 4}}\n"
        "  most: {inherit: more, kernel: other, more_args: verbose}\n  bare: {inherit: base, args: nothing}\n"
    )
    found = {profile.name: profile for profile in resolved(text, catalog=catalog(base=BASE)).manifest.profiles}
    assert (found["more"].args, found["most"].args, found["bare"].args) == (
        "quiet debug",
        "quiet debug verbose",
        "nothing",
    )
    assert (found["most"].kernel, found["most"].initrd, found["most"].arch) == ("other", ("i", "j"), ("x86_64",))
    assert {var.name: var.value for var in found["most"].vars} == {"a": 1, "b": 3, "c": 4}
    assert {profile.action for profile in found.values()} == {"linux"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recipes: [nowhere]", "recipes: no recipe nowhere in the catalogue (there are base)"),
        ("tree: [{from: s, take: a, to: b}]", "tree: no source s"),
        (
            "sources: {s: {deb: aa}, t: {deb: bb}}\n"
            "tree: [{from: s, take: a, to: c}, {from: t, take: a, to: c, in: both}]",
            "tree: c comes from two sources in the root of tftp",
        ),
        ("profiles: {abc: {inherit: abd}}", "profiles.abc.inherit: no profile abd (did you mean abc?)"),
        ("profiles: {a: {inherit: zzzz}}", "no profile zzzz (the profiles are a)"),
        ("profiles: {a: {inherit: a}}", "profiles inherit in a ring: a -> a"),
        ("profiles: {a: {inherit: b}, b: {inherit: c}, c: {inherit: a}}", "in a ring: b -> c -> a -> b"),
        ("profiles: {a: {title: x}}", "profiles.a: nothing to boot"),
        ("profiles: {a: {action: chain}}", "profiles.a: nothing to load"),
        ("default: linx\n" + LINUX, "default: no profile linx (did you mean linux?)"),
        ("default: x", "no profile x (the profiles are none)"),
        ("menu: {default: x}\n" + LINUX, "menu.default: no profile x"),
        ("menu: {entries: [x]}\n" + LINUX, "menu.entries: no profile x"),
        ("profiles: {a: {kernel: k, answers: {x: {template: t}}}}", "profiles.a.answers: no template t"),
        ("profiles: {a: {kernel: k, confirm: done}}", "profiles.a.confirm: every machine would fetch the same file"),
        ("files: [{path: a, template: t}]", "files: no template t"),
        ("groups: [{name: g, match: {mac: '52:54'}, profile: x}]", "groups.g.profile: no profile x"),
    ],
)
def test_what_is_named_must_be_there(text: str, said: str) -> None:
    found = problems(text, catalog=catalog(base=BASE))
    assert any(said in line for line in found), found


def test_a_broken_profile_is_told_once_and_not_again_by_those_that_use_it() -> None:
    found = problems(
        "profiles: {a: {inherit: a}, b: {inherit: a}}\ndefault: a\n"
        "groups: [{name: g, match: {mac: '52:54'}, profile: b}]",
        catalog={},
    )
    assert len(found) == 1 and "in a ring" in found[0]
    found = problems("profiles: {a: {inherit: gone}, b: {inherit: a}}", catalog={})
    assert len(found) == 1 and "no profile gone" in found[0]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("mac: 52:54:00:12:34:56", "mac: [52:54:00:12:34:57, 52-54-00-12-34-56]", "the MAC address 52:54:00:12:34:56"),
        ("uuid: 4c4c4544-0043-3510-8052-b4c04f4e3732", "uuid: 4C4C4544-0043-3510-8052-B4C04F4E3732", "the UUID 4c4c"),
        ("serial: X1", "serial: X1", "the serial number X1"),
        ("ip: 10.0.0.1", "ip: 10.0.0.1", "the address 10.0.0.1"),
    ],
)
def test_two_machines_with_one_identity_are_told_with_both_places(one: str, other: str, said: str) -> None:
    found = problems(f"machines: {{a: {{{one}}}}}", f"machines: {{b: {{{other}}}}}")
    assert len(found) == 1
    assert found[0].startswith("hosts.d/0.yaml:1:15: machines.b: ") and said in found[0]
    assert "is also that of a (boot.yaml:1)" in found[0]


def test_two_files_with_a_machine_of_one_name_are_told() -> None:
    found = problems("", "machines: {a: {ip: 10.0.0.1}}", "machines: {a: {ip: 10.0.0.2}}")
    assert found == [
        "hosts.d/1.yaml:1:15: machines.a: the name a is also that of a (hosts.d/0.yaml:1) "
        "(give it another name, or remove one)"
    ]


def test_a_profile_has_to_fit_the_processor_of_its_machine_and_of_its_group() -> None:
    text = "profiles: {p: {kernel: k, arch: x86_64}}\n"
    assert problems(f"{text}machines: {{m: {{mac: '{MAC}', arch: x64-efi, profile: p}}}}") == []
    found = problems(f"{text}machines: {{m: {{mac: '{MAC}', arch: arm64-efi, profile: p}}}}")
    assert "the profile p is for x86_64, and arm64-efi runs none of them" in found[0]
    found = problems(f"{text}groups: [{{name: g, match: {{arch: [rpi, arm64-efi]}}, profile: p}}]")
    assert "the profile p runs on none of rpi, arm64-efi" in found[0]
    assert problems(f"{text}groups: [{{name: g, match: {{arch: [rpi, bios]}}, profile: p}}]") == []


def test_a_machine_with_an_unknown_profile_or_arming_is_told() -> None:
    host = f"machines: {{m: {{mac: '{MAC}', profile: x, once: {{profile: y, until: 5, id: i}}}}}}"
    found = problems(LINUX, host)
    assert ["no profile x" in found[0], "no profile y" in found[1]] == [True, True]


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ("{}", "{net: 10.0.0.0/8}"),
        ("{net: 10.0.0.0/8}", "{net: 10.1.0.0/16, arch: bios}"),
        ("{mac: '52:54'}", "{mac: ['52:54:00', '52:54:01']}"),
        ("{arch: [bios, rpi]}", "{arch: rpi}"),
        ("{labels: {a: b}}", "{labels: {a: b, c: d}}"),
        ("{serial: [x, y]}", "{serial: x}"),
        ("{uuid: 4c4c4544-0043-3510-8052-b4c04f4e3732}", "{uuid: 4C4C4544-0043-3510-8052-b4c04f4e3732}"),
    ],
)
def test_a_group_that_another_one_hides_is_told(above: str, below: str) -> None:
    found = problems(f"{LINUX}groups: [{{name: a, match: {above}}}, {{name: b, match: {below}}}]")
    assert len(found) == 1 and "never reached: a above fits every machine that this one fits" in found[0]


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ("{net: 10.1.0.0/16}", "{net: 10.0.0.0/8}"),
        ("{net: 10.0.0.0/8}", "{net: '2001:db8::/32'}"),
        ("{net: 10.0.0.0/8, arch: bios}", "{net: 10.0.0.0/8}"),
        ("{mac: '52:54:00'}", "{mac: '52:54'}"),
        ("{net: 10.0.0.0/8}", "{net: [10.0.0.0/16, 11.0.0.0/16]}"),
        ("{net: 10.0.0.0/16}", "{net: 9.0.0.0/16}"),
    ],
)
def test_a_group_that_is_reached_is_no_problem(above: str, below: str) -> None:
    assert problems(f"{LINUX}groups: [{{name: a, match: {above}}}, {{name: b, match: {below}}}]") == []


def test_a_hundred_problems_are_told_and_the_rest_counted() -> None:
    found = problems("tree:\n" + "".join(f"  - {{from: s, take: a, to: f{i}}}\n" for i in range(150)))
    assert len(found) == 101
    assert found[-1].endswith("50 more problems (mend these first)")


def test_secrets_leave_their_names_only() -> None:
    found = resolved("secrets: /etc/x\n" + ALL, secrets=("b", "a"))
    assert (found.manifest.secrets, found.secrets) == (("a", "b"), "/etc/x")
