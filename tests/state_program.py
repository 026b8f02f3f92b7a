"""Writes what a child sees after each change of its starter's state: a line of JSON each.

python state_program.py PACKAGE METHOD FOLDER; the lines are in FOLDER/told. Each change is made in
a fork of this program, which then starts the child, so that no change meets the next. The templates
are there before.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import json
import locale
import os
import resource
import signal
import sys
import threading
import time
import traceback
import tracemalloc
import warnings

libc = ctypes.CDLL(None, use_errno=True)
libc.getenv.restype = ctypes.c_char_p

IOPRIO_SET, IOPRIO_GET = {"x86_64": (251, 252), "aarch64": (30, 31)}.get(
    os.uname().machine, (None, None)
)
LIMITS = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))


def prctl(option, *arguments):
    result = libc.prctl(option, *(ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]))
    if result < 0:
        raise OSError(ctypes.get_errno(), "prctl")
    return result


def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), function.__name__)


def status(*names):
    with open("/proc/thread-self/status") as lines:
        found = dict(line.rstrip("\n").split(":", 1) for line in lines)
    return {name: found.get(name, "").strip() for name in names}


def namespaces():
    return {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in os.listdir("/proc/self/ns")}


def content(path):
    with open(path) as file:
        return file.read()


def standard(number):
    try:
        return [os.readlink(f"/proc/self/fd/{number}"), os.fstat(number).st_mode]
    except OSError:
        return None


def look(theirs, session, group):
    """Everything that an exec passes on, and what it does not."""
    stream = sys.__stdout__
    return {
        "folder": os.getcwd(),
        "root": os.stat("/").st_ino,
        "umask": status("Umask"),
        "nice": os.nice(0),
        "limits": [resource.getrlimit(getattr(resource, name)) for name in LIMITS],
        "scheduler": [os.sched_getscheduler(0), os.sched_getparam(0).sched_priority],
        "affinity": sorted(os.sched_getaffinity(0)),
        "input/output priority": libc.syscall(IOPRIO_GET, 1, 0) if IOPRIO_GET else None,
        "timer slack": prctl(30),
        "oom": content("/proc/self/oom_score_adj"),
        "signals": status("SigBlk", "SigIgn", "SigCgt"),
        "pending": [int(number) for number in signal.sigpending()],
        "handlers": [str(signal.getsignal(n))[:30] for n in sorted(signal.valid_signals())],
        "session": os.getsid(0) == session,
        "group": os.getpgid(0) == group,
        "users": [os.getresuid(), os.getresgid(), os.getgroups()],
        "capabilities": status("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"),
        "restrictions": [status("NoNewPrivs", "Seccomp"), prctl(27), libc.personality(0xFFFFFFFF)],
        "huge pages": prctl(42),
        "death signal": _death_signal(),
        "dumpable": prctl(3),
        "namespaces": namespaces() == theirs,
        "cgroup": content("/proc/thread-self/cgroup"),
        "timers": [signal.getitimer(kind) for kind in (0, 1, 2)],
        "standard": [standard(number) for number in range(3)],
        "not inherited": standard(77),
        "environment": dict(os.environ),
        "the C library's": [str(libc.getenv(name)) for name in (b"BEQUEATH_TEST", b"TZ", b"HOME")],
        "zone": [time.tzname, time.localtime(0).tm_hour],
        "locale": [locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False)],
        "path": sys.path,
        "arguments": sys.argv,
        "flags": str(sys.flags),
        "options": [sys.warnoptions, sys._xoptions, str(warnings.filters)],
        "interpreter": [
            sys.getrecursionlimit(),
            sys.getswitchinterval(),
            sys.dont_write_bytecode,
            gc.isenabled(),
            gc.get_threshold(),
            faulthandler.is_enabled(),
            tracemalloc.is_tracing(),
            threading.stack_size(),
            threading.active_count(),
            threading.current_thread().name,
            sys.gettrace() is None,
            sys.getprofile() is None,
            sys.excepthook.__name__,
            sys.flags.utf8_mode,
            sys.getfilesystemencoding(),
            sys.byteorder,
        ],
        "streams": [
            None
            if stream is None
            else [stream.encoding, stream.errors, stream.line_buffering, stream.write_through],
            sys.stdin is None,
        ],
        "names": [__name__, sys.modules["__main__"].__name__, threading.main_thread().name],
    }


def _death_signal():
    number = ctypes.c_int()
    prctl(2, ctypes.addressof(number))
    return number.value


def tell(connection, *arguments):
    try:
        connection.send(look(*arguments))
    except BaseException:
        connection.send(traceback.format_exc())


def ignored(*numbers):
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def lowest_capability():
    bounding = int(status("CapBnd")["CapBnd"], 16)
    if not bounding:
        raise OSError("no capability to give up")
    return (bounding & -bounding).bit_length() - 1


def redirect(number, folder):
    fd = os.open(f"{folder}/{number}", os.O_RDWR | os.O_CREAT)
    os.dup2(fd, number)
    os.close(fd)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


CHANGES = {
    "nothing": "",
    "folder": "os.chdir('/')",
    "umask": "os.umask(0o27)",
    "nice": "os.nice(3)",
    "files": "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))",
    "stack": "resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, resource.RLIM_INFINITY))",
    "core": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "policy": "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
    "idle": "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))",
    "real time": "os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))",
    "affinity": "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
    "input/output priority": "IOPRIO_SET and call(libc.syscall, IOPRIO_SET, 1, 0, 2 << 13 | 6)",
    "timer slack": "prctl(29, 12345)",
    "oom": "write('/proc/self/oom_score_adj', '77')",
    "blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGTERM])",
    "ignored": "ignored(signal.SIGUSR1, signal.SIGHUP)",
    "interrupt ignored": "ignored(signal.SIGINT)",
    "children ignored": "ignored(signal.SIGCHLD)",
    "pipe heeded": "signal.signal(signal.SIGPIPE, signal.SIG_DFL)",
    "handler": "signal.signal(signal.SIGUSR1, print)",
    "timer": "signal.setitimer(signal.ITIMER_VIRTUAL, 1e6)",
    "group": "os.setpgid(0, 0)",
    "session": "os.setsid()",
    "groups": "os.setgroups([1234])",
    "saved group": "os.setresgid(-1, -1, 1234)",
    "saved user": "os.setresuid(-1, -1, 1234)",
    "bounding set": "prctl(24, lowest_capability())",
    "secure bits": "prctl(28, 4)",
    "no new privileges": "prctl(38, 1)",
    "personality": "call(libc.personality, 0x0040000)",
    "huge pages": "prctl(41, 1)",
    "death signal": "prctl(1, 12)",
    "host name's namespace": "call(libc.unshare, 0x04000000)",
    "network": "call(libc.unshare, 0x40000000)",
    "mounts": "call(libc.unshare, 0x00020000)",
    "input": "redirect(0, FOLDER)",
    "output": "redirect(1, FOLDER)",
    "errors": "redirect(2, FOLDER)",
    "no input": "os.close(0)",
    "no output": "os.close(1)",
    "no errors": "os.close(2)",
    "another descriptor": "os.dup2(2, 77)",
    "variable": "os.environ['BEQUEATH_TEST'] = 'set'",
    "variable removed": "del os.environ['HOME']",
    "putenv": "os.putenv('BEQUEATH_TEST', 'put')",
    "odd bytes": "os.environb[b'BEQUEATH_TEST'] = b'\\xff\\xfe='",
    "empty environment": "os.environ.clear()",
    "zone": "os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()",
    "zone unset here": "os.environ['TZ'] = 'Asia/Tokyo'",
    "locale's variable": "os.environ['LC_ALL'] = 'C.UTF-8'",
    "locale": "locale.setlocale(locale.LC_ALL, 'C')",
    "interpreter's variable": "os.environ['PYTHONDONTWRITEBYTECODE'] = '1'",
    "utf-8": "os.environ['PYTHONUTF8'] = '1'",
    "unbuffered": "os.environ['PYTHONUNBUFFERED'] = '1'",
    "libraries' variable": "os.environ['OMP_NUM_THREADS'] = '3'",
    "path": "sys.path.append('/nowhere')",
    "path's first": "sys.path.insert(0, '')",
    "arguments": "sys.argv.append('more')",
    "warning options": "sys.warnoptions.append('error::ResourceWarning')",
    "X options": "sys._xoptions['of_test'] = 'yes'",
    "warning filters": "warnings.simplefilter('error')",
    "recursion limit": "sys.setrecursionlimit(5000)",
    "switch interval": "sys.setswitchinterval(0.5)",
    "collector": "gc.disable(); gc.set_threshold(7)",
    "fault handler": "faulthandler.disable()",
    "stack size": "threading.stack_size(1 << 20)",
    "hooks": "sys.excepthook = print; sys.setprofile(lambda *_: None)",
    "bytecode": "sys.dont_write_bytecode = True",
}


def after(change, context):
    """In a fork: make the change, start a child, return what that sees."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receiver)
        try:
            here, there = context.Pipe(False)
            try:
                exec(change, globals())
            except OSError as error:
                told = f"not permitted here: {error}"
            else:
                arguments = (there, namespaces(), os.getsid(0), os.getpgid(0))
                process = context.Process(target=tell, args=arguments, name="Told")
                process.start()
                there.close()
                told = here.recv()
                process.join()
                if isinstance(told, dict) and change != CHANGES["children ignored"]:
                    told["exit code"] = process.exitcode
        except BaseException:
            told = traceback.format_exc()
        sys.setprofile(None)
        with open(sender, "w") as file:
            json.dump(told, file)
        os._exit(0)
    os.close(sender)
    with open(receiver) as file:
        told = file.read()
    os.waitpid(pid, 0)
    return json.loads(told)


if __name__ == "__main__":
    package, method, FOLDER = sys.argv[1:]
    del sys.argv[1:]
    context = importlib.import_module(package).get_context(method)
    ready = context.Process(target=int)
    ready.start()
    ready.join()
    for name, change in CHANGES.items():
        told = json.dumps([name, after(change, context)])
        with open(f"{FOLDER}/told", "a") as lines:
            lines.write(told + "\n")
