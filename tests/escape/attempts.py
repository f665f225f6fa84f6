"""What a child that was taken over would try. Run inside a confined child by `prepare`; each returns when it SUCCEEDED.

An attempt raises OSError (or MemoryError for refused mappings) when it was stopped. `VICTIM` is the pid of a process of
the same user that stands for every other process; `OUTSIDE` is a secret file outside every jail.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from appliance.child.context import Context
from appliance.observe.tally import SIZE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mmap.restype = ctypes.c_void_p

MACHINE = os.uname().machine
NR = {
    "x86_64": {
        "execveat": 322, "clone": 56, "clone3": 435, "fork": 57, "vfork": 58, "unshare": 272, "setns": 308,
        "mount": 165, "pivot_root": 155, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
        "tkill": 200, "io_uring_setup": 425, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "keyctl": 250,
        "add_key": 248, "init_module": 175, "finit_module": 313, "kexec_load": 246, "open_by_handle_at": 304,
        "name_to_handle_at": 303, "prlimit64": 302, "personality": 135, "reboot": 169, "sethostname": 170,
        "settimeofday": 164, "inotify_init1": 294, "fanotify_init": 300, "pidfd_open": 434, "pidfd_getfd": 438,
        "openat2": 437, "setxattr": 188, "swapon": 167, "shmget": 29, "semget": 64, "mq_open": 240, "quotactl": 179,
        "acct": 163, "syslog": 103, "iopl": 172, "memfd_secret": 447, "move_mount": 429, "open_tree": 428,
        "fsopen": 430, "landlock_create_ruleset": 444, "mknodat": 259, "fchmodat": 268, "fchownat": 260,
        "symlinkat": 266, "mkdirat": 258, "renameat2": 316, "unlinkat": 263, "linkat": 265, "truncate": 76,
        "utimensat": 280, "umask": 95, "vmsplice": 278, "sched_setaffinity": 203, "setpriority": 141, "setpgid": 109,
        "setsid": 112, "capset": 126, "seccomp": 317, "prctl": 157, "remap_file_pages": 216, "pkey_mprotect": 329,
        "modify_ldt": 154, "arch_prctl": 158, "statmount": 457, "mlockall": 151, "timer_create": 222,
    },
}.get(MACHINE, {})  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What the attempts know about the world outside."""

    victim: int
    outside: str
    tcp_port: int
    context: Context


Attempt = Callable[[Scene], object]
ATTEMPTS: dict[str, Attempt] = {}


def attempt(function: Attempt) -> Attempt:
    ATTEMPTS[function.__name__] = function
    return function


def call(name: str, *arguments: object) -> int:
    padded = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    result = _libc.syscall(ctypes.c_long(NR[name]), *padded)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return int(result)


# -- reading what is not ours


@attempt
def read_a_secret_by_absolute_path(scene: Scene) -> object:
    return os.open(scene.outside, os.O_RDONLY)


@attempt
def read_a_secret_by_climbing(scene: Scene) -> object:
    return os.open("../" * 40 + scene.outside.lstrip("/"), os.O_RDONLY)


@attempt
def read_the_password_file(_scene: Scene) -> object:
    with open("/etc/passwd", "rb") as file:
        assert b"root:" in file.read(), "the jail has one of its own"
    return file


@attempt
def read_through_any_descriptor(scene: Scene) -> object:
    for descriptor in range(200):
        for climb in ("", "../" * 40):
            try:
                return os.open(climb + scene.outside.lstrip("/"), os.O_RDONLY, dir_fd=descriptor)
            except OSError as error:
                last = error
    raise last


@attempt
def change_into_any_descriptor(_scene: Scene) -> object:
    for descriptor in range(200):
        try:
            return os.fchdir(descriptor)
        except OSError as error:
            last = error
    raise last


@attempt
def read_through_a_planted_link(_scene: Scene) -> object:
    return os.open("link-out", os.O_RDONLY)


@attempt
def read_the_memory_of_another_process(scene: Scene) -> object:
    return os.open(f"/proc/{scene.victim}/mem", os.O_RDONLY)


