"""Who may import whom: the table of docs/DESIGN.md, enforced on every file by its syntax tree."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "appliance"
COMMON = {"errors"}

# what a file may import of ours; a longer prefix wins over a shorter one
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "wire": {"errors", "published.layers"},
    "settings": {"settings", "published.layers"},
    "published": {"published"},
    "confine": {"confine"},
    "observe": {"observe"},
    "observe.control": {"observe", "child", "wire"},
    "observe.recorder": {"observe", "child", "wire"},
    "child": {"child", "wire", "confine", "observe", "published.pins"},
    "supervise": {
        "supervise",
        "wire",
        "confine.report",
        "observe.events",
        "observe.framing",
        "observe.tables",
        "observe.shares",
        "observe.log",
        "observe.text",
        "__init__",
    },
    "supervise.releases": {
        "supervise",
        "wire",
        "observe.log",
        "observe.events",
        "published.current",
        "published.pins",
    },
    "supervise.siblings": {"supervise", "wire", "observe.shares", "published.pins"},
    "supervise.reading": {"supervise", "wire", "confine.plan", "observe.tables"},
    "tftp": {"tftp", "settings", "observe", "custody.wire", "custody.client", "published"},
    "tftp.worker": {"tftp", "settings", "observe", "child", "wire", "custody.wire", "custody.client", "published"},
    "ftp": {"ftp", "settings", "observe", "custody.wire", "custody.client", "published"},
    "ftp.worker": {"ftp", "settings", "observe", "child", "wire", "custody.wire", "custody.client", "published"},
    "resolve": {"resolve"},
    "resolve.worker": {"resolve", "observe", "child", "wire"},
    "custody": {"custody", "settings", "observe"},
    "custody.worker": {"custody", "settings", "observe", "child", "wire"},
    "release": {"release", "observe.log", "observe.text", "custody.marks", "custody.rules"},
    "release.program": {"release", "confine.libc", "confine.held"},
    "dhcp": {"dhcp"},
    "hooks": {"hooks", "settings", "observe.events"},
    "hooks.runner": {"hooks", "settings", "confine"},
    "hooks.worker": {"hooks", "settings", "board", "observe", "child", "wire", "confine.hook"},
    "dhcp.guard": {"dhcp", "confine"},
    "dhcp.worker": {
        "dhcp",
        "settings",
        "observe.log",
        "observe.events",
        "observe.emitter",
        "child",
        "wire",
        "confine.foreign",
    },
    "boot.keeper": {"boot", "observe", "child", "wire"},
    "boot": {"boot", "settings", "observe.log", "observe.text", "confine.libc"},
    "boot.assemble": {"boot", "settings", "published.layers"},
    "boot.trees": {"boot", "published.sums"},
    "boot.publish": {"boot", "published.layers", "published.sums"},
    "boot.children": {"boot", "wire", "supervise.spawn", "confine.plan", "confine.report", "observe.tables"},
    "boot.publisher": {"boot", "observe.log", "child"},
    "boot.unpacker": {"boot", "observe.log", "child"},
    "boot.fetcher": {"boot", "observe.log", "child"},
    "boot.protocols": {"boot", "cli.tftpclient", "cli.transfer", "cli.urls", "__init__"},
    "boot.programs": {"boot", "supervise.spawn"},
    "cli.backup": {"cli", "settings", "boot", "__init__"},
    "cli.bootrooms": {"cli", "settings", "boot", "boxes", "machine"},
    "cli.bootfetch": {"cli", "settings", "boot"},
    "cli.bootreleases": {"cli", "settings", "boot", "observe.text"},
    "wiring": {"settings", "supervise.service"},
    "reader": {"wiring", "settings", "supervise.service", "child"},
    "machine": set(),
    "board": {
        "board",
        "settings.password",
        "observe.events",
        "observe.live",
        "observe.text",
        "observe.log",
        "observe.macs",
    },
    "install": {"install", "settings"},
    "migrate": {"migrate"},
    "board.worker": {"board", "child", "wire", "observe"},
    "boxes": {"machine", "wiring", "settings", "supervise.folders"},
    "programs": {"boxes", "machine", "settings", "confine.landlock"},
    "reach": {"boxes", "machine", "settings"},
    "world": {"reach", "boxes", "machine", "programs", "wiring", "settings", "confine.landlock", "ftp.tlsfiles"},
    "cli.tftp": {"cli", "settings", "observe.log", "observe.text", "tftp", "published.current"},
    "cli.incoming": {"cli", "settings", "observe.log", "observe.text", "boxes", "machine", "release"},
    "cli": {"cli", "settings", "world", "wiring", "observe.log", "observe.text", "supervise.spawn", "__init__"},
    "cli.papers": {"cli", "install"},
    "cli.doctor": {"cli", "install", "settings", "world", "__init__"},
    "cli.answers": {"cli", "dhcp", "observe.text"},
    "cli.install": {"cli", "install"},
    "cli.migrate": {"cli", "migrate", "settings"},
    "cli.boot": {"cli", "settings", "boot"},
    "cli.check": {"cli", "settings", "world", "boot.judge"},
    "cli.happened": {"cli", "board", "boot", "observe.macs"},
    "cli.arming": {"boot.armed", "boot.arming", "boot.model"},
    "cli.host": {"cli", "settings", "boot"},
    "cli.machinewords": {"settings", "boot"},
    "cli.bootboard": {"cli", "board.guard"},
    "cli.firewall": {"cli", "install"},
    "cli.seed": {"cli", "install", "settings"},
}
# pure: no effect on the world, so nothing that has one
PURE = (
    "published.layers", "published.pins", "boot.armed", "boot.oneshot",
    "errors", "wire", "confine.plan", "confine.programs", "confine.promises", "confine.report", "confine.rules",
    "confine.syscalls", "supervise.states",
    "supervise.service", "supervise.change", "tftp.admission", "tftp.blocks", "tftp.lessons", "tftp.packet",
    "tftp.options", "tftp.netascii", "tftp.repeats", "tftp.session", "tftp.terms", "ftp.addresses", "ftp.ascii",
    "ftp.policy", "ftp.rulings",
    "supervise.bans", "supervise.troubles", "ftp.bans", "ftp.rates", "ftp.seats", "ftp.listing", "custody.wire",
    "custody.ledger", "observe.spelled",
    "custody.rules", "settings.types", "settings.tftp", "settings.ftp", "settings.box", "settings.main",
    "settings.patterns", "settings.plain", "custody.readers", "custody.versions", "tftp.receiver",
    "tftp.neighbours", "observe.events", "observe.framing", "observe.exposition", "observe.scrape", "observe.live",
    "observe.tally", "observe.text", "observe.macs", "tftp.rates", "ftp.validity",
    "settings.patterns", "settings.plain", "settings.rulefacts", "settings.ftprules", "settings.tftprules",
    "settings.uploadrules", "custody.readers", "custody.versions", "tftp.receiver",
    "tftp.neighbours", "tftp.timers", "tftp.actions", "tftp.roundtrip",
    "observe.events", "observe.exposition", "observe.scrape", "observe.live",
    "observe.tally", "observe.text", "tftp.rates", "ftp.validity",
    "release.verdict", "release.names", "ftp.xferlog", "ftp.terms", "board.stages", "board.story", "board.diagnosis",
    "resolve.schedule", "resolve.conf", "supervise.addresses",
    "board.guard", "board.rows", "board.live", "board.turns", "board.hearing",
    "hooks.orders", "hooks.triggers", "hooks.desk", "settings.hooks", "settings.hookrules",
    "settings.boot", "settings.dhcp", "dhcp.dnsmasq", "dhcp.discover",
    "settings.forms", "settings.units", "settings.yamltext", "boot.model",
    "boot.reading", "boot.manifest", "boot.resolve", "boot.machines", "boot.templates", "boot.loaders", "boot.plan",
    "boot.layout", "boot.hosts", "boot.importing", "boot.dhcp", "boot.binaries", "boot.names",
    "boot.lint", "boot.explain", "boot.draft", "boot.origins", "board.feed",
    "boot.lint", "boot.explain", "boot.grub",
    "boot.lint", "boot.explain", "install.seed",
    "board.guard", "board.rows", "board.live", "settings.boot", "settings.dhcp", "dhcp.dnsmasq", "dhcp.discover",
    "settings.forms", "settings.units", "settings.yamltext", "boot.model", "boot.reading", "boot.manifest",
    "boot.resolve", "boot.machines", "boot.templates", "boot.loaders", "boot.plan", "boot.layout", "board.feed",
    "settings.password", "settings.finding", "settings.board",
    "settings.fetch", "boot.records", "boot.links", "boot.sums", "boot.journey", "boot.assemble",
)  # fmt: skip
IMPURE_MODULES = {
    "os",
    "socket",
    "select",
    "selectors",
    "time",
    "logging",
    "subprocess",
    "threading",
    "random",
    "pathlib",
}
# third parties have one door each
DOORS: dict[str, tuple[str, ...]] = {
    "pyftpdlib": ("ftp",),
    "dns": ("resolve.query",),
    "yaml": ("settings.yamltext", "settings.describe"),
    "pydantic": ("settings",),
    "pydantic_core": ("settings",),
    "annotated_types": ("settings",),
    "typer": ("cli",),
    "click": ("cli",),
    "rich": ("cli",),
    "h11": ("board.server",),
    "tftpy": ("cli.tftpclient",),
    "jinja2": ("boot.templates",),
    "urllib3": ("boot.protocols",),
    "pycdlib": ("boot.archives",),
    "zstandard": ("boot.archives",),
    "ctypes": ("confine", "tftp.sockets", "tftp.batch"),
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[-1] != "__init__" or len(parts) == 1 else parts[:-1])


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py")) if path.read_text().strip()}


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements under a node: `ast.walk` would look into every expression too, where nothing can be imported."""
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        for child in getattr(node, field, ()):
            yield child
            yield from statements(child)


