"""`appliance seed`: what an image is told at its first boot, looked at, and put into its places once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli import output
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from appliance.install.seed import Seed

CONFIGURATION = "etc/appliance/conf.d/seed.yaml"
SSH = "etc/ssh/authorized_keys"
MARK = "etc/seeded"
NAME = "seed.yaml"


def seed(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The seed, or with --apply the folder that may have one.")
    ],
    *,
    apply: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Put it below DIR, unless that has been seeded; for an image's first boot."),
    ] = None,
) -> None:
    """Tell whether a seed for an image is right: `configuration` and `ssh_keys`, no commands (docs/INSTALL.md).

    \b
    Example:
      appliance seed seed.yaml
    """
    from appliance.install import seed as seeds

    if apply is None:
        found = _judged(file)
        sections = "a configuration" if found.configuration else "no configuration"
        output.fact(f"{file}: {sections}, {len(found.ssh_keys)} keys of SSH")
        return
    if (apply / MARK).exists():
        output.fact("seeded before: the seed is not read")
        return
    place = file / NAME
    if place.exists():
        found = _judged(place)
        if found.configuration:
            _put(apply / CONFIGURATION, found.configuration, 0o644)
        if found.ssh_keys:
            _put(apply / SSH, "".join(f"{line}\n" for line in found.ssh_keys), 0o600)
        said = f"seeded: {'configuration, ' if found.configuration else ''}{len(found.ssh_keys)} keys of SSH"
    else:
        found, said = seeds.Seed(), f"no {NAME}: the defaults"
    _put(apply / MARK, f"{said}\n", 0o644)
    output.fact(said)


def _judged(place: Path) -> Seed:
    """What it says, and that the machine's configuration with it can be used. Raises ConfigError, ApplianceError."""
    from appliance.install import seed as seeds
    from appliance.settings import load

    try:
        with place.open("rb") as file:
            content = file.read(seeds.LARGEST + 1)
    except OSError as error:
        raise ApplianceError(f"{place}: {error.strerror}") from error
    found = seeds.read(str(place), content)
    if found.configuration:
        load.load([(f"{place} (configuration)", found.configuration.encode())])
    return found


def _put(place: Path, text: str, mode: int) -> None:
    """A file that is whole and on disk, or not there. Raises ApplianceError."""
    half = place.with_name(f".{place.name}.new")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        half.unlink(missing_ok=True)
        with open(
            os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode), "w"
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        half.rename(place)
    except OSError as error:
        raise ApplianceError(f"{place}: {error.strerror}") from error
