"""Landlock: what a child may still do with files and TCP ports, whatever else fails (linux/landlock.h, ABI 1 to 7)."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable, Mapping

from appliance.confine import libc

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on x86-64 and aarch64
_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2

EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
WRITE_FILE, REMOVE_FILE, MAKE_REG, TRUNCATE = 1 << 1, 1 << 5, 1 << 8, 1 << 14
_READ = READ_FILE | READ_DIR
_WRITE = WRITE_FILE | REMOVE_FILE | MAKE_REG | TRUNCATE
_OF_FILES = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE
TREE = _WRITE | 1 << 4 | 1 << 7 | 1 << 13  # also folders, and links and renames from one to another (REFER, ABI 2)
_BIND_TCP, _CONNECT_TCP = 1, 2
_HANDLED_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_HANDLED = (1 << 16) - 1  # ABI 5 and later: device ioctl
_SCOPES = 3  # ABI 6: abstract unix sockets, signals


def abi() -> int:
    """The kernel's Landlock ABI; 0 when it has none."""
    try:
        return libc.syscall(_CREATE, None, 0, _VERSION)
    except OSError:
        return 0


def restrict(
    directory: int,
    *,
    writes: bool,
    bind_tcp: tuple[int, int] | None,
    version: int,
    connect_tcp: bool = False,
    folders: Mapping[int, bool] | None = None,
) -> None:
    """Allow reading beneath `directory` (writing regular files, if `writes`), binding these TCP ports, nothing else.

    `folders`: more of them by descriptor, each to be read, or with True to have trees made and removed in it; a file
    may be among them. Without ABI 2 no file can be linked from one folder into another. UDP is not covered by any ABI
    yet; seccomp is what holds there. Needs no_new_privs. Raises OSError.
    """
    handled = _HANDLED_BY_ABI.get(version, _HANDLED)
    ruleset = _create(handled, version, connect_tcp=connect_tcp)
    try:
        allowed = (_READ | _WRITE if writes else _READ) & handled
        _add(ruleset, _PATH_BENEATH, struct.pack("=Qi", allowed, directory))
        for folder, whole in (folders or {}).items():
            rights = (_READ | TREE if whole else _READ) & handled
            _add(ruleset, _PATH_BENEATH, struct.pack("=Qi", _fitting(folder, rights), folder))
        if bind_tcp and version >= 4:
            for port in range(bind_tcp[0], bind_tcp[1] + 1):
                _add(ruleset, _NET_PORT, struct.pack("=QQ", _BIND_TCP, port))
        libc.syscall(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def restrict_to(rules: Iterable[tuple[int, int]], *, version: int, connect_tcp: bool) -> None:
    """Allow what each rule says beneath its open folder, or of its open file, and nothing else. Raises OSError."""
    handled = _HANDLED_BY_ABI.get(version, _HANDLED)
    ruleset = _create(handled, version, connect_tcp=connect_tcp)
    try:
        for descriptor, rights in rules:
            _add(ruleset, _PATH_BENEATH, struct.pack("=Qi", rights & handled, descriptor))
        libc.syscall(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _create(handled: int, version: int, *, connect_tcp: bool = False) -> int:
    fields = [handled]
    if version >= 4:
        fields.append(_BIND_TCP if connect_tcp else _BIND_TCP | _CONNECT_TCP)
    if version >= 6:
        fields.append(_SCOPES)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    return libc.syscall(_CREATE, ctypes.c_char_p(attributes), len(attributes), 0)


def _add(ruleset: int, kind: int, rule: bytes) -> None:
    libc.syscall(_ADD, ruleset, kind, ctypes.c_char_p(rule), 0)


def restrict_paths(paths: Iterable[tuple[str, int]], version: int) -> None:
    """Allow these rights at and beneath these paths, and nothing else; one that does not exist is left out.

    Rights that only a folder can have are taken off a file. No TCP at all. Needs no_new_privs. Raises OSError.
    """
    handled = _HANDLED_BY_ABI.get(version, _HANDLED)
    ruleset = _create(handled, version)
    try:
        for path, rights in paths:
            _add_path(ruleset, path, rights & handled)
        libc.syscall(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _add_path(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _add(ruleset, _PATH_BENEATH, struct.pack("=Qi", _fitting(descriptor, rights), descriptor))
    finally:
        os.close(descriptor)


def _fitting(descriptor: int, rights: int) -> int:
    """Without those that only a folder can have, if it is none."""
    return rights if stat.S_ISDIR(os.fstat(descriptor).st_mode) else rights & _OF_FILES
