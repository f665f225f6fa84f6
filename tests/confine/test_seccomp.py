"""The filter does what the promise says: its program is run here by an interpreter of the few instructions it uses."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.confine import seccomp
from appliance.confine.programs import REFUSED
from appliance.confine.promises import ENOSYS_CALLS, PROMISES, THREADS, names
from appliance.confine.rules import Alternatives
from appliance.confine.syscalls import NUMBERS
from appliance.errors import ConfinementError

MACHINES = ("x86_64", "aarch64")
EPERM = seccomp.ERRNO | errno.EPERM
ENOSYS = seccomp.ERRNO | errno.ENOSYS


def run(program: list[seccomp.Instruction], arch: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """Interpret a program on one system call; returns what the kernel would be told."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    words = {0: number, 4: arch, **{16 + 8 * i: value & 0xFFFFFFFF for i, value in enumerate(padded)}}
    accumulator, at = 0, 0
    while True:
        code, true, false, value = program[at]
        at += 1
        if code == seccomp.LOAD:
            accumulator = words[value]
        elif code == seccomp.AND:
            accumulator &= value
        elif code == seccomp.EQUAL:
            at += true if accumulator == value else false
        elif code == seccomp.AT_LEAST:
            at += true if accumulator >= value else false
        elif code == seccomp.RETURN:
            return value
        else:
            pytest.fail(f"unknown instruction {code:#x}")


def allowed(alternatives: Alternatives, arguments: tuple[int, ...]) -> bool:
    return any(all(arguments[i] & mask == value for i, mask, value in conditions) for conditions in alternatives)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("promise", PROMISES)
def test_every_promised_call_is_allowed_with_some_arguments_and_nothing_else_is(machine: str, promise: str) -> None:
    program = seccomp.assemble(promise, machine)
    arch = seccomp.AUDIT_ARCH[machine]
    by_number = {number: name for name, number in NUMBERS[machine].items()}
    for number in range(600):
        name = by_number.get(number, "")
        result = run(program, arch, number, (0,) * 6)
        if name in PROMISES[promise]:
            expected = seccomp.ALLOW if allowed(PROMISES[promise][name], (0,) * 6) else EPERM
        else:
            expected = ENOSYS if name in ENOSYS_CALLS else EPERM
        assert result == expected, (name, number)


@given(
    machine=st.sampled_from(MACHINES),
    promise=st.sampled_from(sorted(PROMISES)),
    choice=st.integers(0, 10_000),
    arguments=st.tuples(
        *[st.sampled_from((0, 1, 2, 3, 4, 7, 10, 0o100, 0o2001, 0x5421, 0x800 | 1, 0x80000 | 2, 2**31, 0x20000000))] * 6
    ),
)
def test_the_program_agrees_with_the_table_for_any_arguments(
    machine: str, promise: str, choice: int, arguments: tuple[int, ...]
) -> None:
    here = [name for name in PROMISES[promise] if name in NUMBERS[machine]]
    name = here[choice % len(here)]
    result = run(seccomp.assemble(promise, machine), seccomp.AUDIT_ARCH[machine], NUMBERS[machine][name], arguments)
    assert result == (seccomp.ALLOW if allowed(PROMISES[promise][name], arguments) else EPERM)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_foreign_architecture_is_killed(machine: str) -> None:
    assert run(seccomp.assemble("tftp", machine), 0x40000003, 0) == seccomp.KILL


def test_the_x32_calls_do_not_exist() -> None:
    program = seccomp.assemble("tftp", "x86_64")
    assert run(program, seccomp.AUDIT_ARCH["x86_64"], 0x40000000 + 39) == ENOSYS


@pytest.mark.parametrize("promise", ["tftp", "ftp"])
def test_serving_children_can_open_files_only_for_reading(promise: str) -> None:
    program, arch = seccomp.assemble(promise, "x86_64"), seccomp.AUDIT_ARCH["x86_64"]
    number = NUMBERS["x86_64"]["openat"]
    reading = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW | os.O_DIRECTORY
    assert run(program, arch, number, (0, 0, reading)) == seccomp.ALLOW
    for flag in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_APPEND, os.O_TMPFILE):
        assert run(program, arch, number, (0, 0, flag)) == EPERM


@pytest.mark.parametrize(
    ("promise", "call"),
    [("ftp", "connect"), ("tftp", "listen"), ("tftp", "accept4"), ("status", "socket"), ("custody", "socket")]
    + [(p, c) for p in PROMISES for c in ("execve", "fork", "clone", "ptrace", "setuid", "chroot", "kill", "prctl")],
)
def test_what_a_kind_of_child_must_never_do_is_not_promised(promise: str, call: str) -> None:
    assert call not in names(promise)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("sendto", (5, 0, 1, 0x20000000)),  # MSG_FASTOPEN: a connect that neither connect() nor Landlock knows of
        ("sendmsg", (5, 0, 0x20000000 | 0x4000)),
        ("fcntl", (5, 8, 1)),  # F_SETOWN
        ("fcntl", (5, 10, 9)),  # F_SETSIG
        ("fcntl", (5, 15, 0)),  # F_SETOWN_EX
        ("fcntl", (2, 4, 0)),  # F_SETFL: O_APPEND off the log, O_ASYNC on
        ("setsockopt", (5, 1, 13)),  # SO_LINGER: whoever closes the last copy waits
        ("setsockopt", (5, 1, 26)),  # SO_ATTACH_FILTER
        ("setsockopt", (5, 1, 51)),  # SO_ATTACH_REUSEPORT_CBPF: the clients of all siblings
        ("setsockopt", (5, 1, 25)),  # SO_BINDTODEVICE
        ("socket", (2, 1, 262)),  # MPTCP
        ("socket", (2, 2, 136)),  # UDP-Lite
        ("socket", (2, 2, 1)),  # ICMP
        ("fchmod", (5, 0o4755)),
        ("fchmod", (5, 0o755)),  # of the drop box: it would be open to all
        ("ftruncate", (2, 0)),  # of the log
        ("fsetxattr", (5, 0, 0, 28, 0)),  # an access list of the drop box: as many bytes as it has entries
        ("fsetxattr", (5, 0, 0, 44, 0)),
        ("fsetxattr", (5, 0, 0, 68, 0)),
    ],
)
def test_an_argument_that_reaches_beyond_the_child_is_refused(
    machine: str, promise: str, call: str, arguments: tuple[int, ...]
) -> None:
    program, arch = seccomp.assemble(promise, machine), seccomp.AUDIT_ARCH[machine]
    assert run(program, arch, NUMBERS[machine][call], arguments) == EPERM


