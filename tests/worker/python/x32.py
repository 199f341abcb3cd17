"""A search that makes x32 calls in processes of their own. Reports the signals that have ended them."""

import ctypes
import os

from stand_in import answer_search

libc = ctypes.CDLL(None)
ends = []
for number in (39, 512, 521, 101):
    child = os.fork()
    if child == 0:
        libc.syscall(0x40000000 | number, 0, 0, 0, 0)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    ends.append(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
answer_search(ends)
