"""Runs a program with something taken away: `confine.py NAME [NAME...] -- PROGRAM ARGUMENT...`.

Every confinement is made from the kernel's own calls, in this process, which then becomes the
program. Where the machine does not allow one, the exit code is 77 and standard error says why.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

CANNOT = 77

libc = ctypes.CDLL(None, use_errno=True)


class Impossible(Exception):
    """The machine does not allow it."""


def checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise Impossible(f"{what}: {os.strerror(code)}")
    return result


# --- namespaces ---------------------------------------------------------------------------------

NEWNS, NEWUSER, NEWPID = 0x20000, 0x10000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 32, 4096, 8192, 16384, 1 << 18


def unshare(flags: int) -> None:
    checked(libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    parts = (text.encode() or None for text in (source, target, kind))
    checked(libc.mount(*parts, ctypes.c_ulong(flags), data.encode() or None), f"mount {target}")


def own_mounts() -> None:
    """A mount namespace of this program's own; a user gets the right from a user namespace."""
    if os.geteuid() != 0:
        own_user(os.getuid())
    unshare(NEWNS)
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def own_user(inside: int) -> None:
    uid, gid = os.getuid(), os.getgid()
    unshare(NEWUSER)
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{inside} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{inside} {gid} 1")
    except OSError as error:
        raise Impossible(f"mapping users: {error}") from None


def as_a_child(first: bool) -> None:
    """Goes on in a new PID namespace: as its PID 1, or as the child of one that reaps."""
    unshare(NEWPID)
    wait_for_child()
    if not first:
        wait_for_child()


def wait_for_child() -> None:
    """Returns in the child only; this process ends as it does."""
    pid = os.fork()
    if pid == 0:
        return
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            break
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def pid_one() -> None:
    """PID 1: orphans become its children, and no signal has a default action."""
    own_mounts()
    as_a_child(first=True)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    assert os.getpid() == 1


def leader_outside() -> None:
    """In a PID namespace whose session's leader, group's leader and parent are outside of it."""
    own_mounts()
    as_a_child(first=False)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    assert libc.getsid(0) == 0 and os.getpgrp() == 0


def procfs_of_others() -> None:
    """A PID namespace of its own under the procfs of the outer one: its numbers are other ones."""
    own_mounts()
    as_a_child(first=False)


# --- procfs -------------------------------------------------------------------------------------


def fresh_procfs(options: str) -> None:
    own_mounts()
    as_a_child(first=False)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)


def hidepid() -> None:
    """hidepid=2, and no right to trace: other users' processes do not exist."""
    fresh_procfs("hidepid=2")
    no_capabilities()


def only_processes() -> None:
    """subset=pid: no /proc/meminfo, no /proc/sys."""
    fresh_procfs("subset=pid")


def no_procfs() -> None:
    """/proc is an empty folder."""
    own_mounts()
    mount("none", "/proc", "tmpfs", MS_RDONLY)
    assert not os.path.exists("/proc/self")


def masked_procfs() -> None:
    """Parts of procfs hidden, read-only or empty, as container runtimes do."""
    own_mounts()
    for name in ("/proc/sys", "/proc/self"):
        if not os.path.exists(name):
            raise Impossible(f"{name} is missing")
    mount("none", "/proc/sys", "tmpfs", MS_RDONLY)
    for name in ("meminfo", "timer_list", "keys", "kcore", "stat", "uptime", "mounts"):
        if os.path.isfile(f"/proc/{name}"):
            mount("/dev/null", f"/proc/{name}", "", MS_BIND)


# --- files --------------------------------------------------------------------------------------


def read_only_root() -> None:
    """Every file system read-only: nothing can be made anywhere."""
    own_mounts()
    with open("/proc/self/mountinfo", encoding="utf-8") as text:
        points = [line.split()[4].encode().decode("unicode_escape") for line in text]
    for point in sorted(set(points), key=len):
        if point.startswith(("/proc", "/sys")):
            continue
        try:
            flags = os.statvfs(point).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
            mount("none", point, "", MS_REMOUNT | MS_BIND | MS_RDONLY | flags)
        except (Impossible, OSError):
            pass  # a mount that another one hides, or a file
    for place in ("/", "/tmp", "/dev/shm", os.getcwd(), os.environ.get("TMPDIR", "/tmp")):
        if os.path.isdir(place) and not os.statvfs(place).f_flag & os.ST_RDONLY:
            raise Impossible(f"{place} stayed writable")