@attempt
def read_through_the_root_of_process_1(_scene: Scene) -> object:
    return os.open("/proc/1/root/etc/passwd", os.O_RDONLY)


@attempt
def open_a_file_by_handle(_scene: Scene) -> object:
    handle = ctypes.create_string_buffer(struct.pack("Ii", 8, 1) + struct.pack("Q", 2))
    return call("open_by_handle_at", 0, handle, os.O_RDONLY)


@attempt
def chroot_once_more(_scene: Scene) -> object:
    return os.chroot(".")


@attempt
def change_the_root_by_pivot(_scene: Scene) -> object:
    return call("pivot_root", b".", b".")


# -- becoming somebody else


@attempt
def become_root(_scene: Scene) -> object:
    return os.setuid(0)


@attempt
def become_root_in_all_forms(_scene: Scene) -> object:
    return os.setresuid(0, 0, 0)


@attempt
def become_group_root(_scene: Scene) -> object:
    return os.setgid(0)


@attempt
def join_groups(_scene: Scene) -> object:
    return os.setgroups([0, 4, 6, 42])


@attempt
def take_capabilities(_scene: Scene) -> object:
    header = struct.pack("Ii", 0x20080522, 0)
    return call("capset", ctypes.c_char_p(header), ctypes.c_char_p(struct.pack("6I", *[0xFFFFFFFF] * 6)))


@attempt
def make_a_user_namespace(_scene: Scene) -> object:
    return call("unshare", 0x10000000)


@attempt
def make_a_mount_namespace(_scene: Scene) -> object:
    return call("unshare", 0x00020000)


@attempt
def enter_a_namespace(_scene: Scene) -> object:
    return call("setns", 0, 0)


@attempt
def take_the_filter_off(_scene: Scene) -> object:
    return call("prctl", 22, 0, 0, 0, 0)


@attempt
def put_an_allowing_filter_on(_scene: Scene) -> object:
    return call("seccomp", 1, 0, 0)


@attempt
def become_dumpable(_scene: Scene) -> object:
    return call("prctl", 4, 1, 0, 0, 0)


@attempt
def take_no_new_privs_off(_scene: Scene) -> object:
    return call("prctl", 38, 0, 0, 0, 0)


# -- running something else


@attempt
def run_a_shell(_scene: Scene) -> object:
    return os.execv("/bin/sh", ["sh"])


@attempt
def run_what_lies_in_the_jail(_scene: Scene) -> object:
    return os.execv("./program", ["program"])


@attempt
def run_a_descriptor(_scene: Scene) -> object:
    return call("execveat", 0, b"", 0, 0, 0x1000)


@attempt
def make_a_process(_scene: Scene) -> object:
    return os.fork()


@attempt
def make_a_process_by_clone(_scene: Scene) -> object:
    return call("clone", signal.SIGCHLD, 0, 0, 0, 0)


@attempt
def make_a_thread(_scene: Scene) -> object:
    thread = threading.Thread(target=int)
    try:
        thread.start()
    except RuntimeError as error:  # all that Python tells
        raise OSError(errno.EPERM, str(error)) from error
    return thread


@attempt
def put_a_filter_on_all_threads(_scene: Scene) -> object:
    program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, ctypes.addressof(program)))
    return call("seccomp", 1, 1, head)


@attempt
def make_a_process_by_clone3(_scene: Scene) -> object:
    return call("clone3", ctypes.create_string_buffer(88), 88)


@attempt
def make_memory_executable(_scene: Scene) -> object:
    memory = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), 7):
        raise OSError(ctypes.get_errno(), "mprotect")
    return memory


@attempt
def map_executable_memory(_scene: Scene) -> object:
    return mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


@attempt
def make_a_memory_file(_scene: Scene) -> object:
    return os.memfd_create("x")


# -- reaching others


@attempt
def trace_another_process(scene: Scene) -> object:
    return call("ptrace", 16, scene.victim, 0, 0)


@attempt
def read_memory_across(scene: Scene) -> object:
    return call("process_vm_readv", scene.victim, 0, 0, 0, 0, 0)