@functools.cache
def imports(path: Path) -> set[str]:
    """Every module a file imports, those under TYPE_CHECKING and inside functions included. Nobody changes it."""
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            found |= {f"{base}.{alias.name}" if _is_module(base, alias.name) else base for alias in node.names}
    return found


def _is_module(base: str, name: str) -> bool:
    if not base.startswith("appliance"):
        return False
    place = ROOT.joinpath(*base.split(".")[1:], name)
    return place.is_dir() or place.with_suffix(".py").exists()


def under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def rule_for(name: str) -> set[str]:
    best = max((prefix for prefix in ALLOWED if under(name, prefix)), key=len, default="")
    assert best, f"appliance.{name} is in no room of the table"
    return ALLOWED[best] | COMMON


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_the_rooms_it_may(name: str) -> None:
    ours = {
        module.removeprefix("appliance").lstrip(".") or "__init__"
        for module in imports(FILES[name])
        if under(module, "appliance")
    }
    bad = {module for module in ours if not any(under(module, allowed) for allowed in rule_for(name))}
    assert bad == set()


@pytest.mark.parametrize("name", [name for name in PURE if name in FILES])
def test_a_pure_file_imports_nothing_with_an_effect(name: str) -> None:
    assert {module.split(".")[0] for module in imports(FILES[name])} & IMPURE_MODULES == set()
    ours = {module.removeprefix("appliance.") for module in imports(FILES[name]) if module.startswith("appliance.")}
    assert ours <= set(PURE) | {"settings.types"}


