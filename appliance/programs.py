"""Judge the programs that hooks name: are they there, may their account run them, can nobody put another in place?"""

from __future__ import annotations

import os
import stat

from appliance.boxes import Findings, caution, fault, identity
from appliance.confine import landlock
from appliance.machine import Machine
from appliance.settings.main import Settings

USER = "appliance-hook"
_SHEBANG_MAX = 256  # bytes that the kernel reads of a script's first line


def hooks(settings: Settings, machine: Machine) -> Findings:
    """Each program of `observe.hooks`, by the rights of the account that it is run under."""
    who = identity(machine, USER)
    for i, hook in enumerate(settings.observe.hooks):
        key = f"observe.hooks[{i}].run"
        if not hook.run[0].startswith("/"):
            continue  # told elsewhere
        problem = _unusable(hook.run[0], who or (0, 0))
        if problem:
            yield fault(key, *problem)
        elif open_to := _replaceable(hook.run[0], who or (0, 0), machine):
            what = f"{open_to} can be written by others, who could put another program in place"
            yield caution(key, what, f"chown root:root {open_to}; chmod go-w {open_to}")
    if settings.observe.hooks and settings.confinement == "required" and landlock.abi() == 0:
        what = "hooks are held by Landlock, which this kernel does not have, so they are not run"
        yield fault("observe.hooks", what, "boot it with lsm=landlock, or write confinement: best-effort")


def _unusable(program: str, who: tuple[int, int]) -> tuple[str, str] | None:
    """What is wrong with it and what helps; None when the account may run it."""
    for above in _above(program):
        try:
            found = os.stat(above)
        except OSError:
            return f"{program} is not there", f"ls -l {program}"
        if not _may(found, who, 1):
            return f"uid {who[0]} may not enter {above}, where {program} is", f"chmod a+x {above}"
    try:
        found = os.stat(program)
    except OSError:
        return f"{program} is not there", f"ls -l {program}"
    if not stat.S_ISREG(found.st_mode):
        return f"{program} is no program", f"ls -l {program}"
    if not _may(found, who, 1):
        return f"uid {who[0]} may not run {program}", f"chmod a+rx {program}"
    return _script(program, found, who)


def _script(program: str, found: os.stat_result, who: tuple[int, int]) -> tuple[str, str] | None:
    """A script is read by its interpreter, which has to be there."""
    try:
        with open(program, "rb") as file:
            first = file.read(_SHEBANG_MAX).partition(b"\n")[0]
    except OSError:
        return None  # whether it is a script cannot be told by who asks
    if not first.startswith(b"#!"):
        return None
    words = first[2:].split()
    interpreter = os.fsdecode(words[0]) if words else ""
    if not os.path.isfile(interpreter) or not os.access(interpreter, os.X_OK):
        return f"{program} is a script for {interpreter!r}, which is not there", f"head -1 {program}"
    if not _may(found, who, 4):
        return f"uid {who[0]} may not read the script {program}", f"chmod a+rx {program}"
    return None


def _replaceable(program: str, who: tuple[int, int], machine: Machine) -> str:
    """The file or folder that somebody else could change; "" for none."""
    for path in (program, *_above(program)):
        found = os.stat(path)
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            return path
        mine = found.st_uid == who[0] and found.st_mode & stat.S_IWUSR
        if machine.uid == 0 and (mine or (found.st_gid == who[1] and found.st_mode & stat.S_IWGRP)):
            return path
    return ""


def _above(path: str) -> list[str]:
    """The folders that lead to a file, from the root on."""
    parts = os.path.dirname(os.path.normpath(path)).split("/")
    return ["/", *("/".join(parts[: i + 1]) for i in range(1, len(parts)) if parts[i])]


def _may(found: os.stat_result, who: tuple[int, int], bit: int) -> bool:
    """By owner, group (the account has no other) or everybody; 4 read, 1 run or enter."""
    shift = 6 if found.st_uid == who[0] else 3 if found.st_gid == who[1] else 0
    return bool(found.st_mode >> shift & bit)
