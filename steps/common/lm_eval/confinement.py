"""Confines this process, before it runs code that is not ours: no network, no files but its own, no other process.

Both means work without privileges, in a pod of the restricted profile too. Landlock (Linux 5.13) limits files; seccomp refuses
system calls. Neither can be undone, and children inherit them. The kernel's documentation:
https://docs.kernel.org/userspace-api/landlock.html, https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Iterable
from pathlib import Path

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, with the same numbers on every architecture
RULE_PATH_BENEATH, GET_VERSION = 1, 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
FIRST_RIGHTS = (1 << 13) - 1  # of files, in the first version of Landlock
REFER, TRUNCATE, IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15  # since versions 2, 3 and 5
RIGHTS_BY_VERSION = {2: REFER, 3: TRUNCATE, 5: IOCTL_DEVICE}
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE
READ = EXECUTE | READ_FILE | READ_DIR
TCP, NETWORK_VERSION = 0b11, 4  # bind and connect
SCOPES, SCOPE_VERSION = 0b11, 6  # abstract sockets and signals of processes outside

AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Sockets; other processes' memory, files and limits; io_uring, which makes sockets without the calls above; namespaces;
# what processes of one user share; truncation by path, which Landlock allows before Linux 6.2; owners and extended attributes
# of files, which Landlock does not cover; what a task never needs.
REFUSED = {
    "x86_64": {
        "socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "accept4": 288,
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "process_madvise": 440, "kcmp": 312,
        "pidfd_open": 434, "pidfd_getfd": 438, "pidfd_send_signal": 424, "tkill": 200,
        "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "unshare": 272, "setns": 308, "mount": 165, "umount2": 166,
        "open_by_handle_at": 304, "name_to_handle_at": 303,
        "truncate": 76, "shmget": 29, "shmat": 30, "msgget": 68, "semget": 64, "mq_open": 240,
        "add_key": 248, "request_key": 249, "keyctl": 250,
        "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "fchown": 93, "fchownat": 260, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "setxattrat": 463,
        "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "removexattrat": 466, "file_setattr": 469,
    },
    "aarch64": {
        "socket": 198, "connect": 203, "accept": 202, "bind": 200, "listen": 201, "accept4": 242,
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "process_madvise": 440, "kcmp": 272,
        "pidfd_open": 434, "pidfd_getfd": 438, "pidfd_send_signal": 424, "tkill": 130,
        "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "unshare": 97, "setns": 268, "mount": 40, "umount2": 39,
        "open_by_handle_at": 265, "name_to_handle_at": 264,
        "truncate": 45, "shmget": 194, "shmat": 196, "msgget": 186, "semget": 190, "mq_open": 180,
        "add_key": 217, "request_key": 218, "keyctl": 219,
        "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
        "fchown": 55, "fchownat": 54, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "setxattrat": 463,
        "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16, "removexattrat": 466, "file_setattr": 469,
    },
}  # fmt: skip
# They change nothing, and are said to have succeeded. Landlock does not cover modes and times, not even of files that it hides.
# An error would stop a task that maps its rows: datasets then sets the mode of a file of its own.
WITHOUT_EFFECT = {
    "x86_64": {"fchmod": 91, "fchmodat": 268, "fchmodat2": 452, "utimensat": 280},
    "aarch64": {"fchmod": 52, "fchmodat": 53, "fchmodat2": 452, "utimensat": 88},
}
# Earlier forms of calls in the two tables above, which x86_64 alone has.
EARLIER_REFUSED = {"x86_64": {"chown": 92, "lchown": 94}, "aarch64": {}}
EARLIER_WITHOUT_EFFECT = {"x86_64": {"chmod": 90, "utime": 132, "utimes": 235, "futimesat": 261}, "aarch64": {}}
# Allowed for this process only: its number is their first argument, or 0 for the limits.
ONLY_OWN = {
    "x86_64": {"kill": 62, "tgkill": 234, "prlimit64": 302},
    "aarch64": {"kill": 129, "tgkill": 131, "prlimit64": 261},
}
X32 = 0x40000000  # the bit of a second set of system calls on x86_64
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT = 0, 4, 16
ALLOW, KILL, DO_NOTHING = 0x7FFF0000, 0x80000000, 0x00050000
REFUSE = DO_NOTHING | errno.EACCES


class ConfinementError(OSError):
    """This system cannot confine a process; the text is one line."""


def confine(readable: Iterable[Path], writable: Iterable[Path], data_bytes: int) -> None:
    """Confine this process and its children, forever. Call it before any thread has been started.

    Args:
        readable: files and folders that may be read and executed; those that do not exist are left out.
        writable: folders in which files may be made, changed and deleted too.
        data_bytes: memory that each process may write to. Mapped files and libraries do not count.

    Raises:
        ConfinementError: the kernel has no Landlock or no seccomp, or the processor is neither x86_64 nor aarch64.
    """
    machine = platform.machine()
    if machine not in REFUSED:
        raise ConfinementError(f"there is no way known to confine it on a processor of type {machine}")
    _limit(data_bytes)
    if _prctl(PR_SET_NO_NEW_PRIVS, 1):
        raise ConfinementError("the kernel does not let a process give up privileges")
    _restrict_files(readable, writable)
    _refuse_calls(machine)


def _limit(data_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Not RLIMIT_AS: torch's libraries for GPUs and datasets' files are mapped, and take addresses but no memory of their own.
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = data_bytes if most == resource.RLIM_INFINITY else min(data_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _restrict_files(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    version = _system_call(CREATE_RULESET, None, 0, GET_VERSION)
    if version < 1:
        raise ConfinementError("this kernel has no Landlock; it needs Linux 5.13 or later with Landlock enabled")
    handled = FIRST_RIGHTS
    for since, right in RIGHTS_BY_VERSION.items():
        handled |= right if version >= since else 0
    attributes = struct.pack("=Q", handled)
    attributes += struct.pack("=Q", TCP) if version >= NETWORK_VERSION else b""
    attributes += struct.pack("=Q", SCOPES) if version >= SCOPE_VERSION else b""
    rules = _system_call(CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        raise ConfinementError(f"Landlock refuses its rules: {os.strerror(ctypes.get_errno())}")
    for path in readable:
        _allow(rules, path, READ & handled)
    for path in writable:
        _allow(rules, path, handled)
    if _system_call(RESTRICT_SELF, rules, 0):
        raise ConfinementError(f"Landlock refuses to begin: {os.strerror(ctypes.get_errno())}")
    os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    rights &= -1 if path.is_dir() else OF_A_FILE
    failed = _system_call(ADD_RULE, rules, RULE_PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    os.close(place)
    if failed:
        raise ConfinementError(f"Landlock refuses the rule for {path}: {os.strerror(ctypes.get_errno())}")


def _refuse_calls(machine: str) -> None:
    program = [
        _step(LOAD, ARCHITECTURE_AT),
        _step(EQUAL, AUDIT_ARCHITECTURE[machine], if_so=1),
        _step(RETURN, KILL),
        _step(LOAD, NUMBER_AT),
    ]
    if machine == "x86_64":
        program += [_step(AT_LEAST, X32, if_not=1), _step(RETURN, REFUSE)]
    refused = [*REFUSED[machine].values(), *EARLIER_REFUSED[machine].values()]
    without_effect = [*WITHOUT_EFFECT[machine].values(), *EARLIER_WITHOUT_EFFECT[machine].values()]
    for numbers, answer in ((refused, REFUSE), (without_effect, DO_NOTHING)):
        for number in numbers:
            program += [_step(EQUAL, number, if_not=1), _step(RETURN, answer)]
    for name, number in ONLY_OWN[machine].items():
        own = 0 if name == "prlimit64" else os.getpid()
        program += [
            _step(EQUAL, number, if_not=4),
            _step(LOAD, FIRST_ARGUMENT_AT),
            _step(EQUAL, own, if_so=1),
            _step(RETURN, REFUSE),
            _step(RETURN, ALLOW),
        ]
    program.append(_step(RETURN, ALLOW))
    code = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    if _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header):
        raise ConfinementError("this kernel has no seccomp filters")


def _step(operation: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    """Return an instruction of the filter; a comparison skips so many instructions."""
    return struct.pack("=HBBI", operation, if_so, if_not, value)


def _prctl(option: int, value: int, pointer: bytes | None = None) -> int:
    none = ctypes.c_ulong(0)
    return int(_libc().prctl(option, ctypes.c_ulong(value), pointer or none, none, none))


def _system_call(number: int, *arguments: bytes | int | None) -> int:
    return int(_libc().syscall(ctypes.c_long(number), *arguments))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
