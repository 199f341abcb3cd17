"""A search that tries to create namespaces and to bypass the port rules. Reports what worked."""

import ctypes
import errno
import os
import socket

from stand_in import answer_search

libc = ctypes.CDLL(None, use_errno=True)
allowed = []


def call(name, number, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(number, *arguments) != -1 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        allowed.append(name)


if os.uname().machine == "x86_64":
    for flag in (0x10000000, 0x40000000, 0x00020000, 0x20000000):
        if libc.syscall(56, flag | 17, 0, 0, 0, 0) == 0:
            os._exit(0)
        if ctypes.get_errno() != errno.EPERM:
            allowed.append(hex(flag))
    call("clone3", 435, 0, 0)
for kind, protocol in ((socket.SOCK_STREAM, 262), (socket.SOCK_DGRAM, 0), (socket.SOCK_DGRAM, 17), (socket.SOCK_RAW, 1),
                       (socket.SOCK_STREAM, 132), (socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 262)):
    try:
        socket.socket(socket.AF_INET, kind, protocol)
        allowed.append(str((kind, protocol)))
    except PermissionError:
        pass
tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
for what in (lambda: tcp.sendto(b"x", 0x20000000, ("127.0.0.1", 9)), lambda: tcp.setsockopt(6, 30, 1), lambda: tcp.listen()):
    try:
        what()
        allowed.append("tcp")
    except PermissionError:
        pass
    except OSError as error:
        allowed.append(str(error))
try:
    tcp.connect(("127.0.0.1", 9))
except PermissionError:
    pass
answer_search(allowed)