@attempt
def write_memory_across(scene: Scene) -> object:
    return call("process_vm_writev", scene.victim, 0, 0, 0, 0, 0)


@attempt
def signal_another_process(scene: Scene) -> object:
    return os.kill(scene.victim, 0)


@attempt
def signal_the_supervisor(_scene: Scene) -> object:
    return os.kill(os.getppid() or 1, 0)


@attempt
def signal_everybody(_scene: Scene) -> object:
    return os.kill(-1, 0)


@attempt
def take_a_descriptor_of_another_process(scene: Scene) -> object:
    return call("pidfd_getfd", call("pidfd_open", scene.victim, 0), 0, 0)


@attempt
def change_limits_of_another_process(scene: Scene) -> object:
    return call("prlimit64", scene.victim, 7, 0, 0)


@attempt
def raise_an_own_limit(_scene: Scene) -> object:
    soft, hard = 1 << 19, 1 << 19
    return resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@attempt
def connect_by_tcp(scene: Scene) -> object:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    return sock.connect(("127.0.0.1", scene.tcp_port))


@attempt
def connect_by_fast_open(scene: Scene) -> object:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    return sock.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", scene.tcp_port))


@attempt
def connect_by_fast_open_of_a_message(scene: Scene) -> object:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    return sock.sendmsg([b"x"], [], socket.MSG_FASTOPEN, ("127.0.0.1", scene.tcp_port))


@attempt
def make_a_multipath_socket(_scene: Scene) -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP)


@attempt
def make_a_udp_lite_socket(_scene: Scene) -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE)


@attempt
def have_the_kernel_signal_another_process(scene: Scene) -> object:
    """Whoever shares our uid: siblings, and as an ordinary user the supervisor."""
    fcntl.fcntl(scene.context.channel.fileno() if scene.context else 0, fcntl.F_SETOWN, scene.victim)
    return fcntl.fcntl(scene.context.channel.fileno() if scene.context else 0, fcntl.F_SETSIG, signal.SIGKILL)


@attempt
def make_the_supervisor_wait_when_it_closes(scene: Scene) -> object:
    sock = scene.context.listeners[0]
    return sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1000))


@attempt
def draw_the_clients_of_the_siblings(scene: Scene) -> object:
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    head = struct.pack("HxxxxxxQ", 1, ctypes.addressof(program))
    return scene.context.listeners[0].setsockopt(socket.SOL_SOCKET, 51, head)  # SO_ATTACH_REUSEPORT_CBPF


@attempt
def open_the_jail_to_everybody(_scene: Scene) -> object:
    return os.chmod(os.open(".", os.O_RDONLY), 0o755)


@attempt
def connect_an_existing_socket_elsewhere(scene: Scene) -> object:
    for listener in scene.context.listeners:
        if listener.type == socket.SOCK_STREAM:
            listener.connect(("127.0.0.1", scene.tcp_port))
            return listener
    raise PermissionError("no stream socket is held")


@attempt
def make_a_unix_socket(_scene: Scene) -> object:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


@attempt
def make_a_netlink_socket(_scene: Scene) -> object:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)


@attempt
def make_a_packet_socket(_scene: Scene) -> object:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)


@attempt
def make_a_raw_socket(_scene: Scene) -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)


@attempt
def bind_a_privileged_tcp_port(_scene: Scene) -> object:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    return sock.bind(("127.0.0.1", 80))


@attempt
def bind_a_privileged_udp_port(_scene: Scene) -> object:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return sock.bind(("127.0.0.1", 67))


@attempt
def listen_on_a_port_that_was_not_granted(_scene: Scene) -> object:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 20999))
    return sock.listen(1)


# -- changing what is served


@attempt
def say_that_somebody_else_uploaded_a_file(_scene: Scene) -> object:
    return os.setxattr(os.open("writable", os.O_RDONLY), "user.appliance.client", b"192.0.2.1".ljust(64, b"\0"))


@attempt
def create_a_file(_scene: Scene) -> object:
    return os.open("created", os.O_WRONLY | os.O_CREAT, 0o644)


