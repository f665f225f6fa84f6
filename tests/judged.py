"""What tests of judgements share: settings, machines, and what is found."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from appliance import world
from appliance.machine import Machine
from appliance.settings.main import Settings

ROOT_USER, ORDINARY = Machine(uid=0, gid=0), Machine(uid=1000, gid=1000)
OURSELVES = Machine(uid=os.geteuid(), gid=os.getegid())
WORKER = 64610  # the fixed uid of the TFTP worker when its account does not exist


def changed(**sections: Any) -> Settings:
    """Settings with some keys changed; a nested section is a dict again."""
    return _changed(Settings(), sections)


def _changed(value: Any, changes: dict[str, Any]) -> Any:
    parts = {k: _changed(getattr(value, k), v) if isinstance(v, dict) else v for k, v in changes.items()}
    return dataclasses.replace(value, **parts)


def tftp_only(**keys: Any) -> Settings:
    """Settings without FTP."""
    return changed(ftp={"enabled": False}, tftp=keys)


def ftp_only(**keys: Any) -> Settings:
    """Settings without TFTP."""
    return changed(tftp={"enabled": False}, ftp=keys)


def found(judgement: world.Judgement, settings: Settings, machine: Machine = ROOT_USER) -> list[str]:
    """What a judgement finds, as it is told."""
    return [str(problem) for problem in judgement(settings, machine)]


def made(folder: Path, files: dict[str, str], uid: int = 0) -> Machine:
    """A machine whose /proc holds these files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Machine(str(folder), uid=uid, gid=uid)


def tls(pair: tuple[Path, Path], **keys: Any) -> Settings:
    """Settings with a certificate and its key."""
    return ftp_only(tls={"mode": "optional", "certificate": str(pair[0]), "key": str(pair[1]), **keys})
