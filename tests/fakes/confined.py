"""`python confined.py UNIT PROGRAM ARGUMENT...`: run a program under the system call filter of a systemd unit, without systemd.

What the manager would do for `SystemCallFilter=`, `SystemCallErrorNumber=EPERM`, `NoNewPrivileges=` and, where the kernel has
it (6.3), `MemoryDenyWriteExecute=`; nothing else of the unit. The sets (`@system-service`) are those that systemd-analyze
prints. Sources: seccomp_init(3), prctl(2), systemd.exec(5).
"""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

_NO_NEW_PRIVS, _MDWE, _REFUSE_EXEC_GAIN = 38, 65, 1
_ALLOW = 0x7FFF0000
_EPERM = 0x00050000 | 1


def members(name: str) -> set[str]:
    """The system calls of a set, or the one of that name."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name], capture_output=True, text=True, check=True
    ).stdout
    calls = {line.strip() for line in listed.splitlines()[1:] if not line.strip().startswith("#")}
    return set().union(*(members(call) for call in calls if call))


def allowed(unit: str) -> set[str]:
    """The system calls that a unit's text leaves to its program."""
    calls: set[str] = set()
    for words in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE):
        named = set().union(*(members(word) for word in words.removeprefix("~").split()))
        calls = calls - named if words.startswith("~") else calls | named
    return calls


def confine(calls: set[str]) -> None:
    """Leave this process only `calls`; every other answers EPERM."""
    libc, seccomp = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    libc.prctl(_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0)
    rules = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_EPERM)))
    for call in calls:
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # else unknown on this machine
            seccomp.seccomp_rule_add(rules, ctypes.c_uint32(_ALLOW), number, 0)
    if seccomp.seccomp_load(rules):
        raise OSError("seccomp_load")


if __name__ == "__main__":
    confine(allowed(Path(sys.argv[1]).read_text()))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