@attempt
def create_an_unnamed_file(_scene: Scene) -> object:
    return os.open(".", os.O_WRONLY | os.O_TMPFILE, 0o644)


@attempt
def open_a_served_file_for_writing(_scene: Scene) -> object:
    return os.open("writable", os.O_WRONLY)


@attempt
def open_a_served_file_for_both(_scene: Scene) -> object:
    return os.open("writable", os.O_RDWR)


@attempt
def open_a_file_for_writing_by_openat2(_scene: Scene) -> object:
    return call("openat2", 0xFFFFFFFFFFFFFF9C, b"writable", struct.pack("QQQ", os.O_RDWR, 0, 0), 24)


@attempt
def truncate_a_served_file(_scene: Scene) -> object:
    return os.truncate("writable", 0)


@attempt
def remove_a_served_file(_scene: Scene) -> object:
    return os.unlink("writable")


@attempt
def rename_a_served_file(_scene: Scene) -> object:
    return os.rename("writable", "renamed")


@attempt
def make_a_folder(_scene: Scene) -> object:
    return os.mkdir("folder")


@attempt
def make_a_link(_scene: Scene) -> object:
    return os.symlink("/etc/passwd", "link")


@attempt
def make_a_hard_link(_scene: Scene) -> object:
    return os.link("writable", "hard")


@attempt
def make_a_device(_scene: Scene) -> object:
    return os.mknod("device", 0o20666, os.makedev(1, 3))


@attempt
def make_a_fifo(_scene: Scene) -> object:
    return os.mkfifo("fifo")


@attempt
def change_a_mode(_scene: Scene) -> object:
    return os.chmod("writable", 0o4777)


@attempt
def change_an_owner(_scene: Scene) -> object:
    return os.chown("writable", 0, 0)


@attempt
def change_times(_scene: Scene) -> object:
    return os.utime("writable", (0, 0))


@attempt
def set_an_attribute(_scene: Scene) -> object:
    return os.setxattr("writable", "user.x", b"1")


@attempt
def open_the_jail_by_an_access_list(_scene: Scene) -> object:
    entries = ((1, 7, -1), (2, 7, 64610), (4, 0, -1), (16, 7, -1), (32, 7, -1))  # (tag, rights, uid): acl(5)
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    return os.setxattr(os.open(".", os.O_RDONLY), "system.posix_acl_access", value)


@attempt
def open_the_jail_by_an_access_list_that_is_a_mode(_scene: Scene) -> object:
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", tag, 7, -1) for tag in (1, 4, 32))
    return os.setxattr(os.open(".", os.O_RDONLY), "system.posix_acl_access", value)


# -- the kernel's larger doors


@attempt
def use_io_uring(_scene: Scene) -> object:
    return call("io_uring_setup", 8, ctypes.create_string_buffer(120))


@attempt
def load_a_kernel_program(_scene: Scene) -> object:
    return call("bpf", 0, ctypes.create_string_buffer(128), 128)


@attempt
def watch_the_processor(_scene: Scene) -> object:
    return call("perf_event_open", ctypes.create_string_buffer(128), 0, -1 & 0xFFFFFFFF, -1 & 0xFFFFFFFF, 0)


@attempt
def handle_page_faults(_scene: Scene) -> object:
    return call("userfaultfd", 1)


@attempt
def use_the_key_ring(_scene: Scene) -> object:
    return call("keyctl", 0, -3 & 0xFFFFFFFF, 1)


@attempt
def load_a_module(_scene: Scene) -> object:
    return call("finit_module", 0, b"", 0)


@attempt
def mount_something(_scene: Scene) -> object:
    return call("mount", b"proc", b".", b"proc", 0, 0)


@attempt
def open_a_mount_tree(_scene: Scene) -> object:
    return call("open_tree", 0xFFFFFFFFFFFFFF9C, b".", 1)


@attempt
def use_the_foreign_call_numbers(_scene: Scene) -> object:
    number = 0x40000000 + 39  # getpid, the x32 way
    result = _libc.syscall(ctypes.c_long(number))
    if result < 0:
        raise OSError(ctypes.get_errno(), "x32")
    return result