def no_shm() -> None:
    """/dev/shm does not exist."""
    own_mounts()
    folder = Path(os.environ["CONFINED_FOLDER"], "dev")
    folder.mkdir()
    mount("none", str(folder), "tmpfs", 0)
    for name in ("null", "zero", "urandom"):
        (folder / name).touch()
        mount(f"/dev/{name}", str(folder / name), "", MS_BIND)
    mount(str(folder), "/dev", "", MS_MOVE)
    folder.rmdir()
    assert not os.path.exists("/dev/shm")


def small_shm() -> None:
    """/dev/shm of one megabyte."""
    own_mounts()
    mount("none", "/dev/shm", "tmpfs", 0, "size=1m")
    os.environ["CONFINED_OWN"] = "/dev/shm"


def no_working_directory() -> None:
    folder = Path(os.environ["CONFINED_FOLDER"], "gone")
    folder.mkdir()
    os.chdir(folder)
    folder.rmdir()


def no_home() -> None:
    """Neither a home nor a temporary folder that is there."""
    for name in ("HOME", "TMPDIR", "TEMP", "TMP"):
        os.environ[name] = "/nonexistent"


def no_variables() -> None:
    """Nothing in the environment but what the test itself needs."""
    for name in set(os.environ) - {"SCENARIOS_REPORT", "CONFINED_FOLDER", "TMPDIR"}:
        del os.environ[name]


def plain_c() -> None:
    os.environ["LANG"] = os.environ["LC_ALL"] = "C"
    os.environ["PYTHONCOERCECLOCALE"] = os.environ["PYTHONUTF8"] = "0"


def large_environment() -> None:
    """A megabyte of environment, in variables of up to 100 KB."""
    for index in range(10):
        os.environ[f"CONFINED_{index}"] = "x" * 100_000


def no_streams() -> None:
    """Descriptors 0 to 2 are closed."""
    for fd in range(3):
        os.close(fd)


# --- limits -------------------------------------------------------------------------------------


def small_files() -> None:
    """RLIMIT_FSIZE of a megabyte."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def small_address_space() -> None:
    """RLIMIT_AS of a gigabyte: far less than an arena's size."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


def small_cgroup() -> None:
    """A memory cgroup of 192 MB, by version 1 or 2."""
    roots = [
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ]
    for root, limit in roots:
        folder = root / f"bequeath-confined-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if not (folder / limit).exists():
            folder.rmdir()
            continue
        try:
            (folder / limit).write_text(str(192 << 20))
            pid = os.fork()
            if pid == 0:
                (folder / "cgroup.procs").write_text("0")
                return
        except OSError as error:
            folder.rmdir()
            raise Impossible(f"{folder}: {error}") from None
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for _ in range(1000):
            try:
                folder.rmdir()
                break
            except OSError:
                os.sched_yield()
        os._exit(code if code >= 0 else 128 - code)
    raise Impossible("no cgroup with a memory limit can be made here")


def memfd_noexec(value: int) -> None:
    """`vm.memfd_noexec` of this PID namespace: 1 makes memory files not executable, 2 insists."""
    own_mounts()
    as_a_child(first=False)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    try:
        Path("/proc/sys/vm/memfd_noexec").write_text(str(value))
    except OSError as error:
        raise Impossible(f"vm.memfd_noexec: {error}") from None


# --- privileges ---------------------------------------------------------------------------------

PR_CAPBSET_DROP, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 22, 38, 47
SYS = {
    "x86_64": {"pidfd_open": 434, "pidfd_getfd": 438, "ptrace": 101, "futex": 202, "capset": 126,
               "membarrier": 324, "close_range": 436, "fallocate": 285},
    "aarch64": {"pidfd_open": 434, "pidfd_getfd": 438, "ptrace": 117, "futex": 98, "capset": 91,
                "membarrier": 283, "close_range": 436, "fallocate": 47},
}  # fmt: skip


def prctl(option: int, argument: int, what: str) -> None:
    zero = ctypes.c_ulong(0)
    checked(libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero), what)


def numbers() -> dict[str, int]:
    known = SYS.get(platform.machine())
    if known is None or sys.byteorder != "little":
        raise Impossible(f"system call numbers of {platform.machine()} are not known here")
    return known


def no_new_privileges() -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1, "no_new_privs")


def no_capabilities() -> None:
    header = struct.pack("=Ii", 0x20080522, 0)
    checked(libc.syscall(numbers()["capset"], header, bytes(24)), "capset")


