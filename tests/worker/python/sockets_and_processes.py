"""A search that tries the sockets and system calls that a child does not need. Reports what worked.

FOREIGN is a process outside the sandbox. LEAKED are the descriptors that the test's own parent has left open in all processes.
"""

import ctypes
import os
import socket

from stand_in import answer_search, is_allowed

libc = ctypes.CDLL(None, use_errno=True)


def refused(number, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(number, *arguments) == -1 and ctypes.get_errno() == 1


families = []
for family in (socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET, socket.AF_VSOCK, socket.AF_ALG):
    try:
        socket.socket(family, socket.SOCK_RAW if family == socket.AF_PACKET else socket.SOCK_STREAM)
        families.append(str(family))
    except PermissionError:
        pass
    except OSError as error:
        families.append(str(error))
calls = {"ptrace": 101, "mount": 165, "unshare": 272, "setns": 308, "bpf": 321, "io_uring_setup": 425, "keyctl": 250,
         "process_vm_readv": 310, "userfaultfd": 323, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240}
if os.uname().machine != "x86_64":
    calls = {}
killed = [pid for pid in (os.getppid(), int(os.environ["FOREIGN"])) if is_allowed(lambda: os.kill(pid, 0)) and pid]
leaked = os.environ["LEAKED"].split()
answer_search({
    "families": families,
    "allowed": [name for name, number in calls.items() if not refused(number, 0, 0, 0, 0, 0)],
    "killed": killed,
    "descriptors": [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and fd not in leaked],
    "pair": len(socket.socketpair()),
})