def test_only_the_keepers_of_files_may_change_files_and_the_history_loses_its_oldest() -> None:
    changing = {
        "rename",
        "renameat",
        "fsetxattr",
        "renameat2",
        "unlink",
        "unlinkat",
        "linkat",
        "link",
        "ftruncate",
        "fchmod",
        "mkdir",
        "mkdirat",
        "symlink",
    }
    for promise in PROMISES:
        keeper = {"unlink", "rename", "renameat"}  # the state of a one-shot boot, in its own folder
        whole = dict.fromkeys(("custody", "fetcher", "unpacker", "publisher"), changing)
        allowed = {**whole, "events": {"unlink"}, "keeper": keeper}.get(promise, set())
        assert changing & names(promise) <= allowed
    for promise in ("unpacker", "publisher"):
        assert not {"socket", "connect", "bind"} & names(promise)


@pytest.mark.parametrize("machine", MACHINES)
def test_threads_can_be_made_only_in_the_form_of_glibc_and_only_until_they_are_closed(machine: str) -> None:
    numbers, arch = NUMBERS[machine], seccomp.AUDIT_ARCH[machine]
    open_, closed = seccomp.assemble("ftp", machine, threads=True), seccomp.closing(machine)
    thread = (0x3D0F00, 1, 2, 3, 4)
    assert run(open_, arch, numbers["clone"], thread) == seccomp.ALLOW
    for flags in (17, 0x3D0F00 | 17, 0x3D0F00 | 0x10000000, 0x3D0F00 & ~0x800, 0x3D0F00 & ~0x10000, 0x4111, 0):
        assert run(open_, arch, numbers["clone"], (flags,)) == EPERM  # a process, or one with name spaces of its own
    assert run(open_, arch, numbers["clone3"], (0, 88)) == ENOSYS
    assert run(open_, arch, numbers["seccomp"], (1, 0, 1)) == EPERM  # would leave the other threads out
    assert run(open_, arch, numbers["seccomp"], (1, 1, 1)) == seccomp.ALLOW
    by_number = {number: name for name, number in numbers.items()}
    for number in range(600):
        expected = EPERM if by_number.get(number) in THREADS else seccomp.ALLOW
        assert run(closed, arch, number, thread) == expected, by_number.get(number)


@pytest.mark.parametrize("promise", PROMISES)
def test_no_promise_has_what_only_the_making_of_threads_needs(promise: str) -> None:
    assert set(THREADS) & names(promise) == set()


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("network", [False, True])
def test_a_program_of_the_operator_keeps_all_calls_but_those_refused_and_sockets_as_it_may(
    machine: str, network: bool
) -> None:
    program, arch, numbers = seccomp.refusing(machine, network=network), seccomp.AUDIT_ARCH[machine], NUMBERS[machine]
    by_number = {number: name for name, number in numbers.items()}
    for number in range(600):
        name = by_number.get(number, "")
        expected = EPERM if name in REFUSED or name == "socket" else ENOSYS if name == "clone3" else seccomp.ALLOW
        assert run(program, arch, number, (0,) * 6) == expected, (name, number)
    assert run(program, arch, numbers["clone"], (0x10000000 | 17,)) == EPERM  # a namespace of users
    assert run(program, arch, numbers["clone"], (0x01200011,)) == seccomp.ALLOW  # fork
    assert run(program, 0x40000003, 1) == seccomp.KILL  # a 32-bit program
    unix, inet, inet6, netlink, packet, stream, datagram, raw = 1, 2, 10, 16, 17, 1, 2, 3
    reach = seccomp.ALLOW if network else EPERM
    for arguments, wanted in (
        ((unix, stream, 0), seccomp.ALLOW), ((unix, datagram | 0o2000000, 0), seccomp.ALLOW),
        ((inet, stream, 0), reach), ((inet6, stream | 0o4000, 6), reach), ((inet, datagram, 17), reach),
        ((netlink, raw, 0), reach), ((netlink, raw, 9), EPERM), ((inet, raw, 1), EPERM), ((packet, raw, 0), EPERM),
        ((inet, stream, 132), EPERM), ((inet, stream, 262), EPERM),
    ):  # fmt: skip
        assert run(program, arch, numbers["socket"], arguments) == wanted, arguments


def test_an_unknown_machine_is_refused_by_name() -> None:
    with pytest.raises(ConfinementError, match="no system call table for sparc"):
        seccomp.refusing("sparc", network=True)
    with pytest.raises(ConfinementError, match="no system call table for sparc"):
        seccomp.assemble("tftp", "sparc")


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h")],
)
def test_the_numbers_are_those_of_the_kernel_headers(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip("no kernel headers here")
    text = Path(header).read_text()
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    if machine == "aarch64":
        known |= {"newfstatat": known["fstatat"]}
    assert {name: number for name, number in NUMBERS[machine].items() if known.get(name) != number} == {}
