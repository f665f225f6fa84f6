"""Reading a manifest: every key, and everything that can be wrong with it, told at its place and all at once."""

from __future__ import annotations

import pytest

from appliance.boot import model
from tests.boot.support import ALL, LINUX, MAC, draft, problems

SHA = "a" * 64
URL = "https://example.org/x.iso"


def test_every_kind_of_source_is_read() -> None:
    found = draft(
        "sources:\n"
        "  a: {deb: pxelinux}\n"
        f"  b: {{url: '{URL}', sha256: {SHA.upper()}, unpack: iso, max_size: 2GiB, redirects: [10.0.0.7]}}\n"
        "  c: {url: 'http://h/d/x.tar', sums: {url: SUMS, signature: SUMS.gpg, keyring: /k.gpg}, unpack: tar}\n"
        "  d: {dir: /srv/x, unverified: true}\n"
        "  e: {file: /srv/x.deb, unpack: deb, unverified: true, experimental: try it}\n"
        "  f: {url: tftp://h/x, unverified: true}\n"
    )
    assert found.problems == []
    assert found.sources == {
        "a": model.Source("a", "deb", "pxelinux", "deb"),
        "b": model.Source("b", "https", URL, "iso", SHA, max_size=2 << 30, redirects=("10.0.0.7",)),
        "c": model.Source(
            "c",
            "http",
            "http://h/d/x.tar",
            "tar",
            "",
            model.Sums("http://h/d/SUMS", "http://h/d/SUMS.gpg", "/k.gpg"),
        ),
        "d": model.Source("d", "dir", "/srv/x", unverified=True),
        "e": model.Source("e", "file", "/srv/x.deb", "deb", unverified=True, experimental="try it"),
        "f": model.Source("f", "tftp", "tftp://h/x", unverified=True),
    }


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{}", "one of deb, url, file and dir says where it comes from"),
        ("{deb: a2, url: 'http://h/x'}", "one of deb, url, file and dir"),
        ("{deb: UPPER}", "not the name of a Debian package"),
        ("{deb: pxelinux, unverified: true}", "verified in more than one way"),
        (f"{{url: '{URL}'}}", "nothing says what makes it genuine (write sha256"),
        (f"{{url: '{URL}', sha256: abc}}", "not a SHA-256 digest"),
        (f"{{url: '{URL}', sums: {{url: S}}}}", "needs its address and the keys"),
        ("{file: /x, sums: {url: 'http://h/S', keyring: /k}}", "for what has an address"),
        ("{url: 'gopher://h/x', unverified: true}", "not the address of a file"),
        ("{url: 'https://h', unverified: true}", "not the address of a file"),
        ("{url: 'https://u:p@h/x', unverified: true}", "a user, a password or a fragment"),
        ("{url: 'https://h/x#y', unverified: true}", "a user, a password or a fragment"),
        ("{dir: /x}", "a folder of this machine is taken as it is"),
        ("{dir: /x, unverified: true, unpack: iso}", "a folder has no digest"),
        ("{dir: x, unverified: true}", "not an absolute path"),
        ("{deb: pxelinux, max_size: 0}", "0 is out of range (write 1B to 1TiB)"),
        ("{deb: pxelinux, max_size: big}", "big is not a size"),
        ("{deb: pxelinux, sha: x}", "unknown key (did you mean"),
        ("{deb: pxelinux, unverified: 'yes'}", "yes is not true or false"),
        ("{deb: [a]}", "no text"),
    ],
)
def test_a_source_that_cannot_be_trusted_or_read_is_refused(source: str, said: str) -> None:
    found = [str(problem) for problem in draft(f"sources:\n  s: {source}\n").problems]
    assert any(said in problem for problem in found), found
    assert all(problem.startswith("boot.yaml:2:") and "sources.s" in problem for problem in found)


@pytest.mark.parametrize("size", ["1B", "1TiB"])
def test_the_ends_of_the_range_of_max_size_are_taken(size: str) -> None:
    assert draft(f"sources: {{s: {{deb: pxelinux, max_size: {size}}}}}").problems == []


@pytest.mark.parametrize("size", ["0B", "1100GiB"])
def test_beyond_the_range_of_max_size_is_refused(size: str) -> None:
    assert "is out of range" in str(draft(f"sources: {{s: {{deb: pxelinux, max_size: {size}}}}}").problems[0])


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        ".",
        "./a",
        ".releases/x",
        '"a\\nb"',
        "'a\\b'",
        "x" * 256,
        "a/" * 450 + "a",
        '""',
    ],
)
def test_no_path_leads_out_of_the_tree_or_into_the_releases(path: str) -> None:
    found = draft(f"sources: {{s: {{deb: pxelinux}}}}\ntree: [{{from: s, take: x, to: {path}}}]").problems
    assert found
    assert all(problem.key == "tree[0].to" or problem.key == "tree[0]" for problem in found)


