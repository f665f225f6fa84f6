"""What keys about uploads may not say together. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from ipaddress import ip_network

from appliance.settings.finding import Finding, Path
from appliance.settings.ftp import IncomingSettings
from appliance.settings.main import Settings
from appliance.settings.rulefacts import Rules, upload_boxes
from appliance.settings.tftp import TftpNetwork, TftpUploads
from appliance.settings.units import format_size


def _quotas(settings: Settings) -> Iterator[Finding]:
    for base, _folder, box in upload_boxes(settings):
        yield from _quotas_of(base, box)


def _quotas_of(base: Path, box: IncomingSettings | TftpUploads) -> Iterator[Finding]:
    size, quota, share = format_size(box.max_size), format_size(box.quota), format_size(box.per_client_quota)
    if box.max_size > box.quota:
        keys = ((*base, "max_size"), (*base, "quota"))
        yield Finding(f"{size} is more than the quota of {quota}", f"write at most {quota}, or raise the quota", keys)
    if box.per_client_quota > box.quota:
        keys = ((*base, "per_client_quota"), (*base, "quota"))
        what = f"{share} is more than the quota of {quota}, so it limits nobody"
        yield Finding(what, f"write less than {quota}", keys, "warning")
    if box.max_size > box.per_client_quota and box.max_size <= box.quota:
        keys = ((*base, "max_size"), (*base, "per_client_quota"))
        what = f"{size} is more than the {share} that one client may store"
        yield Finding(what, f"write at most {share}, or raise per_client_quota", keys, "warning")


def _drop_box(settings: Settings) -> Iterator[Finding]:
    ftp = settings.ftp
    keys: tuple[Path, ...] = (("ftp", "incoming", "path"), ("ftp", "hide"))
    for part in ftp.incoming.path.split("/") if ftp.enabled and ftp.incoming.enabled else ():
        hidden = next((pattern for pattern in ftp.hide if fnmatch.fnmatchcase(part, pattern)), None)
        if hidden or part.startswith("."):
            what = f"{part} is hidden by {f'ftp.hide, {hidden}' if hidden else 'its dot'}, so no client reaches it"
            yield Finding(what, "write a name that is not hidden, like incoming", keys)


def _upload_folders(settings: Settings) -> Iterator[Finding]:
    """Each custodian owns its folder alone, and what is looked up for everybody is not in it."""
    boxes = upload_boxes(settings)
    for base, folder, _box in boxes:
        for other, outer, _box in boxes:
            if base != other and f"{folder}/".startswith(f"{outer}/"):
                same = "the same folder as" if folder == outer else "inside"
                what = f"{folder} is {same} that of {other[0]}.{other[1]}, {outer}"
                yield Finding(what, "name a folder beside it", ((*base, "path"), (*other, "path")))
                if folder == outer:
                    return
    uploads = settings.tftp.uploads.path
    for key, root in _lookup_folders(settings) if boxes and boxes[-1][0][0] == "tftp" else ():
        if f"{root}/".startswith(f"{uploads}/"):
            what = f"{root} is in the folder of the uploads, {uploads}, which is not served"
            yield Finding(what, "name another folder", (key, ("tftp", "uploads", "path")))


def _lookup_folders(settings: Settings) -> Iterator[tuple[Path, str]]:
    lists: list[tuple[Path, tuple[TftpNetwork, ...]]] = [(("tftp", "networks"), settings.tftp.networks)]
    for i, site in enumerate(settings.tftp.sites):
        lists.append((("tftp", "sites", i, "networks"), site.networks))
        if site.root:
            yield ("tftp", "sites", i, "root"), site.root
    for path, networks in lists:
        yield from (((*path, i, "root"), network.root) for i, network in enumerate(networks) if network.root)


def _released(settings: Settings) -> Iterator[Finding]:
    """What was released is neither a custodian's nor out of sight."""
    ftp, key = settings.ftp, ("ftp", "incoming", "released")
    if not (ftp.enabled and ftp.incoming.enabled):
        return
    folder = f"{ftp.root.rstrip('/')}/{ftp.incoming.released}"
    for base, box, _settings in upload_boxes(settings):
        if f"{folder}/".startswith(f"{box}/") or f"{box}/".startswith(f"{folder}/"):
            what = f"{folder} and the folder of {base[0]}.{base[1]}, {box}, lie inside each other"
            yield Finding(what, "name a folder beside it", (key, (*base, "path")))
    for part in ftp.incoming.released.split("/"):
        if hidden := next((pattern for pattern in ftp.hide if fnmatch.fnmatchcase(part, pattern)), ""):
            what = f"{part} is hidden by ftp.hide, {hidden}, so nobody sees what was released"
            yield Finding(what, "write a name that is not hidden, like released", (key, ("ftp", "hide")), "warning")


