"""The system call filter: rules to a BPF program (seccomp(2), SECCOMP_SET_MODE_FILTER). `assemble` is pure.

The program checks the architecture first (a foreign one is killed), refuses the x32 calls, then compares the call's
number with each rule from the top. Arguments are compared as 32-bit values: those we look at are ints in the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from appliance.confine import libc
from appliance.confine.programs import FOREIGN, LOCAL, NETWORK, NEW_USER, REFUSED
from appliance.confine.promises import CLOSED, ENOSYS_CALLS, PROMISES, THREADS
from appliance.confine.rules import Alternatives
from appliance.confine.syscalls import NUMBERS
from appliance.errors import ConfinementError

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
KILL, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_X32 = 0x40000000
LOAD, AND, EQUAL, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NR, _ARCH, _ARGS = 0, 4, 16
_IO_URING_SETUP = 425  # the same on every architecture
_SET_FILTER, _ALL_THREADS = 1, 1  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC

Instruction = tuple[int, int, int, int]


def assemble(promise: str, machine: str, *, threads: bool = False) -> list[Instruction]:
    """The program for a promise on `machine` (x86_64 or aarch64). Raises ConfinementError for any other.

    `threads`: as long as `close_threads` has not followed, threads can be made as well.
    """
    if machine not in NUMBERS:
        raise ConfinementError(f"no system call table for {machine}; x86_64 and aarch64 have one")
    numbers = NUMBERS[machine]
    program = _head(machine)
    rules = PROMISES.get(promise) or FOREIGN[promise]
    rules = {**rules, **THREADS} if threads else rules
    for name, alternatives in rules.items():
        if name in numbers:  # aarch64 has no stat, poll, ... : their callers use the *at forms there
            program += _rule(numbers[name], alternatives)
    for name in ENOSYS_CALLS:
        program += [(EQUAL, 0, 1, numbers[name]), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    program.append((RETURN, 0, 0, ERRNO | errno.EPERM))
    return program


def _head(machine: str) -> list[Instruction]:
    return [
        (LOAD, 0, 0, _ARCH),
        (EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, _NR),
        (AT_LEAST, 0, 1, _X32),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
    ]


def refusing(machine: str, *, network: bool) -> list[Instruction]:
    """The program for programs of the operator: `REFUSED` is refused, also sockets where it has no network.

    Raises ConfinementError for a machine without a table.
    """
    if machine not in NUMBERS:
        raise ConfinementError(f"no system call table for {machine}; x86_64 and aarch64 have one")
    numbers, refuse = NUMBERS[machine], ERRNO | errno.EPERM
    program = _head(machine)
    for name in REFUSED:
        if name in numbers:
            program += [(EQUAL, 0, 1, numbers[name]), (RETURN, 0, 0, refuse)]
    program += [(EQUAL, 0, 1, numbers["clone3"]), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]  # its flags lie in memory
    argument, mask, value = NEW_USER
    flags: list[Instruction] = [(LOAD, 0, 0, _ARGS + 8 * argument), (AND, 0, 0, mask), (EQUAL, 0, 1, value)]
    program += [(EQUAL, 0, 5, numbers["clone"]), *flags, (RETURN, 0, 0, refuse), (RETURN, 0, 0, ALLOW)]
    program += _rule(numbers["socket"], NETWORK if network else LOCAL)
    return [*program, (RETURN, 0, 0, ALLOW)]


def _rule(number: int, alternatives: Alternatives) -> list[Instruction]:
    body: list[Instruction] = []
    for conditions in alternatives:
        remaining = 3 * len(conditions)
        for argument, mask, value in conditions:
            remaining -= 3
            # a mismatch jumps over the rest of this alternative and its RETURN
            body += [(LOAD, 0, 0, _ARGS + 8 * argument), (AND, 0, 0, mask), (EQUAL, 0, remaining + 1, value)]
        body.append((RETURN, 0, 0, ALLOW))
    if alternatives[-1]:
        body.append((RETURN, 0, 0, ERRNO | errno.EPERM))
    return [(EQUAL, 0, len(body), number), *body]


def closing(machine: str) -> list[Instruction]:
    """The program that takes away what only the making of threads needs; it lies over the first one."""
    program: list[Instruction] = [(LOAD, 0, 0, _NR)]
    for name in CLOSED:
        program += [(EQUAL, 0, 1, NUMBERS[machine][name]), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    return [*program, (RETURN, 0, 0, ALLOW)]


def without_sockets(machine: str) -> list[Instruction]:
    """A program that takes away making sockets, and what could make them unseen; everything else stays."""
    numbers = NUMBERS[machine]
    program: list[Instruction] = [
        (LOAD, 0, 0, _ARCH),
        (EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, _NR),
        (AT_LEAST, 0, 1, _X32),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
    ]
    for number in (numbers["socket"], _IO_URING_SETUP):
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    return [*program, (RETURN, 0, 0, ALLOW)]


def close_threads(machine: str) -> None:
    """Put `closing` on every thread of this process at once. Raises OSError."""
    head, _buffer = _packed(closing(machine))
    if libc.syscall(NUMBERS[machine]["seccomp"], _SET_FILTER, _ALL_THREADS, ctypes.byref(head)):
        raise OSError(errno.ESRCH, "a thread carries another filter")


def try_to_open(machine: str) -> None:
    """What `close_threads` did, with no program: EFAULT where it is still possible, EPERM where it is closed."""
    libc.syscall(NUMBERS[machine]["seccomp"], _SET_FILTER, _ALL_THREADS, None)


def load(program: list[Instruction]) -> None:
    """Put the filter on this thread and those it will make. Needs no_new_privs. Raises OSError."""
    head, _buffer = _packed(program)
    libc.prctl(libc.PR_SET_SECCOMP, 2, ctypes.byref(head))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _packed(program: list[Instruction]) -> tuple[_Program, ctypes.Array[ctypes.c_char]]:
    """What the kernel is shown, and the buffer that must live as long."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    return _Program(len(program), ctypes.addressof(buffer)), buffer


def machine() -> str:
    """The name of this architecture as the tables use it."""
    return os.uname().machine