def test_the_tree_is_read_with_folders_and_roots() -> None:
    found = draft(
        "tree:\n"
        "  - {from: s, take: a/b, to: c}\n"
        "  - {from: s, take: a/, to: d/, in: both, optional: true}\n"
        "  - {from: s, take: /, to: /, in: ftp}\n"
        "  - {from: s, to: e}\n"
    )
    assert found.problems == []
    assert found.takes == [
        model.Take("s", "a/b", "c", ("tftp",)),
        model.Take("s", "a/", "d/", ("tftp", "ftp"), optional=True),
        model.Take("s", "/", "/", ("ftp",)),
        model.Take("s", "", "e", ("tftp",)),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tree: {}", "tree: no list"),
        ("profiles: {p: {kernel: a/}}", "profiles.p.kernel: a/ names no file"),
        ("tree: [{from: s, take: a}]", "tree[0]: from and to are needed"),
        ("tree: [{from: s, take: a/, to: b}]", "tree[0]: a file and a folder"),
        (
            "tree: [{from: s, take: a, to: b, in: http}]",
            "tree[0].in: http is none of the choices (write tftp, ftp, both)",
        ),
        ("loaders: {bios: {file: x}}", "loaders.bios: file and kind are needed"),
        ("loaders: {x64: {file: x, kind: grub}}", "x64 is none of the choices"),
        ("loaders: 3", "loaders: no keys where a section belongs"),
        ("profiles: {p: {answers: {a: {in: ftp}}}}", "no template"),
        ("profiles: {'-p': {action: local}}", "-p is no name"),
        ("profiles: {p: {memory: 1KiB, action: local}}", "profiles.p.memory: 1KiB is out of range"),
        ("profiles: {p: {chain: {bios: /x}}}", "/x begins with a slash"),
        ("vars: {a-b: 1}", "a-b is no name of a variable"),
        ("vars: {a: {b: 1}}", "a section where a value belongs"),
        ("groups: [{match: {net: 10.0.0.0/8}}]", "groups[0]: a group needs a name"),
        ("groups: [{name: a, match: {mac: '52'}}, {name: a}]", "two groups a"),
        ("groups: [{name: a, match: {mac: []}}]", "groups[0].match.mac: an empty list"),
        ("groups: [{name: a, match: {mac: zz}}]", "neither a MAC address nor its first pairs"),
        ("groups: [{name: a, match: {net: 10.0.0.1/8}}]", "has bits set beyond its prefix"),
        ("groups: [{name: a, match: {arch: vax}}]", "vax is none of the choices"),
        ("files: [{path: a}]", "files[0]: path and template are needed"),
        ("files: [{path: ../a, template: t}]", "not a plain path"),
        ("templates: {t: {text: a, file: b}}", "one of text and file is the template"),
        ("templates: {t: {file: gone.cfg}}", "templates.t.file: gone.cfg cannot be read: No such file or directory"),
        ("menu: {timeout: 2h}", "menu.timeout: 2h is out of range (write 0s to 1h)"),
        ("menu: {serial: 1}", "1 is not true or false"),
        ("menu: x", "menu: no keys where a section belongs"),
        ("machines: {m: {profile: linux}}", "machines.m: nothing tells this machine from others"),
        ("machines: {m: {mac: 01:00:5e:00:00:01}}", "the address of no single machine"),
        ("machines: {m: {uuid: x}}", "x is not a UUID"),
        (f"machines: {{m: {{mac: '{MAC}', once: {{}}}}}}", "machines.m.once: unknown key"),
        ("server: a b", "server: a b is not a host name"),
        ("secrets: s.yaml", "secrets: s.yaml is not an absolute path"),
        ('title: "a\\tb"', "title: characters that cannot be printed"),
        ("recipe: [x]", "recipe: unknown key (did you mean recipes?)"),
        ("default: null", "default: no text"),
        ("- a", "no keys where a section belongs"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_key(text: str, said: str) -> None:
    found = [str(problem) for problem in draft(text).problems]
    assert any(said in problem for problem in found), found


def test_a_template_is_taken_from_its_file() -> None:
    assert draft("templates: {a: {file: there.cfg}, b: {text: x}}").templates == {
        "a": "host {{ machine.name }}\n",
        "b": "x",
    }


def test_a_template_beyond_its_limit_is_refused() -> None:
    at_limit = draft(f"templates: {{t: {{text: {'x' * ((1 << 20) - 40)}}}}}")
    assert at_limit.problems == []
    found = draft("title: x")
    from appliance.boot.manifest import _template_text
    from appliance.settings.forms import Unfit

    assert _template_text("x" * (1 << 20))
    with pytest.raises(Unfit, match="more than 1 MiB"):
        _template_text("x" * ((1 << 20) + 1))
    assert found.title == "x"


def test_an_empty_file_says_nothing() -> None:
    assert draft("# nothing\n").problems == []
    assert draft("vars:\nmachines:\n").problems == []


def test_everything_wrong_is_told_at_once_in_the_order_of_the_file() -> None:
    found = problems(
        "server: a b\n"
        "sources:\n  s: {url: 'http://h/x'}\n"
        "tree:\n  - {from: gone, take: x, to: y}\n"
        "profiles:\n  p: {inherit: q}\n  q: {inherit: p}\n  r: {}\n"
        "default: nothing\n"
        f"machines:\n  a: {{mac: '{MAC}'}}\n  b: {{mac: '{MAC}', profile: gone}}\n",
        catalog={},
    )
    assert [line.split(": ")[1] for line in found] == [
        "server", "sources.s", "tree", "profiles.p.inherit", "profiles.q.inherit", "profiles.r", "default",
        "machines.b", "machines.b",
    ]  # fmt: skip
    assert [int(line.split(":")[1]) for line in found] == sorted(int(line.split(":")[1]) for line in found)


def test_machines_of_hosts_d_say_nothing_but_machines() -> None:
    found = draft(f"machines: {{m: {{mac: '{MAC}'}}}}\nprofiles: {{}}", hosts=True)
    assert [str(problem) for problem in found.problems] == [
        "hosts.d/x.yaml:2:1: profiles: unknown key (the keys here are machines)".replace("hosts.d/x.yaml", "boot.yaml")
    ]


def test_an_arming_is_read_from_hosts_d() -> None:
    found = draft(f"machines: {{m: {{mac: '{MAC}', once: {{profile: linux, until: 99, id: x1}}}}}}", hosts=True)
    assert found.problems == []
    assert found.machines[0].once == model.Once("linux", 99, "x1")


@pytest.mark.parametrize(
    "once", ["{profile: linux, id: x}", "{until: 5, id: x}", "{profile: linux, until: soon, id: x}"]
)
def test_an_arming_that_says_too_little_is_refused(once: str) -> None:
    found = draft(f"machines: {{m: {{mac: '{MAC}', once: {once}}}}}", hosts=True)
    assert any("once" in problem.key for problem in found.problems)
    assert found.machines[0].once is None


def test_unquoted_identities_stay_what_they_are() -> None:
    found = draft("machines: {m: {mac: 52-54-00-12-34-56, serial: 0012, ip: 10.0.0.7, labels: {rack: 12}}}")
    machine = found.machines[0]
    assert (machine.macs, machine.serial, machine.ip) == ((MAC,), "0012", "10.0.0.7")
    assert machine.labels == (model.Var("rack", "12"),)
    assert machine.origin == "boot.yaml:1"


def test_loaders_know_where_they_look() -> None:
    found = draft(ALL + "  rpi: {kind: rpi}\n  arm64-uboot: {kind: uboot, prefix: x/}\n")
    assert found.problems == []
    assert {loader.arch: loader.prefix for loader in found.loaders} == {
        "bios": "",
        "x64-efi": "grub",
        "ipxe": "ipxe",
        "rpi": "",
        "arm64-uboot": "x",
    }


def test_the_escape_of_an_answer_follows_its_name() -> None:
    found = draft(
        "profiles:\n  p:\n    action: local\n    answers:\n"
        "      '{{ machine.name }}/user-data': {template: t}\n"
        "      a.xml: {template: t, in: tftp}\n"
        "      a.cfg: {template: t}\n"
        "      b.cfg: {template: t, escape: shell}\n"
    )
    assert found.problems == []
    assert [answer.escape for answer in found.profiles["p"][1].answers] == ["yaml", "xml", "line", "shell"]


def test_values_of_variables_keep_their_kind() -> None:
    found = draft("vars: {a: 1, b: true, c: [x, 2], d: 1.5, e: 'x', f: null}\n" + LINUX)
    assert [var.value for var in found.vars] == [1, True, ("x", "2"), 1.5, "x", None]