def nobody_special() -> None:
    """A user without any capability, in a user namespace of its own."""
    own_user(1000)
    no_capabilities()
    assert os.getuid() == 1000


# --- seccomp ------------------------------------------------------------------------------------

LOAD, JUMP_IF_EQUAL, JUMP_IF_GREATER, RETURN, AND = 0x20, 0x15, 0x25, 0x06, 0x54
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
FUTEX_WAKE_OP, FUTEX_COMMAND = 5, 127


def deny(code: int, *names: str, wake_op: bool = False) -> None:
    """A filter that answers `code` for these calls, and allows all other ones."""
    no_new_privileges()
    program = [(LOAD, 0, 0, 0)]  # the call's number
    for name in names:
        program += [(JUMP_IF_EQUAL, 0, 1, numbers()[name]), (RETURN, 0, 0, ERRNO | code)]
    if wake_op:
        program += [
            (JUMP_IF_EQUAL, 0, 4, numbers()["futex"]),
            (LOAD, 0, 0, 24),  # the lower half of its second argument
            (AND, 0, 0, FUTEX_COMMAND),
            (JUMP_IF_EQUAL, 0, 1, FUTEX_WAKE_OP),
            (RETURN, 0, 0, ERRNO | code),
        ]
    filtered(program)
    if "pidfd_open" in names:
        assert libc.syscall(numbers()["pidfd_open"], os.getpid(), 0) == -1
        assert ctypes.get_errno() == code


def no_large_allocation(code: int, most: int) -> None:
    """Memory files get no more than so many bytes at a time: more is answered with `code`."""
    no_new_privileges()
    filtered(
        [
            (LOAD, 0, 0, 0),
            (JUMP_IF_EQUAL, 0, 5, numbers()["fallocate"]),
            (LOAD, 0, 0, 24),  # its mode: holes are punched as ever
            (JUMP_IF_EQUAL, 0, 3, 0),
            (LOAD, 0, 0, 40),  # the lower half of the length
            (JUMP_IF_GREATER, 0, 1, most),
            (RETURN, 0, 0, ERRNO | code),
        ]
    )


def filtered(program: list[tuple[int, int, int, int]]) -> None:
    """This filter from now on; what it says nothing about is allowed."""
    program = [*program, (RETURN, 0, 0, ALLOW)]
    text = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(text)
    filter_ = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    zero = ctypes.c_ulong(0)
    mode = ctypes.c_ulong(2)
    checked(libc.prctl(PR_SET_SECCOMP, mode, filter_, zero, zero), "seccomp")


def sandbox(code: int) -> None:
    deny(code, "pidfd_open", "pidfd_getfd", "ptrace", wake_op=True)


CONFINEMENTS: dict[str, Callable[[], None]] = {
    "seccomp-EPERM": lambda: sandbox(errno.EPERM),
    "seccomp-ENOSYS": lambda: sandbox(errno.ENOSYS),
    "seccomp-EACCES": lambda: sandbox(errno.EACCES),
    "short-allocations": lambda: no_large_allocation(errno.EINTR, 100_000),
    "close-range-ENOSYS": lambda: deny(errno.ENOSYS, "close_range"),
    "close-range-EPERM": lambda: deny(errno.EPERM, "close_range"),
    "read-only-root": read_only_root,
    "no-shm": no_shm,
    "small-shm": small_shm,
    "small-files": small_files,
    "few-descriptors": few_descriptors,
    "small-address-space": small_address_space,
    "hidepid": hidepid,
    "only-processes": only_processes,
    "no-procfs": no_procfs,
    "masked-procfs": masked_procfs,
    "procfs-of-others": procfs_of_others,
    "pid-one": pid_one,
    "leader-outside": leader_outside,
    "nobody-special": nobody_special,
    "no-new-privileges": no_new_privileges,
    "memfd-noexec-1": lambda: memfd_noexec(1),
    "memfd-noexec-2": lambda: memfd_noexec(2),
    "small-cgroup": small_cgroup,
    "no-streams": no_streams,
    "no-working-directory": no_working_directory,
    "no-home": no_home,
    "no-variables": no_variables,
    "plain-C": plain_c,
    "large-environment": large_environment,
}


def main(arguments: list[str]) -> NoReturn:
    split = arguments.index("--")
    for name in arguments[:split]:
        try:
            CONFINEMENTS[name]()
        except Impossible as error:
            os.write(2, f"{name} could not be set up: {error}\n".encode())
            os._exit(CANNOT)
    program = arguments[split + 1 :]
    os.execv(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