def _scan(settings: Settings) -> Iterator[Finding]:
    scan, key = settings.ftp.incoming.scan, ("ftp", "incoming", "scan")
    if scan is None or not (settings.ftp.enabled and settings.ftp.incoming.enabled):
        return
    if bool(scan.command) == (scan.clamd is not None):
        what = "there are two scanners" if scan.command else "there is no scanner"
        keys: tuple[Path, ...] = ((*key, "command"), (*key, "clamd"), key)
        yield Finding(what, "write command or clamd, one of them; or scan: null", keys)
    elif scan.command and not scan.command[0].startswith("/"):
        what = f"{scan.command[0]} is not an absolute path"
        yield Finding(
            what, f"write it in full, like /usr/bin/{scan.command[0].rpartition('/')[2]}", ((*key, "command"),)
        )


def _uploads(settings: Settings) -> Iterator[Finding]:
    box, base = settings.tftp.uploads, ("tftp", "uploads")
    if not settings.tftp.enabled or box.mode == "none":
        return
    size = format_size(box.max_size)
    if box.mode != "create" and box.max_size <= min(box.quota, box.per_client_quota) < 2 * box.max_size:
        which = "quota" if box.quota <= box.per_client_quota else "per_client_quota"
        what = f"a file of {size} could not be replaced: the old and the new one count until the new one is complete"
        yield Finding(what, f"write at least {format_size(2 * box.max_size)}", ((*base, which),), "warning")
    if box.keep_versions and box.mode == "create":
        remedy = "write mode: replace, or take keep_versions out"
        keys = ((*base, "keep_versions"), (*base, "mode"))
        yield Finding("create replaces nothing, so there are no versions", remedy, keys, "warning")
    if box.keep_versions >= box.max_files and box.mode != "create":
        what = f"{box.keep_versions} versions and the file itself are more than the {box.max_files} files of max_files"
        keys = ((*base, "keep_versions"), (*base, "max_files"))
        yield Finding(what, f"write at most {box.max_files - 1}, or raise max_files", keys)


def _readers(settings: Settings) -> Iterator[Finding]:
    box, key = settings.tftp.uploads, ("tftp", "uploads", "readers")
    if not settings.tftp.enabled or box.mode == "none":
        return
    if box.readable == "networks" and not box.readers:
        remedy = "write them, like [192.0.2.0/24], or readable: none"
        yield Finding("readable is networks, and there are none", remedy, (key, ("tftp", "uploads", "readable")))
    if box.readable != "networks" and box.readers:
        what = f"readable is {box.readable}, so these networks count for nothing"
        yield Finding(what, "write readable: networks", (key, ("tftp", "uploads", "readable")), "warning")
    for i, text in enumerate(box.readers):
        network = ip_network(text, strict=False)
        if network.version == 6 and network.prefixlen > 64:
            what = f"{text} is part of a /64, and IPv6 clients are told apart by their /64 only"
            whole = ip_network((network.network_address, 64), strict=False)
            yield Finding(what, f"write {whole}", ((*key, i),))


RULES: Rules = (
    _quotas,
    _drop_box,
    _upload_folders,
    _released,
    _scan,
    _uploads,
    _readers,
)
