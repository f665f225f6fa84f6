"""What would keep a machine from booting, told before anything is published. Pure: values in, problems out.

Invariant: nothing here repeats a secret or a password; a rule either knows, or says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from appliance.boot import binaries, loaders, names
from appliance.boot.layout import Placed
from appliance.boot.loaders import kind_of
from appliance.boot.model import ARCHES, CPUS, Loader, Machine, Plan
from appliance.boot.plan import chosen_loaders
from appliance.errors import Problem
from appliance.settings import units
from appliance.settings.forms import Unfit

HEAD = 1 << 16  # bytes of a kernel or module that are enough to judge it
WHOLE = 16 << 20  # bytes of an EFI program: its signature stands at its end
Peek = Callable[[Placed, int], bytes]  # the first so many bytes of a placed file

# Bytes that a block holds as each loader asks for it (seen on the wire); blocks are counted in 16 bits (RFC 1350).
_BLOCKS = {"pxelinux": 1408, "grub": 1024, "shim": 512, "ipxe": 1432, "uboot": 1468, "rpi": 1024}
_DEB = re.compile(r"deb:[^_]+_([^_]+)_[^_]+\.deb")
_NO_HASH = r"(?![$!*])"
_PLAINTEXT = (
    ("preseed", re.compile(r"passwd/(?:root|user)-password(?:-again)?[ \t]+password[ \t]+(?!\s)\S+", re.M)),
    ("preseed", re.compile(rf"passwd/(?:root|user)-password-crypted[ \t]+password[ \t]+{_NO_HASH}\S+", re.M)),
    ("kickstart", re.compile(r"^[ \t]*rootpw[ \t]+(?!.*--(?:iscrypted|lock))\S+", re.M)),
    ("kickstart", re.compile(r"^[ \t]*user[ \t]+(?!.*--iscrypted).*--password=\S+", re.M)),
    ("kickstart", re.compile(rf"--iscrypted[ \t]+(?:--\S+[ \t]+)*'?{_NO_HASH}[^-'\s]\S*", re.M)),
    ("autoinstall", re.compile(rf"^[ \t]*(?:password|passwd|hashed_passwd):[ \t]*['\"]?{_NO_HASH}[^'\"\s#]", re.M)),
    ("cloud-init", re.compile(r"^[ \t]*plain_text_passwd:[ \t]*\S", re.M)),
    ("AutoYaST", re.compile(r"<user_password>(?!\s*[$!*]|\s*<)", re.M)),
)


@dataclass(frozen=True, slots=True)
class Tree:
    """What is there to be asked for. `placed` is None before anything was fetched: then only names are judged."""

    plan: Plan
    machines: Sequence[Machine]  # those of the manifest and of hosts.d
    placed: Sequence[Placed] | None
    peek: Peek
    by_hand: Callable[[str], bool] = lambda _path: False  # whether a path lies in the TFTP root itself
    told: Mapping[str, str] = field(default_factory=dict)  # what our own DHCP service names: settings.dhcp.told()
    origins: Mapping[str, str] = field(default_factory=dict)  # source -> what was fetched: deb:FILE, a URL ...

    def paths(self) -> set[str]:
        """Every path of the TFTP root that is common to all machines."""
        found = {file.path for file in self.plan.files if file.root == "tftp"}
        if self.placed is not None:
            return found | {one.path for one in self.placed if one.root == "tftp"}
        return found | {take.path for take in self.plan.takes if "tftp" in take.roots}

    def there(self, path: str, have: set[str]) -> bool:
        """Whether a path is in the tree, or lies in the root, or may come with a folder that is taken whole."""
        if path in have or "/" in have or self.by_hand(path):
            return True
        parts = path.split("/")
        return any("/".join(parts[:i]) + "/" in have for i in range(1, len(parts)))


def lint(tree: Tree) -> list[Problem]:
    """Every finding, errors first."""
    have = tree.paths()
    found = [problem for rule in _RULES for problem in rule(tree, have)]
    return sorted(dict.fromkeys(found), key=lambda one: one.severity != "error")


def _error(key: str, what: str, remedy: str) -> Problem:
    return Problem("error", what, remedy, key)


def _loader_files(tree: Tree, have: set[str]) -> Iterator[Problem]:
    """Each file that a loader needs before it knows anything of its machine."""
    manifest = tree.plan.manifest
    for loader in manifest.loaders:
        menu = bool(manifest.menu.entries)
        for ask in names.of_loader(loader, Machine(""), manifest, menu=menu):
            if ask.needed and not ask.choice and not tree.there(ask.path, have):
                yield _error(f"loaders.{loader.arch}", f"{ask.path} is missing: {ask.why}", _remedy(ask.path))
        if loader.kind == "ipxe" and not any(one.arch == "ipxe" for one in manifest.loaders):
            what = "iPXE is loaded, and there is no script for it: it would load itself again and again"
            yield _error(f"loaders.{loader.arch}", what, "write loaders: {ipxe: {file: boot.ipxe, kind: ipxe}}")
        if loader.kind == "rpi":
            yield from _rpi_files(tree, have)


def _told(tree: Tree, have: set[str]) -> Iterator[Problem]:
    """Files that boot.dhcp tells machines to load, and that nobody serves."""
    loaders_ = {loader.arch: loader.file for loader in tree.plan.manifest.loaders}
    for kind, file in tree.told.items():
        if kind == "uboot" or tree.there(file, have):
            continue  # U-Boot takes the name for a folder alone
        instead = loaders_.get(kind.replace("_", "-"))
        what = f"machines of the kind {kind} are told to load {file}, which is not there"
        remedy = f"write {kind}: {instead or 'null'} there" + (
            "" if instead else ", or take a recipe that has the file"
        )
        yield Problem("warning", what, remedy, f"boot.dhcp_server.files.{kind}")


def _remedy(path: str) -> str:
    name = path.rpartition("/")[2]
    sources = {"ldlinux.c32": "syslinux-common", "menu.c32": "syslinux-common", "libutil.c32": "syslinux-common"}
    if name in sources:
        return f"take it from the Debian package {sources[name]}, or name the recipe pxelinux"
    if name.startswith("grub") and name.endswith(".efi"):
        return "take a GRUB that this shim trusts (Debian: grub-efi-amd64-signed), or name the recipe grub"
    return f"put {path} below tree:, or mend the name"


def _rpi_files(tree: Tree, have: set[str]) -> Iterator[Problem]:
    for profile in tree.plan.manifest.profiles:
        if not profile.files:
            continue
        starts = [f"{profile.files}{name}" for name in ("start4.elf", "start.elf")]
        if not any(tree.there(path, have) for path in starts):
            what = f"{starts[0]} is missing: without it a Raspberry Pi forgets its prefix"
            yield _error(
                f"profiles.{profile.name}.files", what, "take the firmware of the boards (raspi-firmware) there"
            )
        if profile.kernel and not profile.kernel.startswith(profile.files):
            what = f"{profile.kernel} is not in {profile.files}, and a Raspberry Pi looks nowhere else"
            yield _error(f"profiles.{profile.name}.kernel", what, "take the kernel into that folder")


def _profile_files(tree: Tree, have: set[str]) -> Iterator[Problem]:
    """Kernels, initial RAM disks and what is handed over to, of profiles that somebody can boot."""
    manifest = tree.plan.manifest
    for profile in manifest.profiles:
        if profile.name not in _used(tree.plan):
            continue
        for arches in [(arch,) for arch in (*ARCHES, "ipxe")] if profile.action == "chain" else [tuple(ARCHES)]:
            for ask in names.of_profile(profile, arches):
                if not tree.there(ask.path, have):
                    yield _error(f"profiles.{profile.name}", f"{ask.path} is missing: {ask.why}", _remedy(ask.path))


def _used(plan: Plan) -> set[str]:
    found = {*plan.manifest.menu.entries, plan.manifest.default, *(group.profile for group in plan.manifest.groups)}
    return found | {owned.profile for owned in (*plan.overlay.machines, *plan.overlay.once)}


def _unreachable(tree: Tree, have: set[str]) -> Iterator[Problem]:
    """Machines that no loader can be told anything of."""
    del have
    manifest = tree.plan.manifest
    machines = {machine.name: machine for machine in tree.machines}
    profiles = {profile.name: profile for profile in manifest.profiles}
    for owned in (*tree.plan.overlay.machines, *tree.plan.overlay.once):
        profile = profiles.get(owned.profile)
        if owned.configs or profile is None or profile.action == "none":
            continue
        kinds = {kind_of(loader) for loader in chosen_loaders(manifest, machines[owned.key])}
        what = (
            f"nothing can be rendered for it: {', '.join(sorted(kinds)) or 'no loader'} asks for nothing it is known by"
        )
        remedy = "write its mac, and a loader for its arch (recipes: pxelinux, grub, ipxe)"
        yield _error(f"machines.{owned.key}", what, remedy)


def _same_path(tree: Tree, have: set[str]) -> Iterator[Problem]:
    """Two machines that are given different files under one name."""
    del have
    for group in (tree.plan.overlay.machines, tree.plan.overlay.once):
        first: dict[tuple[str, str], tuple[str, str]] = {}
        for owned in group:
            for file in owned.files:
                other, text = first.setdefault((file.root, file.path), (owned.key, file.text))
                if text != file.text:
                    what = f"{file.root}:{file.path} is another file for {other}"
                    remedy = "write something of the machine into the path, like {{ machine.name }}"
                    yield _error(f"machines.{owned.key}", what, remedy)


def _passwords(tree: Tree, have: set[str]) -> Iterator[Problem]:
    """A password that everybody can read; hashes pass."""
    del have
    seen: set[tuple[str, str]] = set()
    files = [("", file) for file in tree.plan.files]
    files += [(own.key, file) for own in (*tree.plan.overlay.machines, *tree.plan.overlay.once) for file in own.files]
    for key, file in files:
        kind = plaintext(file.text)
        where = f"machines.{key}" if key else "files"
        if kind and (where, file.path) not in seen:
            seen.add((where, file.path))
            what = f"{file.path} has a password in the clear ({kind})"
            yield _error(where, what, "write a hash: mkpasswd -m yescrypt, or openssl passwd -6")


def plaintext(text: str) -> str:
    """The kind of answer file that has a password in the clear; empty for none."""
    lower = text.lower()
    if "pass" not in lower and "rootpw" not in lower:
        return ""
    return next((kind for kind, pattern in _PLAINTEXT if pattern.search(text)), "")


def _binaries(tree: Tree, have: set[str]) -> Iterator[Problem]:
    """What the files themselves say, once they were fetched."""
    del have
    placed = {one.path: one for one in tree.placed or () if one.root == "tftp"}
    for loader in tree.plan.manifest.loaders:
        yield from _loader_binary(tree, loader, placed)
    for profile in tree.plan.manifest.profiles:
        kernel = placed.get(profile.kernel)
        told = binaries.linux_arch(tree.peek(kernel, HEAD)) if kernel else ""
        fits = {"x86_64": ("x86_64",), "i386": ("i386", "x86_64")}.get(told, (told,))
        if told and profile.arch and not set(fits) & set(profile.arch):
            what = f"{profile.kernel} is a kernel for {told}, the profile is for {', '.join(profile.arch)}"
            yield _error(f"profiles.{profile.name}", what, "take the right kernel, or mend arch:")


def _loader_binary(tree: Tree, loader: Loader, placed: dict[str, Placed]) -> Iterator[Problem]:
    key = f"loaders.{loader.arch}"
    file = placed.get(loader.file)
    if loader.kind == "pxelinux":
        for name in ("ldlinux.c32", "menu.c32", "libutil.c32"):
            module = placed.get(f"{loaders.beside(loader)}{name}")
            if module and binaries.elf_bits(tree.peek(module, HEAD)) == 64:
                what = f"{module.path} is the module of another Syslinux (UEFI, 64 bits): PXELINUX cannot load it"
                yield _error(key, what, "take it from modules/bios of the same version")
    if file is None or loader.arch not in CPUS:
        return
    data = tree.peek(file, WHOLE)
    head = binaries.pe(data)
    if head is not None and head.arch and head.arch != loader.arch:
        yield _error(key, f"{loader.file} is for {head.arch}", "name the file for this architecture")
    if head is None and loader.arch.endswith("-efi"):
        yield _error(key, f"{loader.file} is no EFI program", "name a file that UEFI can start")
    if loader.kind == "shim":
        grub = placed.get(f"{loaders.beside(loader)}{names.grub_beside(loader)}")
        yield from _secure(key, data, tree.peek(grub, WHOLE) if grub else b"", grub.path if grub else "")


def _versions(tree: Tree, have: set[str]) -> Iterator[Problem]:
    """The two halves of PXELINUX, by the versions of the packages they came from: the files themselves do not say."""
    del have
    placed = {one.path: one for one in tree.placed or () if one.root == "tftp"}
    for loader in tree.plan.manifest.loaders:
        first, second = placed.get(loader.file), placed.get(f"{loaders.beside(loader)}ldlinux.c32")
        if loader.kind != "pxelinux" or first is None or second is None:
            continue
        versions = [_version(tree.origins.get(one.source, "")) for one in (first, second)]
        if all(versions) and versions[0] != versions[1]:
            what = f"{first.path} is of Syslinux {versions[0]}, {second.path} of {versions[1]}: they may not load"
            yield Problem("warning", what, "take both from one release of Debian", f"loaders.{loader.arch}")


def _version(origin: str) -> str:
    """The version in the name of a Debian package, without the mark of a rebuild (Debian Policy 5.6.12)."""
    found = _DEB.match(origin)
    return re.sub(r"\+b[0-9]+$", "", unquote(found[1])) if found else ""


def _secure(key: str, shim: bytes, grub: bytes, path: str) -> Iterator[Problem]:
    if not path:
        return
    if binaries.trusts(shim, grub) is False:
        by = " and ".join(binaries.signers(grub)[:2]) or "nobody"
        trusted = " and ".join(_inside(shim))
        what = f"{path} is signed by {by}, and this shim trusts {trusted}: Secure Boot refuses it"
        yield Problem("warning", what, "take shim and GRUB from one distribution", key)
    if (found := binaries.revoked(shim, grub)) is not None:
        name, have, least = found
        what = (
            f"{path} is {name} of generation {have}, and this shim lets run {least} and newer: Secure Boot refuses it"
        )
        yield Problem("warning", what, "fetch a newer GRUB", key)


def _inside(shim: bytes) -> list[str]:
    signature = binaries.pe_signature(shim)
    return list(dict.fromkeys(binaries.common_names(shim.replace(signature, b"") if signature else shim)))


def _too_long(tree: Tree, have: set[str]) -> Iterator[Problem]:
    """Files of more blocks than are counted, by the block size of the loader that fetches them."""
    del have
    sizes = {one.path: one.size for one in tree.placed or () if one.root == "tftp"}
    kinds = {kind_of(loader) for loader in tree.plan.manifest.loaders}
    for profile in tree.plan.manifest.profiles:
        for path in (profile.kernel, *profile.initrd):
            small = [kind for kind in sorted(kinds) if sizes.get(path, 0) > 65535 * _BLOCKS[kind]]
            if small:
                what = f"{path}, {units_of(sizes[path])}: more than 65535 blocks for {', '.join(small)}"
                remedy = (
                    "such clients must begin to count anew: those that cannot stop there; use a smaller initrd, or FTP"
                )
                yield Problem("warning", what, remedy, f"profiles.{profile.name}")
    for loader in tree.plan.manifest.loaders:
        beside = f"{loaders.beside(loader)}{names.grub_beside(loader)}"
        if loader.kind == "shim" and sizes.get(beside, 0) > 65535 * _BLOCKS["shim"]:
            what = f"{beside}, {units_of(sizes[beside])}: more than 65535 blocks for shim"
            yield Problem("warning", what, "use a smaller GRUB", f"loaders.{loader.arch}")


def units_of(size: int) -> str:
    """Bytes for a person."""
    return f"{size / (1 << 20):.0f} MiB"


def _memory(tree: Tree, have: set[str]) -> Iterator[Problem]:
    """Machines that say how much memory they have (the variable `ram`), and what they boot needs more."""
    del have
    profiles = {profile.name: profile for profile in tree.plan.manifest.profiles}
    sizes = {one.path: one.size for one in tree.placed or () if one.root == "tftp"}
    machines = {machine.name: machine for machine in tree.machines}
    for owned in (*tree.plan.overlay.machines, *tree.plan.overlay.once):
        machine, profile = machines[owned.key], profiles.get(owned.profile)
        ram = _ram(machine)
        if not ram or profile is None:
            continue
        needed = max(profile.memory, sum(sizes.get(path, 0) for path in owned.loads))
        if needed > ram:
            what = f"{profile.name} needs {units_of(needed)} of memory, the machine has {units_of(ram)}"
            yield _error(f"machines.{machine.name}", what, "choose another profile, or mend vars: {ram: ...}")


def _ram(machine: Machine) -> int:
    value = next((var.value for var in machine.vars if var.name == "ram"), None)
    try:
        return units.parse_size(value) if value is not None else 0
    except Unfit:
        return 0


_RULES: tuple[Callable[[Tree, set[str]], Iterator[Problem]], ...] = (
    _loader_files,
    _told,
    _profile_files,
    _unreachable,
    _same_path,
    _passwords,
    _binaries,
    _versions,
    _too_long,
    _memory,
)
