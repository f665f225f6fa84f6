"""`appliance backup` and `appliance restore`: everything of one machine that another one needs to take its place."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Annotated

import typer

from appliance.cli import output
from appliance.cli.bootrooms import now, rendered, rooms, tell
from appliance.cli.landing import landing
from appliance.cli.options import Config, Json
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.cli.bootrooms import Rooms


def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The tar file to write; - is standard output.")],
    *,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write machines, releases with their contents, and the configuration to one tar file.

    Files of the configuration that not everybody may read (keys, secrets) are left out: carry those yourself. Uploads,
    and files that were put into the roots by hand, are not in it either. A machine that is armed for one boot is armed
    on the other machine too, until its time is over.

    \b
    Example:
      appliance backup /media/usb/appliance.tar
    """
    from appliance import __version__
    from appliance.boot import bundle

    here = rooms(config, quiet=as_json or file == "-")
    try:
        with landing(file) as out:
            counts = bundle.write(out, here.house, _configuration(here), __version__, now())
    except OSError as error:
        raise ApplianceError(f"cannot write {file}: {error.strerror}") from error
    if file == "-":
        return
    if as_json:
        output.document({"config": here.config, "file": file, **counts})
        return
    output.fact(
        f"{file}: {counts['releases']} releases, {counts['sources']} sources, {counts['contents']} contents, "
        f"{counts['hosts']} files of machines, {counts['config']} of the configuration"
    )


def restore(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `appliance backup` wrote; - is standard input.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also replace files of machines and configuration that differ.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take in a backup: contents and releases, machines, configuration; then serve the release that was served there.

    Every content is hashed again. A file of machines or of the configuration that is here and differs is kept, and
    told; --replace takes that of the backup.

    \b
    Example:
      appliance restore /media/usb/appliance.tar && appliance check
    """
    from appliance.boot import bundle, orders

    with _opened(file) as stream:
        seen = bundle.read(stream, None)
        kept = _settle(_places(config, seen.config), replace=replace)  # first: it says where everything else goes
        here = rooms(config, quiet=as_json)
        manifest = os.path.dirname(here.settings.boot.manifest)
        kept += _settle(_below(seen.config, "manifest", manifest), replace=replace)
        kept += _settle({f"{here.settings.state_dir}/hosts.d/{n}": t for n, t in seen.hosts.items()}, replace=replace)
        stream.seek(0)
        served = None
        with here.house.publisher() as publisher:
            found = bundle.read(stream, publisher)
            if found.current is not None and found.current[0] in here.house.releases():
                release = here.house.release(found.current[0])
                made, overlay = rendered(here, release)
                served = orders.rollback(publisher, release.id, overlay, now())
    services = tell(here, made.once, served.overlay) if served else "nothing to tell"
    if as_json:
        output.document(
            {
                "config": here.config,
                "releases": [release.id for release in found.releases],
                "sources": [fetched.name for fetched in found.sources],
                "contents": found.contents,
                "kept": kept,
                "served": served.id if served else None,
                "services": services,
            }
        )
        return
    output.fact(f"{len(found.releases)} releases, {len(found.sources)} sources, {found.contents} contents taken in")
    for path in kept:
        output.remark(f"kept, and differs from the backup: {path} (--replace takes that of the backup)")
    if served:
        output.fact(f"{served.id} is served")
        if services != "told":
            output.remark(f"no running service was told: {services}")


def _configuration(here: Rooms) -> dict[str, str]:
    """The files of the configuration, the manifest, and what lies beside it, by their names in a backup."""
    from appliance.settings.load import EMBEDDED

    manifest = here.settings.boot.manifest
    found = {}
    if here.config != EMBEDDED:
        folder = os.path.dirname(here.config)
        found[f"config/{os.path.basename(here.config)}"] = here.config
        found |= _listed("config/conf.d", f"{folder}/conf.d")
    if os.path.isfile(manifest):
        beside = _listed("manifest", os.path.dirname(manifest))
        found |= {name: path for name, path in beside.items() if path not in found.values()}
    return found


def _listed(name: str, folder: str) -> dict[str, str]:
    entries = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return {f"{name}/{entry}": f"{folder}/{entry}" for entry in entries if os.path.isfile(f"{folder}/{entry}")}


def _places(config: str | None, texts: dict[str, bytes]) -> dict[str, bytes]:
    """Where files of the configuration go: beside the one that is named, else where it is looked for."""
    from appliance.settings.load import SYSTEM_FILE

    return _below(texts, "config", os.path.dirname(os.path.abspath(config or SYSTEM_FILE)))


def _below(texts: dict[str, bytes], kind: str, folder: str) -> dict[str, bytes]:
    return {
        f"{folder}/{name.removeprefix(kind + '/')}": text for name, text in texts.items() if name.startswith(f"{kind}/")
    }


def _settle(wanted: dict[str, bytes], *, replace: bool) -> list[str]:
    """Write files that are not here; the paths of those that differ and were kept. Raises ApplianceError."""
    kept = []
    for path, text in wanted.items():
        try:
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            if os.path.exists(path):
                with open(path, "rb") as file:
                    same = file.read(len(text) + 1) == text
                if same or not replace:
                    kept += [] if same else [path]
                    continue
            with landing(path) as out:
                out.write(text)
            os.chmod(path, 0o644)
        except OSError as error:
            raise ApplianceError(f"cannot write {path}: {error.strerror}") from error
    return kept


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        with tempfile.TemporaryFile() as spooled:
            shutil.copyfileobj(sys.stdin.buffer, spooled, 1 << 20)
            spooled.seek(0)
            yield spooled
        return
    try:
        stream = open(file, "rb")  # noqa: SIM115  closed below
    except OSError as error:
        raise ApplianceError(f"cannot open {file}: {error.strerror}") from error
    with stream:
        yield stream