def test_every_pure_file_exists() -> None:
    assert set(PURE) - set(FILES) == set()


@pytest.mark.parametrize("name", FILES)
def test_third_parties_come_in_by_their_one_door(name: str) -> None:
    foreign = {module.split(".")[0] for module in imports(FILES[name])} - set(sys.stdlib_module_names) - {"appliance"}
    assert {module for module in foreign if not any(under(name, door) for door in DOORS.get(module, ()))} == set()


def test_room_init_files_are_empty() -> None:
    assert [p for p in ROOT.rglob("__init__.py") if p.parent != ROOT and p.read_text().strip()] == []


# after the jail is closed these find nothing to work with: no temporary folder, no /dev/log, no time zones, no accounts
UNUSABLE_IN_A_JAIL = {
    "tempfile",
    "syslog",
    "zoneinfo",
    "subprocess",
    "pwd",
    "grp",
    "locale",
    "multiprocessing",
    "ctypes",
}
JAILED = ("tftp", "ftp", "custody", "observe", "board", "child", "published")


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.split(".")[0] in JAILED and name not in DOORS["ctypes"]]
)
def test_what_runs_in_a_jail_uses_nothing_that_a_jail_takes_away(name: str) -> None:
    assert {module.split(".")[0] for module in imports(FILES[name])} & UNUSABLE_IN_A_JAIL == set()