@attempt
def share_memory_by_key(_scene: Scene) -> object:
    return call("shmget", 1, 4096, 0o1666)


@attempt
def watch_files(_scene: Scene) -> object:
    return call("inotify_init1", 0)


@attempt
def change_the_host_name(_scene: Scene) -> object:
    return call("sethostname", b"x", 1)


@attempt
def change_the_clock(_scene: Scene) -> object:
    return call("settimeofday", struct.pack("qq", 0, 0), 0)


@attempt
def change_the_personality(_scene: Scene) -> object:
    return call("personality", 0x0040000)


@attempt
def push_input_into_the_terminal(_scene: Scene) -> object:
    return fcntl.ioctl(2, 0x5412, b"x")


@attempt
def leave_the_session(_scene: Scene) -> object:
    return call("setpgid", 0, 0)


# -- the table of a sibling, which the supervisor shows to be read


def table_of_a_sibling(scene: Scene) -> int:
    return scene.context.documents["sibling"]


@attempt
def map_the_table_of_a_sibling_for_writing(scene: Scene) -> object:
    return mmap.mmap(table_of_a_sibling(scene), SIZE)


@attempt
def make_the_map_of_the_table_of_a_sibling_writable(scene: Scene) -> object:
    arguments = (None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_SHARED, table_of_a_sibling(scene), 0)
    address = _libc.mmap(*arguments)
    assert address not in (None, ctypes.c_void_p(-1).value), "it cannot even be read"
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), mmap.PROT_READ | mmap.PROT_WRITE):
        raise OSError(ctypes.get_errno(), "mprotect")
    return address


@attempt
def write_into_the_table_of_a_sibling(scene: Scene) -> object:
    return os.write(table_of_a_sibling(scene), b"x" * 64)


@attempt
def write_into_the_middle_of_the_table_of_a_sibling(scene: Scene) -> object:
    return os.pwrite(table_of_a_sibling(scene), b"x" * 64, 64)


@attempt
def cut_the_table_of_a_sibling(scene: Scene) -> object:
    return os.ftruncate(table_of_a_sibling(scene), 0)


@attempt
def open_the_table_of_a_sibling_once_more(scene: Scene) -> object:
    return os.open(f"/proc/self/fd/{table_of_a_sibling(scene)}", os.O_RDWR)


BOX_ONLY = frozenset(  # the custodian may do these, in its own box and nowhere else
    {
        "create_a_file", "create_an_unnamed_file", "open_a_served_file_for_writing", "open_a_served_file_for_both",
        "remove_a_served_file", "rename_a_served_file", "make_a_hard_link", "say_that_somebody_else_uploaded_a_file",
    }
)  # fmt: skip

HISTORY_ONLY = frozenset({"create_a_file", "remove_a_served_file"})  # the events service, among its segments

STATE_ONLY = HISTORY_ONLY | {"rename_a_served_file"}  # the keeper, among those that are armed


class Attacker:
    """Runs every attempt and answers with what happened to each."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def run(self) -> None:
        self.attack()

    def attack(self) -> None:
        settings = self.context.settings
        scene = Scene(settings["victim"], settings["outside"], settings["tcp_port"], self.context)
        results = {name: outcome(function, scene) for name, function in ATTEMPTS.items()}
        with os.fdopen(self.context.documents["answer"], "w") as out:
            json.dump(results, out)


def outcome(function: Attempt, scene: Scene) -> str:
    try:
        function(scene)
    except OSError as error:
        return f"refused: {os.strerror(error.errno or 0)}"
    except (AssertionError, MemoryError, ValueError) as error:
        return f"refused: {type(error).__name__}"
    return "ESCAPED"


class ThreadedAttacker(Attacker):
    """The same out of a thread made at birth, as the threads of a worker are."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._go = threading.Event()

    def start_threads(self) -> None:
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        self._go.wait()
        self.attack()

    def run(self) -> None:
        self._go.set()
        self._thread.join()


def prepare(context: Context) -> Attacker:
    return ThreadedAttacker(context) if context.settings["threads"] else Attacker(context)
