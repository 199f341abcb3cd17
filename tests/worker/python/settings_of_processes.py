"""A search that reports which of the calls that name a process are allowed, and which of those on the caller itself are refused."""

import ctypes
import errno
import os
import resource
import threading

from stand_in import answer_search

libc = ctypes.CDLL(None, use_errno=True)
me = os.getpid()


def error_of(what):
    try:
        what()
        return 0
    except OSError as error:
        return error.errno


def call(*arguments):
    if libc.syscall(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "call")


files = resource.getrlimit(resource.RLIMIT_NOFILE)
ioprio_set = {"x86_64": 251, "aarch64": 30}[os.uname().machine]
migrate, move = {"x86_64": (256, 279), "aarch64": (238, 239)}[os.uname().machine]
queue, send = {"x86_64": (129, 424), "aarch64": (138, 424)}[os.uname().machine]
at_others = {
    "prlimit": lambda: resource.prlimit(me, resource.RLIMIT_NOFILE, files),
    "prlimit, to look": lambda: resource.prlimit(me, resource.RLIMIT_NOFILE),
    "setpriority": lambda: os.setpriority(os.PRIO_PROCESS, me, 19),
    "setpriority of a group": lambda: os.setpriority(os.PRIO_PGRP, 0, 19),
    "setpriority of a user": lambda: os.setpriority(os.PRIO_USER, 0, 19),
    "sched_setaffinity": lambda: os.sched_setaffinity(me, os.sched_getaffinity(0)),
    "sched_setscheduler": lambda: os.sched_setscheduler(me, os.SCHED_OTHER, os.sched_param(0)),
    "sched_setparam": lambda: os.sched_setparam(me, os.sched_param(0)),
    "ioprio_set": lambda: call(ioprio_set, 1, me, (3 << 13) | 7),
    "ioprio_set of a user": lambda: call(ioprio_set, 3, 0, (3 << 13) | 7),
    "migrate_pages": lambda: call(migrate, me, 0, 0, 0),
    "move_pages": lambda: call(move, me, 0, 0, 0, 0, 0),
    "rt_sigqueueinfo": lambda: call(queue, me, 0, 0),
    "pidfd_send_signal": lambda: call(send, -1, 0, 0, 0),
}
at_itself = {
    "setrlimit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, files),
    "nice": lambda: os.nice(1),
    "sched_setaffinity": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    "ioprio_set": lambda: call(ioprio_set, 1, 0, (2 << 13) | 7),
    "thread": lambda: threading.Thread(target=int).start(),
    "kill": lambda: os.kill(me, 0),
}
answer_search([[name for name, what in at_others.items() if error_of(what) != errno.EPERM],
               [name for name, what in at_itself.items() if error_of(what) != 0]])
